"""Bus calls of a host for servers that come and go. The flows of the controller say when; the rules are those of `calls.Calls`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pileus.compute.agent.disks import Carrier
from pileus.compute.agent.jobs import Job
from pileus.compute.drivers.base import DriverFailed
from pileus.compute.wire import ServerDoc

if TYPE_CHECKING:
    from pileus.compute.agent.calls import Calls

_ABORT_SECONDS = 20.0
Method = Callable[[dict[str, Any]], dict[str, Any]]


class MoveCalls:
    """The calls of moves, on top of the others' locks and epochs. `carrier` is set before the first of them comes."""

    carrier: Carrier

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def methods(self) -> dict[str, Method]:
        return {
            "compute.offer": self.offer,
            "compute.withdraw": self.withdraw,
            "compute.receive": self.receive,
            "compute.received": self.received,
            "compute.send": self.send,
            "compute.abort_send": self.abort_send,
            "compute.hurry_send": self.hurry_send,
            "compute.keep_copy": self.keep_copy,
            "compute.restore_copy": self.restore_copy,
            "compute.drop_copy": self.drop_copy,
        }

    def offer(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Give the server's disks to who knows the token: {"address", "port", "fingerprint", "token"} for `compute.prepare` elsewhere."""
        with self._calls.entered(payload):
            return self.carrier.offer(payload["id"], payload["token"])

    def withdraw(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Give them to nobody any more."""
        with self._calls.entered(payload):
            self.carrier.withdraw(payload["id"])
        return {}

    def removed(self, server_id: str) -> None:
        """The server's files are gone: there is nothing to give."""
        if hasattr(self, "carrier"):
            self.carrier.withdraw(server_id)

    def receive(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Be ready for a running guest: {"offer", "there"} for `compute.send` on the host that has it."""
        doc = ServerDoc.from_dict(payload["doc"])
        with self._calls.entered(payload):
            if self._calls.driver.state(doc.id) != "missing":
                there: dict[str, Any] = {}  # it has come already
            else:
                there = self._calls.steadily(lambda: self._calls.driver.receive(doc))
            return {"offer": self.carrier.offer(doc.id, payload["token"]), "there": there}

    def received(self, payload: dict[str, Any]) -> dict[str, Any]:
        """The guest has come: from now on it is this host's."""
        server_id = payload["id"]
        with self._calls.entered(payload):
            self.carrier.withdraw(server_id)
            self._calls.book.begun(server_id)
            return self._calls.settled(server_id)

    def send(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Let the guest go. {"state": "sending" | "sent" | "failed", "error", "progress"}; repeating the call tells how it went."""
        server_id, offer, there = payload["id"], payload["offer"], payload["there"]
        key = ("send", offer["token"])
        with self._calls.entered(payload):
            driver, jobs = self._calls.driver, self._calls.jobs
            job = jobs.find(server_id, key)
            if job is not None and job.done.is_set() and job.error is not None:
                return {"state": "failed", "error": job.error, "progress": {}}
            if self._calls.steadily(lambda: driver.state(server_id)) == "missing" and (
                job is None or job.done.is_set()
            ):
                self._calls.expected.pop(server_id, None)
                return {"state": "sent", "error": None, "progress": {}}
            if job is None:
                jobs.ensure(server_id, key, lambda _job: self._send(server_id, offer, there))
            return {"state": "sending", "error": None, "progress": driver.sending(server_id)}

    def _send(self, server_id: str, offer: dict[str, Any], there: dict[str, Any]) -> None:
        driver = self._calls.driver
        with self.carrier.ends(driver.gangway(server_id), server_id, offer):
            driver.send(server_id, there)

    def abort_send(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Let the guest stay. {"left": whether it is too late for that}."""
        server_id = payload["id"]
        with self._calls.entered(payload):
            driver, jobs = self._calls.driver, self._calls.jobs
            job = jobs.find(server_id, ("send", payload["token"]))
            self._calls.steadily(lambda: driver.abort_send(server_id))
            if job is not None and not job.done.wait(_ABORT_SECONDS):
                raise DriverFailed("The migration does not end.")
            jobs.drop(server_id)
            state = self._calls.steadily(lambda: driver.state(server_id))
            return {"left": state == "missing" and driver.document(server_id) is not None}

    def hurry_send(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Let the guest pause until it is at its destination."""
        self._calls.wait_ready()
        self._calls.steadily(lambda: self._calls.driver.hurry_send(payload["id"]))
        return {}

    def keep_copy(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Keep the disks as they are before they are changed here."""
        return self._do(payload, self._calls.driver.keep_copy)

    def restore_copy(self, payload: dict[str, Any]) -> dict[str, Any]:
        """The server has the disks that were kept."""
        return self._do(payload, self._calls.driver.restore_copy)

    def drop_copy(self, payload: dict[str, Any]) -> dict[str, Any]:
        """The disks that were kept are not needed any more."""
        return self._do(payload, self._calls.driver.drop_copy)

    def missing(self, doc: ServerDoc, payload: dict[str, Any]) -> bool:
        """Whether the disks of a server still have to be fetched: its document is written after them."""
        return bool(payload.get("offer")) and self._calls.driver.document(doc.id) is None

    def fetch(self, job: Job, doc: ServerDoc, payload: dict[str, Any]) -> None:
        """Fetch the disks that another host offers; part of the job of `compute.prepare`."""
        if not self.missing(doc, payload):
            return
        self.carrier.fetch(job, doc, payload["offer"])
        with self._calls.locked(doc.id):
            if not job.cancelled.is_set():
                self._calls.driver.prepare(doc)

    def _do(self, payload: dict[str, Any], act: Callable[[str], None]) -> dict[str, Any]:
        server_id = payload["id"]
        with self._calls.entered(payload):
            self._calls.jobs.drop(server_id)
            self._calls.steadily(lambda: act(server_id))
            return self._calls.settled(server_id)
