"""A host with the fake hypervisor, and a controller that says what the test wants."""

from __future__ import annotations

import pathlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from pileus.compute.agent.calls import Calls
from pileus.compute.agent.epochs import EpochBook
from pileus.compute.agent.reconcile import Keeper
from pileus.compute.drivers.fake import FakeDriver
from pileus.compute.wire import Desired, DesiredServer, Report, ServerDoc
from pileus.kernel.bus import LocalBus
from tests.contracts.compute_servers import Images


@dataclass
class Controller:
    """What is served on `controller.compute`."""

    version: int = 1
    servers: dict[str, DesiredServer] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    full: bool | None = None
    asked: list[int] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    woken: list[str] = field(default_factory=list)
    failing: bool = False

    def want(self, doc: ServerDoc, power: str = "running") -> None:
        self.version += 1
        self.servers[doc.id] = DesiredServer(id=doc.id, power_state=power, doc=doc)  # type: ignore[arg-type]

    def desired(self, payload: dict[str, Any]) -> dict[str, Any]:
        if self.failing:
            raise RuntimeError("the database is away")
        self.asked.append(payload["since"])
        full = payload["since"] == 0 if self.full is None else self.full
        return Desired(version=self.version, full=full, servers=tuple(self.servers.values()), gone=tuple(self.gone)).to_dict()

    def report(self, payload: dict[str, Any]) -> None:
        self.reports.append(Report.from_dict(payload))

    def wake(self, payload: dict[str, Any]) -> None:
        self.woken.append(payload["id"])


class Host:
    """The agent of one host, by hand: `restart` makes a new process of it."""

    def __init__(self, home: pathlib.Path) -> None:
        self.home = home
        self.controller = Controller()
        self.images = Images()
        self.bus = LocalBus("test")
        self.bus.serve(
            "controller.compute",
            {"compute.desired": self.controller.desired, "compute.report": self.controller.report, "compute.wake": self.controller.wake},
        )
        self._start()

    def _start(self) -> None:
        self.driver = FakeDriver(self.home)
        self.calls = Calls(
            self.driver, EpochBook(self.home / "epochs.sqlite"), self.images,
            lambda server_id: self.bus.cast("controller.compute", "compute.wake", {"id": server_id}),
        )
        self.keeper = Keeper("h", self.calls, self.bus, self.home, 10.0)
        self.calls.nudged = self.keeper.nudged
        self.driver.start(self.keeper.changed)
        self.calls.ready.set()
        self.bus.serve("agent.h", self.calls.methods())

    def restart(self) -> None:
        self.stop()
        self._start()

    def stop(self) -> None:
        self.keeper.stop()
        self.calls.jobs.drop_all()
        self.driver.stop()
        self.calls.book.close()

    def call(self, method: str, server: ServerDoc | str, epoch: int = 1, **more: Any) -> dict[str, Any]:
        payload: dict[str, Any] = {"epoch": epoch, **more}
        if isinstance(server, str):
            payload["id"] = server
        else:
            payload |= {"id": server.id, "doc": server.to_dict()}
        return self.bus.call("agent.h", f"compute.{method}", payload)

    def run(self, doc: ServerDoc, epoch: int = 1) -> None:
        """Build the server."""
        assert self.call("prepare", doc, epoch)["state"] == "ready"
        self.call("create", doc, epoch)
        assert self.call("resume", doc.id, epoch) == {"power_state": "running"}

    def later(self) -> None:
        """Let the time pass in which a server that was named is left alone."""
        self.calls._touched.clear()


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


@pytest.fixture
def host(tmp_path: pathlib.Path) -> Iterator[Host]:
    host = Host(tmp_path)
    yield host
    host.stop()
