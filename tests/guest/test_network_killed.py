"""An agent that is killed between any two commands: its next life finds the host half made, and finishes or clears it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from pileus.host import run as run_module
from pileus.host.run import run
from pileus.network.drivers.base import HostState, Settings, Touched
from pileus.network.drivers.linux.driver import LinuxDriver
from pileus.network.wire import FloatingIp, Peer, PeerEntry, RouterItem
from tests.contracts import network_world as world
from tests.contracts.network_world import a_gateway, a_group, a_lease, a_network, a_port, an_interface, new_id, rule

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(300)]


class Killed(BaseException):
    """The process ends here."""


class Axe:
    """Kills at the n-th command of the host; `commands` counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.commands, self.at = 0, -1
        real = run_module.subprocess.run

        def counted(*args, **more):
            self.commands += 1
            if self.commands == self.at:
                raise Killed
            return real(*args, **more)

        monkeypatch.setattr(run_module.subprocess, "run", counted)

    def life(self, driver: LinuxDriver, state: HostState, *, killed_at: int = -1) -> bool:
        """One full pass; False when it was killed."""
        self.commands, self.at = 0, killed_at
        try:
            assert driver.apply(state, Touched(full=True)) == {}
        except Killed:
            return False
        finally:
            self.at = -1
        return True


@pytest.fixture
def axe(monkeypatch: pytest.MonkeyPatch) -> Axe:
    return Axe(monkeypatch)


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    settings = Settings(home=tmp_path, host="h1", vtep="10.9.0.1")
    yield settings
    LinuxDriver(settings).remove_everything()


def a_full_host() -> HostState:
    group = a_group(rule(protocol="icmp"), members=("10.1.0.5",))
    far = Peer(vtep="10.9.0.2", entries=(PeerEntry(mac="fa:16:3e:00:00:77", ips=("10.1.0.77",)),))
    network = dataclasses.replace(a_network(dhcp=True, isolated=True), peers=(far,))
    port = a_port(network, "10.1.0.5", group)
    network = dataclasses.replace(network, leases=(a_lease(network, port),))
    floating = FloatingIp(id=new_id(), floating="172.24.4.50", fixed="10.1.0.5")
    router = RouterItem(id=new_id(), interfaces=(an_interface(network),), gateway=a_gateway(), floating_ips=(floating,))
    return HostState(
        version=1, networks={network.id: network, world.EXTERNAL.id: world.EXTERNAL}, ports={port.id: port}, routers={router.id: router},
        groups={group.id: group},
    )


def test_a_host_that_was_being_made_is_finished_by_the_next_life(axe: Axe, settings: Settings) -> None:
    at, done = 0, False
    while not done:
        at += 1
        state = a_full_host()
        port = next(iter(state.ports.values()))
        run(["ip", "tuntap", "add", "dev", port.tap, "mode", "tap"])
        done = axe.life(LinuxDriver(settings), state, killed_at=at)
        later = LinuxDriver(settings)
        assert axe.life(later, state), f"killed at command {at}"
        statuses = later.statuses(state)
        assert set(statuses.ports.values()) == {"ACTIVE"}, f"killed at command {at}"
        assert set(statuses.routers.values()) == {"ACTIVE"}, f"killed at command {at}"
        later.remove_everything()
        run(["ip", "link", "delete", port.tap])
    assert at > 15


def test_a_host_that_was_being_cleared_is_cleared_by_the_next_life(axe: Axe, settings: Settings) -> None:
    before = world.snapshot()
    at, done = 0, False
    while not done:
        at += 1
        assert axe.life(LinuxDriver(settings), a_full_host())
        done = axe.life(LinuxDriver(settings), HostState(version=2), killed_at=at)
        assert axe.life(LinuxDriver(settings), HostState(version=2)), f"killed at command {at}"
        left = world.snapshot()
        assert (left["namespaces"], left["processes"]) == ([], []), f"killed at command {at}"
        assert [name for name in left["links"] if name.startswith(("brq", "tap", "vxlan"))] == [], f"killed at command {at}"
        LinuxDriver(settings).remove_everything()
        assert world.snapshot() == before, f"killed at command {at}"
    assert at > 10
