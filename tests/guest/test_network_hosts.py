"""Networks that span hosts, and a host's way out: several test hosts on one wire, driven from outside."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

from pileus.network.wire import Desired, GroupItem, NetworkItem, Peer, PeerEntry, PortItem, to_dict
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
