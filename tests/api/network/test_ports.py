"""Ports on the wire."""

from __future__ import annotations

import pytest

from pileus.kernel.testing import ADMIN, MEMBER, OTHER, SERVICE
from tests.api.network.world import new


def test_a_new_port_has_an_address_a_mac_and_the_default_group(net):
    network, subnet = net.net()
    body = net.make("ports", network_id=network["id"], name="p")
    assert set(body) == {
        "id", "name", "network_id", "tenant_id", "project_id", "mac_address", "admin_state_up", "status", "device_id", "device_owner",
        "fixed_ips", "allowed_address_pairs", "extra_dhcp_opts", "security_groups", "port_security_enabled", "binding:vnic_type",
        "description", "tags", "created_at", "updated_at", "revision_number",
    }  # fmt: skip
    assert body["mac_address"].startswith("fa:16:3e:")
    assert (body["status"], body["device_id"], body["port_security_enabled"]) == ("DOWN", "", True)
    assert body["fixed_ips"][0]["subnet_id"] == subnet["id"]
    (default,) = net.all("/security-groups")
    assert body["security_groups"] == [default["id"]]
    assert net.get("ports", body["id"]) == body


def test_administrators_see_the_binding(net):
    network, _ = net.net()
    body = net.get("ports", net.make("ports", network_id=network["id"])["id"], as_=ADMIN)
    assert {name: body[f"binding:{name}"] for name in ("host_id", "vif_type", "vif_details", "profile", "vnic_type")} == {
        "host_id": "", "vif_type": "unbound", "vif_details": {}, "profile": {}, "vnic_type": "normal",
    }  # fmt: skip


def test_binding_to_a_living_host_makes_a_tap(net):
    network, _ = net.net()
    port = net.guest(network)
    assert port["binding:vif_type"] == "tap"
    assert port["binding:vif_details"] == {"bridge_name": f"brq{network['id'][:11]}", "connectivity": "l2", "port_filter": True}
    assert port["status"] == "DOWN"
    (item,) = net.desired()["ports"]
    assert (item["id"], item["tap"]) == (port["id"], f"tap{port['id'][:11]}")


@pytest.mark.parametrize("more", [{"host": "nowhere"}, {"host": "host1", "binding__vnic_type": "direct"}])
def test_binding_fails_where_no_agent_can_attach_the_port(net, more):
    network, _ = net.net()
    assert net.guest(network, **more)["binding:vif_type"] == "binding_failed"


def test_a_failed_binding_can_be_tried_again(net):
    network, _ = net.net()
    port = net.guest(network, host="host2")
    net.beat("host2")
    assert net.bind(port, "host2")["binding:vif_type"] == "tap"


def test_members_do_not_bind(net):
    network, _ = net.net()
    port = net.make("ports", network_id=network["id"])
    assert net.refused("PUT", f"/ports/{port['id']}", {"port": {"binding:host_id": "host1"}}) == (403, "PolicyNotAuthorized")


def test_a_report_makes_a_port_active_and_compute_is_told(net):
    network, _ = net.net()
    port = net.guest(network)
    net.report(ports={port["id"]: "ACTIVE"})
    assert net.get("ports", port["id"])["status"] == "ACTIVE"
    net.report(ports={}, complete=True)
    assert net.get("ports", port["id"])["status"] == "DOWN"


def test_a_report_of_a_host_that_the_port_has_left_says_nothing(net):
    network, _ = net.net()
    net.beat("host2")
    port = net.guest(network)
    net.bind(port, "host2")
    net.report("host1", ports={port["id"]: "ACTIVE"})
    assert net.get("ports", port["id"])["status"] == "DOWN"


def test_wanted_addresses_are_given_once(net):
    network, subnet = net.net()
    wanted = [{"subnet_id": subnet["id"], "ip_address": "10.0.0.50"}]
    assert net.make("ports", network_id=network["id"], fixed_ips=wanted)["fixed_ips"] == wanted
    body = {"port": {"network_id": network["id"], "fixed_ips": [{"ip_address": "10.0.0.50"}]}}
    assert net.refused("POST", "/ports", body) == (409, "IpAddressAlreadyAllocated")
    assert len(net.all("/ports?device_owner=")) == 1


@pytest.mark.parametrize(
    ("fixed_ips", "answer"),
    [
        ([{"ip_address": "10.9.9.9"}], (400, "InvalidIpForNetwork")),
        ([{"subnet_id": "SUBNET", "ip_address": "10.9.9.9"}], (400, "InvalidIpForSubnet")),
        ([{"subnet_id": "SUBNET", "ip_address": "10.0.0.255"}], (400, "InvalidIpForSubnet")),
        ([{"subnet_id": "6" * 32}], (400, "InvalidInput")),
        ([{"subnet_id": "SUBNET"}] * 2, (400, "HTTPBadRequest")),
        ([{}], (400, "HTTPBadRequest")),
        ([{"ip_address": f"10.0.0.{n}"} for n in range(10, 16)], (400, "InvalidInput")),
        ("10.0.0.9", (400, "HTTPBadRequest")),
    ],
)
def test_addresses_that_cannot_be_are_refused(net, fixed_ips, answer):
    network, subnet = net.net()
    if isinstance(fixed_ips, list):
        fixed_ips = [{k: subnet["id"] if v == "SUBNET" else v for k, v in item.items()} for item in fixed_ips]
    assert net.refused("POST", "/ports", {"port": {"network_id": network["id"], "fixed_ips": fixed_ips}}) == answer


def test_a_port_may_have_no_address(net):
    network, _ = net.net()
    assert net.make("ports", network_id=network["id"], fixed_ips=[])["fixed_ips"] == []


def test_changing_addresses_keeps_what_fits(net):
    network, subnet = net.net()
    port = net.make("ports", network_id=network["id"])
    first = port["fixed_ips"][0]
    changed = net.change("ports", port["id"], fixed_ips=[first, {"subnet_id": subnet["id"], "ip_address": "10.0.0.77"}])
    assert first in changed["fixed_ips"]
    assert len(changed["fixed_ips"]) == 2
    changed = net.change("ports", port["id"], fixed_ips=[{"ip_address": "10.0.0.77"}])
    assert [item["ip_address"] for item in changed["fixed_ips"]] == ["10.0.0.77"]
    again = net.make("ports", network_id=network["id"], fixed_ips=[{"ip_address": first["ip_address"]}])
    assert again["fixed_ips"] == [first]


def test_a_mac_is_in_a_network_once(net):
    network, _ = net.net()
    body = {"port": {"network_id": network["id"], "mac_address": "FA:16:3E:00:00:01"}}
    assert net("POST", "/ports", body, ok=201).json["port"]["mac_address"] == "fa:16:3e:00:00:01"
    assert net.refused("POST", "/ports", body) == (409, "MacAddressInUse")
    other, _ = net.net()
    net.make("ports", network_id=other["id"], mac_address="fa:16:3e:00:00:01")


def test_the_mac_of_a_bound_port_stays(net):
    network, _ = net.net()
    port = net.guest(network)
    body = {"port": {"mac_address": "fa:16:3e:00:00:02"}}
    assert net.refused("PUT", f"/ports/{port['id']}", body, as_=ADMIN) == (409, "PortBound")
    free = net.make("ports", network_id=network["id"])
    assert net("PUT", f"/ports/{free['id']}", body, as_=ADMIN, ok=200).json["port"]["mac_address"] == "fa:16:3e:00:00:02"


def test_port_security_and_groups_exclude_each_other(net):
    network, _ = net.net()
    bare = net.make("ports", network_id=network["id"], port_security_enabled=False)
    assert bare["security_groups"] == []
    (group,) = net.all("/security-groups")
    body = {"port": {"network_id": network["id"], "port_security_enabled": False, "security_groups": [group["id"]]}}
    assert net.refused("POST", "/ports", body) == (400, "PortSecurityAndIPRequiredForSecurityGroups")
    body["port"] = {"network_id": network["id"], "port_security_enabled": False, "allowed_address_pairs": [{"ip_address": "10.0.0.9"}]}
    assert net.refused("POST", "/ports", body) == (409, "AddressPairAndPortSecurityRequired")
    port = net.make("ports", network_id=network["id"])
    path = f"/ports/{port['id']}"
    assert net.refused("PUT", path, {"port": {"port_security_enabled": False}}) == (409, "PortSecurityPortHasSecurityGroup")
    assert net.change("ports", port["id"], port_security_enabled=False, security_groups=[])["port_security_enabled"] is False
    assert net.change("ports", port["id"], port_security_enabled=True)["security_groups"] == [group["id"]]


def test_groups_of_others_are_not_found(net):
    network, _ = net.net()
    (theirs,) = net.all("/security-groups", as_=OTHER)
    body = {"port": {"network_id": network["id"], "security_groups": [theirs["id"]]}}
    assert net.refused("POST", "/ports", body) == (404, "SecurityGroupNotFound")


def test_address_pairs_take_the_ports_mac(net):
    network, _ = net.net()
    pairs = [{"ip_address": "10.0.0.200"}, {"ip_address": "10.5.0.0/16", "mac_address": "fa:16:3e:aa:aa:aa"}]
    port = net.make("ports", network_id=network["id"], allowed_address_pairs=pairs)
    assert port["allowed_address_pairs"] == [{"ip_address": "10.0.0.200", "mac_address": port["mac_address"]}, pairs[1]]
    assert net.get("ports", port["id"]) == port


def test_dhcp_options_reach_the_lease(net):
    network, _ = net.net()
    port = net.guest(network, extra_dhcp_opts=[{"opt_name": "bootfile-name", "opt_value": "pxelinux.0"}])
    assert port["extra_dhcp_opts"] == [{"opt_name": "bootfile-name", "opt_value": "pxelinux.0", "ip_version": 4}]
    (item,) = net.desired()["networks"]
    (lease,) = item["leases"]
    assert list(lease["extra_dhcp_opts"]) == [{"opt_name": "bootfile-name", "opt_value": "pxelinux.0", "ip_version": 4}]


def test_ports_of_a_shared_network_are_made_without_wishes(net):
    shared = net.make("networks", as_=ADMIN, shared=True)
    subnet = net.make("subnets", as_=ADMIN, network_id=shared["id"], cidr="10.0.0.0/24", ip_version=4)
    net.make("ports", network_id=shared["id"], fixed_ips=[{"subnet_id": subnet["id"]}])
    for wish in ({"mac_address": "fa:16:3e:00:00:09"}, {"fixed_ips": [{"ip_address": "10.0.0.9"}]}, {"port_security_enabled": False}):
        assert net.refused("POST", "/ports", {"port": {"network_id": shared["id"], **wish}}) == (403, "PolicyNotAuthorized")


def test_projects_have_no_ports_in_an_external_network(net):
    outside, _ = net.outside()
    body = {"port": {"network_id": outside["id"]}}
    assert net.refused("POST", "/ports", body) == (403, "PolicyNotAuthorized")
    net("POST", "/ports", body, as_=ADMIN, ok=201)


def test_owners_of_a_network_see_and_delete_ports_in_it(net):
    network, _ = net.net()
    theirs = net.make("ports", as_=ADMIN, network_id=network["id"], project_id=OTHER.project_id)
    assert theirs["id"] in {port["id"] for port in net.all("/ports")}
    net.delete("ports", theirs["id"])
    assert net.refused("GET", f"/ports/{theirs['id']}", as_=OTHER) == (404, "PortNotFound")


def test_device_owners_of_the_service_are_not_for_everybody(net):
    shared = net.make("networks", as_=ADMIN, shared=True)
    body = {"port": {"network_id": shared["id"], "device_owner": "network:dhcp"}}
    assert net.refused("POST", "/ports", body) == (403, "PolicyNotAuthorized")


def test_a_service_makes_ports_for_a_project(net):
    network, _ = net.net()
    body = {"network_id": network["id"], "project_id": MEMBER.project_id, "device_id": new(), "device_owner": "compute:nova", "binding:host_id": "host1"}
    port = net("POST", "/ports", {"port": body}, as_=SERVICE, ok=201).json["port"]
    assert (port["project_id"], port["binding:vif_type"]) == (MEMBER.project_id, "tap")


def test_ports_are_found_by_their_attributes(net):
    network, subnet = net.net()
    one, two = net.guest(network, name="one"), net.guest(network, name="two")
    address = one["fixed_ips"][0]["ip_address"]
    for query in (
        f"device_id={one['device_id']}",
        f"fixed_ips=ip_address={address}",
        f"fixed_ips=ip_address={address},subnet_id={subnet['id']}",
        f"mac_address={one['mac_address']}",
        "name=one&name=none",
    ):
        assert [port["id"] for port in net.all(f"/ports?{query}")] == [one["id"]], query
    both = {one["id"], two["id"]}
    (group,) = one["security_groups"]
    for query in (
        "device_owner=compute:nova",
        f"security_groups={group}",
        f"fixed_ips=subnet_id={subnet['id']}&device_owner=compute:nova",
        "binding:host_id=host1&device_owner=compute:nova",
        "fixed_ips=ip_address_substr=10.0.0&name=one&name=two",
    ):
        assert {port["id"] for port in net.all(f"/ports?{query}", as_=ADMIN)} == both, query


def test_deleting_a_port_frees_its_address_and_its_quota(net):
    network, _ = net.net()
    before = net.used("port")
    port = net.guest(network)
    version = net.desired()["version"]
    net.delete("ports", port["id"])
    assert net.used("port") == before
    assert port["id"] in net.since(version)["gone"]
    net.make("ports", network_id=network["id"], fixed_ips=port["fixed_ips"])


def test_creating_a_port_costs_few_queries_whatever_the_network_holds(net):
    network, _ = net.net("10.0.0.0/16")
    counts = []
    for _ in range(3):
        with net.client.count_queries() as queries:
            net.make("ports", network_id=network["id"])
        counts.append(len(queries))
        for _ in range(10):
            net.make("ports", network_id=network["id"])
    assert counts[1] == counts[2] <= 16


def test_listing_ports_costs_the_same_queries_for_any_number(net):
    network, _ = net.net("10.0.0.0/16")
    counts = []
    for _ in range(2):
        for _ in range(20):
            net.make("ports", network_id=network["id"])
        with net.client.count_queries() as queries:
            net.all("/ports")
        counts.append(len(queries))
    assert counts == [4, 4]


def test_a_service_chooses_the_id_of_a_port_and_gets_no_second_one(net):
    network, _ = net.net()
    body = {"port": {"network_id": network["id"], "id": "6f0a7c1e-52d4-4a7e-9c57-3a1d0b8f2c11"}}
    assert net.refused("POST", "/ports", body) == (400, "HTTPBadRequest")
    assert net.refused("POST", "/ports", body, as_=ADMIN) == (400, "HTTPBadRequest")
    made = net("POST", "/ports", body, as_=SERVICE, ok=201).json["port"]
    assert made["id"] == body["port"]["id"]
    assert net.refused("POST", "/ports", body, as_=SERVICE) == (409, "PortExists")
    guests = [port["id"] for port in net.all("/ports", as_=ADMIN) if port["device_owner"] != "network:dhcp"]
    assert guests == [made["id"]]
