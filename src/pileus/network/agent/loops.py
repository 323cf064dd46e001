"""The host reconciles itself: pull what changed, apply it, report what stands.

One thread does all work on the host, so that passes never overlap; what is due meanwhile (nudges, taps that appear, timers) adds up and is done
together in the next pass. Fifty ports asked for at once are one pass. A failed pull, an older document or an error removes nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from typing import Any

import msgspec

from pileus.kernel import clock
from pileus.kernel.bus import Bus, BusTimeout, BusUnavailable, RemoteError
from pileus.kernel.pace import Due
from pileus.network.drivers.base import HostState, Listener, NetworkDriver, Statuses, Touched
from pileus.network.wire import DOWN, ERROR, AgentReport, Desired, MetadataOwner, Report, from_dict, to_dict

_log = logging.getLogger(__name__)

_CONTROLLER = "controller.network"
_UNREACHABLE = (BusTimeout, BusUnavailable, RemoteError)
_PULL_TIMEOUT = 30.0
_AGAIN_SECONDS = 1.0

_AGENTS = (
    ("Linux bridge agent", "neutron-linuxbridge-agent"),
    ("DHCP agent", "neutron-dhcp-agent"),
    ("L3 agent", "neutron-l3-agent"),
    ("Metadata agent", "neutron-metadata-agent"),
)


class Keeper:
    """Keeps one host as the controller wants it. `applied` is told the listeners of metadata after each pass; `applied_version` is the
    version whose pass has ended. With `wires_only` the host attaches ports, and is given no DHCP server and no router.
    """

    def __init__(self, host: str, driver: NetworkDriver, bus: Bus, *, wires_only: bool = False) -> None:
        self._host = host
        self._agents = _AGENTS[:1] if wires_only else _AGENTS
        self._driver = driver
        self._bus = bus
        self._state = HostState()
        self._taps: dict[str, str] = {}
        self._changed = threading.Condition()
        self._pull = True
        self._report_all = False
        self._unsaid = False
        self._unanswered = False
        self._unheard = False
        self._due = Touched()
        self._failed = Touched()
        self._said: dict[str, str] = {}
        self._speak = Due(0.0)
        self._stopping = False
        self._threads: list[threading.Thread] = []
        self.applied_version = 0
        self.applied: Callable[[Collection[Listener]], None] = lambda _listeners: None

    def start(self) -> None:
        """Start working: the first pull asks for everything."""
        for name, work in (("network", self._work), ("network taps", self._watch)):
            thread = threading.Thread(target=work, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End after the running pass; the host stays as it is."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._driver.close()
        for thread in self._threads:
            thread.join(10)

    def nudged(self, payload: dict[str, Any]) -> None:
        """Bus method: the controller has a newer version for us."""
        if int(payload.get("version") or 0) > self._state.version or not payload.get("version"):
            self.want_pull()

    def taps_changed(self, payload: dict[str, Any]) -> None:
        """Bus method: compute has made or removed taps (`taps`: names); kernel events say the same where they come."""
        self._links_changed(payload.get("taps", ()), False)

    def want_pull(self) -> None:
        """Ask the controller what changed, and try again what failed."""
        with self._changed:
            self._pull = True
        self.want_again()

    def want_again(self) -> None:
        """Try again what failed."""
        with self._changed:
            self._due |= self._failed
            self._failed = Touched()
            self._report_all = self._report_all or self._unsaid
            self._unsaid = False
            self._changed.notify_all()

    def want_compare(self) -> None:
        """Compare the whole host with what is known."""
        with self._changed:
            if self._state.version:
                self._due |= Touched(full=True)
                self._changed.notify_all()

    def want_report(self) -> None:
        """Say the status of everything."""
        with self._changed:
            self._report_all = True
            self._changed.notify_all()

    def heartbeat(self) -> None:
        """Say that the agents of this host live, when that is due; hear whether there is something new and when to speak again."""
        if not self._speak.now():
            return
        self._speak.done()
        state = self._state
        counts = {
            "Linux bridge agent": {
                "devices": len(state.ports), "tunnel_types": ["vxlan"], "tunneling_ip": self._driver.vtep(), "l2_population": True,
            },
            "DHCP agent": {
                "networks": sum(1 for network in list(state.networks.values()) if network.dhcp), "dhcp_driver": "dnsmasq",
                "ports": len(state.ports),
            },
            "L3 agent": {
                "routers": len(state.routers), "agent_mode": "legacy", "handle_internal_only_routers": True,
                "floating_ips": sum(len(router.floating_ips) for router in list(state.routers.values())),
            },
            "Metadata agent": {},
        }  # fmt: skip
        agents = [to_dict(AgentReport(agent_type=kind, binary=binary, configurations=counts[kind])) for kind, binary in self._agents]
        try:
            answer = self._bus.call(_CONTROLLER, "network.heartbeat", {"host": self._host, "agents": agents, "vtep": self._driver.vtep()}) or {}
        except _UNREACHABLE as error:
            if not self._unheard:
                _log.warning("the network controller hears no heartbeat: %s", error)
            self._unheard = True
            self._speak.seconds = 0.0
        else:
            self._unheard = False
            self._speak.seconds = float(answer.get("seconds") or 0.0)
            if answer.get("version", state.version) != state.version:
                self.want_pull()

    def owner(self, kind: str, id_: str, address: str) -> MetadataOwner | None:
        """Whose instance has an address behind a router, or in an isolated network; None when nobody's we know."""
        state = self._state
        if kind == "router":
            router = state.routers.get(id_)
            networks = [each.network_id for each in router.interfaces] if router else []
        else:
            networks = [id_]
        known = [state.networks[each] for each in networks if each in state.networks]
        return next((owner for network in known for owner in network.metadata if owner.ip == address), None)

    def _watch(self) -> None:
        try:
            self._driver.watch(self._links_changed)
        except Exception:
            _log.exception("link events cannot be watched, taps are found by the next full compare")

    def _links_changed(self, taps: Collection[str], everything: bool) -> None:
        with self._changed:
            ports = frozenset(self._state.ports) if everything else frozenset(self._taps[tap] for tap in taps if tap in self._taps)
            if ports:
                self._due |= Touched(ports=ports)
                self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                wait = _AGAIN_SECONDS if self._unanswered else None
                self._changed.wait_for(lambda: self._stopping or self._pull or self._report_all or self._due, wait)
                if self._stopping:
                    return
                self._pull = self._pull or self._unanswered
                pull, everything, due = self._pull, self._report_all, self._due
                self._pull, self._report_all, self._due = False, False, Touched()
            try:
                self._pass(pull=pull, everything=everything, due=due)
            except Exception:
                _log.exception("a pass of the network agent failed, what it should have done is tried again")

    def _pass(self, *, pull: bool, everything: bool, due: Touched) -> None:
        listed = Touched()
        if pull:
            changed, listed = self._take_over()
            due |= changed
        if due:
            begun = clock.monotonic()
            try:
                failures = self._driver.apply(self._state, due)
            except BaseException:
                with self._changed:
                    self._failed |= due
                raise
            _log.info("applied version %d to %s in %.0f ms", self._state.version, due, (clock.monotonic() - begun) * 1000)
            self._note_failures(failures, due)
        if not self._state.version:
            return
        if (everything or due.full) and not self._unanswered:
            # Only who is heard by the controller knows that the addresses are still its own.
            self._driver.announce(self._state)
        if everything or due or listed:
            self._report(None if everything or (due | listed).full else due | listed)
        if due:
            self.applied(self._driver.listeners(self._state))
        self.applied_version = self._state.version

    def _take_over(self) -> tuple[Touched, Touched]:
        """Pull; returns what changed, and everything the controller listed: it may wait for a status of what has not changed too."""
        try:
            answer = self._bus.call(_CONTROLLER, "network.desired", {"host": self._host, "since": self._state.version}, timeout=_PULL_TIMEOUT)
            desired = from_dict(Desired, answer)
            with self._changed:
                left = [self._state.ports[id_].tap for id_ in desired.gone.ports if id_ in self._state.ports]
                changed = self._state.merge(desired)
                for tap in left if not desired.full else list(self._taps):
                    self._taps.pop(tap, None)
                self._taps.update((port.tap, port.id) for port in desired.ports)
        except _UNREACHABLE as error:
            if not self._unanswered:
                _log.warning("the network controller does not say what this host shall have, asking on: %s", error)
            self._unanswered = True
            return Touched(), Touched()
        except (msgspec.ValidationError, ValueError) as error:
            _log.error("what the network controller says is refused: %s", error)
            self._unanswered = False
            return Touched(), Touched()
        self._unanswered = False
        return changed, Touched.items(desired)

    def _note_failures(self, failures: dict[str, str], due: Touched) -> None:
        """Log what is new, and have all of it tried again with the next pull."""
        for id_, sentence in failures.items():
            if self._said.get(id_) != sentence:
                _log.error("%s: %s", id_, sentence, extra={"resource": id_})
        self._said = {**{id_: said for id_, said in self._said.items() if id_ not in due}, **failures}
        with self._changed:
            self._failed |= Touched(full=True) if "host" in failures else self._state.everything().only(failures)

    def _note_fallen(self, statuses: Statuses) -> None:
        """Have services that do not stand (a dnsmasq that died) put up again with the next pull."""
        networks = {id_ for id_, item in self._state.networks.items() if item.dhcp and statuses.ports.get(item.dhcp.port_id) == DOWN}
        routers = {id_ for id_, status in statuses.routers.items() if status == ERROR}
        with self._changed:
            self._failed |= Touched(networks=frozenset(networks), routers=frozenset(routers))

    def _report(self, only: Touched | None) -> None:
        statuses: Statuses = self._driver.statuses(self._state, only)
        self._note_fallen(statuses)
        report = Report(
            host=self._host, version=self._state.version, ports=statuses.ports, routers=statuses.routers, floating_ips=statuses.floating_ips,
            complete=only is None, agent={"vtep": self._driver.vtep()},
        )  # fmt: skip
        try:
            self._bus.call(_CONTROLLER, "network.report", to_dict(report))
        except _UNREACHABLE as error:
            _log.warning("the network controller does not hear what stands, all is told with the next pull: %s", error)
            self._unsaid = True
