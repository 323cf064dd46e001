"""The records of flows: tables and SQL."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from pileus.kernel import clock, ids
from pileus.kernel.db import Json, Timestamp, database_time

LEASE_SECONDS = 4.0
ENDED = ("done", "failed")


def tables(metadata: sa.MetaData) -> None:
    """Add flows, flow_steps and flow_workers to a room's metadata."""
    sa.Table(
        "flow_workers",
        metadata,
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("expires_at", Timestamp, nullable=False),
    )
    sa.Table(
        "flows",
        metadata,
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("resource_id", sa.String(64), nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),  # ready, running, done, failed
        sa.Column("unwinding", sa.Boolean, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("worker_id", sa.String(32)),
        sa.Column("wake_at", Timestamp, nullable=False),
        sa.Column("nudges", sa.Integer, nullable=False),
        sa.Column("cancel", sa.Boolean, nullable=False),
        sa.Column("input", Json, nullable=False),
        sa.Column("results", Json, nullable=False),
        sa.Column("asked_by", Json, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("waiting_for", sa.Text),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("finished_at", Timestamp),
        sa.Index(None, "state", "wake_at"),
        sa.Index(None, "resource_id", "state", "seq"),
        sa.Index(None, "worker_id"),
    )
    sa.Table(
        "flow_steps",
        metadata,
        sa.Column("flow_id", sa.String(32), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),  # started, done, failed, undone
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("started_at", Timestamp, nullable=False),
        sa.Column("ended_at", Timestamp),
    )


_metadata = sa.MetaData()
tables(_metadata)
FLOWS = _metadata.tables["flows"]
STEPS = _metadata.tables["flow_steps"]
WORKERS = _metadata.tables["flow_workers"]


@dataclasses.dataclass(frozen=True)
class Record:
    """One row of `flows`."""

    id: str
    kind: str
    resource_id: str
    unwinding: bool
    step: int
    attempt: int
    epoch: int
    nudges: int
    cancel: bool
    input: dict[str, Any]
    results: dict[str, Any]
    asked_by: dict[str, Any]
    error: str | None
    created_at: dt.datetime


_RECORD = [FLOWS.c[field.name] for field in dataclasses.fields(Record)]


def insert(conn: sa.Connection, kind: str, resource_id: str, input: dict[str, Any], asked_by: dict[str, Any]) -> str:
    flow_id = ids.new_id()
    now = clock.utcnow()
    unfinished = sa.and_(FLOWS.c.resource_id == resource_id, FLOWS.c.state.in_(("ready", "running")))
    latest = conn.execute(sa.select(sa.func.max(FLOWS.c.seq)).where(unfinished)).scalar_one() or 0
    row = {
        "id": flow_id,
        "kind": kind,
        "resource_id": resource_id,
        "seq": max(int(clock.time() * 1_000_000), latest + 1),  # clocks differ between hosts, and are set back
        "state": "ready",
        "unwinding": False,
        "step": 0,
        "attempt": 0,
        "epoch": 0,
        "wake_at": now,
        "nudges": 0,
        "cancel": False,
        "input": input,
        "results": {},
        "asked_by": asked_by,
        "created_at": now,
    }
    conn.execute(sa.insert(FLOWS), row)
    return flow_id


def claim(conn: sa.Connection, worker_id: str, kinds: Sequence[str], limit: int) -> list[Record]:
    """Take flows that can run now: the oldest of each resource of which none runs."""
    now = clock.utcnow()
    other = FLOWS.alias()
    before = sa.or_(other.c.seq < FLOWS.c.seq, sa.and_(other.c.seq == FLOWS.c.seq, other.c.id < FLOWS.c.id))
    held_up = sa.exists().where(
        other.c.resource_id == FLOWS.c.resource_id,
        sa.or_(other.c.state == "running", sa.and_(other.c.state == "ready", before)),
    )
    query = (
        sa.select(FLOWS.c.id, FLOWS.c.resource_id)
        .where(FLOWS.c.state == "ready", FLOWS.c.wake_at <= now, FLOWS.c.kind.in_(kinds), ~held_up)
        .order_by(FLOWS.c.wake_at)
        .limit(limit)
    )
    candidates = [(flow_id, resource_id) for flow_id, resource_id in conn.execute(query)]
    if not candidates:
        return []
    first = _lock_first(conn, [resource_id for _, resource_id in candidates], now)
    taken = [flow_id for flow_id, _ in candidates if flow_id in first]
    if not taken:
        return []
    take = sa.update(FLOWS).where(FLOWS.c.id.in_(taken))
    conn.execute(take.values(state="running", worker_id=worker_id, epoch=FLOWS.c.epoch + 1))
    return [Record(**row) for row in conn.execute(sa.select(*_RECORD).where(FLOWS.c.id.in_(taken))).mappings()]


def _lock_first(conn: sa.Connection, resource_ids: Sequence[str], now: dt.datetime) -> set[str]:
    """Of each resource the flow that is due and next, with all its unfinished flows locked.

    Two workers must not take two flows of one resource at once, though each sees only what was committed when it looked.
    Locked rows are passed over and not waited for, so this cannot be part of a deadlock; a resource whose flows could not
    all be locked is left for the next time.
    """
    unfinished = sa.and_(FLOWS.c.resource_id.in_(resource_ids), FLOWS.c.state.in_(("ready", "running")))
    columns = (FLOWS.c.resource_id, FLOWS.c.id, FLOWS.c.state, FLOWS.c.wake_at)
    query = sa.select(*columns).where(unfinished).order_by(FLOWS.c.resource_id, FLOWS.c.seq, FLOWS.c.id)
    locked: dict[str, list[tuple[str, str, dt.datetime]]] = {}
    for resource_id, flow_id, state, wake_at in conn.execute(query.with_for_update(skip_locked=True)):
        locked.setdefault(resource_id, []).append((flow_id, state, wake_at))
    counts = {resource_id: len(flows) for resource_id, flows in locked.items()}
    if conn.dialect.name != "sqlite":  # where one writer at a time is the lock
        count = sa.select(FLOWS.c.resource_id, sa.func.count()).where(unfinished).group_by(FLOWS.c.resource_id)
        counts = {resource_id: number for resource_id, number in conn.execute(count)}
    return {
        flows[0][0]
        for resource_id, flows in locked.items()
        if len(flows) == counts.get(resource_id)
        and flows[0][2] <= now
        and all(state == "ready" for _, state, _ in flows)
    }


def next_wake(conn: sa.Connection, kinds: Sequence[str]) -> dt.datetime | None:
    """When the next waiting flow is due."""
    query = sa.select(sa.func.min(FLOWS.c.wake_at)).where(FLOWS.c.state == "ready", FLOWS.c.kind.in_(kinds))
    return conn.execute(query).scalar_one_or_none()


def update_owned(conn: sa.Connection, flow_id: str, epoch: int, **values: Any) -> bool:
    """Write to a flow that this epoch still owns; False when it does not."""
    owned = sa.update(FLOWS).where(FLOWS.c.id == flow_id, FLOWS.c.epoch == epoch, FLOWS.c.state == "running")
    return conn.execute(owned.values(**values)).rowcount > 0


def is_owned(conn: sa.Connection, flow_id: str, epoch: int, *, lock: bool) -> bool:
    """Whether this epoch owns the flow; with `lock` it will until this transaction ends."""
    owned = sa.and_(FLOWS.c.id == flow_id, FLOWS.c.epoch == epoch, FLOWS.c.state == "running")
    query = sa.select(FLOWS.c.id).where(owned)
    return conn.execute(query.with_for_update() if lock else query).first() is not None


def began_at(conn: sa.Connection, flow_id: str) -> dt.datetime | None:
    """When the first step of a flow was begun; None when none was."""
    first = sa.and_(STEPS.c.flow_id == flow_id, STEPS.c.number == 0)
    return conn.execute(sa.select(STEPS.c.started_at).where(first)).scalar_one_or_none()


def park(conn: sa.Connection, record: Record, wake_at: dt.datetime, reason: str, attempt: int) -> bool:
    """Let go of the flow until `wake_at`; at once when somebody woke or cancelled it since it was taken."""
    later = sa.case(
        (sa.and_(FLOWS.c.nudges == record.nudges, FLOWS.c.cancel.is_(record.cancel)), wake_at), else_=clock.utcnow()
    )
    return update_owned(
        conn, record.id, record.epoch, state="ready", worker_id=None, wake_at=later, waiting_for=reason, attempt=attempt
    )


def wake(conn: sa.Connection, resource_id: str) -> bool:
    """Whoever waits with this resource looks again; whether anybody does."""
    row = sa.and_(FLOWS.c.resource_id == resource_id, FLOWS.c.state.in_(("ready", "running")))
    return (
        conn.execute(sa.update(FLOWS).where(row).values(nudges=FLOWS.c.nudges + 1, wake_at=clock.utcnow())).rowcount > 0
    )


def cancel(conn: sa.Connection, resource_id: str, kinds: Sequence[str] | None) -> int:
    """Ask the unfinished flows of a resource to unwind; how many there are."""
    row = sa.and_(FLOWS.c.resource_id == resource_id, FLOWS.c.state.in_(("ready", "running")))
    if kinds is not None:
        row = sa.and_(row, FLOWS.c.kind.in_(kinds))
    return conn.execute(sa.update(FLOWS).where(row).values(cancel=True, wake_at=clock.utcnow())).rowcount


def unfinished(conn: sa.Connection, resource_id: str) -> list[str]:
    """Kinds of the flows of a resource that have not ended."""
    row = sa.and_(FLOWS.c.resource_id == resource_id, FLOWS.c.state.in_(("ready", "running")))
    return list(conn.execute(sa.select(FLOWS.c.kind).where(row)).scalars())


def record_step(
    conn: sa.Connection, flow_id: str, number: int, name: str, state: str, host: str, error: str | None
) -> None:
    now = clock.utcnow()
    row = sa.and_(STEPS.c.flow_id == flow_id, STEPS.c.number == number)
    if state == "started":
        again = sa.update(STEPS).where(row)
        if conn.execute(again.values(state=state, attempts=STEPS.c.attempts + 1, host=host, ended_at=None)).rowcount:
            return
        first = {"flow_id": flow_id, "number": number, "name": name, "state": state, "attempts": 1, "host": host}
        conn.execute(sa.insert(STEPS), {**first, "started_at": now})
        return
    values: dict[str, Any] = {"state": state, "ended_at": now}
    if error is not None:
        values["error"] = error
    conn.execute(sa.update(STEPS).where(row).values(**values))


def renew(conn: sa.Connection, worker_id: str, host: str, pid: int) -> None:
    """One row per worker, in the database's time."""
    expires = database_time(conn) + dt.timedelta(seconds=LEASE_SECONDS)
    if not conn.execute(sa.update(WORKERS).where(WORKERS.c.id == worker_id).values(expires_at=expires)).rowcount:
        conn.execute(sa.insert(WORKERS), {"id": worker_id, "host": host, "pid": pid, "expires_at": expires})


def soonest_expiry(conn: sa.Connection, but: str) -> float | None:
    """Seconds until the first of the other workers' leases would run out; None when there is none."""
    first = conn.execute(sa.select(sa.func.min(WORKERS.c.expires_at)).where(WORKERS.c.id != but)).scalar_one()
    return None if first is None else float((first - database_time(conn)).total_seconds())


def first_worker(conn: sa.Connection) -> str | None:
    """The one of all workers that live that does what one is enough for."""
    alive = sa.select(sa.func.min(WORKERS.c.id)).where(WORKERS.c.expires_at >= database_time(conn))
    found: str | None = conn.execute(alive).scalar_one()
    return found


def release_expired(conn: sa.Connection) -> int:
    """Free the flows of workers whose lease has run out."""
    now = database_time(conn)
    dead = list(conn.execute(sa.select(WORKERS.c.id).where(WORKERS.c.expires_at < now)).scalars())
    known = sa.select(WORKERS.c.id)
    freed = release_workers(conn, dead) if dead else 0
    orphan = sa.update(FLOWS).where(FLOWS.c.state == "running", FLOWS.c.worker_id.not_in(known))
    return freed + conn.execute(orphan.values(state="ready", worker_id=None, wake_at=clock.utcnow())).rowcount


def release_workers(conn: sa.Connection, worker_ids: Sequence[str]) -> int:
    free = sa.update(FLOWS).where(FLOWS.c.worker_id.in_(worker_ids), FLOWS.c.state == "running")
    count = conn.execute(free.values(state="ready", worker_id=None, wake_at=clock.utcnow())).rowcount
    conn.execute(sa.delete(WORKERS).where(WORKERS.c.id.in_(worker_ids)))
    return count


def release_all_but(conn: sa.Connection, worker_id: str, held: Sequence[str]) -> int:
    """Free what a worker has on record beside the flows that it holds; how many they were."""
    own = sa.and_(FLOWS.c.worker_id == worker_id, FLOWS.c.state == "running", FLOWS.c.id.not_in(held))
    return conn.execute(sa.update(FLOWS).where(own).values(state="ready", worker_id=None, wake_at=clock.utcnow())).rowcount


def workers_of(conn: sa.Connection, host: str) -> list[tuple[str, int]]:
    """(worker id, pid) of the workers of a host."""
    return [
        (row.id, row.pid) for row in conn.execute(sa.select(WORKERS.c.id, WORKERS.c.pid).where(WORKERS.c.host == host))
    ]


def forget_ended(conn: sa.Connection, before: dt.datetime, limit: int = 500) -> int:
    """Remove the records of flows that ended before a moment."""
    query = sa.select(FLOWS.c.id).where(FLOWS.c.state.in_(ENDED), FLOWS.c.finished_at < before).limit(limit)
    old = list(conn.execute(query).scalars())
    if old:
        conn.execute(sa.delete(STEPS).where(STEPS.c.flow_id.in_(old)))
        conn.execute(sa.delete(FLOWS).where(FLOWS.c.id.in_(old)))
    return len(old)


def timeline(conn: sa.Connection, resource_id: str) -> list[dict[str, Any]]:
    """All flows of a resource with their steps, oldest first: what `pileus why` prints."""
    query = (
        sa.select(FLOWS)
        .where(sa.or_(FLOWS.c.resource_id == resource_id, FLOWS.c.id == resource_id))
        .order_by(FLOWS.c.seq)
    )
    flows = [dict(row) for row in conn.execute(query).mappings()]
    steps = sa.select(STEPS).where(STEPS.c.flow_id.in_([flow["id"] for flow in flows])).order_by(STEPS.c.number)
    by_flow: dict[str, list[dict[str, Any]]] = {}
    for row in conn.execute(steps).mappings():
        by_flow.setdefault(row["flow_id"], []).append(dict(row))
    for flow in flows:
        flow["steps"] = by_flow.get(flow["id"], [])
    return flows
