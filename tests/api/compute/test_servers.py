"""The life of servers, on the wire."""

from __future__ import annotations

import base64

from pileus.compute.loops.leftovers import deleted_retention
from pileus.kernel.testing import ADMIN, MEMBER, OTHER, PROJECT, READER
from tests.api.compute.world import IMAGE, NETWORK, QUEUED_IMAGE, World, new


def test_a_server_is_created_accepted_and_becomes_active(world):
    reply = world("POST", "/servers", {"server": {"name": "vm", "flavorRef": "small", "imageRef": IMAGE, "networks": "auto"}}, v="2.37", ok=202)
    made = reply.json["server"]
    assert set(made) == {"id", "links", "OS-DCF:diskConfig", "security_groups", "adminPass"}
    assert reply.headers["location"] == f"http://localhost:5000/compute/v2.1/servers/{made['id']}"
    building = world.server(made["id"])
    assert (building["status"], building["OS-EXT-STS:task_state"]) == ("BUILD", "scheduling")
    world.settle()
    server = world.server(made["id"])
    assert (server["status"], server["OS-EXT-STS:power_state"], server["OS-EXT-STS:task_state"]) == ("ACTIVE", 1, None)
    assert server["addresses"]["private"][0]["addr"] == "10.0.0.10"
    assert server["OS-SRV-USG:launched_at"]
    assert world.allocations(made["id"])


def test_deleting_a_server_frees_its_port_its_claim_and_its_quota(world):
    server_id = world.boot()
    assert world("DELETE", f"/servers/{server_id}", ok=204).body == b""
    assert world.server(server_id)["OS-EXT-STS:task_state"] == "deleting"
    world.settle()
    world("GET", f"/servers/{server_id}", ok=404)
    assert world.networks.ports == {}
    assert world.allocations(server_id) == {}
    assert world.hosts["host1"].states() == {}
    used = world("GET", "/limits", ok=200).json["limits"]["absolute"]
    assert (used["totalInstancesUsed"], used["totalCoresUsed"], used["totalRAMUsed"]) == (0, 0, 0)


def test_a_server_that_is_being_built_can_be_deleted(world):
    world.auto_plug = False
    server_id = world.boot(settle=False)
    world.client.run_flows()
    assert world.server(server_id)["OS-EXT-STS:task_state"] == "spawning"
    world("DELETE", f"/servers/{server_id}", ok=204)
    world.settle()
    world("GET", f"/servers/{server_id}", ok=404)
    assert world.networks.ports == {} and world.allocations(server_id) == {}
    assert world.hosts["host1"].states() == {}


def test_a_given_port_is_used_and_kept(world):
    port = world.networks.create_port({"network_id": NETWORK})
    server_id = world.boot(networks=[{"port": port["id"]}])
    bound = world.networks.ports[port["id"]]
    assert (bound["device_id"], bound["binding:host_id"], bound["device_owner"]) == (server_id, "host1", "compute:nova")
    world("DELETE", f"/servers/{server_id}", ok=204)
    world.settle()
    assert world.networks.ports[port["id"]]["device_id"] == ""


def test_a_server_without_networks_has_none(world):
    server = world.server(world.boot(networks="none"))
    assert server["status"] == "ACTIVE" and server["addresses"] == {} and "security_groups" not in server
    assert world.networks.ports == {}


def test_two_networks_need_a_choice_and_none_is_no_network(world):
    world.networks.add_network(new(), "second")
    refused = world("POST", "/servers", {"server": {"name": "x", "flavorRef": "small", "imageRef": IMAGE, "networks": "auto"}}, v="2.37")
    assert refused.status == 409
    assert refused.json["conflictingRequest"]["message"] == "Multiple possible networks found, use a Network ID to be more specific."
    world.networks.networks.clear()
    refused = world("POST", "/servers", {"server": {"name": "x", "flavorRef": "small", "imageRef": IMAGE, "networks": "auto"}}, v="2.37")
    assert refused.status == 400
    # Before 2.37 such a server simply has no card.
    world("POST", "/servers", {"server": {"name": "x", "flavorRef": "small", "imageRef": IMAGE}}, ok=202)


def create(world, v="2.96", as_=MEMBER, hints=None, **values):
    body = {"server": {"name": "vm", "flavorRef": "small", "imageRef": IMAGE, "networks": "none", **values}}
    if hints:
        body["os:scheduler_hints"] = hints
    return world("POST", "/servers", body, v=v, as_=as_)


def test_wrong_orders_are_refused_with_a_sentence(world):
    world.flavor("tiny", ram=64)
    world.images.images["big"] = world.images.image(new(), "active", min_disk=10)
    cases = [
        ({"flavorRef": "nothing"}, 400, "Flavor nothing could not be found."),
        ({"imageRef": new()}, 400, "Can not find requested image"),
        ({"imageRef": ""}, 400, "Invalid imageRef provided."),
        ({"imageRef": QUEUED_IMAGE}, 400, f"Image {QUEUED_IMAGE} is not active."),
        ({"key_name": "missing"}, 400, "Invalid key_name provided."),
        ({"availability_zone": "mars"}, 400, "The requested availability zone is not available"),
        ({"min_count": 3, "max_count": 2}, 400, "min_count must be <= max_count"),
        ({"networks": [{"uuid": "99999999-9999-4999-8999-999999999999"}]}, 400, "Network 99999999-9999-4999-8999-999999999999 could not be found."),
        ({"networks": [{"port": "99999999-9999-4999-8999-999999999999"}]}, 400, "Port id 99999999-9999-4999-8999-999999999999 could not be found."),
        ({"security_groups": [{"name": "nope"}]}, 400, f"Security group nope not found for project {PROJECT}."),
        ({"block_device_mapping_v2": [{"source_type": "volume", "uuid": new(), "boot_index": 0}]}, 400, "Block device mappings other than one image on the local disk are not supported."),
    ]
    for values, status, message in cases:
        reply = create(world, **values)
        assert (reply.status, reply.json["badRequest"]["message"]) == (status, message), values
    assert world("GET", "/servers", ok=200).json == {"servers": []}


def test_schema_violations_are_bad_requests(world):
    for values in ({"name": ""}, {"name": "x" * 256}, {"name": " "}, {"metadata": {"a": 1}}, {"metadata": {"k": "v" * 256}}, {"user_data": "%%"},
                   {"nonsense": 1}, {"tags": ["a/b"]}, {"tags": ["x" * 61]}, {"accessIPv4": "1.2"}, {"networks": "some"}, {"flavorRef": None},
                   {"config_drive": "maybe"}, {"min_count": 0}, {"max_count": "x"}, {"hostname": "a_b"}):
        reply = create(world, **values)
        assert reply.status == 400 and "badRequest" in reply.json, (values, reply.text)
    assert world("POST", "/servers", {"server": []}).status == 400
    assert world("POST", "/servers", {}).status == 400
    assert world.client.request("POST", "/v2.1/servers", body=b"{", headers={"Content-Type": "application/json"}).status == 400


def test_fields_belong_to_their_microversions(world):
    assert create(world, v="2.36", networks="none").status == 400
    assert create(world, v="2.51", tags=["a"]).status == 400
    assert create(world, v="2.52", tags=["a"]).status == 202
    assert create(world, v="2.18", description="d", networks=[]).status == 400
    assert create(world, v="2.57", personality=[]).status == 400
    body = {"server": {"name": "vm", "flavorRef": "small", "imageRef": IMAGE}}
    assert world("POST", "/servers", body, v="2.37").status == 400
    assert world("GET", "/servers", v="2.97").status == 406  # attaching shares, which are not served
    assert world("GET", "/servers", v="nonsense").status == 400


def test_what_is_shown_grows_with_the_microversion(world):
    server_id = world.boot(tags=["t"], metadata={"a": "b"}, description="words", networks="none")
    def keys(v, as_=MEMBER):
        return set(world("GET", f"/servers/{server_id}", v=v, as_=as_, ok=200).json["server"])
    base = keys("2.1")
    assert not base & {"locked", "description", "tags", "OS-EXT-SRV-ATTR:host", "host_status", "server_groups"}
    assert keys("2.9") - base == {"locked"}
    assert keys("2.19") - keys("2.9") == {"description"}
    assert keys("2.26") - keys("2.19") == {"tags"}
    assert keys("2.63") - keys("2.26") == {"trusted_image_certificates"}
    assert keys("2.71") - keys("2.63") == {"server_groups"}
    assert keys("2.73") - keys("2.71") == {"locked_reason"}
    assert keys("2.90") - keys("2.73") == {"OS-EXT-SRV-ATTR:hostname"}
    assert keys("2.96") - keys("2.90") == {"pinned_availability_zone"}
    host = {"OS-EXT-SRV-ATTR:host", "OS-EXT-SRV-ATTR:hypervisor_hostname", "OS-EXT-SRV-ATTR:instance_name"}
    assert keys("2.1", ADMIN) - base == host
    assert {"OS-EXT-SRV-ATTR:user_data", "OS-EXT-SRV-ATTR:reservation_id"} <= keys("2.3", ADMIN)
    assert "host_status" in keys("2.16", ADMIN)
    server = world.server(server_id, v="2.46")
    assert set(server["flavor"]) == {"id", "links"}
    assert set(world.server(server_id, v="2.47")["flavor"]) == {"vcpus", "ram", "disk", "ephemeral", "swap", "original_name", "extra_specs"}


def test_other_projects_do_not_see_a_server(world):
    server_id = world.boot(networks="none")
    missing = world("GET", f"/servers/{server_id}", as_=OTHER, ok=404)
    assert missing.json == {"itemNotFound": {"code": 404, "message": f"Instance {server_id} could not be found."}}
    for method, path, body in (("DELETE", "", None), ("PUT", "", {"server": {"name": "x"}}), ("POST", "/action", {"os-stop": None}),
                               ("GET", "/metadata", None), ("GET", "/os-instance-actions", None), ("GET", "/ips", None)):
        world(method, f"/servers/{server_id}{path}", body, as_=OTHER, ok=404)
    world("GET", f"/servers/{server_id}", as_=READER, ok=200)
    world("DELETE", f"/servers/{server_id}", as_=READER, ok=403)
    world("POST", f"/servers/{server_id}/action", {"os-stop": None}, as_=READER, ok=403)
    assert world.server(server_id)["status"] == "ACTIVE"


def test_quota_is_counted_and_refused_in_upstreams_words(world):
    world("PUT", f"/os-quota-sets/{PROJECT}", {"quota_set": {"instances": 2}}, as_=ADMIN, ok=200)
    world.boot(networks="none")
    world.boot(networks="none")
    reply = create(world)
    assert reply.status == 403
    assert reply.json["forbidden"]["message"] == "Quota exceeded for instances: Requested 1, but already used 2 of 2 instances"


def test_several_servers_share_a_reservation_and_fit_into_the_quota(world):
    world("PUT", f"/os-quota-sets/{PROJECT}", {"quota_set": {"instances": 3}}, as_=ADMIN, ok=200)
    made = create(world, min_count=2, max_count=5, return_reservation_id=True)
    assert made.status == 202 and set(made.json) == {"reservation_id"}
    listed = world("GET", f"/servers/detail?reservation_id={made.json['reservation_id']}", as_=MEMBER, ok=200).json["servers"]
    assert sorted(s["name"] for s in listed) == ["vm-1", "vm-2", "vm-3"]
    assert create(world, min_count=2, max_count=2).status == 403


def test_lists_filter_sort_and_page(world):
    ids = {name: world.boot(name, networks="auto", metadata={"n": name}, tags=[name]) for name in ("apple", "banana", "cherry")}
    def names(query, as_=MEMBER, v="2.96"):
        return [s["name"] for s in world("GET", f"/servers?{query}", as_=as_, v=v, ok=200).json["servers"]]
    assert names("") == ["cherry", "banana", "apple"]
    assert names("sort_key=display_name&sort_dir=asc") == ["apple", "banana", "cherry"]
    assert names("name=an") == ["banana"]
    assert names("name=%5Ech.*y%24") == ["cherry"]
    assert names("status=ACTIVE&sort_key=display_name&sort_dir=desc") == ["cherry", "banana", "apple"]
    assert names("status=SHUTOFF") == []
    assert names("tags=apple") == ["apple"]
    assert sorted(names("tags-any=apple,banana")) == ["apple", "banana"]
    assert sorted(names("not-tags=apple")) == ["banana", "cherry"]
    assert names("ip=10.0.0.11") == ["banana"]
    assert names(f"flavor=small&image={IMAGE}&limit=1&sort_key=display_name&sort_dir=asc") == ["apple"]
    assert names("flavor=none-such") == []
    assert names("host=host1", as_=ADMIN) == []  # an administrator's own project has none
    assert len(names("all_tenants=1&host=host1", as_=ADMIN)) == 3
    assert names("all_tenants=1&host=elsewhere", as_=ADMIN) == []
    first = world("GET", "/servers?limit=2&sort_key=display_name&sort_dir=asc", ok=200).json
    assert [s["name"] for s in first["servers"]] == ["apple", "banana"]
    assert first["servers_links"][0]["rel"] == "next" and f"marker={ids['banana']}" in first["servers_links"][0]["href"]
    assert names(f"limit=2&sort_key=display_name&sort_dir=asc&marker={ids['banana']}") == ["cherry"]
    assert world("GET", f"/servers?marker={new()}").status == 400
    assert world("GET", "/servers?limit=-1").status == 400
    assert world("GET", "/servers?sort_key=nonsense").status == 400
    assert world("GET", "/servers?sort_key=host").status == 403
    assert world("GET", "/servers?all_tenants=1").status == 403
    assert world("GET", "/servers?status=nonsense", v="2.38").status == 400
    assert world("GET", "/servers?status=nonsense", v="2.37").json == {"servers": []}
    assert world("GET", "/servers?whatever=1", v="2.75").status == 400
    assert world("GET", "/servers?whatever=1", v="2.74").status == 200
    assert world("GET", "/servers", as_=OTHER).json == {"servers": []}


def test_deleted_servers_are_told_by_changes_since(world):
    server_id = world.boot(networks="none")
    world("DELETE", f"/servers/{server_id}", ok=204)
    world.settle()
    changed = world("GET", "/servers/detail?changes-since=2020-01-01T00:00:00Z", ok=200).json["servers"]
    assert [(s["id"], s["status"]) for s in changed] == [(server_id, "DELETED")]
    assert world("GET", "/servers?status=DELETED", ok=403)
    assert len(world("GET", "/servers?status=DELETED&all_tenants=1", as_=ADMIN, ok=200).json["servers"]) == 1
    assert len(world("GET", "/servers?deleted=1&all_tenants=1", as_=ADMIN, ok=200).json["servers"]) == 1
    deleted_retention(world.service)
    assert len(world("GET", "/servers?deleted=1&all_tenants=1", as_=ADMIN, ok=200).json["servers"]) == 1


def test_a_server_is_renamed(world):
    server_id = world.boot(networks="none")
    changed = world("PUT", f"/servers/{server_id}", {"server": {"name": "new", "description": "d", "accessIPv4": "1.2.3.4"}}, v="2.90", ok=200).json["server"]
    assert (changed["name"], changed["description"], changed["accessIPv4"]) == ("new", "d", "1.2.3.4")
    assert world("PUT", f"/servers/{server_id}", {"server": {}}).status == 200


def test_user_data_keys_and_metadata_reach_the_guests_document(world):
    world("POST", "/os-keypairs", {"keypair": {"name": "mine"}}, ok=200)
    text = base64.b64encode(b"#!/bin/sh").decode()
    server_id = world.boot(user_data=text, key_name="mine", metadata={"role": "web"}, config_drive=True)
    doc = world.hosts["host1"].document(server_id)
    assert doc.config_drive and doc.metadata.user_data == text
    assert doc.metadata.meta_data["meta"] == {"role": "web"}
    assert list(doc.metadata.meta_data["public_keys"]) == ["mine"]
    assert doc.metadata.meta_data["admin_pass"]
    assert doc.metadata.network_data["networks"][0]["type"] == "ipv4_dhcp"
    assert doc.nics[0].tap == f"tap{doc.nics[0].port_id[:11]}" and doc.nics[0].mtu == 1450


def test_zones_can_name_a_host_for_administrators_only(two_hosts):
    world = two_hosts
    assert create(world, availability_zone="nova:host2").status == 403
    made = create(world, availability_zone="nova:host2", as_=ADMIN)
    assert made.status == 202
    world.settle()
    assert world.server(made.json["server"]["id"])["OS-EXT-SRV-ATTR:host"] == "host2"
    asked = create(world, host="host1", as_=ADMIN)
    world.settle()
    assert world.server(asked.json["server"]["id"])["OS-EXT-SRV-ATTR:host"] == "host1"
    assert create(world, host="host1").status == 403
    assert create(world, host="host9", as_=ADMIN).status == 400


def test_groups_keep_servers_apart_or_together(two_hosts):
    world = two_hosts
    def group(policy):
        body = {"server_group": {"name": policy, "policy": policy}}
        return world("POST", "/os-server-groups", body, v="2.64", ok=200).json["server_group"]["id"]
    def boot(group_id):
        made = create(world, hints={"group": group_id})
        assert made.status == 202, made.text
        world.settle()
        return world.server(made.json["server"]["id"])
    apart = group("anti-affinity")
    hosts = {boot(apart)["OS-EXT-SRV-ATTR:host"] for _ in range(2)}
    assert hosts == {"host1", "host2"}
    third = boot(apart)
    assert third["status"] == "ERROR"
    assert third["fault"]["message"] == "No valid host was found. There are not enough hosts available."
    assert "anti-affinity" in third["fault"]["details"]
    assert third["server_groups"] == [apart]
    together = group("affinity")
    assert len({boot(together)["OS-EXT-SRV-ATTR:host"] for _ in range(3)}) == 1
    members = world("GET", f"/os-server-groups/{together}", v="2.64", ok=200).json["server_group"]["members"]
    assert len(members) == 3
    assert create(world, hints={"group": new()}).status == 400


def test_a_disabled_or_silent_host_takes_no_servers(two_hosts):
    world = two_hosts
    body = {"host": "host1", "binary": "nova-compute", "disabled_reason": "mending"}
    world("PUT", "/os-services/disable-log-reason", body, as_=ADMIN, ok=200)
    assert world.server(world.boot(networks="none"))["OS-EXT-SRV-ATTR:host"] == "host2"
    world("PUT", "/os-services/force-down", {"host": "host2", "binary": "nova-compute", "forced_down": True}, as_=ADMIN, v="2.11", ok=200)
    failed = world.server(world.boot(networks="none"))
    assert failed["status"] == "ERROR" and "mending" in failed["fault"]["details"]
    mine = world("GET", f"/servers/{failed['id']}", v="2.96", ok=200).json["server"]
    assert "details" not in mine["fault"]


def test_a_full_cloud_says_so_and_keeps_nothing():
    world = World(hosts=0)
    world.host("small-host", vcpus=1, memory_mb=2048, local_gb=10)
    world.flavor("big", vcpus=18)
    failed = world.server(world.boot(networks="auto", flavor="big"))
    assert failed["status"] == "ERROR" and failed["fault"]["code"] == 500
    assert world.networks.ports == {} and world.allocations(failed["id"]) == {}
    world("DELETE", f"/servers/{failed['id']}", ok=204)
    world.settle()
    world("GET", f"/servers/{failed['id']}", ok=404)
    world.close()
