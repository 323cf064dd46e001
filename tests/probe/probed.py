"""A simulated cloud of real processes, to be killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
from pathlib import Path

import sqlalchemy as sa
from pileus.cli.session import Session, load_config
from pileus.compute.drivers import fake
from pileus.kernel import clock
from pileus.kernel.db import Database
from pileus.kernel.errors import Failure
from tests.invariants import View
from tools.cloud import Cloud, ThrowAway


class Probed:
    """The cloud, its processes by name, and what its databases hold."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.home: Path = cloud.home
        self.session = patiently(lambda: Session(load_config(self.home), "admin", "admin"))

    def pid(self, process: str) -> int:
        """The process now at work under a name; `supervisor` too."""
        if process == "supervisor":
            return int(json.loads((self.home / "run" / "supervisor.json").read_text())["pid"])
        known = json.loads((self.home / "run" / "processes.json").read_text())
        return int(known[process]["pid"])

    def kill(self, process: str) -> None:
        """SIGKILL; the supervisor itself is started again by `pileus up`, as a person would."""
        pid = self.pid(process)
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if process == "supervisor":
            wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the killed supervisor is gone")
            self.cloud.up()

    def rows(self, service: str, query: str) -> list[tuple[object, ...]]:
        """What a database holds, read beside the running cloud."""
        config = load_config(self.home)
        if config.database.url:
            db = Database(config.database_url(service), service)
            try:
                with db.read() as conn:
                    return sorted((tuple(row) for row in conn.execute(sa.text(query))), key=str)
            finally:
                db.close()
        with contextlib.closing(sqlite3.connect(f"file:{self.home}/databases/{service}.sqlite?mode=ro", uri=True, timeout=20)) as db:
            return db.execute(query).fetchall()

    def guests(self) -> list[str]:
        """Ids of the servers that the simulated hypervisor has."""
        return sorted(self.guest_states())

    def guest_states(self) -> dict[str, str]:
        return guest_states(self.home)

    def image_files(self) -> set[str]:
        """Names of all files with image data, whole or not."""
        return {path.name for path in (self.home / "images").rglob("*") if path.is_file()}

    def view(self) -> View:
        """This cloud, for the invariants."""
        host = load_config(self.home).host
        return View(rows=self.rows, guests=lambda: {host: self.guest_states()}, image_files=self.image_files)

    def why(self, servers) -> str:
        """The timelines of servers, and the newest log lines."""
        told = [self.cloud.pileus("why", server["id"], check=False).stdout for server in servers]
        return "\n".join([*told, self.cloud.pileus("logs", "--lines", "60", check=False).stdout])

    def traces(self) -> dict[str, object]:
        """All that a server leaves somewhere while it lives: equal before and after, or something was left over."""
        return {
            "servers": self.rows("compute", "SELECT count(*) FROM servers WHERE deleted_at IS NULL"),
            "compute quota": self.rows("compute", "SELECT resource, sum(used) FROM quota_usages GROUP BY resource HAVING sum(used) > 0"),
            "unfinished flows": self.rows("compute", "SELECT kind, resource_id FROM flows WHERE state NOT IN ('done', 'failed')"),
            "allocations": self.rows("placement", "SELECT count(*) FROM allocations"),
            "ports": self.rows("network", "SELECT count(*) FROM ports WHERE device_owner LIKE 'compute:%'"),
            "network quota": self.rows("network", "SELECT resource, sum(used) FROM quota_usages WHERE resource = 'port' GROUP BY resource"),
            "addresses": self.rows("network", "SELECT count(*) FROM ip_allocations"),
            "guests": self.guests(),
        }


def guest_states(home: Path) -> dict[str, str]:
    """The power states of what the simulated hypervisor of a home has, by server."""
    found = next(home.rglob("fake-hypervisor.sqlite"))
    with contextlib.closing(sqlite3.connect(f"file:{found}?mode=ro", uri=True, timeout=20)) as db:
        return {server: fake.state_in(packed) for server, packed in db.execute("SELECT id, guest FROM guests")}


def patiently(action, seconds: float = 30.0):
    """What a client does whose connection broke: it tries again."""
    deadline = clock.monotonic() + seconds
    while True:
        try:
            return action()
        except (Failure, OSError) as error:
            if isinstance(error, Failure) and error.status < 500 or clock.monotonic() > deadline:
                raise
            clock.sleep(0.05)


def wait_until(condition, what: str, seconds: float = 60.0, explain=lambda: "", pause: float = 0.05) -> None:
    """Until the condition holds; fails with a sentence and what `explain` adds."""
    deadline = clock.monotonic() + seconds
    while not condition():
        assert clock.monotonic() < deadline, f"not true after {seconds:g} s: {what}\n{explain()}"
        clock.sleep(pause)
