"""Subnets on the wire."""

from __future__ import annotations

import pytest

from pileus.kernel.testing import ADMIN, OTHER


def test_a_new_subnet_has_gateway_and_pool(net):
    network, body = net.net()
    assert body["gateway_ip"] == "10.0.0.1"
    assert body["allocation_pools"] == [{"start": "10.0.0.2", "end": "10.0.0.254"}]
    assert (body["enable_dhcp"], body["ip_version"], body["cidr"], body["subnetpool_id"]) == (True, 4, "10.0.0.0/24", None)
    assert net.get("networks", network["id"])["subnets"] == [body["id"]]
    assert net.get("subnets", body["id"]) == body


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"cidr": "10.0.0.0/24", "ip_version": 6}, (400, "InvalidInput")),
        ({"cidr": "10.0.0.300/24"}, (400, "HTTPBadRequest")),
        ({"cidr": "224.0.0.0/24"}, (400, "InvalidInput")),
        ({"ip_version": 4}, (400, "HTTPBadRequest")),
        ({"cidr": "10.0.0.0/24", "gateway_ip": "10.0.0.0"}, (400, "InvalidInput")),
        ({"cidr": "10.0.0.0/24", "gateway_ip": "fd00::1"}, (400, "InvalidInput")),
        ({"cidr": "10.0.0.0/24", "allocation_pools": [{"start": "10.0.1.5", "end": "10.0.1.9"}]}, (400, "OutOfBoundsAllocationPool")),
        ({"cidr": "10.0.0.0/24", "allocation_pools": [{"start": "10.0.0.9", "end": "10.0.0.5"}]}, (400, "InvalidAllocationPool")),
        ({"cidr": "10.0.0.0/24", "allocation_pools": [{"start": "10.0.0.1", "end": "10.0.0.5"}]}, (409, "GatewayConflictWithAllocationPools")),
        (
            {"cidr": "10.0.0.0/24", "allocation_pools": [{"start": "10.0.0.4", "end": "10.0.0.9"}, {"start": "10.0.0.8", "end": "10.0.0.12"}]},
            (409, "OverlappingAllocationPools"),
        ),
        ({"cidr": "10.0.0.0/24", "dns_nameservers": [f"10.9.9.{n}" for n in range(6)]}, (400, "DNSNameServersExhausted")),
        ({"cidr": "10.0.0.0/24", "dns_nameservers": ["resolver"]}, (400, "HTTPBadRequest")),
        ({"cidr": "10.0.0.0/24", "host_routes": [{"destination": "10.1.0.0/16"}]}, (400, "HTTPBadRequest")),
        ({"cidr": "fd00::/64", "ip_version": 6, "ipv6_ra_mode": "slaac"}, (400, "InvalidInput")),
        ({"cidr": "10.0.0.0/24", "subnetpool_id": "0" * 32}, (404, "SubnetPoolNotFound")),
        ({"cidr": "10.0.0.0/24", "prefixlen": 24}, (400, "HTTPBadRequest")),
        ({"use_default_subnetpool": True}, (400, "HTTPBadRequest")),
        ({"cidr": "10.0.0.0/24", "colour": "red"}, (400, "HTTPBadRequest")),
    ],
)  # fmt: skip
def test_subnets_that_cannot_be_are_refused(net, body, answer):
    network = net.make("networks")
    assert net.refused("POST", "/subnets", {"subnet": {"network_id": network["id"], **body}}) == answer


def test_subnets_of_a_network_do_not_overlap(net):
    network, _ = net.net("10.0.0.0/16")
    body = {"subnet": {"network_id": network["id"], "cidr": "10.0.7.0/24", "ip_version": 4}}
    assert net.refused("POST", "/subnets", body) == (400, "InvalidInput")
    other, _ = net.net("10.0.0.0/16")
    assert other["id"] != network["id"]


def test_without_a_gateway_the_whole_range_is_for_ports(net):
    _, body = net.net(gateway_ip=None)
    assert body["gateway_ip"] is None
    assert body["allocation_pools"] == [{"start": "10.0.0.1", "end": "10.0.0.254"}]


def test_ipv6_addresses_come_from_the_pool(net):
    network = net.make("networks")
    subnet = net.make("subnets", network_id=network["id"], cidr="fd00:1::/64", ip_version=6)
    assert subnet["gateway_ip"] == "fd00:1::1"
    (address,) = net.make("ports", network_id=network["id"])["fixed_ips"]
    assert address["subnet_id"] == subnet["id"]
    assert address["ip_address"].startswith("fd00:1:")


def test_only_the_owner_of_the_network_adds_subnets(net):
    shared = net.make("networks", as_=ADMIN, shared=True)
    body = {"subnet": {"network_id": shared["id"], "cidr": "10.0.0.0/24", "ip_version": 4}}
    assert net.refused("POST", "/subnets", body, as_=OTHER) == (403, "PolicyNotAuthorized")
    mine = net.make("networks")
    body["subnet"]["network_id"] = mine["id"]
    assert net.refused("POST", "/subnets", body, as_=OTHER) == (404, "NetworkNotFound")


def test_an_update_changes_what_dhcp_hands_out(net):
    network, subnet = net.net()
    net.guest(network)
    version = net.desired()["version"]
    changed = net.change("subnets", subnet["id"], dns_nameservers=["9.9.9.9"], host_routes=[{"destination": "10.9.0.0/16", "nexthop": "10.0.0.9"}])
    assert changed["dns_nameservers"] == ["9.9.9.9"]
    assert net.since(version) == {"networks": {network["id"]}}
    (item,) = net.desired(since=version)["networks"]
    assert list(item["subnets"][0]["dns_nameservers"]) == ["9.9.9.9"]


def test_dhcp_goes_when_it_is_switched_off_and_returns(net):
    _, subnet = net.net()
    net.change("subnets", subnet["id"], enable_dhcp=False)
    assert net.all("/ports") == []
    net.change("subnets", subnet["id"], enable_dhcp=True)
    assert [port["device_owner"] for port in net.all("/ports")] == ["network:dhcp"]


def test_a_second_subnet_gets_an_address_of_dhcp_too(net):
    network, _ = net.net()
    net.make("subnets", network_id=network["id"], cidr="10.1.0.0/24", ip_version=4)
    (port,) = net.all("/ports?device_owner=network:dhcp")
    assert len(port["fixed_ips"]) == 2


def test_the_gateway_a_router_answers_at_stays(net):
    _, subnet = net.net()
    net.routed(subnet)
    refused = net.refused("PUT", f"/subnets/{subnet['id']}", {"subnet": {"gateway_ip": None}})
    assert refused == (409, "GatewayIpInUse")


def test_a_subnet_in_use_stays(net):
    network, subnet = net.net()
    port = net.make("ports", network_id=network["id"])
    assert net.refused("DELETE", f"/subnets/{subnet['id']}") == (409, "SubnetInUse")
    net.delete("ports", port["id"])
    net.delete("subnets", subnet["id"])
    assert net.used("subnet") == 0


def test_the_addresses_of_a_full_subnet_are_all_given_and_no_more(net):
    network, _ = net.net("10.0.0.0/28", enable_dhcp=False)
    given = {net.make("ports", network_id=network["id"])["fixed_ips"][0]["ip_address"] for _ in range(13)}
    assert given == {f"10.0.0.{n}" for n in range(2, 15)}
    assert net.refused("POST", "/ports", {"port": {"network_id": network["id"]}}) == (409, "IpAddressGenerationFailure")
    freed = net.all("/ports")[5]
    net.delete("ports", freed["id"])
    assert net.make("ports", network_id=network["id"])["fixed_ips"] == freed["fixed_ips"]


def test_the_use_of_addresses_is_counted(net):
    network, subnet = net.net("10.0.0.0/28", enable_dhcp=False)
    net.make("ports", network_id=network["id"])
    body = net("GET", f"/network-ip-availabilities/{network['id']}", as_=ADMIN, ok=200).json["network_ip_availability"]
    assert (body["used_ips"], body["total_ips"]) == (1, 13)
    assert body["subnet_ip_availability"][0]["subnet_id"] == subnet["id"]
