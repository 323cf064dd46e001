"""Routers and floating IPs on the wire."""

from __future__ import annotations

import pytest

from pileus.kernel.testing import ADMIN, MEMBER, OTHER
from tests.api.network.world import new


def test_a_new_router_has_no_gateway(net):
    body = net.make("routers", name="r")
    assert set(body) == {
        "id", "name", "tenant_id", "project_id", "admin_state_up", "status", "external_gateway_info", "routes", "availability_zone_hints",
        "availability_zones", "description", "tags", "created_at", "updated_at", "revision_number",
    }  # fmt: skip
    assert (body["external_gateway_info"], body["routes"], body["status"]) == (None, [], "ACTIVE")
    assert net.get("routers", body["id"]) == body


def test_a_gateway_gets_an_address_outside(net):
    outside, subnet = net.outside()
    router = net.make("routers", external_gateway_info={"network_id": outside["id"]})
    info = router["external_gateway_info"]
    assert (info["network_id"], info["enable_snat"]) == (outside["id"], True)
    (address,) = info["external_fixed_ips"]
    assert address["subnet_id"] == subnet["id"]
    assert address["ip_address"].startswith("172.24.4.")
    (port,) = net.all("/ports?device_owner=network:router_gateway", as_=ADMIN)
    assert (port["device_id"], port["project_id"], port["fixed_ips"]) == (router["id"], "", [address])
    assert net.change("routers", router["id"], external_gateway_info=None)["external_gateway_info"] is None
    assert net.all("/ports", as_=ADMIN) == []


def test_a_gateway_is_in_an_external_network(net):
    network, _ = net.net()
    body = {"router": {"external_gateway_info": {"network_id": network["id"]}}}
    assert net.refused("POST", "/routers", body) == (400, "BadRequest")
    body["router"]["external_gateway_info"]["network_id"] = new()
    assert net.refused("POST", "/routers", body) == (404, "NetworkNotFound")


def test_only_administrators_choose_snat_and_the_gateways_address(net):
    outside, _ = net.outside()
    for wish in ({"enable_snat": False}, {"external_fixed_ips": [{"ip_address": "172.24.4.99"}]}):
        body = {"router": {"external_gateway_info": {"network_id": outside["id"], **wish}}}
        assert net.refused("POST", "/routers", body) == (403, "PolicyNotAuthorized")
        made = net("POST", "/routers", body, as_=ADMIN, ok=201).json["router"]["external_gateway_info"]
        assert made["enable_snat"] is wish.get("enable_snat", True)
    assert made["external_fixed_ips"][0]["ip_address"] == "172.24.4.99"


def test_an_interface_takes_the_gateway_address_of_its_subnet(net):
    network, subnet = net.net()
    router = net.make("routers")
    path = f"/routers/{router['id']}/add_router_interface"
    answer = net("PUT", path, {"subnet_id": subnet["id"]}, ok=200).json
    port = net.get("ports", answer["port_id"])
    assert answer == {
        "id": router["id"], "tenant_id": MEMBER.project_id, "project_id": MEMBER.project_id, "network_id": network["id"],
        "port_id": port["id"], "subnet_id": subnet["id"], "subnet_ids": [subnet["id"]],
    }  # fmt: skip
    assert port["fixed_ips"] == [{"subnet_id": subnet["id"], "ip_address": "10.0.0.1"}]
    assert (port["device_owner"], port["device_id"], port["security_groups"]) == ("network:router_interface", router["id"], [])
    assert net.refused("PUT", path, {"subnet_id": subnet["id"]}) == (400, "BadRequest")
    _, overlapping = net.net("10.0.0.0/16")
    assert net.refused("PUT", path, {"subnet_id": overlapping["id"]}) == (400, "BadRequest")


@pytest.mark.parametrize("body", [{}, {"subnet_id": "6" * 32, "port_id": "6" * 32}, {"subnet_id": 7}, {"colour": "red"}, []])
def test_an_interface_names_a_subnet_or_a_port(net, body):
    router = net.make("routers")
    assert net.refused("PUT", f"/routers/{router['id']}/add_router_interface", body)[0] == 400


def test_a_subnet_without_gateway_takes_no_router(net):
    _, subnet = net.net(gateway_ip=None)
    router = net.make("routers")
    assert net.refused("PUT", f"/routers/{router['id']}/add_router_interface", {"subnet_id": subnet["id"]}) == (400, "BadRequest")


def test_a_port_becomes_an_interface_once(net):
    network, _ = net.net()
    port = net.make("ports", network_id=network["id"])
    router = net.make("routers")
    path = f"/routers/{router['id']}/add_router_interface"
    net("PUT", path, {"port_id": port["id"]}, ok=200)
    now = net.get("ports", port["id"])
    assert (now["device_owner"], now["security_groups"], now["fixed_ips"]) == ("network:router_interface", [], port["fixed_ips"])
    assert net.refused("PUT", path, {"port_id": port["id"]}) == (409, "PortInUse")
    assert net.refused("DELETE", f"/ports/{port['id']}") == (409, "ServicePortInUse")
    net("PUT", f"/routers/{router['id']}/remove_router_interface", {"port_id": port["id"]}, ok=200)
    assert net.refused("GET", f"/ports/{port['id']}") == (404, "PortNotFound")


def test_interfaces_are_removed_by_subnet(net):
    _, subnet = net.net()
    router = net.routed(subnet)
    path = f"/routers/{router['id']}"
    assert net.refused("DELETE", path) == (409, "RouterInUse")
    answer = net("PUT", path + "/remove_router_interface", {"subnet_id": subnet["id"]}, ok=200).json
    assert answer["subnet_ids"] == [subnet["id"]]
    assert net.refused("PUT", path + "/remove_router_interface", {"subnet_id": subnet["id"]}) == (404, "RouterInterfaceNotFoundForSubnet")
    assert net.refused("PUT", path + "/remove_router_interface", {"port_id": answer["port_id"]}) == (404, "RouterInterfaceNotFound")
    net.delete("routers", router["id"])
    assert net.used("router") == 0


def test_the_address_of_an_interface_may_change(net):
    network, subnet = net.net()
    router = net.routed(subnet)
    (port,) = net.all("/ports?device_owner=network:router_interface")
    version = net.desired()["version"]
    net.change("ports", port["id"], fixed_ips=[{"subnet_id": subnet["id"], "ip_address": "10.0.0.7"}])
    assert net.since(version)["routers"] == {router["id"]}
    assert net.desired()["routers"][0]["interfaces"][0]["ips"][0]["ip"] == "10.0.0.7"
    second = net.make("subnets", network_id=network["id"], cidr="10.1.0.0/24", ip_version=4)
    net.change("ports", port["id"], fixed_ips=[{"subnet_id": second["id"]}])
    path = f"/routers/{router['id']}/remove_router_interface"
    assert net.refused("PUT", path, {"subnet_id": subnet["id"]}) == (404, "RouterInterfaceNotFoundForSubnet")
    assert net.refused("PUT", f"/ports/{port['id']}", {"port": {"fixed_ips": []}}) == (400, "BadRequest")
    net("PUT", path, {"subnet_id": second["id"]}, ok=200)


def test_a_router_that_its_host_cannot_make_shows_it(net):
    _, subnet = net.net()
    router = net.routed(subnet)
    net.report("host2", routers={router["id"]: "ERROR"})
    assert net.get("routers", router["id"])["status"] == "ACTIVE"
    net.report(routers={router["id"]: "ERROR"})
    assert net.get("routers", router["id"])["status"] == "ERROR"
    net.report(routers={router["id"]: "ACTIVE"})
    assert net.get("routers", router["id"])["status"] == "ACTIVE"


def test_routers_of_kinds_there_are_not_are_refused(net):
    for kind in ("distributed", "ha"):
        assert net.refused("POST", "/routers", {"router": {kind: True}}) == (403, "PolicyNotAuthorized")
        assert net.refused("POST", "/routers", {"router": {kind: True}}, as_=ADMIN) == (400, "InvalidInput")
        net("POST", "/routers", {"router": {kind: False}}, as_=ADMIN, ok=201)


def test_routes_lead_to_neighbours(net):
    _, subnet = net.net()
    router = net.routed(subnet)
    path = f"/routers/{router['id']}"
    good = {"destination": "10.9.0.0/16", "nexthop": "10.0.0.9"}
    assert net.change("routers", router["id"], routes=[good])["routes"] == [good]
    for hop in ("10.7.7.7", "10.0.0.1"):
        body = {"router": {"routes": [{"destination": "10.8.0.0/16", "nexthop": hop}]}}
        assert net.refused("PUT", path, body) == (400, "InvalidRoutes")
    more = {"destination": "10.8.0.0/16", "nexthop": "10.0.0.8"}
    added = net("PUT", path + "/add_extraroutes", {"router": {"routes": [more]}}, ok=200).json["router"]
    assert added["routes"] == [good, more]
    refused = net.refused("PUT", path + "/remove_router_interface", {"subnet_id": subnet["id"]})
    assert refused == (409, "RouterInterfaceInUseByRoute")
    left = net("PUT", path + "/remove_extraroutes", {"router": {"routes": [good]}}, ok=200).json["router"]
    assert left["routes"] == [more]


def test_a_router_of_others_is_not_found(net):
    router = net.make("routers")
    assert net.refused("PUT", f"/routers/{router['id']}/add_router_interface", {"subnet_id": new()}, as_=OTHER) == (404, "RouterNotFound")


# -- floating IPs ----------------------------------------------------------------------------------------------------


@pytest.fixture
def joined(net):
    """An external network, and a network behind a router with a guest in it."""
    outside, _ = net.outside()
    network, subnet = net.net()
    router = net.routed(subnet, outside)
    return outside, network, router, net.guest(network)


def test_a_new_floating_ip_stands_for_nothing(net):
    outside, _ = net.outside()
    body = net.make("floatingips", floating_network_id=outside["id"])
    assert set(body) == {
        "id", "tenant_id", "project_id", "floating_ip_address", "floating_network_id", "fixed_ip_address", "port_id", "router_id", "status",
        "port_details", "description", "tags", "created_at", "updated_at", "revision_number",
    }  # fmt: skip
    assert [body[name] for name in ("port_id", "fixed_ip_address", "router_id", "status", "port_details")] == [None, None, None, "DOWN", None]
    (port,) = net.all("/ports", as_=ADMIN)
    assert (port["device_owner"], port["device_id"], port["project_id"]) == ("network:floatingip", body["id"], "")
    net.delete("floatingips", body["id"])
    assert net.all("/ports", as_=ADMIN) == []
    assert net.used("floatingip") == 0


def test_associating_finds_the_router_and_the_address(net, joined):
    outside, _, router, guest = joined
    made = net.make("floatingips", floating_network_id=outside["id"])
    body = net.change("floatingips", made["id"], port_id=guest["id"])
    assert (body["router_id"], body["port_id"], body["fixed_ip_address"]) == (router["id"], guest["id"], guest["fixed_ips"][0]["ip_address"])
    assert body["port_details"]["device_id"] == guest["device_id"]
    (item,) = net.desired()["routers"]
    assert [(f["floating"], f["fixed"]) for f in item["floating_ips"]] == [(body["floating_ip_address"], body["fixed_ip_address"])]


def test_a_floating_ip_is_active_once_its_router_has_it(net, joined):
    outside, _, _, guest = joined
    stale = net.desired()["version"]
    made = net.make("floatingips", floating_network_id=outside["id"], port_id=guest["id"])
    net.client.call("network.report", {"host": "host1", "version": stale, "floating_ips": {made["id"]: "ACTIVE"}})
    assert net.get("floatingips", made["id"])["status"] == "DOWN"
    net.report(floating_ips={made["id"]: "ACTIVE"})
    assert net.get("floatingips", made["id"])["status"] == "ACTIVE"
    assert net.change("floatingips", made["id"], port_id=None)["status"] == "DOWN"
    assert net.desired()["routers"][0]["floating_ips"] == ()


def test_a_fixed_address_has_one_floating_ip_of_a_network(net, joined):
    outside, _, _, guest = joined
    net.make("floatingips", floating_network_id=outside["id"], port_id=guest["id"])
    body = {"floatingip": {"floating_network_id": outside["id"], "port_id": guest["id"]}}
    assert net.refused("POST", "/floatingips", body) == (409, "FloatingIPPortAlreadyAssociated")


def test_without_a_way_there_is_no_association(net):
    outside, _ = net.outside()
    network, _ = net.net()
    guest = net.guest(network)
    body = {"floatingip": {"floating_network_id": outside["id"], "port_id": guest["id"]}}
    assert net.refused("POST", "/floatingips", body) == (404, "ExternalGatewayForFloatingIPNotFound")
    body["floatingip"]["floating_network_id"] = network["id"]
    assert net.refused("POST", "/floatingips", body) == (400, "BadRequest")


def test_gateway_and_interface_stay_while_a_floating_ip_needs_them(net, joined):
    outside, _, router, guest = joined
    net.make("floatingips", floating_network_id=outside["id"], port_id=guest["id"])
    path = f"/routers/{router['id']}"
    refused = net.refused("PUT", path, {"router": {"external_gateway_info": None}})
    assert refused == (409, "RouterExternalGatewayInUseByFloatingIp")
    (interface,) = net.all("/ports?device_owner=network:router_interface")
    refused = net.refused("PUT", path + "/remove_router_interface", {"port_id": interface["id"]})
    assert refused == (409, "RouterInterfaceInUseByFloatingIP")


def test_deleting_a_port_sets_its_floating_ip_free(net, joined):
    outside, _, _, guest = joined
    made = net.make("floatingips", floating_network_id=outside["id"], port_id=guest["id"])
    net.delete("ports", guest["id"])
    body = net.get("floatingips", made["id"])
    assert [body[name] for name in ("port_id", "fixed_ip_address", "router_id", "status")] == [None, None, None, "DOWN"]


def test_unused_floating_ips_go_with_their_network(net):
    outside, _ = net.outside()
    net.make("floatingips", floating_network_id=outside["id"])
    net.delete("networks", outside["id"], as_=ADMIN)
    assert net.all("/floatingips") == []
    assert net.used("floatingip") == 0


def test_only_administrators_choose_a_floating_address(net):
    outside, _ = net.outside()
    body = {"floatingip": {"floating_network_id": outside["id"], "floating_ip_address": "172.24.4.99"}}
    assert net.refused("POST", "/floatingips", body) == (403, "PolicyNotAuthorized")
    made = net("POST", "/floatingips", body, as_=ADMIN, ok=201).json["floatingip"]
    assert made["floating_ip_address"] == "172.24.4.99"
    assert net.refused("POST", "/floatingips", body, as_=ADMIN) == (409, "IpAddressAlreadyAllocated")


def test_an_exhausted_external_network_says_so(net):
    outside, _ = net.outside("172.24.4.0/30")
    net.make("floatingips", floating_network_id=outside["id"])
    body = {"floatingip": {"floating_network_id": outside["id"]}}
    assert net.refused("POST", "/floatingips", body) == (409, "ExternalIpAddressExhausted")


def test_ports_of_others_get_no_floating_ip(net, joined):
    outside, _, _, guest = joined
    body = {"floatingip": {"floating_network_id": outside["id"], "port_id": guest["id"]}}
    assert net.refused("POST", "/floatingips", body, as_=OTHER) == (404, "PortNotFound")
