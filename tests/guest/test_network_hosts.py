"""Networks that span hosts, and a host's way out: several test hosts on one wire, driven from outside."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest

from pileus.network.wire import AddressPair, Desired, GroupItem, NetworkItem, Peer, PeerEntry, PortItem, to_dict
from tests.contracts.network_world import a_group, a_lease, a_network, a_port, rule
from tests.sandbox import TOP, Sandbox, Underlay

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="test hosts need root")


class Host:
    """One test host with the state it shall have."""

    def __init__(self, sandbox: Sandbox, vtep: str) -> None:
        self.sandbox = sandbox
        self.vtep = vtep
        self.version = 0

    def apply(self, *, networks: list[NetworkItem], groups: list[GroupItem], ports: list[PortItem]) -> dict[str, Any]:
        self.version += 1
        desired = Desired(version=self.version, full=True, networks=tuple(networks), groups=tuple(groups), ports=tuple(ports))
        given = {"home": "/var/lib/pileus", "host": self.vtep, "vtep": self.vtep, "desired": to_dict(desired), "guests": [to_dict(port) for port in ports]}
        (self.sandbox.dir / "desired.json").write_text(json.dumps(given))
        done = self.sandbox.run([sys.executable, "-m", "tests.contracts.network_apply", str(self.sandbox.dir / "desired.json")], cwd=TOP)
        return json.loads(done.stdout)

    def inside(self, port: PortItem, *argv: str) -> bool:
        return self.sandbox.run(["ip", "netns", "exec", f"guest-{port.id[:8]}", *argv], check=False).returncode == 0

    def address(self, port: PortItem) -> None:
        assert self.inside(port, "ip", "addr", "replace", f"{port.fixed_ips[0].ip}/24", "dev", "eth0")

    def count(self, kinds: tuple[str, ...], hook: str, port: PortItem | None = None) -> Callable[[], list[int]]:
        """Count packets of these kinds (nft expressions) from now on, on the host or in a guest; returns how to read the counters."""
        where = ["ip", "netns", "exec", f"guest-{port.id[:8]}"] if port else []
        family = "netdev" if "ingress" in hook else "ip"
        rules = "\n".join(f"  {kind} counter" for kind in kinds)
        table = f"table {family} counted {{\n chain seen {{\n  type filter hook {hook} priority 0 ; policy accept ;\n{rules}\n }}\n}}\n"
        self.sandbox.run([*where, "nft", "-f", "-"], input=table)

        def read() -> list[int]:
            listed = self.sandbox.run([*where, "nft", "list", "table", family, "counted"]).stdout
            return [int(found) for found in re.findall(r"counter packets (\d+)", listed)]

        return read

    def announce(self, port: PortItem, ip: str) -> None:
        """A guest says that an address is with it now."""
        leg = f"Leg(port_id='', device='eth0', bridge='', mac='{port.mac}', mtu=0, addresses=frozenset())"
        script = f"from pileus.network.drivers.linux.legs import Leg, announce; announce('guest-{port.id[:8]}', {leg}, ['{ip}/32'])"
        self.sandbox.run([sys.executable, "-c", script], cwd=TOP)

    def reaches(self, port: PortItem, ip: str) -> bool:
        return any(self.inside(port, "ping", "-n", "-c1", "-W1", ip) for _ in range(4))


def peer(host: Host, *ports: PortItem) -> Peer:
    return Peer(vtep=host.vtep, entries=tuple(PeerEntry(mac=port.mac, ips=tuple(ip.ip for ip in port.fixed_ips)) for port in ports))


def with_peers(network: NetworkItem, *peers: Peer) -> NetworkItem:
    return dataclasses.replace(network, peers=peers)


@pytest.fixture
def two(hosts: Callable[[int], Underlay]) -> tuple[Host, Host]:
    first, second = hosts(2).hosts
    return Host(first, "10.9.0.1"), Host(second, "10.9.0.2")


def test_guests_of_a_network_on_two_hosts_reach_each_other_by_their_rules(two: tuple[Host, Host]) -> None:
    one, other = two
    network, pings, nothing = a_network(), a_group(rule(protocol="icmp")), a_group()
    here, there = a_port(network, "10.1.0.5", nothing), a_port(network, "10.1.0.6", pings)
    for host, mine, far in ((one, here, peer(other, there)), (other, there, peer(one, here))):
        said = host.apply(networks=[with_peers(network, far)], groups=[pings, nothing], ports=[mine])
        assert said == {"failures": {}, "ports": {mine.id: "ACTIVE"}}
        host.address(mine)
    assert one.reaches(here, "10.1.0.6")
    assert not other.inside(there, "ping", "-n", "-c1", "-W1", "10.1.0.5")


def test_networks_with_the_same_addresses_stay_apart_between_hosts(two: tuple[Host, Host]) -> None:
    one, other = two
    group = a_group(rule(protocol="icmp"))
    networks = [a_network(0), a_network(1, cidr="10.1.0.0/24")]
    here = a_port(networks[0], "10.1.0.5", group)
    there = [a_port(networks[0], "10.1.0.6", group), a_port(networks[1], "10.1.0.7", group)]
    one.apply(networks=[with_peers(networks[0], peer(other, there[0]))], groups=[group], ports=[here])
    other.apply(networks=[with_peers(networks[0], peer(one, here)), networks[1]], groups=[group], ports=there)
    for host, ports in ((one, [here]), (other, there)):
        for port in ports:
            host.address(port)
    assert one.reaches(here, "10.1.0.6")
    assert not one.inside(here, "ping", "-n", "-c1", "-W1", "10.1.0.7")


def test_a_port_that_moves_to_the_other_host_is_found_there(two: tuple[Host, Host]) -> None:
    one, other = two
    network, group = a_network(), a_group(rule(protocol="icmp"))
    staying, moving = a_port(network, "10.1.0.5", group), a_port(network, "10.1.0.6", group)
    one.apply(networks=[with_peers(network, peer(other, moving))], groups=[group], ports=[staying])
    other.apply(networks=[with_peers(network, peer(one, staying))], groups=[group], ports=[moving])
    one.address(staying)
    other.address(moving)
    assert one.reaches(staying, "10.1.0.6")
    other.apply(networks=[], groups=[], ports=[])
    one.apply(networks=[network], groups=[group], ports=[staying, moving])
    one.address(moving)
    assert one.reaches(staying, "10.1.0.6")
    assert "vxlan" not in one.sandbox.run(["ip", "-o", "link"]).stdout
    assert "brq" not in other.sandbox.run(["ip", "-o", "link"]).stdout


def test_dhcp_answers_guests_on_another_host(two: tuple[Host, Host]) -> None:
    one, other = two
    network, group = a_network(dhcp=True), a_group()
    port = a_port(network, "10.1.0.23", group)
    server = Peer(vtep=one.vtep, entries=(PeerEntry(mac=network.dhcp.mac, ips=("10.1.0.2",)),))
    serving = dataclasses.replace(network, leases=(a_lease(network, port),), peers=(peer(other, port),))
    assert one.apply(networks=[serving], groups=[], ports=[])["ports"] == {network.dhcp.port_id: "ACTIVE"}
    other.apply(networks=[dataclasses.replace(network, dhcp=None, peers=(server,))], groups=[group], ports=[port])
    script = f"from tests.contracts.network_world import ask_dhcp; print(ask_dhcp(bytes.fromhex('{port.mac.replace(':', '')}'))[0])"
    answer = other.sandbox.run(["nsenter", f"--net=/run/netns/guest-{port.id[:8]}", sys.executable, "-c", script], cwd=TOP)
    assert answer.stdout.strip() == repr(bytes([10, 1, 0, 23]))


# -- three hosts: what reaches those whom it does not concern --------------------------------------------------------


@pytest.fixture
def three(hosts: Callable[[int], Underlay]) -> list[Host]:
    return [Host(sandbox, f"10.9.0.{number}") for number, sandbox in enumerate(hosts(3).hosts, 1)]


def spread(three: list[Host], network: NetworkItem, group: GroupItem, ports: list[PortItem]) -> None:
    """A port of the network on each host, each host told of the others."""
    placed = list(zip(three, ports, strict=True))
    for host, mine in placed:
        peers = [peer(other, port) for other, port in placed if other is not host]
        assert host.apply(networks=[with_peers(network, *peers)], groups=[group], ports=[mine])["failures"] == {}
        host.address(mine)


def test_what_is_known_goes_to_its_host_alone(three: list[Host]) -> None:
    network, group = a_network(), a_group(rule(protocol="icmp"))
    one, other, third = ports = [a_port(network, f"10.1.0.{n}", group) for n in (5, 6, 7)]
    spread(three, network, group, ports)
    seen = three[2].count(("ether type arp", "ether type ip"), "ingress device vxlan-1001")
    assert three[0].reaches(one, "10.1.0.6")
    assert three[1].reaches(other, "10.1.0.5")
    assert seen() == [0, 0]
    assert three[0].reaches(one, "10.1.0.7")
    arp, ip = seen()
    assert arp == 0, "who has 10.1.0.7 was answered at home"
    assert ip > 0


def test_what_is_not_known_and_what_is_announced_goes_to_every_host_of_the_network(three: list[Host]) -> None:
    network, group = a_network(), a_group(rule(protocol="icmp"))
    ports = [a_port(network, f"10.1.0.{n}", group, allowed_address_pairs=(AddressPair(ip="10.1.0.100"),)) for n in (5, 6, 7)]
    spread(three, network, group, ports)
    seen = three[2].count(("arp operation request arp daddr ip 10.1.0.99", "arp daddr ip 10.1.0.100"), "ingress device vxlan-1001")
    three[0].inside(ports[0], "ping", "-n", "-c1", "-W1", "10.1.0.99")
    three[0].announce(ports[0], "10.1.0.100")
    unknown, announced = seen()
    assert unknown > 0
    assert announced == 2, "an address that moved between guests is announced to all, as request and as answer"


def test_a_silent_guest_is_not_sought_on_other_hosts(three: list[Host]) -> None:
    network, group = a_network(), a_group(rule(protocol="icmp"))
    one, other, third = ports = [a_port(network, f"10.1.0.{n}", group) for n in (5, 6, 7)]
    spread(three, network, group, ports)
    silent = a_port(network, "10.1.0.8", group)
    peers = [peer(three[1], other), peer(three[2], third)]
    three[0].apply(networks=[with_peers(network, *peers)], groups=[group], ports=[one, silent])
    seen = three[2].count(("ether type ip",), "ingress device vxlan-1001")
    three[0].inside(one, "ip", "neigh", "replace", "10.1.0.8", "lladdr", silent.mac, "dev", "eth0", "nud", "permanent")
    three[0].inside(one, "ping", "-n", "-c1", "-W1", "10.1.0.8")
    assert seen() == [0]


def test_forwarding_stays_with_a_port_until_the_host_prepared_for_it_gets_it(three: list[Host]) -> None:
    network, group = a_network(), a_group(rule(protocol="icmp"))
    staying, moving = a_port(network, "10.1.0.5", group), a_port(network, "10.1.0.6", group)
    one, source, destination = three
    one.apply(networks=[with_peers(network, peer(source, moving))], groups=[group], ports=[staying])
    source.apply(networks=[with_peers(network, peer(one, staying))], groups=[group], ports=[moving])
    prepared = with_peers(network, peer(one, staying), peer(source, moving))
    assert destination.apply(networks=[prepared], groups=[group], ports=[moving]) == {"failures": {}, "ports": {moving.id: "ACTIVE"}}
    for host, port in ((one, staying), (source, moving), (destination, moving)):
        host.address(port)
    asked = ("icmp type echo-request",)
    here, there = source.count(asked, "input", moving), destination.count(asked, "input", moving)
    assert one.reaches(staying, "10.1.0.6")
    assert here() > [0]
    assert there() == [0]
    # The port is activated: hosts are told in any order.
    one.apply(networks=[with_peers(network, peer(destination, moving))], groups=[group], ports=[staying])
    source.apply(networks=[], groups=[], ports=[])
    before = here()
    destination.apply(networks=[with_peers(network, peer(one, staying))], groups=[group], ports=[moving])
    assert one.reaches(staying, "10.1.0.6")
    assert there() > [0]
    assert here() == before
