"""The host keeps itself as the controller wants it, and tells how it is. One thread does both, woken by nudges and by time.

Desired state is pulled; an error, an empty or an older document removes nothing. What is here and not wanted goes only when two full documents in a row
do not list it and nobody has asked for it in between.
"""

from __future__ import annotations

import logging
import pathlib
import threading
from dataclasses import dataclass

from pileus.compute.agent.calls import Calls
from pileus.compute.wire import Desired, DesiredServer, PowerState, Report
from pileus.kernel import clock
from pileus.kernel.bus import Bus, BusTimeout, BusUnavailable, RemoteError
from pileus.kernel.errors import Failure, Unavailable
from pileus.kernel.pace import Due

_log = logging.getLogger(__name__)

_CONTROLLER = "controller.compute"
_QUIET_SECONDS = 60.0
"""How long a server that a call has named is left alone."""
_RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0)
_FULL_SECONDS = 240.0
"""The first pull after so long is a full one."""
_GATHER_SECONDS = 0.2
_PULL_GAP_SECONDS = 1.0
"""Nudges come with every change, the calls have done the work by then: pulling once a second is enough."""


@dataclass
class _Wanted:
    """What the thread has to do next."""

    pull: bool = False
    report: bool = False
    changed: bool = False


class Keeper:
    """The reconciling side of the agent. Call `start` once the driver runs."""

    def __init__(self, host: str, calls: Calls, bus: Bus, home: pathlib.Path, report_seconds: float) -> None:
        self._host = host
        self._calls = calls
        self._driver = calls.driver
        self._bus = bus
        self._boot_mark = home / "agent" / "compute-boot-id"
        self._report_seconds = report_seconds
        self._condition = threading.Condition()
        self._wanted = _Wanted(pull=True, report=True)
        self._suspects: set[str] = set()
        self._strays: set[str] = set()
        self._lost: set[str] = set()
        self._version = 0
        self._full = Due(_FULL_SECONDS)
        self._speak = Due(0.0)
        self._unremoved: set[str] = set()
        self._pulled = False
        self._pulled_at = float("-inf")
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._work, name="compute keeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        if self._thread is not None:
            self._thread.join(15)

    def want_pull(self) -> None:
        self._want(pull=True)

    def want_report(self) -> None:
        """By time: when the controller wants to hear of this host again."""
        if self._speak.now():
            self._want(report=True)

    def nudged(self, version: int) -> None:
        """The controller has this version; 0 means that the caller does not know."""
        if version == 0 or version > self._version:
            self._want(pull=True)

    def changed(self, server_id: str) -> None:
        """The driver saw a power state move. Called from the driver's thread: only noted here."""
        with self._condition:
            self._suspects.add(server_id)
            self._wanted.changed = True
            self._condition.notify_all()

    def pull(self) -> None:
        """Get what shall be here and make it so. Raises what the bus raises."""
        full = self._version == 0 or self._full.now()
        self._pulled_at = clock.monotonic()
        here = (
            self._driver.states() if full else {}
        )  # taken before the question: what comes later is not listed, and no stray
        asked = {"host": self._host, "since": 0 if full else self._version}
        desired = Desired.from_dict(self._bus.call(_CONTROLLER, "compute.desired", asked, timeout=30.0))
        if desired.version < self._version:
            _log.warning(
                "the controller's version %d is below ours, %d; nothing is done", desired.version, self._version
            )
            self._version = 0  # a restored database: the next pull takes its whole document
            return
        rebooted = full and self._has_booted()
        for server in desired.servers:
            self._guarded(server.id, lambda server=server: self._take_up(server, rebooted=rebooted))
        for server_id in desired.gone:
            if server_id in here or (not full and self._has(server_id)):
                self._guarded(server_id, lambda server_id=server_id: self._remove(server_id))
        if full and desired.full:
            self._lost = {server.id for server in desired.servers if not server.kept and self._is_lost(server.id)}
            self._remove_strays(set(here) - {server.id for server in desired.servers}, listed=bool(desired.servers))
            if rebooted:
                self._remember_boot()
            self._full.done()
        self._version = (
            desired.version if full or not desired.full else 0
        )  # a full answer that was not expected is asked for again
        self._pulled = True

    def report(self) -> None:
        """Tell the controller how things are. Raises what the bus raises.

        Not before the first pull: after a boot of the host all guests are off, and the controller must not take that for their users' wish.
        """
        if not self._pulled:
            raise Unavailable("the controller has not said yet what shall be here")
        for server_id in sorted(self._unremoved):
            self._guarded(server_id, lambda server_id=server_id: self._remove(server_id))
        states: dict[str, PowerState] = {
            key: state for key, state in self._driver.states().items() if state != "missing"
        }
        for server_id in self._lost:
            if self._is_lost(server_id):
                states[server_id] = "missing"
        report = Report(
            host=self._host,
            version=self._version,
            states=states,
            resources=self._driver.resources(),
            seconds=max(self._report_seconds, self._speak.seconds),
        )
        answer = self._bus.call(_CONTROLLER, "compute.report", report.to_dict(), timeout=10.0) or {}
        self._speak.seconds = float(answer.get("seconds") or 0.0)
        self._speak.done()
        if answer.get("version", self._version) != self._version:
            self._want(pull=True)
        for server_id, state in states.items():
            if state != "missing" and not self._calls.busy(server_id):
                self._calls.expected[server_id] = state

    def forget_boot(self) -> None:
        """Take the next start for a boot of the host: guests that should run will be started again."""
        self._boot_mark.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Housekeeping of driver and memory."""
        self._driver.tidy()
        self._calls.book.tidy()
        self._calls.forget_touches(_QUIET_SECONDS)

    # inside

    def _want(self, *, pull: bool = False, report: bool = False) -> None:
        with self._condition:
            self._wanted.pull |= pull
            self._wanted.report |= report
            self._condition.notify_all()

    def _work(self) -> None:
        failures = 0
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._stopping or self._wanted != _Wanted())
                gap = self._pulled_at + _PULL_GAP_SECONDS - clock.monotonic()
                if self._wanted == _Wanted(pull=True) and gap > 0:
                    self._condition.wait_for(lambda: self._stopping or self._wanted != _Wanted(pull=True), timeout=gap)
                if self._stopping:
                    return
                wanted, self._wanted = self._wanted, _Wanted()
            again = self._do(wanted)
            failures = failures + 1 if again != _Wanted() else 0
            if failures:
                self._want(pull=again.pull, report=again.report)
                delay = _RETRY_SECONDS[min(failures, len(_RETRY_SECONDS)) - 1]
                with self._condition:
                    self._condition.wait_for(lambda: self._stopping, timeout=delay)

    def _do(self, wanted: _Wanted) -> _Wanted:
        """Do what is wanted; returns what has to be done again."""
        again = _Wanted()
        if wanted.changed and self._moved_by_itself():
            wanted.report = True
        for name, due, act in (("pull", wanted.pull, self.pull), ("report", wanted.report, self.report)):
            if not due:
                continue
            try:
                act()
            except (BusTimeout, BusUnavailable, RemoteError, Failure) as error:
                _log.info("%s of this host has to wait: %s", name, error)
                setattr(again, name, True)
            except Exception:
                _log.exception("%s of this host failed", name)
                setattr(again, name, True)
        return again

    def _moved_by_itself(self) -> bool:
        """Whether a server is not as the last call left it. Waits a moment so that one report covers what happens together."""
        with self._condition:
            self._condition.wait_for(lambda: self._stopping, timeout=_GATHER_SECONDS)
            suspects, self._suspects = self._suspects, set()
        expected = self._calls.expected
        mine = [server_id for server_id in suspects if server_id in expected and not self._calls.busy(server_id)]
        return any(self._driver.state(server_id) != expected[server_id] for server_id in mine)

    def _guarded(self, server_id: str, act: object) -> None:
        """Act on one server under its lock; its failure is logged and does not keep the others."""
        assert callable(act)
        try:
            with self._calls.locked(server_id):
                act()
        except Failure as failure:
            _log.warning("server %s cannot be kept as it shall be: %s", server_id, failure.message)

    def _has(self, server_id: str) -> bool:
        return self._driver.state(server_id) != "missing" or self._driver.document(server_id) is not None

    def _is_lost(self, server_id: str) -> bool:
        """Nothing of the server is here and nobody works on it: its disks are gone, or it was never built here."""
        return not self._calls.touched_within(server_id, _QUIET_SECONDS) and not self._has(server_id)

    def _take_up(self, wanted: DesiredServer, *, rebooted: bool) -> None:
        """Bring back a guest that the host has lost, and after a boot of the host those that ran."""
        server_id = wanted.id
        self._unremoved.discard(server_id)
        if wanted.kept:
            return  # the flow that moves it says what happens
        if self._calls.touched_within(server_id, _QUIET_SECONDS):
            return  # somebody works on it, or it was destroyed
        state = self._driver.state(server_id)
        if not self._calls.book.has_begun(server_id):
            if not state == wanted.power_state == "running":
                return  # it is still being built
            self._calls.book.begun(server_id)  # it came by a migration whose end this host was not told
        if state == "missing" and self._driver.document(server_id) is not None:
            _log.warning("server %s has disks and no guest; it is defined again", server_id)
            self._driver.create(wanted.doc)
            if wanted.power_state == "running":
                self._driver.unfreeze(server_id)
            else:
                self._driver.power(server_id, "stop")
        elif rebooted and wanted.power_state == "running" and state in {"shutdown", "crashed"}:
            self._driver.power(server_id, "start", wanted.doc)

    def _remove(self, server_id: str) -> None:
        if self._calls.touched_within(server_id, _QUIET_SECONDS):
            self._unremoved.add(server_id)  # nobody says a second time that it has to go
            return
        self._unremoved.discard(server_id)
        _log.warning("server %s does not belong here any more; it is removed", server_id)
        self._calls.jobs.drop(server_id)
        self._driver.destroy(server_id)
        self._calls.expected.pop(server_id, None)
        self._calls.moves.removed(server_id)
        self._calls.book.gone(server_id)

    def _remove_strays(self, strays: set[str], *, listed: bool) -> None:
        """Remove what two full documents in a row do not list; an empty document counts for nothing."""
        if not listed:
            self._strays = set()
            return
        for server_id in strays & self._strays:
            self._guarded(server_id, lambda server_id=server_id: self._remove(server_id))
        self._strays = strays

    def _has_booted(self) -> bool:
        return not self._boot_mark.exists() or self._boot_mark.read_text() != _boot_id()

    def _remember_boot(self) -> None:
        self._boot_mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._boot_mark.write_text(_boot_id())
        self._boot_mark.chmod(0o600)


def _boot_id() -> str:
    return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
