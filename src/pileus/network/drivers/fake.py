"""A host that exists in memory only: what `--simulate` and most tests run on.

It keeps what a real host would have (bridges, taps, rules loaded per tap, DHCP servers with their leases, routers) and goes through the same
order of work, so that a wrong order shows. Knobs make it slow or failing. Taps are virtual: a bound port has one at once, unless a test says
otherwise with `unplug`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TypeVar

from pileus.kernel import clock
from pileus.network.drivers import names
from pileus.network.drivers.base import HostState, Listener, NetworkDriver, Settings, Statuses, Touched
from pileus.network.wire import ACTIVE, DOWN, ERROR, GroupItem, NetworkItem, PortItem, RouterItem

Item = TypeVar("Item")


@dataclass(slots=True)
class Knobs:
    """What may be made to go wrong: seconds each apply takes, ids that fail, and (`broken`) a host that refuses everything."""

    delay: float = 0.0
    fail: set[str] = field(default_factory=set)
    broken: str = ""


class FakeDriver(NetworkDriver):
    """The fake host. `writes` counts changes; the dictionaries are what the host has, by id."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.knobs = Knobs()
        self.writes = 0
        self.networks: dict[str, NetworkItem] = {}
        self.rules: dict[str, PortItem] = {}
        self.attached: dict[str, str] = {}
        self.dhcp: dict[str, NetworkItem] = {}
        self.routers: dict[str, RouterItem] = {}
        self.groups: dict[str, GroupItem] = {}
        self.announced: list[str] = []
        self._unplugged: set[str] = set()
        self._changed: Callable[[Collection[str], bool], None] | None = None

    def unplug(self, tap: str) -> None:
        """Act as if compute had removed (or not yet made) a tap."""
        self._unplugged.add(tap)
        if self._changed:
            self._changed({tap}, False)

    def plug(self, tap: str) -> None:
        """Act as if compute had made a tap."""
        self._unplugged.discard(tap)
        if self._changed:
            self._changed({tap}, False)

    def apply(self, state: HostState, touched: Touched) -> dict[str, str]:
        if self.knobs.delay:
            clock.sleep(self.knobs.delay)
        if self.knobs.broken:
            return {"host": self.knobs.broken}
        failures: dict[str, str] = {}
        self._keep(self.networks, state.networks, touched.networks, touched.full, failures)
        self._keep(self.groups, state.groups, touched.groups, touched.full, failures)
        self._keep(self.rules, state.ports, touched.ports, touched.full, failures)
        self._attach(state)
        self._keep(self.routers, {id_: item for id_, item in state.routers.items() if item.admin_state_up}, touched.routers, touched.full, failures)
        self._keep(self.dhcp, {id_: item for id_, item in state.networks.items() if item.dhcp}, touched.networks, touched.full, failures)
        return failures

    def statuses(self, state: HostState, only: Touched | None = None) -> Statuses:
        chosen = None if only is None or only.full else only
        ports = {port.id: ACTIVE if self._port_up(port) else DOWN for port in state.ports.values() if chosen is None or port.id in chosen.ports}
        for network in state.networks.values():
            if network.dhcp and (chosen is None or network.id in chosen.networks):
                ports[network.dhcp.port_id] = ACTIVE if network.id in self.dhcp else DOWN
        routers, floating = {}, {}
        for router in state.routers.values():
            if chosen is None or router.id in chosen.routers:
                passing = self.routers.get(router.id) == router
                routers[router.id] = ACTIVE if passing or not router.admin_state_up else ERROR
                ports.update({leg.port_id: ACTIVE if passing else DOWN for leg in router.legs()})
                floating.update({each.id: ACTIVE if passing else DOWN for each in router.floating_ips})
        return Statuses(ports=ports, routers=routers, floating_ips=floating)

    def listeners(self, state: HostState) -> tuple[Listener, ...]:  # noqa: ARG002
        """None: a fake guest asks nothing."""
        return ()

    def announce(self, state: HostState) -> None:
        self.announced += [id_ for id_ in state.routers if id_ in self.routers]

    def vtep(self) -> str:
        return self.settings.vtep

    def remove_everything(self) -> None:
        for kept in (self.attached, self.rules, self.dhcp, self.routers, self.groups, self.networks):
            self.writes += len(kept)
            kept.clear()

    def watch(self, changed: Callable[[Collection[str], bool], None]) -> None:
        self._changed = changed

    def close(self) -> None:
        self._changed = None

    def _keep(
        self, mine: dict[str, Item], wanted: dict[str, Item], ids: Collection[str], full: bool, failures: dict[str, str]
    ) -> None:
        """Take over what is wanted of some ids, or of all; what fails stays as it was."""
        for id_ in {*mine, *wanted} if full else ids:
            if mine.get(id_) == wanted.get(id_):
                continue
            if id_ in self.knobs.fail:
                failures[id_] = "the fake host was told to fail here"
                continue
            self.writes += 1
            if id_ in wanted:
                mine[id_] = wanted[id_]
            else:
                mine.pop(id_, None)

    def _attach(self, state: HostState) -> None:
        wanted = {
            port.tap: names.bridge(port.network_id)
            for id_, port in state.ports.items()
            if id_ in self.rules and port.network_id in self.networks and port.admin_state_up and port.tap not in self._unplugged
        }
        self.writes += len(wanted.items() ^ self.attached.items())
        self.attached = wanted

    def _port_up(self, port: PortItem) -> bool:
        return port.admin_state_up and self.rules.get(port.id) == port and self.attached.get(port.tap) == names.bridge(port.network_id)
