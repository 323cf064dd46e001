"""Desired state of hosts, in versions.

A service names, in the transaction that changes something, which items of which hosts are concerned. A host pulls what
is newer than what it has; what an item says is rendered at that moment from the service's own tables. Gone items stay
as tombstones; a host that is too far behind, or knows a version that never was, gets everything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.kernel.db import Database, insert_ignore

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
    return _of_one(conn, host, kind, ids, gone=False)


def drop(conn: sa.Connection, host: str, kind: str, ids: Iterable[str]) -> int:
    """These items shall no longer be on the host; its new version."""
    return _of_one(conn, host, kind, ids, gone=True)


def _of_one(conn: sa.Connection, host: str, kind: str, ids: Iterable[str], *, gone: bool) -> int:
    wanted = dict.fromkeys(ids, gone)
    return record(conn, {(host, kind): wanted})[host] if wanted else version_of(conn, host)


def record(conn: sa.Connection, changed: Mapping[tuple[str, str], Mapping[str, bool]]) -> dict[str, int]:
    """Many items of many hosts: (host, kind) -> item -> whether it leaves. The new version of each host, which rises by one.

    The statements are as many for one host as for 500: what concerns everybody must not take a transaction of seconds.
    """
    versions: dict[str, int] = {}
    hosts = sorted({host for host, _ in changed})
    for start in range(0, len(hosts), 500):
        part = hosts[start : start + 500]
        new = _next_versions(conn, part)
        versions.update(new)
        _write_items(conn, new, {key: items for key, items in changed.items() if key[0] in new})
    return versions


def _write_items(conn: sa.Connection, new: Mapping[str, int], changed: Mapping[tuple[str, str], Mapping[str, bool]]) -> None:
    rows: list[dict[str, Any]] = [
        {"host": host, "kind": kind, "item_id": item_id, "version": new[host], "gone": gone}
        for (host, kind), items in changed.items()
        for item_id, gone in sorted(items.items())
    ]
    known: set[tuple[str, str, str]] = set()
    ids = sorted({row["item_id"] for row in rows})
    for start in range(0, len(ids), 500):
        query = sa.select(_items.c.host, _items.c.kind, _items.c.item_id).where(
            _items.c.host.in_(list(new)), _items.c.item_id.in_(ids[start : start + 500])
        )
        known.update((host, kind, item_id) for host, kind, item_id in conn.execute(query))
    there = [row for row in rows if (row["host"], row["kind"], row["item_id"]) in known]
    if there:
        conn.execute(_MOVE, [{f"the_{name}": value for name, value in row.items()} for row in there])
    added = [row for row in rows if not row["gone"] and (row["host"], row["kind"], row["item_id"]) not in known]
    if added:
        conn.execute(sa.insert(_items), added)


_MOVE = (
    sa.update(_items)
    .where(
        _items.c.host == sa.bindparam("the_host"),
        _items.c.kind == sa.bindparam("the_kind"),
        _items.c.item_id == sa.bindparam("the_item_id"),
    )
    .values(version=sa.bindparam("the_version"), gone=sa.bindparam("the_gone"))
)


def _next_versions(conn: sa.Connection, hosts: Sequence[str]) -> dict[str, int]:
    """A host's row is the lock, taken in the order of names: changes of one host are numbered in the order in which they commit."""
    query = sa.select(_hosts.c.host, _hosts.c.version).where(_hosts.c.host.in_(hosts)).order_by(_hosts.c.host).with_for_update()
    found = {host: version for host, version in conn.execute(query)}
    if len(found) < len(hosts):
        insert_ignore(conn, _hosts, [{"host": host, "version": 0, "floor": 0} for host in hosts if host not in found])
        found = {host: version for host, version in conn.execute(query)}
    conn.execute(sa.update(_hosts).where(_hosts.c.host.in_(hosts)).values(version=_hosts.c.version + 1))
    return {host: version + 1 for host, version in found.items()}


def hosts_of(conn: sa.Connection, kind: str, item_id: str) -> list[str]:
    """The hosts that shall have an item now."""
    query = sa.select(_items.c.host).where(_items.c.kind == kind, _items.c.item_id == item_id, _items.c.gone.is_(False))
    return list(conn.execute(query).scalars())


def hosts_far_ahead(conn: sa.Connection) -> list[str]:
    """Hosts that have come so far that tombstones of theirs may go."""
    return list(conn.execute(sa.select(_hosts.c.host).where(_hosts.c.version - _hosts.c.floor > 2 * KEEP_TOMBSTONES)).scalars())


def dropped(conn: sa.Connection, host: str, kind: str) -> list[str]:
    """What the host had to give up, as long as that is remembered: for one that may have slept through it."""
    query = sa.select(_items.c.item_id).where(_items.c.host == host, _items.c.kind == kind, _items.c.gone.is_(True))
    return list(conn.execute(query).scalars())


def version_of(conn: sa.Connection, host: str) -> int:
    return conn.execute(sa.select(_hosts.c.version).where(_hosts.c.host == host)).scalar_one_or_none() or 0


def newest_version(db: Database, host: str) -> int:
    """The same outside of a transaction, as it is asked for with every report of a host."""
    return db.peek(f"SELECT version FROM {_hosts.name} WHERE host = :host", host=host) or 0  # noqa: S608


def changes(conn: sa.Connection, host: str, since: int) -> Changes:
    """What the host has to do to get from version `since` to the newest."""
    row = conn.execute(sa.select(_hosts.c.version, _hosts.c.floor).where(_hosts.c.host == host)).one_or_none()
    version, floor = row or (0, 0)
    full = since <= 0 or since > version or since < floor
    if since == version and not full:
        return Changes(version, full, ())  # what most hosts hear most of the time
    query = sa.select(_items.c.kind, _items.c.item_id, _items.c.gone).where(_items.c.host == host)
    query = query.where(_items.c.gone.is_(False)) if full else query.where(_items.c.version > since)
    items = tuple(Change(kind, item_id, gone) for kind, item_id, gone in conn.execute(query))
    return Changes(version, full, items)


def forget_tombstones(conn: sa.Connection, host: str) -> None:
    """Remove tombstones that no host that is up to date needs."""
    floor = version_of(conn, host) - KEEP_TOMBSTONES
    if floor <= 0:
        return
    old = sa.and_(_items.c.host == host, _items.c.gone.is_(True), _items.c.version <= floor)
    conn.execute(sa.delete(_items).where(old))
    conn.execute(sa.update(_hosts).where(_hosts.c.host == host).values(floor=floor))


def forget_host(conn: sa.Connection, host: str) -> None:
    """A host that has left the cloud."""
    conn.execute(sa.delete(_items).where(_items.c.host == host))
    conn.execute(sa.delete(_hosts).where(_hosts.c.host == host))
