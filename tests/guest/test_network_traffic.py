"""What passes and what does not: plain namespaces stand in for guests, everything else is what a real host runs."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pileus.host import netlink
from pileus.host.run import run
from pileus.network.drivers.base import Settings
from pileus.network.drivers.linux.driver import LinuxDriver
from pileus.network.wire import AddressPair, DhcpOption, FloatingIp, Gone, HostRoute, RouterItem
from tests.contracts import network_world as world
from tests.contracts.network_world import Guest, World, a_gateway, a_group, a_lease, a_network, a_port, an_interface, new_id, rule

pytestmark = pytest.mark.real

PING = rule(protocol="icmp")


class Scene(World):
    def __init__(self, home: Path) -> None:
        super().__init__(LinuxDriver(Settings(home=home, host="h1")))
        self.guests: list[Guest] = []

    def sync(self, **items) -> dict[str, str]:
        failures = super().sync(**items)
        world.wait_until_forwarding()
        return failures

    def guest(self, port, ip: str = "", gateway: str = "", *, bare: bool = False) -> Guest:
        guest = Guest(port)
        self.guests.append(guest)
        return guest if bare else guest.address(ip, gateway)

    def pair(self, *rules, first_rules=None, out: bool = True, network=None):
        """Two guests of one network; the second has the rules, the first (by default) all that goes out and ping in."""
        network = network or a_network()
        open_, group = a_group(*(first_rules if first_rules is not None else (PING,))), a_group(*rules, out=out)
        ports = [a_port(network, "10.1.0.5", open_), a_port(network, "10.1.0.6", group)]
        guests = [self.guest(port) for port in ports]
        assert self.sync(networks=[network], groups=[open_, group], ports=ports) == {}
        return network, group, ports, guests


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    for guest in scene.guests:
        guest.close()
    scene.driver.remove_everything()


def talk(one: socket.socket, other: socket.socket) -> bool:
    """Whether bytes written to one end arrive at the other."""
    other.settimeout(1.0)
    try:
        one.send(b"x" * 100)
        return bool(other.recv(1000))
    except OSError:
        return False


def test_guests_of_a_network_reach_each_other_where_a_rule_says_so(scene: Scene) -> None:
    _, _, _, (one, two) = scene.pair(PING)
    assert one.reaches("10.1.0.6")
    assert two.reaches("10.1.0.5")


def test_nothing_comes_in_without_a_rule_but_answers_do(scene: Scene) -> None:
    _, _, _, (one, two) = scene.pair()
    assert two.reaches("10.1.0.5")
    assert not one.ping("10.1.0.6")


def test_nothing_goes_out_without_a_rule(scene: Scene) -> None:
    _, _, _, (one, two) = scene.pair(PING, out=False)
    assert one.reaches("10.1.0.6")
    assert not two.ping("10.1.0.5")


def test_a_rule_for_a_range_of_ports_opens_that_range_alone(scene: Scene) -> None:
    _, _, _, (one, two) = scene.pair(PING, rule(protocol="tcp", port_min=8000, port_max=8002))
    servers = [two.listen(port) for port in (7999, 8000, 8002, 8003)]
    assert [one.connect("10.1.0.6", port) is not None for port in (7999, 8000, 8002, 8003)] == [False, True, True, False]
    assert len(servers) == 4


def test_a_protocol_may_be_given_by_number(scene: Scene) -> None:
    _, _, _, (one, two) = scene.pair(rule(protocol="6", port_min=80, port_max=80))
    server = two.listen(80)
    assert one.connect("10.1.0.6", 80) is not None
    assert not one.ping("10.1.0.6")
    server.close()


def test_icmp_rules_tell_types_apart(scene: Scene) -> None:
    _, group, _, (one, _) = scene.pair(rule(protocol="icmp", port_min=8, port_max=0))
    assert one.reaches("10.1.0.6")
    scene.sync(groups=[dataclasses.replace(group, rules=(rule(protocol="icmp", port_min=13),))])
    assert not one.ping("10.1.0.6")


def test_a_rule_for_a_range_of_addresses_lets_in_those_alone(scene: Scene) -> None:
    _, group, _, (one, _) = scene.pair(rule(protocol="icmp", remote_cidr="10.1.0.0/29"))
    assert one.reaches("10.1.0.6")
    scene.sync(groups=[dataclasses.replace(group, rules=(rule(protocol="icmp", remote_cidr="10.1.0.8/29"),))])
    assert not one.ping("10.1.0.6")


def test_a_remote_group_lets_in_its_members_while_they_are_members(scene: Scene) -> None:
    friends = a_group(members=("10.1.0.5",))
    _, _, _, (one, _) = scene.pair(rule(protocol="icmp", remote_group=friends.id))
    assert not one.ping("10.1.0.6")
    assert scene.sync(groups=[friends]) == {}
    assert one.reaches("10.1.0.6")
    assert scene.sync(groups=[dataclasses.replace(friends, members=("10.1.0.77", "10.1.0.78", "10.1.0.64/29"))]) == {}
    assert not one.ping("10.1.0.6")


def test_a_removed_rule_ends_a_running_ping(scene: Scene) -> None:
    _, group, _, (one, _) = scene.pair(PING)
    assert one.reaches("10.1.0.6")
    scene.sync(groups=[dataclasses.replace(group, rules=group.rules[:2])])
    assert not one.ping("10.1.0.6")
    scene.sync(groups=[group])
    assert one.reaches("10.1.0.6")


@pytest.mark.parametrize("talker", ["client", "server"])
def test_a_removed_rule_ends_an_open_connection_whoever_talks(scene: Scene, talker: str) -> None:
    _, group, _, (one, two) = scene.pair(rule(protocol="tcp", port_min=80, port_max=80), rule(protocol="tcp", port_min=81, port_max=81))
    servers = [two.listen(80), two.listen(81)]
    clients = [one.connect("10.1.0.6", 80), one.connect("10.1.0.6", 81)]
    accepted = [server.accept()[0] for server in servers]
    ends = list(zip(clients, accepted) if talker == "client" else zip(accepted, clients))
    assert [talk(*pair) for pair in ends] == [True, True]
    scene.sync(groups=[dataclasses.replace(group, rules=group.rules[:3])])
    assert [talk(*pair) for pair in ends] == [True, False]
    scene.sync(groups=[group])
    ends[1][1].settimeout(10.0)
    assert ends[1][1].recv(1000)


def test_a_restarted_agent_knows_which_connections_are_refused(scene: Scene) -> None:
    friends = a_group(members=("10.1.0.5",))
    network, group, ports, (one, two) = scene.pair(rule(protocol="tcp", remote_group=friends.id))
    scene.sync(groups=[friends])
    server = two.listen(80)
    client = one.connect("10.1.0.6", 80)
    accepted = server.accept()[0]
    scene.sync(groups=[dataclasses.replace(friends, members=())])
    assert not talk(accepted, client)
    scene.driver = LinuxDriver(scene.driver._settings)
    assert scene.resync() == {}
    assert not talk(accepted, client)
    scene.sync(groups=[friends])
    client.settimeout(10.0)
    assert client.recv(1000)


def test_a_group_taken_from_a_port_ends_its_connections(scene: Scene) -> None:
    _, _, ports, (one, two) = scene.pair(rule(protocol="tcp", port_min=80, port_max=80))
    server = two.listen(80)
    client = one.connect("10.1.0.6", 80)
    accepted = server.accept()[0]
    assert talk(client, accepted)
    scene.sync(ports=[dataclasses.replace(ports[1], groups=())])
    assert not talk(client, accepted)


def test_adding_a_port_disturbs_no_connection(scene: Scene) -> None:
    network, group, _, (one, two) = scene.pair(rule(protocol="tcp", port_min=80, port_max=80))
    server = two.listen(80)
    client = one.connect("10.1.0.6", 80)
    accepted = server.accept()[0]
    third = a_port(network, "10.1.0.7", group)
    scene.guest(third)
    scene.sync(ports=[third], groups=[dataclasses.replace(group, members=("10.1.0.7",))])
    assert talk(client, accepted)
    assert talk(accepted, client)


def test_a_restarted_agent_keeps_connections(scene: Scene) -> None:
    _, _, _, (one, two) = scene.pair(rule(protocol="tcp", port_min=80, port_max=80))
    server = two.listen(80)
    client = one.connect("10.1.0.6", 80)
    accepted = server.accept()[0]
    scene.driver = LinuxDriver(scene.driver._settings)
    assert scene.resync() == {}
    assert talk(client, accepted)
    assert talk(accepted, client)


def test_a_guest_cannot_use_an_address_that_is_not_its_own(scene: Scene) -> None:
    _, _, ports, (one, two) = scene.pair(PING)
    assert two.reaches("10.1.0.5")
    run(["ip", "-n", two.name, "addr", "add", "10.1.0.66/24", "dev", "eth0"])
    assert run(["ping", "-c1", "-W1", "-I", "10.1.0.66", "10.1.0.5"], ok=(0, 1, 2), namespace=two.name).code != 0
    paired = dataclasses.replace(ports[1], allowed_address_pairs=(AddressPair(ip="10.1.0.64/29"),))
    assert scene.sync(ports=[paired]) == {}
    assert any(run(["ping", "-c1", "-W1", "-I", "10.1.0.66", "10.1.0.5"], ok=(0, 1, 2), namespace=two.name).code == 0 for _ in range(5))


def test_a_guest_cannot_claim_anothers_address_by_arp(scene: Scene) -> None:
    _, _, ports, (one, two) = scene.pair(PING, first_rules=())
    run(["ip", "-n", two.name, "addr", "add", "10.1.0.99/24", "dev", "eth0"])
    one.ping("10.1.0.99")
    neighbours = run(["ip", "-n", one.name, "neigh", "show", "10.1.0.99"]).stdout
    assert ports[1].mac not in neighbours


def test_a_guest_cannot_send_from_another_mac(scene: Scene) -> None:
    _, _, _, (one, two) = scene.pair(PING)
    assert two.reaches("10.1.0.5")
    run(["ip", "-n", two.name, "link", "set", "eth0", "address", "fa:16:3e:99:99:99"])
    run(["ip", "-n", one.name, "neigh", "flush", "all"])
    assert not two.ping("10.1.0.5")


def test_port_security_off_lets_everything_pass(scene: Scene) -> None:
    _, _, ports, (one, two) = scene.pair(first_rules=())
    assert not one.ping("10.1.0.6")
    assert scene.sync(ports=[dataclasses.replace(port, port_security=False) for port in ports]) == {}
    run(["ip", "-n", two.name, "addr", "add", "10.1.0.66/24", "dev", "eth0"])
    assert one.reaches("10.1.0.6")
    assert one.reaches("10.1.0.66")
    assert scene.sync(ports=ports) == {}
    assert not one.ping("10.1.0.6")


def test_networks_with_the_same_addresses_do_not_see_each_other(scene: Scene) -> None:
    group = a_group(PING, rule(protocol="tcp"))
    networks = [a_network(0), a_network(1, cidr="10.1.0.0/24")]
    ports = [a_port(network, ip, group) for network in networks for ip in ("10.1.0.5", "10.1.0.6")]
    ports.append(a_port(networks[1], "10.1.0.7", group))
    guests = [scene.guest(port) for port in ports]
    assert scene.sync(networks=networks, groups=[group], ports=ports) == {}
    servers = [guests[1].listen(80), guests[3].listen(80)]
    clients = [guests[0].connect("10.1.0.6", 80), guests[2].connect("10.1.0.6", 80)]
    for server, client, word in zip(servers, clients, (b"first", b"second")):
        accepted = server.accept()[0]
        accepted.send(word)
        assert client.recv(100) == word
    assert guests[2].reaches("10.1.0.7")
    assert not guests[0].ping("10.1.0.7")


def test_link_local_ipv6_passes_by_the_rules(scene: Scene) -> None:
    from pileus.network.drivers.linux.rules import link_local

    _, group, ports, (one, _) = scene.pair(rule(protocol="icmpv6", ethertype="IPv6"))
    there = link_local(ports[1].mac) + "%eth0"
    assert any(one.ping(there) for _ in range(8))
    scene.sync(groups=[dataclasses.replace(group, rules=(rule(protocol="tcp", ethertype="IPv6"),))])
    assert not one.ping(there)


def test_dhcp_gives_a_guest_its_address_and_options(scene: Scene) -> None:
    network, group = a_network(dhcp=True), a_group()
    port = a_port(network, "10.1.0.23", group)
    lease = dataclasses.replace(a_lease(network, port, "web"), extra_dhcp_opts=(DhcpOption(opt_name="ntp-server", opt_value="10.1.0.200"),))
    guest = scene.guest(port, bare=True)
    assert scene.sync(networks=[dataclasses.replace(network, leases=(lease,))], groups=[group], ports=[port]) == {}
    answer = guest.dhcp()
    assert socket.inet_ntoa(answer[0]) == "10.1.0.23"
    assert answer[3] == socket.inet_aton("10.1.0.1")
    assert answer[6] == socket.inet_aton("10.1.0.2")
    assert int.from_bytes(answer[26], "big") == 1450
    assert answer[12] == b"web"
    assert answer[121] == b"\0" + socket.inet_aton("10.1.0.1")


def test_dhcp_learns_of_ports_without_a_restart_and_ignores_strangers(scene: Scene) -> None:
    network, group = a_network(dhcp=True), a_group()
    known, late = a_port(network, "10.1.0.23", group), a_port(network, "10.1.0.24", group)
    guests = [scene.guest(port, bare=True) for port in (known, late)]
    scene.sync(networks=[dataclasses.replace(network, leases=(a_lease(network, known),))], groups=[group], ports=[known, late])
    pid = run(["ip", "netns", "pids", f"qdhcp-{network.id}"]).stdout.split()
    assert socket.inet_ntoa(guests[0].dhcp()[0]) == "10.1.0.23"
    assert guests[1].inside(lambda: world.ask_dhcp(bytes.fromhex(late.mac.replace(":", "")), timeout=0.3)) == {}
    scene.sync(networks=[dataclasses.replace(network, leases=(a_lease(network, known), a_lease(network, late)))])
    assert socket.inet_ntoa(guests[1].dhcp()[0]) == "10.1.0.24"
    assert run(["ip", "netns", "pids", f"qdhcp-{network.id}"]).stdout.split() == pid


def test_dhcp_survives_changes_of_ports_with_options_of_their_own(scene: Scene) -> None:
    network, group = a_network(dhcp=True), a_group()
    ports = [a_port(network, f"10.1.0.{n}", group) for n in (23, 24)]
    guests = [scene.guest(port, bare=True) for port in ports]
    leases = [dataclasses.replace(a_lease(network, port), extra_dhcp_opts=(DhcpOption(opt_name="15", opt_value=f"d{n}.example"),)) for n, port in enumerate(ports)]
    scene.sync(networks=[dataclasses.replace(network, leases=tuple(leases[:1]))], groups=[group], ports=ports)
    assert guests[0].dhcp()[15] == b"d0.example"
    scene.sync(networks=[dataclasses.replace(network, leases=tuple(leases))])
    assert guests[1].dhcp()[15] == b"d1.example"
    assert guests[0].dhcp()[15] == b"d0.example"
    scene.sync(networks=[dataclasses.replace(network, leases=tuple(a_lease(network, port) for port in ports))])
    assert guests[0].dhcp()[15] == b"openstacklocal"


def test_an_isolated_network_hands_out_the_route_to_metadata(scene: Scene) -> None:
    network, group = a_network(dhcp=True, isolated=True), a_group()
    port = a_port(network, "10.1.0.23", group)
    guest = scene.guest(port, bare=True)
    scene.sync(networks=[dataclasses.replace(network, leases=(a_lease(network, port),))], groups=[group], ports=[port])
    assert guest.dhcp()[121].startswith(b"\x20" + socket.inet_aton("169.254.169.254") + socket.inet_aton("10.1.0.2"))


class TestRouter:
    def routed(self, scene: Scene, **more):
        """Two networks on one router with a gateway, a guest in each; the host is the outside world."""
        group = a_group(PING, rule(protocol="tcp"))
        networks = [a_network(0), a_network(1)]
        ports = [a_port(networks[0], "10.1.0.5", group), a_port(networks[1], "10.2.0.5", group)]
        guests = [scene.guest(ports[0], gateway="10.1.0.1"), scene.guest(ports[1], gateway="10.2.0.1")]
        router = RouterItem(id=new_id(), interfaces=tuple(an_interface(network) for network in networks), gateway=a_gateway(**more))
        assert scene.sync(networks=[*networks, world.EXTERNAL], groups=[group], ports=ports, routers=[router]) == {}
        return router, guests

    def test_guests_reach_each_other_through_the_router(self, scene: Scene) -> None:
        _, (one, two) = self.routed(scene)
        assert one.reaches("10.2.0.5")
        assert two.reaches("10.1.0.5")

    def test_guests_go_out_with_the_gateways_address(self, scene: Scene) -> None:
        _, (one, _) = self.routed(scene)
        assert one.reaches("172.24.4.1")
        with socket.create_server(("172.24.4.1", 0)) as server:
            assert one.connect("172.24.4.1", server.getsockname()[1])
            assert server.accept()[1][0] == "172.24.4.10"

    def test_without_snat_nothing_is_hidden(self, scene: Scene) -> None:
        _, (one, _) = self.routed(scene, snat=False)
        run(["ip", "route", "add", "10.1.0.0/24", "via", "172.24.4.10"])
        with socket.create_server(("172.24.4.1", 0)) as server:
            assert one.reaches("172.24.4.1")
            assert one.connect("172.24.4.1", server.getsockname()[1])
            assert server.accept()[1][0] == "10.1.0.5"

    def test_a_floating_address_works_both_ways_and_from_inside(self, scene: Scene) -> None:
        router, (one, two) = self.routed(scene)
        floating = FloatingIp(id=new_id(), floating="172.24.4.50", fixed="10.1.0.5")
        assert scene.sync(routers=[dataclasses.replace(router, floating_ips=(floating,))]) == {}
        web = one.listen(80)
        outside = socket.create_connection(("172.24.4.50", 80), 2)
        assert web.accept()[1][0] == "172.24.4.1"
        with socket.create_server(("172.24.4.1", 0)) as server:
            assert one.connect("172.24.4.1", server.getsockname()[1])
            assert server.accept()[1][0] == "172.24.4.50"
        assert two.connect("172.24.4.50", 80) is not None
        assert web.accept()[1][0] == "172.24.4.10"
        outside.close()

    def test_a_floating_address_that_is_taken_away_cuts_its_connections(self, scene: Scene) -> None:
        router, (one, _) = self.routed(scene)
        floating = FloatingIp(id=new_id(), floating="172.24.4.50", fixed="10.1.0.5")
        scene.sync(routers=[dataclasses.replace(router, floating_ips=(floating,))])
        web = one.listen(80)
        outside = socket.create_connection(("172.24.4.50", 80), 2)
        accepted = web.accept()[0]
        assert talk(outside, accepted)
        scene.sync(routers=[router])
        assert not talk(outside, accepted)
        assert run(["ping", "-c1", "-W1", "172.24.4.50"], ok=(0, 1, 2)).code != 0

    def test_a_restarted_agent_does_not_disturb_a_routed_connection(self, scene: Scene) -> None:
        router, (one, _) = self.routed(scene)
        with socket.create_server(("172.24.4.1", 0)) as server:
            client = one.connect("172.24.4.1", server.getsockname()[1])
            accepted = server.accept()[0]
            scene.driver = LinuxDriver(scene.driver._settings)
            assert scene.resync() == {}
            assert talk(client, accepted)
            assert talk(accepted, client)

    def test_an_interface_that_is_taken_away_routes_no_more(self, scene: Scene) -> None:
        router, (one, two) = self.routed(scene)
        assert one.reaches("10.2.0.5")
        scene.sync(routers=[dataclasses.replace(router, interfaces=router.interfaces[:1])])
        assert not one.ping("10.2.0.5")
        scene.sync(routers=[router])
        assert one.reaches("10.2.0.5")

    def test_a_static_route_is_followed_and_a_bad_one_is_told(self, scene: Scene) -> None:
        router, (one, two) = self.routed(scene)
        run(["ip", "-n", two.name, "addr", "add", "10.77.0.1/32", "dev", "lo"])
        good = HostRoute(destination="10.77.0.0/24", nexthop="10.2.0.5")
        bad = HostRoute(destination="10.78.0.0/24", nexthop="192.0.2.1")
        port = next(port for port in scene.state.ports.values() if port.id == two.port.id)
        paired = dataclasses.replace(port, allowed_address_pairs=(AddressPair(ip="10.77.0.1"),))
        failures = scene.sync(routers=[dataclasses.replace(router, routes=(good, bad))], ports=[paired])
        assert set(failures) == {router.id}
        assert "10.78.0.0/24" in failures[router.id]
        assert one.reaches("10.77.0.1")
        assert scene.sync(routers=[dataclasses.replace(router, routes=())]) == {}
        assert not one.ping("10.77.0.1")


class TestExternalNetwork:
    def test_a_guest_on_the_external_network_is_filtered_toward_the_host_too(self, scene: Scene) -> None:
        group = a_group(rule(protocol="tcp", port_min=80, port_max=80))
        port = a_port(world.EXTERNAL, "172.24.4.60", group)
        guest = scene.guest(port)
        assert scene.sync(networks=[world.EXTERNAL], groups=[group], ports=[port]) == {}
        assert guest.reaches("172.24.4.1")
        assert run(["ping", "-c1", "-W1", "172.24.4.60"], ok=(0, 1, 2)).code != 0
        web, closed = guest.listen(80), guest.listen(81)
        with socket.create_connection(("172.24.4.60", 80), 2) as client:
            assert talk(client, web.accept()[0])
        with pytest.raises(OSError):
            socket.create_connection(("172.24.4.60", 81), 1)
        closed.close()

    def test_filtering_does_not_need_the_hosts_own_setting(self, scene: Scene) -> None:
        setting = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
        before = setting.read_text()
        setting.write_text("0")
        try:
            _, _, _, (one, two) = scene.pair()
            assert two.reaches("10.1.0.5")
            assert not one.ping("10.1.0.6")
            assert setting.read_text().strip() == "0"
        finally:
            setting.write_text(before)


@pytest.fixture
def internet(scene: Scene) -> Iterator[str]:
    """A host behind the default route, and another net on the same host that must not be forwarded to."""
    run(["ip", "netns", "add", "internet"])
    run(["ip", "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", "internet"])
    run(["ip", "addr", "add", "192.0.2.2/24", "dev", "up0"])
    run(["ip", "link", "set", "up0", "up"])
    run(["ip", "-n", "internet", "addr", "add", "192.0.2.1/24", "dev", "eth0"])
    run(["ip", "-n", "internet", "link", "set", "eth0", "up"])
    run(["ip", "-n", "internet", "route", "add", "default", "via", "192.0.2.2"])
    run(["ip", "route", "add", "default", "via", "192.0.2.1"])
    yield "192.0.2.1"
    run(["ip", "link", "delete", "up0"], ok=(0, 1))
    run(["ip", "netns", "delete", "internet"])


class TestWayOut:
    def test_guests_reach_the_internet_as_the_host(self, scene: Scene, internet: str) -> None:
        _, (one, _) = TestRouter().routed(scene)
        assert one.reaches(internet)
        from pileus.host import netns

        server = netns.inside("internet", lambda: socket.create_server((internet, 8080)))
        assert one.connect(internet, 8080)
        assert server.accept()[1][0] == "192.0.2.2"

    def test_the_host_forwards_for_our_bridge_alone(self, scene: Scene, internet: str) -> None:
        run(["ip", "netns", "add", "private"])
        run(["ip", "link", "add", "lan0", "type", "veth", "peer", "name", "eth0", "netns", "private"])
        run(["ip", "addr", "add", "192.168.7.1/24", "dev", "lan0"])
        run(["ip", "link", "set", "lan0", "up"])
        run(["ip", "-n", "private", "addr", "add", "192.168.7.2/24", "dev", "eth0"])
        run(["ip", "-n", "private", "link", "set", "eth0", "up"])
        run(["ip", "-n", "private", "route", "add", "default", "via", "192.168.7.1"])
        try:
            TestRouter().routed(scene)
            assert Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "0"
            assert run(["ping", "-c1", "-W1", "192.168.7.2"], ok=(0, 1, 2), namespace="internet").code != 0
            assert run(["ping", "-c1", "-W1", internet], ok=(0, 1, 2), namespace="private").code != 0
            assert run(["ping", "-c1", "-W1", "172.24.4.1"], ok=(0, 1, 2), namespace="internet").code == 0
        finally:
            run(["ip", "netns", "delete", "private"])

    def test_what_was_changed_on_the_host_is_put_back(self, scene: Scene, internet: str) -> None:
        before = world.snapshot()
        TestRouter().routed(scene)
        assert Path("/proc/sys/net/ipv4/conf/up0/forwarding").read_text().strip() == "1"
        for guest in scene.guests:
            guest.close()
        LinuxDriver(scene.driver._settings).remove_everything()
        assert world.snapshot() == before

    def test_an_interface_with_the_hosts_address_is_not_taken_into_the_bridge(self, scene: Scene, internet: str) -> None:
        scene.driver = LinuxDriver(dataclasses.replace(scene.driver._settings, external_interface="up0"))
        failures = scene.sync(full=True)
        assert "up0 carries the host's address 192.0.2.2" in failures["host"]
        assert run(["ping", "-c1", "-W1", internet]).code == 0

    def test_an_interface_without_address_joins_the_bridge_and_leaves_it(self, scene: Scene) -> None:
        run(["ip", "link", "add", "phy0", "type", "veth", "peer", "name", "phy1"])
        run(["ip", "link", "set", "phy1", "up"])
        try:
            scene.driver = LinuxDriver(dataclasses.replace(scene.driver._settings, external_interface="phy0"))
            assert scene.sync(full=True) == {}
            bridge = netlink.link("br-ex")
            assert netlink.link("phy0").master == bridge.index
            scene.driver.remove_everything()
            assert netlink.link("phy0").master == 0
            assert netlink.link("br-ex") is None
        finally:
            run(["ip", "link", "delete", "phy0"])


def test_a_router_that_was_half_made_is_finished(scene: Scene) -> None:
    network, group = a_network(), a_group()
    other = a_network(1)
    ports = [a_port(network, "10.1.0.5", group), a_port(other, "10.2.0.5", a_group(PING))]
    one = scene.guest(ports[0], gateway="10.1.0.1")
    scene.guest(ports[1], gateway="10.2.0.1")
    router = RouterItem(id=new_id(), interfaces=(an_interface(network), an_interface(other)))
    run(["ip", "netns", "add", f"qrouter-{router.id}"])
    run(["ip", "link", "add", f"brq{network.id[:11]}", "type", "bridge"])
    groups = [group, a_group(PING, id=ports[1].groups[0])]
    assert scene.sync(networks=[network, other], groups=groups, ports=ports, routers=[router]) == {}
    assert one.reaches("10.2.0.5")
    scene.sync(full=True)
    assert not [name for name in netlink.links() if name.startswith("brq")]


def test_the_host_is_not_in_its_guests_networks(scene: Scene) -> None:
    run(["ip", "addr", "add", "10.1.0.77/32", "dev", "lo"])
    run(["ip", "link", "set", "lo", "up"])
    forwarding = Path("/proc/sys/net/ipv4/ip_forward")
    before = forwarding.read_text()
    forwarding.write_text("1")
    try:
        _, _, ports, (one, two) = scene.pair(PING)
        scene.sync(ports=[dataclasses.replace(port, port_security=False) for port in ports])
        assert one.reaches("10.1.0.6")
        assert not one.ping("10.1.0.77")
        assert "lladdr" not in run(["ip", "-n", one.name, "neigh", "show", "10.1.0.77"]).stdout
        bridge = netlink.link(f"brq{ports[0].network_id[:11]}").mac
        run(["ip", "-n", one.name, "neigh", "replace", "10.1.0.77", "lladdr", bridge, "dev", "eth0"])
        listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listener.bind(("10.1.0.77", 5000))
        listener.settimeout(0.5)
        one.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("10.1.0.77", 5000)))
        with pytest.raises(TimeoutError):
            listener.recv(10)
        run(["ip", "link", "delete", f"brq{ports[0].network_id[:11]}"])
        assert scene.resync() == {}
        world.wait_until_forwarding()
        assert one.reaches("10.1.0.6")
        assert not one.ping("10.1.0.77")
    finally:
        forwarding.write_text(before)
        run(["ip", "addr", "delete", "10.1.0.77/32", "dev", "lo"])
