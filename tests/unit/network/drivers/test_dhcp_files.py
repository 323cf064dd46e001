"""What dnsmasq is told: hosts, options and arguments, as text."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from pileus.network.drivers.base import Settings
from pileus.network.drivers.linux import dhcp
from pileus.network.wire import DhcpOption, HostRoute, Lease, Subnet
from tests.contracts.network_world import a_lease, a_network, a_port

NETWORK = a_network(dhcp=True)
SUBNET = NETWORK.subnets[0]
TAG = f"tag:subnet-{SUBNET.id}"


def options(**changes) -> list[str]:
    subnet = dataclasses.replace(SUBNET, **changes.pop("subnet", {}))
    return dhcp._options(dataclasses.replace(NETWORK, subnets=(subnet, *changes.pop("more", ())), **changes)).splitlines()


@pytest.fixture
def server(tmp_path: Path) -> dhcp.Dhcp:
    return dhcp.Dhcp(Settings(home=tmp_path, host="h1", dns_domain="cloud.test"))


def test_a_guest_gets_router_dns_and_default_route() -> None:
    assert options() == [
        f"{TAG},option:dns-server,10.1.0.2",
        f"{TAG},option:classless-static-route,0.0.0.0/0,10.1.0.1",
        f"{TAG},249,0.0.0.0/0,10.1.0.1",
        f"{TAG},option:router,10.1.0.1",
    ]


def test_dns_servers_of_the_subnet_come_before_our_own() -> None:
    assert f"{TAG},option:dns-server,9.9.9.9,1.1.1.1" in options(subnet={"dns_nameservers": ("9.9.9.9", "1.1.1.1")})


def test_host_routes_and_metadata_join_the_default_route() -> None:
    routes = options(isolated=True, subnet={"host_routes": (HostRoute(destination="10.9.0.0/16", nexthop="10.1.0.9"),)})
    assert f"{TAG},249,10.9.0.0/16,10.1.0.9,169.254.169.254/32,10.1.0.2,0.0.0.0/0,10.1.0.1" in routes


def test_without_a_gateway_there_is_no_router_and_metadata_comes_from_dhcp() -> None:
    lines = options(subnet={"gateway_ip": None})
    assert f"{TAG},option:router" in lines
    assert f"{TAG},249,169.254.169.254/32,10.1.0.2" in lines
    assert dhcp.serves_metadata(dataclasses.replace(NETWORK, subnets=(dataclasses.replace(SUBNET, gateway_ip=None),)))
    assert not dhcp.serves_metadata(NETWORK)


def test_other_subnets_of_the_network_are_on_the_link() -> None:
    other = Subnet(id="other", cidr="10.2.0.0/24", enable_dhcp=False)
    assert f"{TAG},249,10.2.0.0/24,0.0.0.0,0.0.0.0/0,10.1.0.1" in options(more=(other,))


def test_options_of_a_port_are_for_that_port_alone() -> None:
    port = a_port(NETWORK, "10.1.0.5")
    extra = (
        DhcpOption(opt_name="bootfile-name", opt_value="pxelinux.0"), DhcpOption(opt_name="66", opt_value="10.1.0.9"),
        DhcpOption(opt_name="router"), DhcpOption(opt_name="evil", opt_value="x\ntag:all,option:router,6.6.6.6"),
    )
    lines = options(leases=(dataclasses.replace(a_lease(NETWORK, port), extra_dhcp_opts=extra),))
    assert lines[4:] == [f"tag:port-{port.id},option:bootfile-name,pxelinux.0", f"tag:port-{port.id},66,10.1.0.9", f"tag:port-{port.id},option:router"]


def test_hosts_and_names_follow_the_leases(server: dhcp.Dhcp) -> None:
    port = a_port(NETWORK, "10.1.0.5", mac="fa:16:3e:00:00:01")
    network = dataclasses.replace(NETWORK, leases=(a_lease(NETWORK, port), dataclasses.replace(a_lease(NETWORK, port, "web"), ip="10.1.0.6")))
    assert server._hosts(network).splitlines() == [
        "fa:16:3e:00:00:01,id:*,host-10-1-0-5.cloud.test,10.1.0.5",
        "fa:16:3e:00:00:01,id:*,web.cloud.test,10.1.0.6",
    ]
    assert server._names(network).splitlines() == ["10.1.0.5\thost-10-1-0-5.cloud.test host-10-1-0-5", "10.1.0.6\tweb.cloud.test web"]


def test_subnets_without_dhcp_are_not_served(server: dhcp.Dhcp) -> None:
    closed = Subnet(id="closed", cidr="10.2.0.0/24", enable_dhcp=False)
    lease = Lease(port_id="p", mac="fa:16:3e:00:00:01", ip="10.2.0.5", subnet_id="closed")
    network = dataclasses.replace(NETWORK, subnets=(SUBNET, closed), leases=(lease,))
    assert server._hosts(network) == ""
    ranges = [each for each in server._arguments(network, Path("/d"), "dnsmasq") if each.startswith("--dhcp-range")]
    assert ranges == [f"--dhcp-range=set:subnet-{SUBNET.id},10.1.0.0,static,255.255.255.0,86400s"]


def test_the_networks_own_domain_and_mtu_are_handed_out(server: dhcp.Dhcp) -> None:
    arguments = server._arguments(dataclasses.replace(NETWORK, dns_domain="net.test.", mtu=8950), Path("/d"), "dnsmasq")
    assert "--domain=net.test" in arguments
    assert "--dhcp-option-force=option:mtu,8950" in arguments
    assert "--user=dnsmasq" in arguments
