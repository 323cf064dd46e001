#!/usr/bin/env python3
"""Seconds from the death of a controller until another goes on with its flows; one JSON line.

    .venv/bin/python -m bench.takeover [servers]

Two simulated controllers on a private PostgreSQL and RabbitMQ build servers; the one that has more of the flows is killed with
SIGKILL, supervisor and children. `value` is the time until the first of its flows is taken, `last` until all of them are. The database
is asked every 20 ms.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time

from pileus.cli.session import load_config
from pileus.kernel.db import Database
from tests.controllers import Controllers
from tests.probe.probed import Probed, wait_until
from tests.probe.test_controllers import with_network
from tests.probe.test_kills import create, mine

import sqlalchemy as sa

RUNNING = sa.text(
    "SELECT f.id, f.epoch, w.host FROM flows f JOIN flow_workers w ON w.id = f.worker_id WHERE f.state = 'running' ORDER BY f.id"
)
EPOCHS = sa.text("SELECT id, epoch FROM flows")


def measure(servers: int) -> dict[str, object]:
    with Controllers(2) as both:
        probed = with_network(both)
        db = Database(load_config(both.clouds[0].home).database_url("compute"), "compute")
        askers = [threading.Thread(target=create, args=(probed, f"taken-{number}")) for number in range(servers)]
        for asker in askers:
            asker.start()
        victim, lost = chosen(db)
        killed_at = both.kill(int(victim[-1]) - 1)
        taken = times(db, lost, killed_at)
        for asker in askers:
            asker.join()
        settle(probed, victim)
        db.close()
    found = sorted(taken.values())
    return {"value": round(found[0], 2), "last": round(found[-1], 2), "n": len(found)}


def chosen(db: Database) -> tuple[str, dict[str, int]]:
    """The controller that has more of the running flows, and these with their epochs."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with db.read() as conn:
            rows = conn.execute(RUNNING).all()
        by_host: dict[str, dict[str, int]] = {}
        for row in rows:
            by_host.setdefault(row.host, {})[row.id] = row.epoch
        if by_host and max(map(len, by_host.values())) >= 3:
            return max(by_host.items(), key=lambda entry: len(entry[1]))
    raise SystemExit("no controller had three flows at once")


def times(db: Database, lost: dict[str, int], killed_at: float) -> dict[str, float]:
    """Seconds until each lost flow has a new worker, which raises its epoch. Those that ended just before the kill do not count."""
    taken: dict[str, float] = {}
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with db.read() as conn:
            running = {row.id for row in conn.execute(sa.text("SELECT id FROM flows WHERE state IN ('ready', 'running')"))}
            epochs = {row.id: row.epoch for row in conn.execute(EPOCHS)}
        now = time.time() - killed_at
        for flow, epoch in lost.items():
            if flow not in taken and epochs[flow] > epoch:
                taken[flow] = now
        if all(flow in taken or flow not in running for flow in lost):
            return taken
        time.sleep(0.02)
    raise SystemExit("some flows were not taken within a minute")


def settle(probed: Probed, victim: str) -> None:
    """What does not need the lost machine is built: the measurement was of a cloud that works."""

    def done() -> bool:
        waiting = [server for server in mine(probed, "taken-") if server["status"] not in {"ACTIVE", "ERROR"}]
        return all(server["OS-EXT-SRV-ATTR:host"] == victim for server in waiting)

    wait_until(done, "the other servers are built")


if __name__ == "__main__":
    figures = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 12)
    print(json.dumps({"name": "controllers.takeover", "unit": "s", **figures, "load1": round(os.getloadavg()[0], 2)}))
