"""The whole network agent on a real host: a tap that appears is attached, filtered and reported, and a killed dnsmasq comes back."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pileus.host import netlink
from pileus.host.run import run
from pileus.kernel.bus import LocalBus
from pileus.network.agent.loops import Keeper
from pileus.network.drivers.base import Settings
from pileus.network.drivers.linux.driver import LinuxDriver
from pileus.network.wire import Desired, Gone
from tests.contracts.network_world import a_group, a_lease, a_network, a_port, rule
from tests.unit.network.agent.test_keeper import Controller

pytestmark = pytest.mark.real


@pytest.fixture
def host(tmp_path: Path) -> Iterator[tuple[Keeper, Controller, Path]]:
    bus = LocalBus("test")
    settings = Settings(home=tmp_path, host="h1")
    keeper = Keeper("h1", LinuxDriver(settings), bus)
    yield keeper, Controller(bus), tmp_path
    keeper.stop()
    LinuxDriver(settings).remove_everything()


def once(desired: Desired):
    return lambda since: Desired(version=desired.version) if since else desired


def test_a_tap_that_appears_is_attached_and_its_port_reported(host) -> None:
    keeper, controller, _ = host
    network, group = a_network(), a_group(rule(protocol="icmp"))
    ports = [a_port(network, f"10.1.0.{n}", group) for n in range(5, 15)]
    controller.answer = once(Desired(version=1, full=True, networks=(network,), groups=(group,), ports=tuple(ports)))
    keeper.start()
    for port in ports:
        controller.wait_for(port.id, "DOWN")
    for port in ports:
        run(["ip", "tuntap", "add", "dev", port.tap, "mode", "tap"])
    for port in ports:
        controller.wait_for(port.id, "ACTIVE")
    bridge = netlink.link(f"brq{network.id[:11]}").index
    assert {netlink.link(port.tap).master for port in ports} == {bridge}
    controller.reports.clear()
    run(["ip", "link", "delete", ports[0].tap])
    controller.wait_for(ports[0].id, "DOWN")
    for port in ports[1:]:
        run(["ip", "link", "delete", port.tap])


def test_a_port_that_is_gone_is_detached_while_its_tap_lives_on(host) -> None:
    keeper, controller, _ = host
    network = a_network()
    port = a_port(network, "10.1.0.5")
    run(["ip", "tuntap", "add", "dev", port.tap, "mode", "tap"])
    controller.answer = lambda since: (
        Desired(version=2, gone=Gone(ports=(port.id,))) if since else Desired(version=1, full=True, networks=(network,), ports=(port,))
    )
    keeper.start()
    controller.wait_for(port.id, "ACTIVE")
    keeper.nudged({"version": 2})
    controller.wait(lambda: any(report["version"] == 2 for report in controller.reports))
    assert netlink.link(port.tap).master == 0
    run(["ip", "link", "delete", port.tap])


def test_a_killed_dnsmasq_is_noticed_by_a_report_and_comes_back_with_the_next_pull(host) -> None:
    keeper, controller, home = host
    network = a_network(dhcp=True)
    port = a_port(network, "10.1.0.5")
    network = dataclasses.replace(network, leases=(a_lease(network, port),))
    controller.answer = once(Desired(version=1, full=True, networks=(network,)))
    keeper.start()
    controller.wait_for(network.dhcp.port_id, "ACTIVE")
    pid_file = Settings(home=home, host="h1").run / "dhcp" / network.id / "pid"
    pid = int(pid_file.read_text())
    assert "dnsmasq" in run(["ps", "-o", "user=", "-p", str(pid)]).stdout
    os.kill(pid, signal.SIGKILL)
    keeper.want_report()
    controller.wait_for(network.dhcp.port_id, "DOWN")
    controller.reports.clear()
    keeper.want_pull()
    controller.wait_for(network.dhcp.port_id, "ACTIVE")
    assert int(pid_file.read_text()) != pid


def test_a_rule_taken_out_by_hand_comes_back_with_the_next_compare(host) -> None:
    keeper, controller, _ = host
    network = a_network()
    port = a_port(network, "10.1.0.5")
    controller.answer = once(Desired(version=1, full=True, networks=(network,), ports=(port,)))
    keeper.start()
    controller.wait(lambda: bool(controller.reports))
    before = run(["nft", "list", "table", "bridge", "pileus_sg"]).stdout
    run(["nft", "flush", "chain", "bridge", "pileus_sg", f"in-{port.tap}"])
    controller.reports.clear()
    keeper.want_compare()
    controller.wait(lambda: bool(controller.reports))
    assert run(["nft", "list", "table", "bridge", "pileus_sg"]).stdout == before
