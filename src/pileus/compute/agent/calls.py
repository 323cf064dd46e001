"""The bus calls of a host: check the epoch, hold the server's lock, ask the driver. Nothing here waits for another service.

Calls of one server happen one after the other. What takes long (downloads, graceful shutdown) goes on as a job, without the lock, so that a destroy or a
hard stop never waits for it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from pileus.compute.agent.epochs import EpochBook
from pileus.compute.agent.jobs import Job, Jobs
from pileus.compute.agent.moves import MoveCalls
from pileus.compute.drivers.base import (
    Action,
    ComputeDriver,
    DriverFailed,
    HypervisorLost,
    ImageRefused,
    ImageSource,
    NotPrepared,
)
from pileus.compute.wire import POWER_ACTIONS, PowerState, ServerDoc
from pileus.kernel import clock
from pileus.kernel.errors import Invalid

_log = logging.getLogger(__name__)

_IMMEDIATE: Mapping[str, Action] = {
    "start": "start",
    "stop": "stop",
    "reboot_hard": "reboot_hard",
    "pause": "pause",
    "unpause": "unpause",
    "suspend": "suspend",
    "resume": "resume",
}
_START_SECONDS = 15.0
_PRESS_SECONDS = 5.0
"""A guest that is still booting does not hear its power button: it is pressed again."""
_POLL_SECONDS = 0.5
_DEFAULT_TIMEOUT = 60.0
_LOST_SECONDS = (0.0, 0.5, 1.0, 2.0, 4.0)
"""Waits between tries while the hypervisor's service is away: as long as a restart of it takes."""

_T = TypeVar("_T")


class Calls:
    """The calls, and what they share with the reconciling side (`reconcile.Keeper`)."""

    def __init__(
        self, driver: ComputeDriver, book: EpochBook, images: ImageSource, wake: Callable[[str], None]
    ) -> None:
        self.driver = driver
        self.book = book
        self.jobs = Jobs(wake)
        self.expected: dict[str, PowerState] = {}
        self.ready = threading.Event()
        self.nudged: Callable[[int], None] = lambda _version: None
        self.moves = MoveCalls(self)
        self._images = images
        self._downloads = threading.BoundedSemaphore(4)
        self._locks: dict[str, _Lock] = {}
        self._guard = threading.Lock()
        self._touched: dict[str, float] = {}

    def methods(self) -> dict[str, Callable[[dict[str, Any]], dict[str, Any]]]:
        """What is served on `agent.<host>`."""
        return {
            "compute.prepare": self.prepare,
            "compute.create": self.create,
            "compute.resume": self.resume,
            "compute.destroy": self.destroy,
            "compute.power": self.power,
            "compute.console": self.console,
            "compute.state": self.state,
            "compute.nudge": self.nudge,
            **self.moves.methods(),
        }

    # the calls

    def prepare(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Disks and config drive. {"state": "ready" | "fetching" | "failed", "error"}; a later call learns how a download went."""
        doc = ServerDoc.from_dict(payload["doc"])
        with self.entered(payload):
            self.book.back(doc.id)
            job = self.jobs.find(doc.id, "fetch")
            if job is not None and job.done.is_set():
                self.jobs.drop(doc.id)
                if job.error is not None:
                    return {"state": "failed", "error": job.error}
            elif job is not None:
                return {"state": "fetching", "error": None}
            if self.moves.missing(doc, payload) or not self.driver.images_ready(doc):
                self.jobs.ensure(doc.id, "fetch", lambda job: self._fetch(job, doc, payload))
                return {"state": "fetching", "error": None}
            try:
                self.steadily(lambda: self.driver.prepare(doc))
            except (ImageRefused, DriverFailed, NotPrepared) as failure:
                return {"state": "failed", "error": failure.message}
        return {"state": "ready", "error": None}

    def create(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Network devices and guest, paused."""
        doc = ServerDoc.from_dict(payload["doc"])
        with self.entered(payload):
            self.steadily(lambda: self.driver.create(doc))
            return self.settled(doc.id)

    def resume(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Let a created guest run. One that died before its first moment (QEMU was killed, the host booted) is started; later it may do as it likes."""
        server_id = payload["id"]
        with self.entered(payload):
            if self.steadily(lambda: self.driver.state(server_id)) not in {"shutdown", "crashed"}:
                self.steadily(lambda: self.driver.unfreeze(server_id))
            elif not self.book.has_begun(server_id):
                self.steadily(lambda: self.driver.power(server_id, "start"))
            self.book.begun(server_id)
            return self.settled(server_id)

    def destroy(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Everything of the server goes, with `keep_disks` all but its directory."""
        server_id, keep_disks = payload["id"], bool(payload.get("keep_disks"))
        with self.entered(payload):
            self.jobs.drop(server_id)
            self.steadily(lambda: self.driver.destroy(server_id, keep_disks=keep_disks))
            self.expected.pop(server_id, None)
            if not keep_disks:
                self.moves.removed(server_id)
                self.book.gone(server_id)
        return {}

    def power(self, payload: dict[str, Any]) -> dict[str, Any]:
        """One power action. {"power_state", "done", "error"}: a graceful one may go on with `done` false; repeating the call tells how it went."""
        server_id, action = payload["id"], payload["action"]
        if action not in POWER_ACTIONS:
            raise Invalid(f"'{action}' is not a power action.")
        doc = ServerDoc.from_dict(payload["doc"]) if payload.get("doc") else None
        with self.entered(payload):
            if action in _IMMEDIATE:
                self.jobs.drop(server_id)
                self.steadily(lambda: self._act(server_id, _IMMEDIATE[action], doc))
                self.book.begun(server_id)
                return {**self.settled(server_id), "done": True, "error": None}
            job = self.steadily(lambda: self._graceful(payload, doc))
            if job is not None and not job.done.is_set():
                return {"power_state": self.driver.state(server_id), "done": False, "error": None}
            return {**self.settled(server_id), "done": True, "error": None if job is None else job.error}

    def _act(self, server_id: str, action: Action, doc: ServerDoc | None) -> None:
        """A power action. A start in which the hypervisor's service died may have left the guest paused, before its first moment."""
        was_paused = self.expected.get(server_id) == "paused"  # by a call: then this is one too many
        if action in {"start", "resume"} and not was_paused and self.driver.state(server_id) == "paused":
            try:
                self.driver.power(server_id, "unpause", doc)
            except DriverFailed:
                if self.driver.state(server_id) == "paused":
                    raise  # otherwise the hypervisor has given that start up meanwhile, and another one is due
            else:
                return
        self.driver.power(server_id, action, doc)

    def console(self, payload: dict[str, Any]) -> dict[str, Any]:
        """{"output": the last `length` lines of the serial console}."""
        self.wait_ready()
        return {"output": self.steadily(lambda: self.driver.console(payload["id"], payload.get("length")))}

    def state(self, payload: dict[str, Any]) -> dict[str, Any]:
        """{"power_state", "prepared": whether its files are here}."""
        self.wait_ready()
        server_id = payload["id"]
        return {
            "power_state": self.steadily(lambda: self.driver.state(server_id)),
            "prepared": self.driver.document(server_id) is not None,
        }

    def nudge(self, payload: dict[str, Any]) -> dict[str, Any]:
        """The controller has a newer version of what shall be here."""
        self.nudged(int(payload.get("version", 0)))
        return {}

    # shared with the reconciling side

    @contextlib.contextmanager
    def locked(self, server_id: str) -> Iterator[None]:
        """Hold the server's lock."""
        with self._guard:
            lock = self._locks.setdefault(server_id, _Lock())
            lock.users += 1
        try:
            with lock.lock:
                yield
        finally:
            with self._guard:
                lock.users -= 1
                if not lock.users:
                    self._locks.pop(server_id, None)

    def busy(self, server_id: str) -> bool:
        """Whether a call or a job works on the server now."""
        return server_id in self._locks

    def touched_within(self, server_id: str, seconds: float) -> bool:
        """Whether a call named the server lately."""
        return clock.monotonic() - self._touched.get(server_id, float("-inf")) < seconds

    def forget_touches(self, seconds: float) -> None:
        """Drop what `touched_within` needs no longer."""
        for server_id in [key for key in list(self._touched) if not self.touched_within(key, seconds)]:
            self._touched.pop(server_id, None)

    def steadily(self, act: Callable[[], _T]) -> _T:
        """Act; when the hypervisor's service is away, see to it that it comes back and act again."""
        for seconds in _LOST_SECONDS:
            try:
                return act()
            except HypervisorLost as failure:
                _log.warning("the hypervisor is away, trying again: %s", failure.message)
                clock.sleep(seconds)
                with contextlib.suppress(HypervisorLost, DriverFailed):
                    self.driver.watch()
        return act()

    @contextlib.contextmanager
    def entered(self, payload: dict[str, Any]) -> Iterator[None]:
        """The server's lock, after its epoch was found current."""
        self.wait_ready()
        server_id, epoch = payload["id"], int(payload["epoch"])
        with self.locked(server_id):
            self.book.enter(server_id, epoch)
            self._touched[server_id] = clock.monotonic()
            yield

    def wait_ready(self) -> None:
        if not self.ready.wait(_START_SECONDS):
            raise DriverFailed("The hypervisor of this host is not ready.")

    def settled(self, server_id: str) -> dict[str, Any]:
        """The state after a call; it is known to the caller and need not be reported."""
        state = self.expected[server_id] = self.steadily(lambda: self.driver.state(server_id))
        return {"power_state": state}

    def _fetch(self, job: Job, doc: ServerDoc, payload: dict[str, Any]) -> None:
        with self._downloads:
            self.driver.fetch_images(doc, self._images)
            self.moves.fetch(job, doc, payload)

    def _graceful(self, payload: dict[str, Any], doc: ServerDoc | None) -> Job | None:
        """Press the power button; the job that waits for the guest, None when nothing is left to wait for."""
        server_id, reboot = payload["id"], payload["action"] == "reboot_soft"
        key = (payload["action"], int(payload["epoch"]))
        known = self.jobs.find(server_id, key)
        if known is not None:
            return known
        if self.driver.state(server_id) == "running":
            self.driver.power(server_id, "press_power_button")
        state = self.driver.state(server_id)
        if state != "running":
            self._finish(server_id, doc, reboot=reboot)
            return None
        timeout = float(payload.get("timeout") or _DEFAULT_TIMEOUT)
        return self.jobs.ensure(server_id, key, lambda job: self._wait_for_guest(job, timeout, doc, reboot=reboot))

    def _wait_for_guest(self, job: Job, timeout: float, doc: ServerDoc | None, *, reboot: bool) -> None:
        """Until the guest is off, or its time is: then it is switched off."""
        server_id = job.server_id
        now = clock.monotonic()
        deadline, press = now + timeout, now + _PRESS_SECONDS
        while not job.cancelled.wait(_POLL_SECONDS):
            with self.locked(server_id):
                if job.cancelled.is_set():
                    return
                off = self.steadily(lambda: self.driver.state(server_id)) != "running"
                now = clock.monotonic()
                if off or now >= deadline:
                    self.steadily(lambda: self._finish(server_id, doc, reboot=reboot))
                    self.settled(server_id)
                    return
                if now >= press:
                    press = now + _PRESS_SECONDS
                    self.steadily(lambda: self.driver.power(server_id, "press_power_button"))

    def _finish(self, server_id: str, doc: ServerDoc | None, *, reboot: bool) -> None:
        """What follows once the guest is off or out of time; the caller holds the lock."""
        if not reboot:
            self.driver.power(server_id, "stop")
        elif self.driver.state(server_id) in {"shutdown", "crashed"}:
            self.driver.power(server_id, "start", doc)
        else:
            self.driver.power(server_id, "reboot_hard", doc)


class _Lock:
    """A server's lock and how many want it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
