"""Bus calls of a host for servers that come and go. The flows of the controller say when; the rules are those of `calls.Calls`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pileus.compute.agent.disks import Carrier
from pileus.compute.agent.jobs import Job
from pileus.compute.wire import ServerDoc

if TYPE_CHECKING:
    from pileus.compute.agent.calls import Calls

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
