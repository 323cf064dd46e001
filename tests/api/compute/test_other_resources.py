"""Versions, quotas, limits, groups, events, usage, guests' metadata."""

from __future__ import annotations

import base64
import json

import pytest

from pileus.compute.logic.guest_identity import sign
from pileus.compute.loops.network_info import network_info
from pileus.compute.store import servers as store
from pileus.kernel.testing import ADMIN, MEMBER, OTHER, PROJECT, SERVICE, persona
from tests.api.compute.world import new


def test_version_documents_are_for_everybody(world):
    for path in ("", "/", "/v2.1", "/v2.1/", "/versions/v2.1"):
        reply = world.client.request("GET", path, as_=None)
        assert reply.status == 200, path
        document = reply.json["version"] if "version" in reply.json else reply.json["versions"][0]
        assert (document["id"], document["min_version"], document["status"]) == ("v2.1", "2.1", "CURRENT")
        assert document["links"][0]["href"] == "http://localhost:5000/compute/v2.1/"
    latest = world("GET", "/flavors", v="latest")
    assert latest.headers["openstack-api-version"] == "compute " + document["version"]


def test_quotas_are_shown_set_and_reset(world):
    path = f"/os-quota-sets/{PROJECT}"
    shown = world("GET", path, ok=200).json["quota_set"]
    assert (shown["id"], shown["instances"], shown["cores"], shown["ram"], shown["key_pairs"], shown["floating_ips"]) == (PROJECT, 10, 20, 51200, 100, -1)
    assert set(world("GET", path, v="2.57").json["quota_set"]) == {"id", "instances", "cores", "ram", "metadata_items", "key_pairs", "server_groups", "server_group_members"}
    assert world("PUT", path, {"quota_set": {"cores": 5}}, as_=ADMIN, ok=200).json["quota_set"]["cores"] == 5
    world.boot(networks="none")
    detail = world("GET", f"{path}/detail", ok=200).json["quota_set"]
    assert detail["cores"] == {"limit": 5, "in_use": 1, "reserved": 0}
    world("PUT", path, {"quota_set": {"instances": 0}}, as_=ADMIN, ok=400)
    world("PUT", path, {"quota_set": {"instances": 0, "force": True}}, as_=ADMIN, ok=200)
    for wrong in ({"instances": -2}, {"nonsense": 1}, {"instances": "x"}, {"floating_ips": 1}):
        world("PUT", path, {"quota_set": wrong}, as_=ADMIN, ok=400)
    world("DELETE", path, as_=ADMIN, ok=202)
    assert world("GET", path).json["quota_set"]["cores"] == 20
    assert world("GET", f"{path}/defaults", as_=OTHER, ok=200).json["quota_set"]["cores"] == 20
    world("GET", path, as_=OTHER, ok=403)
    world("PUT", f"/os-quota-sets/{'e' * 32}", {"quota_set": {"cores": 5}}, as_=ADMIN, ok=400)
    world("PUT", "/os-quota-class-sets/default", {"quota_class_set": {"cores": 7}}, as_=ADMIN, ok=200)
    assert world("GET", path).json["quota_set"]["cores"] == 7
    assert world("GET", "/os-quota-class-sets/default", as_=ADMIN).json["quota_class_set"]["cores"] == 7


def test_limits_tell_what_is_used(world):
    world.boot(networks="none")
    absolute = world("GET", "/limits", ok=200).json["limits"]["absolute"]
    assert (absolute["totalInstancesUsed"], absolute["totalCoresUsed"], absolute["totalRAMUsed"], absolute["maxTotalInstances"]) == (1, 1, 512, 10)
    assert {"maxImageMeta", "maxPersonality", "maxSecurityGroups"} <= set(absolute)
    assert not {"maxImageMeta", "maxPersonality", "maxSecurityGroups"} & set(world("GET", "/limits", v="2.57").json["limits"]["absolute"])
    world("GET", f"/limits?tenant_id={OTHER.project_id}", ok=403)
    other = world("GET", f"/limits?tenant_id={PROJECT}", as_=ADMIN, ok=200).json["limits"]["absolute"]
    assert other["totalInstancesUsed"] == 1


def test_server_groups(world):
    body = {"server_group": {"name": "g", "policies": ["anti-affinity"]}}
    made = world("POST", "/os-server-groups", body, ok=200).json["server_group"]
    assert made == {"id": made["id"], "name": "g", "policies": ["anti-affinity"], "members": [], "metadata": {}}
    newer = world("GET", f"/os-server-groups/{made['id']}", v="2.64", ok=200).json["server_group"]
    assert newer == {"id": made["id"], "name": "g", "policy": "anti-affinity", "rules": {}, "members": [], "project_id": PROJECT, "user_id": MEMBER.user_id}
    assert len(world("GET", "/os-server-groups", ok=200).json["server_groups"]) == 1
    assert world("GET", "/os-server-groups", as_=OTHER).json == {"server_groups": []}
    world("GET", f"/os-server-groups/{made['id']}", as_=OTHER, ok=404)
    for wrong in ({"name": "g", "policies": ["soft-affinity"]}, {"name": "", "policies": ["affinity"]}, {"name": "g", "policies": []}, {"name": "g"}):
        world("POST", "/os-server-groups", {"server_group": wrong}, ok=400)
    rules = {"server_group": {"name": "r", "policy": "affinity", "rules": {"max_server_per_host": 2}}}
    world("POST", "/os-server-groups", rules, v="2.64", ok=400)
    world("DELETE", f"/os-server-groups/{made['id']}", ok=204)
    world("DELETE", f"/os-server-groups/{made['id']}", ok=404)


def test_external_events(world):
    server_id = world.boot()
    def send(*events, ok):
        return world("POST", "/os-server-external-events", {"events": list(events)}, as_=SERVICE, ok=ok)
    def event(name, server=server_id, **more):
        return {"name": name, "server_uuid": server, "status": "completed", **more}
    port = next(iter(world.networks.ports.values()))
    port["fixed_ips"][0]["ip_address"] = "10.0.0.99"
    assert send(event("network-changed"), ok=200).json["events"][0]["code"] == 200
    assert world.server(server_id)["addresses"]["private"][0]["addr"] == "10.0.0.99"
    mixed = send(event("network-changed"), event("network-vif-plugged", server=new(), tag=new()), ok=207)
    assert [e["code"] for e in mixed.json["events"]] == [200, 404]
    send(event("network-changed", server=new()), ok=404)
    send(event("odd"), ok=400)
    world("POST", "/os-server-external-events", {"events": [event("network-changed")]}, ok=403)
    world.networks.ports.pop(port["id"])
    send(event("network-vif-deleted", tag=port["id"]), ok=200)
    assert world.server(server_id)["addresses"] == {}


def test_a_deleted_server_leaves_no_word_about_its_ports(world):
    server_id = world.boot()
    def told():
        with world.service.db.read() as conn:
            return store.plugged_ports(conn, server_id)
    assert told()
    (port_id,) = told()
    world("DELETE", f"/servers/{server_id}", ok=204)
    world.settle()
    late = {"name": "network-vif-plugged", "server_uuid": server_id, "tag": port_id, "status": "completed"}
    world("POST", "/os-server-external-events", {"events": [late]}, as_=SERVICE, ok=404)
    assert told() == set()


def test_addresses_follow_the_network_service_without_events(world):
    server_id = world.boot()
    port = next(iter(world.networks.ports.values()))
    fixed = port["fixed_ips"][0]["ip_address"]
    world.networks.floatingips["f"] = {"id": "f", "port_id": port["id"], "floating_ip_address": "172.24.4.7", "fixed_ip_address": fixed}
    network_info(world.service)
    addresses = world.server(server_id)["addresses"]["private"]
    assert [(a["addr"], a["OS-EXT-IPS:type"]) for a in addresses] == [(fixed, "fixed"), ("172.24.4.7", "floating")]
    assert len(world("GET", "/servers?ip=172.24.4.7", ok=200).json["servers"]) == 1


def test_usage_of_projects(world):
    server_id = world.boot(networks="none")
    usage = world("GET", f"/os-simple-tenant-usage/{PROJECT}?end=2100-01-01T00:00:00", ok=200).json["tenant_usage"]
    assert usage["tenant_id"] == PROJECT and usage["server_usages"][0]["instance_id"] == server_id
    assert usage["total_vcpus_usage"] == pytest.approx(usage["total_hours"])
    listed = world("GET", "/os-simple-tenant-usage?end=2100-01-01T00:00:00", as_=ADMIN, ok=200).json["tenant_usages"]
    assert listed[0]["tenant_id"] == PROJECT and "server_usages" not in listed[0]
    world("GET", "/os-simple-tenant-usage", ok=403)
    world("GET", f"/os-simple-tenant-usage/{PROJECT}?start=x", ok=400)
    world("GET", f"/os-simple-tenant-usage/{PROJECT}?start=2100-01-01T00:00:00&end=2000-01-01T00:00:00", ok=400)


SECRET = b"very secret"


@pytest.fixture
def guest(world):
    keys = world.service.home / "keys"
    keys.mkdir(exist_ok=True)
    (keys / "metadata-secret").write_bytes(SECRET)
    world("POST", "/os-keypairs", {"keypair": {"name": "mine"}}, ok=200)
    data = base64.b64encode(b"#!/bin/sh\n").decode()
    server_id = world.boot(user_data=data, key_name="mine", metadata={"a": "b"})

    def read(path, *, server=server_id, project=PROJECT, signature=None, status=200):
        headers = {"X-Instance-ID": server, "X-Tenant-ID": project, "X-Instance-ID-Signature": signature or sign(SECRET, server)}
        reply = world.client.request("GET", f"/metadata{path}", as_=None, headers=headers)
        assert reply.status == status, reply.text
        return reply

    read.server_id = server_id
    return read


def test_guests_read_openstacks_metadata(guest):
    assert "latest" in guest("/openstack").text.splitlines()
    names = guest("/openstack/latest").text.splitlines()
    assert names == ["meta_data.json", "password", "user_data", "vendor_data.json", "network_data.json", "vendor_data2.json"]
    assert "vendor_data2.json" not in guest("/openstack/2015-10-15/").text
    meta = guest("/openstack/latest/meta_data.json").json
    assert (meta["uuid"], meta["hostname"], meta["meta"], meta["project_id"]) == (guest.server_id, "vm.novalocal", {"a": "b"}, PROJECT)
    assert meta["keys"][0]["type"] == "ssh" and "admin_pass" not in meta
    assert "project_id" not in guest("/openstack/2012-08-10/meta_data.json").json
    assert guest("/openstack/latest/user_data").body == b"#!/bin/sh\n"
    assert guest("/openstack/latest/network_data.json").json["links"][0]["type"] == "tap"
    assert json.loads(guest("/openstack/latest/vendor_data.json").text) == {}
    guest("/openstack/1999-01-01", status=404)
    guest("/openstack/latest/odd", status=404)


def test_guests_read_ec2s_metadata(guest):
    assert "2009-04-04" in guest("").text.splitlines()
    assert guest("/latest/").text.splitlines() == ["meta-data/", "user-data"]
    names = guest("/latest/meta-data/").text.splitlines()
    assert {"instance-id", "hostname", "local-ipv4", "placement/", "public-keys/"} <= set(names)
    assert guest("/latest/meta-data/local-ipv4").text == "10.0.0.10"
    assert guest("/latest/meta-data/public-keys/").text == "0=mine"
    assert guest("/latest/meta-data/public-keys/0/openssh-key").text.startswith("ssh-rsa ")
    assert guest("/2009-04-04/meta-data/placement/availability-zone").text == "nova"
    assert guest("/latest/user-data").text == "#!/bin/sh\n"
    guest("/latest/meta-data/odd", status=404)


def test_metadata_is_refused_without_the_right_signature(guest):
    guest("/openstack", signature="0" * 64, status=403)
    guest("/openstack", signature="\u00e9", status=403)
    guest("/openstack", project=OTHER.project_id, status=404)
    guest("/openstack", server=new(), status=404)
    guest("/openstack", server="", status=400)


def test_a_node_reads_metadata_with_its_token_alone(world, guest):
    node = persona("node", "node")
    headers = {"X-Instance-ID": guest.server_id, "X-Tenant-ID": PROJECT}

    def read(path, who, **more):
        return world.client.request("GET", f"/nodes/metadata{path}", as_=who, headers={**headers, **more})

    assert read("/openstack/latest/meta_data.json", node).json["uuid"] == guest.server_id
    assert "latest" in read("", node).text.splitlines()
    assert read("/openstack", node, **{"X-Tenant-ID": OTHER.project_id}).status == 404
    signature = {"X-Instance-ID-Signature": sign(SECRET, guest.server_id)}
    assert read("/openstack", MEMBER, **signature).status == 403
    assert read("/openstack", None, **signature).status == 401


def test_old_clients_manage_security_groups_through_compute(world):
    made = world("POST", "/os-security-groups", {"security_group": {"name": "g", "description": "d"}}, ok=200).json["security_group"]
    assert made == {"id": made["id"], "name": "g", "description": "d", "tenant_id": PROJECT, "rules": []}
    body = {"security_group_rule": {"parent_group_id": made["id"], "ip_protocol": "tcp", "from_port": 22, "to_port": "22"}}
    rule = world("POST", "/os-security-group-rules", body, ok=200).json["security_group_rule"]
    assert (rule["from_port"], rule["to_port"], rule["ip_range"], rule["group"]) == (22, 22, {"cidr": "0.0.0.0/0"}, {})
    shown = world("GET", f"/os-security-groups/{made['id']}", ok=200).json["security_group"]
    assert [r["id"] for r in shown["rules"]] == [rule["id"]]
    for wrong in ({"ip_protocol": "odd"}, {"from_port": 99999}, {"from_port": 23}):
        world("POST", "/os-security-group-rules", {"security_group_rule": {**body["security_group_rule"], **wrong}}, ok=400)
    world("DELETE", f"/os-security-group-rules/{rule['id']}", ok=202)
    world("DELETE", f"/os-security-group-rules/{rule['id']}", ok=404)
    world("DELETE", f"/os-security-groups/{made['id']}", ok=202)
    world("GET", f"/os-security-groups/{made['id']}", ok=404)
    world("POST", "/os-security-groups", {"security_group": {"name": " "}}, ok=400)
    world("GET", "/os-security-groups", v="2.36", ok=404)


def test_the_usage_audit_says_that_no_host_runs_one(world):
    log = world("GET", "/os-instance_usage_audit_log", as_=ADMIN, ok=200).json["instance_usage_audit_logs"]
    assert (log["hosts_not_run"], log["num_hosts"], log["num_hosts_done"]) == (["host1"], 1, 0)
    world("GET", "/os-instance_usage_audit_log/2020-01-01%2000:00:00", as_=ADMIN, ok=200)
    world("GET", "/os-instance_usage_audit_log/tomorrow", as_=ADMIN, ok=400)
