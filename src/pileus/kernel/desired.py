"""Desired state of hosts, in versions.

A service names, in the transaction that changes something, which items of which hosts are concerned. A host pulls what
is newer than what it has; what an item says is rendered at that moment from the service's own tables. Gone items stay
as tombstones; a host that is too far behind, or knows a version that never was, gets everything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import sqlalchemy as sa

from pileus.kernel.db import insert_ignore

KEEP_TOMBSTONES = 10_000
"""Versions behind the newest for which tombstones are kept."""


def tables(metadata: sa.MetaData) -> None:
    """Add desired_hosts and desired_items to a room's metadata."""
    sa.Table(
        "desired_hosts",
        metadata,
        sa.Column("host", sa.String(255), primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("floor", sa.BigInteger, nullable=False),
    )
    sa.Table(
        "desired_items",
        metadata,
        sa.Column("host", sa.String(255), primary_key=True),
        sa.Column("kind", sa.String(32), primary_key=True),
        sa.Column("item_id", sa.String(64), primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("gone", sa.Boolean, nullable=False),
        sa.Index(None, "host", "version"),
        sa.Index(None, "kind", "item_id"),
    )


_metadata = sa.MetaData()
tables(_metadata)
_hosts = _metadata.tables["desired_hosts"]
_items = _metadata.tables["desired_items"]


@dataclasses.dataclass(frozen=True)
class Change:
    kind: str
    item_id: str
    gone: bool


@dataclasses.dataclass(frozen=True)
class Changes:
    """What changed for a host since a version; all that it shall have when `full`."""

    version: int
    full: bool
    items: tuple[Change, ...]

    def ids(self, kind: str, *, gone: bool = False) -> list[str]:
        return [item.item_id for item in self.items if item.kind == kind and item.gone == gone]


def touch(conn: sa.Connection, host: str, kind: str, ids: Iterable[str]) -> int:
    """These items of the host are new or changed; its new version."""
    return _record(conn, host, kind, ids, gone=False)


def drop(conn: sa.Connection, host: str, kind: str, ids: Iterable[str]) -> int:
    """These items shall no longer be on the host; its new version."""
    return _record(conn, host, kind, ids, gone=True)


def hosts_of(conn: sa.Connection, kind: str, item_id: str) -> list[str]:
    """The hosts that shall have an item now."""
    query = sa.select(_items.c.host).where(_items.c.kind == kind, _items.c.item_id == item_id, _items.c.gone.is_(False))
    return list(conn.execute(query).scalars())


def dropped(conn: sa.Connection, host: str, kind: str) -> list[str]:
    """What the host had to give up, as long as that is remembered: for one that may have slept through it."""
    query = sa.select(_items.c.item_id).where(_items.c.host == host, _items.c.kind == kind, _items.c.gone.is_(True))
    return list(conn.execute(query).scalars())


def hosts(conn: sa.Connection) -> list[str]:
    """All hosts that were ever told something and have not left."""
    return list(conn.execute(sa.select(_hosts.c.host)).scalars())


def version_of(conn: sa.Connection, host: str) -> int:
    return conn.execute(sa.select(_hosts.c.version).where(_hosts.c.host == host)).scalar_one_or_none() or 0


def changes(conn: sa.Connection, host: str, since: int) -> Changes:
    """What the host has to do to get from version `since` to the newest."""
    row = conn.execute(sa.select(_hosts.c.version, _hosts.c.floor).where(_hosts.c.host == host)).one_or_none()
    version, floor = row or (0, 0)
    full = since <= 0 or since > version or since < floor
    query = sa.select(_items.c.kind, _items.c.item_id, _items.c.gone).where(_items.c.host == host)
    query = query.where(_items.c.gone.is_(False)) if full else query.where(_items.c.version > since)
    items = tuple(Change(kind, item_id, gone) for kind, item_id, gone in conn.execute(query))
    return Changes(version, full, items)


def _record(conn: sa.Connection, host: str, kind: str, ids: Iterable[str], *, gone: bool) -> int:
    wanted = sorted(set(ids))
    if not wanted:
        return version_of(conn, host)
    version = _next_version(conn, host)
    mine = sa.and_(_items.c.host == host, _items.c.kind == kind)
    for start in range(0, len(wanted), 500):
        part = wanted[start : start + 500]
        known = set(conn.execute(sa.select(_items.c.item_id).where(mine, _items.c.item_id.in_(part))).scalars())
        if known:
            row = sa.and_(mine, _items.c.item_id.in_(known))
            conn.execute(sa.update(_items).where(row).values(version=version, gone=gone))
        new = [item_id for item_id in part if item_id not in known]
        if new and not gone:
            rows = [
                {"host": host, "kind": kind, "item_id": item_id, "version": version, "gone": False} for item_id in new
            ]
            conn.execute(sa.insert(_items), rows)
    return version


def _next_version(conn: sa.Connection, host: str) -> int:
    """The host's row is the lock: changes of one host are numbered in the order in which they commit."""
    bump = sa.update(_hosts).where(_hosts.c.host == host).values(version=_hosts.c.version + 1)
    if not conn.execute(bump).rowcount:
        insert_ignore(conn, _hosts, [{"host": host, "version": 0, "floor": 0}])
        conn.execute(bump)
    return version_of(conn, host)


def forget_tombstones(conn: sa.Connection, host: str) -> None:
    """Remove tombstones that no host that is up to date needs."""
    floor = version_of(conn, host) - KEEP_TOMBSTONES
    if floor <= 0:
        return
    old = sa.and_(_items.c.host == host, _items.c.gone.is_(True), _items.c.version <= floor)
    if conn.execute(sa.delete(_items).where(old)).rowcount:
        conn.execute(sa.update(_hosts).where(_hosts.c.host == host).values(floor=floor))


def forget_host(conn: sa.Connection, host: str) -> None:
    """A host that has left the cloud."""
    conn.execute(sa.delete(_items).where(_items.c.host == host))
    conn.execute(sa.delete(_hosts).where(_hosts.c.host == host))
