"""SQL of migrations: every way of a server from one host to another, and how it went."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from pileus.compute.store.tables import FLAVORS, MIGRATIONS, SERVERS
from pileus.kernel import clock

Row = dict[str, Any]

COLD, RESIZE, LIVE, EVACUATION = "migration", "resize", "live-migration", "evacuation"
IN_PROGRESS = ("queued", "preparing", "running", "post-migrating")
"""Statuses of a live migration that goes on."""
ENDED = ("completed", "confirmed", "reverted", "error", "failed", "cancelled", "done")
"""Statuses after which no flow works on a migration. `done` is an evacuation whose source host has not been back yet."""


def insert(conn: sa.Connection, values: Mapping[str, Any]) -> int:
    """Record a migration; its number."""
    now = clock.utcnow()
    key = conn.execute(MIGRATIONS.insert().values(created_at=now, updated_at=now, **values)).inserted_primary_key
    assert key is not None
    return int(key[0])


def get(conn: sa.Connection, number: int) -> Row | None:
    row = conn.execute(sa.select(MIGRATIONS).where(MIGRATIONS.c.id == number)).mappings().first()
    return dict(row) if row else None


def by_uuid(conn: sa.Connection, uuid: str) -> Row | None:
    row = conn.execute(sa.select(MIGRATIONS).where(MIGRATIONS.c.uuid == uuid)).mappings().first()
    return dict(row) if row else None


def update(conn: sa.Connection, number: int, **values: Any) -> None:
    conn.execute(MIGRATIONS.update().where(MIGRATIONS.c.id == number).values(updated_at=clock.utcnow(), **values))


def swap(conn: sa.Connection, number: int, old: Collection[str], new: str) -> bool:
    """Change the status if it is one of `old`; False when it is another."""
    where = (MIGRATIONS.c.id == number, MIGRATIONS.c.status.in_(list(old)))
    return conn.execute(MIGRATIONS.update().where(*where).values(status=new, updated_at=clock.utcnow())).rowcount == 1


def of_server(conn: sa.Connection, server_id: str, *where: sa.ColumnElement[bool]) -> list[Row]:
    """A server's migrations, the newest first."""
    query = sa.select(MIGRATIONS).where(MIGRATIONS.c.server_id == server_id, *where)
    return [dict(row) for row in conn.execute(query.order_by(MIGRATIONS.c.id.desc())).mappings()]


def unended(conn: sa.Connection, server_id: str) -> list[Row]:
    """Those of a server's migrations that are under way or wait for confirmation."""
    return of_server(conn, server_id, MIGRATIONS.c.status.not_in(ENDED))


def awaiting(conn: sa.Connection, server_id: str) -> Row | None:
    """The migration of a server that waits for confirmation."""
    found = of_server(conn, server_id, MIGRATIONS.c.status == "finished")
    return found[0] if found else None


def passed_through(conn: sa.Connection, host: str) -> list[str]:
    """The servers that were once on a host, or on their way to it, and are not there now."""
    touched = sa.or_(MIGRATIONS.c.source_compute == host, MIGRATIONS.c.dest_compute == host)
    here = sa.exists().where(
        SERVERS.c.id == MIGRATIONS.c.server_id, SERVERS.c.host == host, SERVERS.c.deleted.is_(False)
    )
    return list(conn.execute(sa.select(MIGRATIONS.c.server_id).where(touched, ~here).distinct()).scalars())


def under_way(conn: sa.Connection, host: str) -> bool:
    """Whether a migration from or to a host has not ended."""
    touched = sa.or_(MIGRATIONS.c.source_compute == host, MIGRATIONS.c.dest_compute == host)
    query = sa.select(MIGRATIONS.c.id).where(touched, MIGRATIONS.c.status.not_in(ENDED)).limit(1)
    return conn.execute(query).first() is not None


def left_behind(conn: sa.Connection, host: str) -> list[Row]:
    """Evacuations from a host that has not been back since."""
    query = sa.select(MIGRATIONS).where(MIGRATIONS.c.source_compute == host, MIGRATIONS.c.status == "done")
    return [dict(row) for row in conn.execute(query).mappings()]


def flavor_number(conn: sa.Connection, flavorid: str) -> int | None:
    """The number of a flavor in its table; None when it has been deleted."""
    return conn.execute(sa.select(FLAVORS.c.id).where(FLAVORS.c.flavorid == flavorid)).scalar_one_or_none()


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What a list of migrations is narrowed to. `equal` maps columns to values."""

    equal: Mapping[str, Any] = field(default_factory=dict)
    host: str | None = None
    since: dt.datetime | None = None
    before: dt.datetime | None = None


def listing(conn: sa.Connection, filters: Filters, *, marker: Row | None = None, limit: int | None = None) -> list[Row]:
    """Migrations, the newest first; one query."""
    columns = MIGRATIONS.c
    where = [columns[name] == value for name, value in filters.equal.items()]
    if filters.host is not None:
        where.append(sa.or_(columns.source_compute == filters.host, columns.dest_compute == filters.host))
    if filters.since is not None:
        where.append(columns.updated_at >= filters.since)
    if filters.before is not None:
        where.append(columns.updated_at <= filters.before)
    if marker is not None:
        older = sa.and_(columns.created_at == marker["created_at"], columns.id < marker["id"])
        where.append(sa.or_(columns.created_at < marker["created_at"], older))
    query = sa.select(MIGRATIONS).where(*where).order_by(columns.created_at.desc(), columns.id.desc()).limit(limit)
    return [dict(row) for row in conn.execute(query).mappings()]
