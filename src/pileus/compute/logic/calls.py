"""What the controller of compute serves on the bus for its hosts. Only the store is used: waiting goes one way."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from pileus.compute.logic import documents, hosts, states
from pileus.compute.store import hosts as host_store
from pileus.compute.store import moves
from pileus.compute.store.tables import SERVERS
from pileus.compute.wire import Desired, Report
from pileus.kernel import clock, desired
from pileus.kernel.db import after_commit
from pileus.kernel.service import Service

_log = logging.getLogger(__name__)

_SETTLE = dt.timedelta(seconds=15)
"""A server that was worked on lately is left alone: the report may be older than the work."""


def desired_state(service: Service, payload: dict[str, Any]) -> dict[str, Any]:
    """compute.desired {host, since}: what shall be on the host."""
    host = payload["host"]
    with service.db.read() as conn:
        changes = desired.changes(conn, host, int(payload.get("since", 0)))
        servers = documents.desired_servers(service.options, conn, host, changes.ids(hosts.KIND))
        gone = changes.ids(hosts.KIND, gone=True)
        if changes.full:
            gone = _once_here(conn, host, frozenset(changes.ids(hosts.KIND)))
    return Desired(version=changes.version, full=changes.full, servers=tuple(servers), gone=tuple(gone)).to_dict()


def _once_here(conn: sa.Connection, host: str, present: frozenset[str]) -> list[str]:
    """Servers that were on the host and are known not to belong there any more: deleted, moved elsewhere, or given up while it was away."""
    query = sa.select(SERVERS.c.id).where(SERVERS.c.host == host, SERVERS.c.deleted.is_(True))
    found = {*conn.execute(query).scalars(), *moves.passed_through(conn, host), *desired.dropped(conn, host, hosts.KIND)}
    return sorted(found - present)


def report(service: Service, payload: dict[str, Any]) -> dict[str, Any]:
    """compute.report: the host is alive, this is what it has, and these are the states of its servers.

    It hears which version it should have, and when to speak again. A report without news writes one time.
    """
    told = Report.from_dict(payload)
    version = desired.newest_version(service.db, told.host)
    said = dataclasses.replace(told, seconds=0, resources=dataclasses.replace(told.resources, **_PASSING))
    down = service.options.service_down_time
    again = service.pulse.again(_KIND, told.host, said)
    if again and (beats := service.pulse.due(_KIND)):
        with service.db.write(durable=False) as conn:
            again = hosts.seen_again(conn, host_store.COMPUTE, [(beat.host, beat.at) for beat in beats])
        if not again:
            service.pulse.forget(_KIND, beats)
    if not again and _take(service, told):
        service.pulse.learn(_KIND, told.host, said)
    return {"version": version, "seconds": service.pace.next(_KIND, told.host, service.options.report_seconds, down / 4)}


_KIND = "compute"
_PASSING: dict[str, Any] = {"uptime": None, "memory_mb_used": 0, "local_gb_used": 0}
"""Of what a host has: what always changes, and changes nothing."""


def _take(service: Service, told: Report) -> bool:
    """Record what a host says; whether all of it is on record now."""
    with service.db.read() as conn:
        known = host_store.node_of(conn, told.host)
        differing = _differing(conn, told)
    wanted = hosts.inventory_of(service.options, vars(told.resources) | {"host": told.host})
    placed = known is not None and known["inventory"] == wanted
    with service.db.write(durable=False) as conn:
        hosts.seen(conn, told.host, host_store.COMPUTE)
        hosts.record_resources(conn, told.host, told.resources, told.version, known)
        for server_id, power in differing.items():
            _agree(service, conn, server_id, power)
        if not placed:
            after_commit(lambda: service.loops.nudge("providers"))
    return placed and not differing


def _differing(conn: sa.Connection, told: Report) -> dict[str, str]:
    """Servers of the host whose power state is not the one that is on record."""
    columns = SERVERS.c
    query = sa.select(columns.id, columns.power_state).where(
        columns.host == told.host, columns.deleted.is_(False), columns.task_state.is_(None)
    )
    found: dict[str, str] = {}
    for server_id, number in conn.execute(query):
        power = told.states.get(server_id)
        if power is not None and states.POWER_NUMBERS[power] != number:
            found[server_id] = power
    return found


def _agree(service: Service, conn: sa.Connection, server_id: str, power: str) -> None:
    """Take over what happened on the host by itself. A guest that switched itself off is stopped; nothing is started against the record."""
    row = conn.execute(sa.select(SERVERS).where(SERVERS.c.id == server_id).with_for_update()).mappings().first()
    if row is None or row["deleted"] or row["task_state"] is not None:
        return
    now = clock.utcnow()
    if row["updated_at"] and now - row["updated_at"] < _SETTLE:
        return
    values: dict[str, Any] = {"power_state": states.POWER_NUMBERS[power]}
    if power == "missing" and row["vm_state"] not in _HAVE_DISKS:
        return
    new = states.ERROR if power == "missing" else _AGREED.get((row["vm_state"], power))
    if power == "missing":
        values["fault"] = {"code": 500, "message": _LOST, "created": clock.iso(now), "details": ""}
    if new is not None:
        values |= {"vm_state": new, "updated_at": now}
        desired.touch(conn, row["host"], hosts.KIND, [server_id])
    conn.execute(SERVERS.update().where(SERVERS.c.id == server_id).values(**values))
    if power == "missing":
        _log.error("server %s is in error: its host %s has neither guest nor disks of it", server_id, row["host"])
    if (row["vm_state"], power) == (states.STOPPED, "running"):
        after_commit(lambda: service.loops.nudge("server_states"))


_HAVE_DISKS = frozenset({states.ACTIVE, states.STOPPED, states.PAUSED, states.SUSPENDED})
_LOST = "The host has neither the guest nor the disks of this server any more. Rebuild it or delete it."

_AGREED: Mapping[tuple[str, str], str] = {
    (states.ACTIVE, "shutdown"): states.STOPPED,
    (states.ACTIVE, "crashed"): states.STOPPED,
    (states.PAUSED, "shutdown"): states.STOPPED,
    (states.PAUSED, "crashed"): states.STOPPED,
    (states.PAUSED, "running"): states.ACTIVE,
    (states.SUSPENDED, "running"): states.ACTIVE,
}


def wake(service: Service, payload: dict[str, Any]) -> dict[str, Any]:
    """compute.wake {host, id}: something that a flow of the server waits for has happened on its host."""
    with service.db.write(durable=False) as conn:
        service.flows.wake(conn, payload["id"])
    return {}


CALLS: dict[str, Callable[[Service, dict[str, Any]], dict[str, Any]]] = {
    "compute.desired": desired_state,
    "compute.report": report,
    "compute.wake": wake,
}
