"""What every network driver promises; the same sentences for the fake host and the real one."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pileus.host import netlink
from pileus.host.run import run
from pileus.network.drivers.base import HostState, Settings, Touched
from pileus.network.drivers.fake import FakeDriver
from pileus.network.drivers.linux.driver import LinuxDriver
from pileus.network.wire import Desired, FloatingIp, Gone, HostRoute, Peer, PeerEntry, RouterItem
from tests.contracts import network_world as world
from tests.contracts.network_world import World, a_gateway, a_group, a_lease, a_network, a_port, an_interface, new_id, rule


@pytest.fixture(params=["fake", pytest.param("linux", marks=pytest.mark.real)])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    yield from a_host(request.param, tmp_path)


@pytest.fixture
def real_host(tmp_path: Path) -> Iterator[World]:
    yield from a_host("linux", tmp_path)


def a_host(kind: str, tmp_path: Path) -> Iterator[World]:
    settings = Settings(home=tmp_path, host="h1", vtep="10.9.0.1")
    driver = FakeDriver(settings) if kind == "fake" else LinuxDriver(settings)
    made: list[str] = []
    host = World(driver)

    def plug(port) -> None:
        if kind == "fake":
            driver.plug(port.tap)
        else:
            run(["ip", "tuntap", "add", "dev", port.tap, "mode", "tap"])
            made.append(port.tap)

    def unplug(port) -> None:
        if kind == "fake":
            driver.unplug(port.tap)
        else:
            run(["ip", "link", "delete", port.tap])
            made.remove(port.tap)

    host.plug, host.unplug = plug, unplug
    yield host
    driver.remove_everything()
    for tap in made:
        run(["ip", "link", "delete", tap])


def plugged(host: World, network, ip: str, *groups):
    port = a_port(network, ip, *groups)
    host.plug(port)
    return port


def test_a_bound_port_with_its_tap_becomes_active(host: World) -> None:
    network, group = a_network(), a_group()
    port = plugged(host, network, "10.1.0.5", group)
    assert host.sync(networks=[network], groups=[group], ports=[port]) == {}
    assert host.status(port) == "ACTIVE"


def test_a_port_whose_tap_comes_later_becomes_active_then(host: World) -> None:
    network, group = a_network(), a_group()
    port = a_port(network, "10.1.0.5", group)
    if isinstance(host.driver, FakeDriver):
        host.driver.unplug(port.tap)
    assert host.sync(networks=[network], groups=[group], ports=[port]) == {}
    assert host.status(port) == "DOWN"
    host.plug(port)
    assert host.driver.apply(host.state, Touched(ports=frozenset({port.id}))) == {}
    assert host.status(port) == "ACTIVE"


def test_a_port_whose_tap_goes_is_down(host: World) -> None:
    network = a_network()
    port = plugged(host, network, "10.1.0.5")
    host.sync(networks=[network], ports=[port])
    host.unplug(port)
    host.driver.apply(host.state, Touched(ports=frozenset({port.id})))
    assert host.status(port) == "DOWN"


def test_a_port_that_is_administratively_down_is_down_and_comes_back(host: World) -> None:
    network = a_network()
    port = plugged(host, network, "10.1.0.5")
    host.sync(networks=[network], ports=[dataclasses.replace(port, admin_state_up=False)])
    assert host.status(port) == "DOWN"
    host.sync(ports=[port])
    assert host.status(port) == "ACTIVE"


def test_a_port_that_moves_to_another_network_follows(host: World) -> None:
    one, two = a_network(0), a_network(1)
    port = plugged(host, one, "10.1.0.5")
    host.sync(networks=[one, two], ports=[port])
    moved = dataclasses.replace(port, network_id=two.id)
    assert host.sync(ports=[moved]) == {}
    assert host.status(moved) == "ACTIVE"


def test_dhcp_and_router_ports_are_active_with_their_service(host: World) -> None:
    network = a_network(dhcp=True)
    router = RouterItem(id=new_id(), interfaces=(an_interface(network),), gateway=a_gateway(), floating_ips=(
        FloatingIp(id=new_id(), floating="172.24.4.50", fixed="10.1.0.5"),))
    port = plugged(host, network, "10.1.0.5")
    network = dataclasses.replace(network, leases=(a_lease(network, port, "web"),))
    assert host.sync(networks=[network, world.EXTERNAL], ports=[port], routers=[router]) == {}
    statuses = host.driver.statuses(host.state)
    assert statuses.routers == {router.id: "ACTIVE"}
    assert statuses.floating_ips == {router.floating_ips[0].id: "ACTIVE"}
    assert set(statuses.ports) == {port.id, network.dhcp.port_id, router.gateway.port_id, router.interfaces[0].port_id}
    assert set(statuses.ports.values()) == {"ACTIVE"}


def test_a_port_that_still_is_elsewhere_is_attached_and_gets_its_packets_when_it_comes(host: World) -> None:
    network = a_network()
    port = a_port(network, "10.1.0.5")
    host.plug(port)
    there = Peer(vtep="10.9.0.2", entries=(PeerEntry(mac=port.mac, ips=("10.1.0.5",)),))
    stays = Peer(vtep="10.9.0.3", entries=(PeerEntry(mac="fa:16:3e:00:00:77", ips=("10.1.0.77",)),))
    assert host.sync(networks=[dataclasses.replace(network, peers=(there, stays))], ports=[port]) == {}
    assert host.status(port) == "ACTIVE"
    if isinstance(host.driver, LinuxDriver):
        assert forwarded_to(port.mac) == "vxlan-1001"
    assert host.sync(networks=[dataclasses.replace(network, peers=(stays,))], ports=[port]) == {}
    assert host.status(port) == "ACTIVE"
    if isinstance(host.driver, LinuxDriver):
        assert forwarded_to(port.mac) == port.tap


def forwarded_to(mac: str) -> str:
    """The link that a bridge sends packets for a MAC to."""
    found = {entry["ifname"] for entry in netlink.bridge_json(["fdb", "show"]) if entry["mac"] == mac and "master" in entry}
    assert len(found) <= 1
    return next(iter(found), "")


def test_a_router_says_again_where_its_addresses_are(host: World) -> None:
    network = a_network()
    router = RouterItem(id=new_id(), interfaces=(an_interface(network),), gateway=a_gateway(), floating_ips=(
        FloatingIp(id=new_id(), floating="172.24.4.50", fixed="10.1.0.5"),))
    down = RouterItem(id=new_id(), admin_state_up=False)
    assert host.sync(networks=[network, world.EXTERNAL], routers=[router, down]) == {}
    if isinstance(host.driver, FakeDriver):
        host.driver.announce(host.state)
        assert host.driver.announced == [router.id]
        return
    tap = f"tap{router.gateway.port_id[:11]}"
    table = (
        f"table netdev announced {{\n chain seen {{\n  type filter hook ingress device {tap} priority 0 ;\n"
        + "".join(f"  arp saddr ip {ip} arp daddr ip {ip} arp saddr ether {router.gateway.mac} counter\n" for ip in ("172.24.4.10", "172.24.4.50"))
        + " }\n}\n"
    )
    run(["nft", "-f", "-"], stdin=table)
    host.driver.announce(host.state)
    listed = run(["nft", "list", "table", "netdev", "announced"]).stdout
    run(["nft", "delete", "table", "netdev", "announced"])
    assert listed.count("counter packets 2 ") == 2, "a request and an answer for each address"


def test_a_router_that_is_administratively_down_passes_nothing(host: World) -> None:
    network = a_network()
    router = RouterItem(id=new_id(), interfaces=(an_interface(network),))
    host.sync(networks=[network], routers=[router])
    host.sync(routers=[dataclasses.replace(router, admin_state_up=False)])
    statuses = host.driver.statuses(host.state)
    assert statuses.routers == {router.id: "ACTIVE"}
    assert statuses.ports == {router.interfaces[0].port_id: "DOWN"}


def everything(host: World):
    far = PeerEntry(mac="fa:16:3e:00:00:77", ips=("10.1.0.77", "fd00::77"))
    network = dataclasses.replace(a_network(dhcp=True), peers=(Peer(vtep="10.9.0.2", entries=(far,)), Peer(vtep="10.9.0.3")))
    other = a_group()
    group = a_group(rule(protocol="tcp", port_min=22, port_max=22), rule(protocol="icmp", remote_group=other.id), members=("10.1.0.5", "10.1.0.6"))
    ports = [plugged(host, network, f"10.1.0.{n}", group) for n in (5, 6)]
    network = dataclasses.replace(network, leases=tuple(a_lease(network, port) for port in ports))
    router = RouterItem(id=new_id(), interfaces=(an_interface(network),), gateway=a_gateway(), routes=(HostRoute(destination="10.99.0.0/16", nexthop="10.1.0.9"),))
    assert host.sync(full=True, networks=[network, world.EXTERNAL], ports=ports, groups=[group, other], routers=[router]) == {}
    return network, ports, group, router


def counting_writes(host: World, monkeypatch) -> list[str]:
    """Writes to the host from now on."""
    writes: list[str] = []
    if isinstance(host.driver, FakeDriver):
        return writes
    from pileus.host import dnsmasq, netlink, nft, sysctl

    for module, name in ((nft, "apply"), (netlink, "_batch"), (sysctl, "write"), (dnsmasq, "run")):
        real = getattr(module, name)

        def noted(*args, _real=real, _name=name, **more):
            given = list(args[1]) if _name == "_batch" else args[0]
            result = _real(args[0], given, *args[2:]) if _name == "_batch" else _real(*args, **more)
            if given and (_name != "write" or result):
                writes.append(f"{_name}: {given}")
            return result

        monkeypatch.setattr(module, name, noted)
    return writes


def test_applying_twice_writes_nothing(host: World, monkeypatch: pytest.MonkeyPatch) -> None:
    everything(host)
    writes = counting_writes(host, monkeypatch)
    before = getattr(host.driver, "writes", 0)
    assert host.resync() == {}
    assert writes == []
    assert getattr(host.driver, "writes", 0) == before


def test_a_restarted_agent_finds_the_host_right_and_writes_nothing(host: World, monkeypatch: pytest.MonkeyPatch) -> None:
    everything(host)
    if isinstance(host.driver, FakeDriver):
        pytest.skip("a fake host does not outlive its driver")
    host.driver = LinuxDriver(host.driver._settings)
    writes = counting_writes(host, monkeypatch)
    assert host.resync() == {}
    assert writes == []
    assert set(host.driver.statuses(host.state).ports.values()) == {"ACTIVE"}


def test_what_is_gone_is_removed(host: World) -> None:
    network, ports, group, router = everything(host)
    gone = Gone(networks=(network.id,), ports=tuple(port.id for port in ports), routers=(router.id,), groups=(group.id,))
    assert host.sync(gone=gone) == {}
    statuses = host.driver.statuses(host.state)
    assert (statuses.ports, statuses.routers) == ({}, {})
    if isinstance(host.driver, FakeDriver):
        assert (host.driver.dhcp, host.driver.attached, host.driver.routers) == ({}, {}, {})
    else:
        left = world.snapshot()
        assert left["namespaces"] == []
        assert left["processes"] == []
        assert not [name for name in left["links"] if name.startswith("brq")]
        assert group.id not in left["nft"]
        assert ports[0].tap not in left["nft"]


def test_a_full_document_removes_what_it_does_not_list(host: World) -> None:
    network, ports, group, router = everything(host)
    assert host.sync(full=True, networks=[network], ports=ports[:1], groups=[group]) == {}
    statuses = host.driver.statuses(host.state)
    assert statuses.ports == {ports[0].id: "ACTIVE", network.dhcp.port_id: "ACTIVE"}
    assert statuses.routers == {}


def test_an_older_document_is_refused(host: World) -> None:
    everything(host)
    with pytest.raises(ValueError, match="older"):
        host.state.merge(Desired(version=0, full=True))
    assert host.resync() == {}
    assert set(host.driver.statuses(host.state).ports.values()) == {"ACTIVE"}


def test_fifty_ports_come_up_in_one_pass(host: World) -> None:
    network, group = a_network(), a_group()
    ports = [plugged(host, network, f"10.1.0.{n}", group) for n in range(10, 60)]
    assert host.sync(networks=[network], groups=[group], ports=ports) == {}
    assert {host.status(port) for port in ports} == {"ACTIVE"}


def test_a_part_that_fails_does_not_hold_up_the_others(host: World) -> None:
    network, group = a_network(), a_group()
    good, bad = plugged(host, network, "10.1.0.5", group), plugged(host, network, "10.1.0.6", group)
    if isinstance(host.driver, FakeDriver):
        host.driver.knobs.fail.add(bad.id)
    else:
        bad = dataclasses.replace(bad, mac="fa:16:3e:00:00:zz")
    failures = host.sync(networks=[network], groups=[group], ports=[good, bad])
    assert set(failures) == {bad.id}
    assert (host.status(good), host.status(bad)) == ("ACTIVE", "DOWN")


@pytest.mark.real
def test_a_group_the_kernel_refuses_allows_nothing_and_holds_up_nobody(real_host: World) -> None:
    host = real_host
    network, good, bad = a_network(), a_group(), a_group(rule(protocol="999"))
    ports = [plugged(host, network, "10.1.0.5", good), plugged(host, network, "10.1.0.6", bad)]
    assert set(host.sync(networks=[network], groups=[good, bad], ports=ports)) == {bad.id}
    assert [host.status(port) for port in ports] == ["ACTIVE", "ACTIVE"]
    assert world.run(["nft", "list", "chain", "bridge", "pileus_sg", f"gout-{bad.id}"]).stdout.count("accept") == 0


@pytest.mark.real
def test_a_physical_network_the_host_does_not_have_is_told(real_host: World) -> None:
    host = real_host
    good, bad = a_network(0), dataclasses.replace(a_network(1), type="flat", physical_network="elsewhere", segmentation_id=None)
    ports = [plugged(host, good, "10.1.0.5"), plugged(host, bad, "10.2.0.5")]
    failures = host.sync(networks=[good, bad], ports=ports)
    assert set(failures) == {bad.id, ports[1].id}
    assert "elsewhere" in failures[bad.id]
    assert [host.status(port) for port in ports] == ["ACTIVE", "DOWN"]


def test_removing_everything_leaves_no_trace(host: World) -> None:
    before = world.snapshot()
    _, ports, _, _ = everything(host)
    host.driver.remove_everything()
    for port in ports:
        host.unplug(port)
    assert world.snapshot() == before
