"""One change of the network: a write transaction, the items of the hosts that it concerns, and the nudges after its commit.

Inside, commands note what is concerned (`touch`, `drop`) as often as they like; it is written once per host and kind, hosts in one order everywhere.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from pileus.kernel import clock, desired, quota
from pileus.kernel.bus import Bus
from pileus.kernel.bus.later import Later
from pileus.kernel.db import insert_ignore
from pileus.kernel.service import Service
from pileus.network import errors
from pileus.network.store import tables as t

_ITEMS = t.METADATA.tables["desired_items"]


@dataclasses.dataclass
class Change:
    """An open write transaction and what it has concerned so far. `versions`: each host's new version, once settled."""

    service: Service
    conn: sa.Connection
    versions: dict[str, int] = dataclasses.field(default_factory=dict)
    events: bool = False
    _urgent: set[str] = dataclasses.field(default_factory=set)
    _items: dict[tuple[str, str], dict[str, bool]] = dataclasses.field(default_factory=dict)

    def touch(self, host: str, kind: str, ids: Iterable[str], *, soon: bool = False) -> None:
        """These items are new or different on the host. `soon`: nobody waits for this host to have heard of it."""
        if host:
            self._items.setdefault((host, kind), {}).update(dict.fromkeys(ids, False))
            if not soon:
                self._urgent.add(host)

    def drop(self, host: str, kind: str, ids: Iterable[str]) -> None:
        """These items shall leave the host."""
        if host:
            self._items.setdefault((host, kind), {}).update(dict.fromkeys(ids, True))
            self._urgent.add(host)

    def has(self, host: str, kind: str, ids: Iterable[str]) -> set[str]:
        """Which of the items the host has already, or gets with this change."""
        wanted = set(ids)
        if not wanted:
            return set()
        query = sa.select(_ITEMS.c.item_id).where(
            _ITEMS.c.host == host, _ITEMS.c.kind == kind, _ITEMS.c.item_id.in_(wanted), _ITEMS.c.gone.is_(False)
        )
        noted = self._items.get((host, kind), {})
        found = {id for id in self.conn.execute(query).scalars() if not noted.get(id)}
        return found | {id for id, gone in noted.items() if not gone and id in wanted}

    def hosts_with(self, kind: str, ids: Iterable[str]) -> dict[str, set[str]]:
        """The hosts that have any of the items, with those they have; what leaves a host with this change is not there."""
        wanted = list(set(ids))
        if not wanted:
            return {}
        query = sa.select(_ITEMS.c.host, _ITEMS.c.item_id).where(
            _ITEMS.c.kind == kind, _ITEMS.c.item_id.in_(wanted), _ITEMS.c.gone.is_(False)
        )
        found: dict[str, set[str]] = {}
        for host, id in self.conn.execute(query):
            if not self._items.get((host, kind), {}).get(id):
                found.setdefault(host, set()).add(id)
        return found

    def settle(self) -> None:
        """Write what was noted; afterwards `versions` is known. Happens by itself at the end."""
        self.versions |= desired.record(self.conn, {key: items for key, items in self._items.items() if items})
        self._items.clear()

    def nudge(self) -> None:
        """Tell the hosts: those that somebody waits for at once, the others one after another."""
        later = {}
        for host, version in self.versions.items():
            if host in self._urgent:
                self.service.bus.cast(f"agent.{host}", "network.nudge", {"version": version})
            else:
                later[host] = version
        if later:
            _later(self.service).nudge(later)

    def tell_compute(self, name: str, server: str, port: str | None, status: str = "completed") -> None:
        """Note an event for compute; a loop delivers it after the commit."""
        row = {"name": name, "server_uuid": server, "tag": port, "status": status, "created_at": clock.utcnow()}
        self.conn.execute(sa.insert(t.port_events), row)
        self.events = True


_laters: weakref.WeakKeyDictionary[Bus, Later] = weakref.WeakKeyDictionary()


def _later(service: Service) -> Later:
    """One for each bus of this process: it knows what others have to tell the same hosts."""
    return _laters.setdefault(service.bus, Later(service.bus, "network.nudge"))


@contextlib.contextmanager
def changing(service: Service) -> Iterator[Change]:
    """A write transaction whose effects reach the hosts: they are nudged after the commit, and pull."""
    with service.db.write() as conn:
        change = Change(service, conn)
        yield change
        change.settle()
    change.nudge()
    if change.events:
        service.loops.nudge("port_events")


# -- what all commands do with rows ----------------------------------------------------------------------------------


def standard() -> dict[str, Any]:
    """The standard columns of something new."""
    now = clock.utcnow().replace(microsecond=0)
    return {"revision_number": 1, "created_at": now, "updated_at": now}


def fetch(
    conn: sa.Connection, table: sa.Table, id: str, missing: type[errors.Missing], *, lock: bool = False, share: bool = False
) -> Any:
    """The row; with `lock` nobody else changes or uses it until the end, with `share` nobody changes it. Raises `missing`.

    SQLite needs no such locks: its writers are alone.
    """
    row = conn.execute(_by_id(table, lock, share), {"wanted": id}).first()
    if row is None:
        raise missing(id)
    return row


@functools.cache
def _by_id(table: sa.Table, lock: bool, share: bool) -> sa.Select[Any]:
    """Made once for each table: making a statement costs as much as running it."""
    query = sa.select(table).where(table.c.id == sa.bindparam("wanted"))
    return query.with_for_update(read=not lock) if lock or share else query


def check_revision(row: Any, revision: int | None) -> None:
    """Raise RevisionNumberConstraintFailed unless the row has the revision the caller asks for."""
    if revision is not None and row.revision_number != revision:
        raise errors.RevisionNumberConstraintFailed(
            f"Constrained to revision {revision}, but the resource has revision {row.revision_number}."
        )


def update(conn: sa.Connection, table: sa.Table, id: str, values: Mapping[str, Any]) -> None:
    """Write columns of a resource; its revision grows, its time of update is now."""
    now = clock.utcnow().replace(microsecond=0)
    statement = sa.update(table).where(table.c.id == id)
    conn.execute(statement.values(**values, revision_number=table.c.revision_number + 1, updated_at=now))


def forget_tags(conn: sa.Connection, ids: Iterable[str]) -> None:
    """Remove the tags of resources that go."""
    conn.execute(sa.delete(t.tags).where(t.tags.c.resource_id.in_(list(ids))))


# -- quota -----------------------------------------------------------------------------------------------------------

RESOURCES = ("network", "subnet", "subnetpool", "port", "router", "floatingip", "security_group", "security_group_rule", "rbac_policy")


def defaults(service: Service) -> dict[str, int]:
    """The limits of a project that has none of its own."""
    return {name: getattr(service.options, f"quota_{name}") for name in RESOURCES}


def reserve(change: Change, project_id: str, resource: str, amount: int = 1) -> None:
    """Count on the project's usage. Raises OverQuota."""
    if not project_id:
        return
    try:
        quota.reserve(change.conn, project_id, {resource: amount}, defaults(change.service))
    except quota.Exceeded as error:
        raise errors.OverQuota(f"Quota exceeded for resources: ['{error.resource}'].") from None


def release(change: Change, project_id: str, resource: str, amount: int = 1) -> None:
    """Count down."""
    if project_id and amount:
        quota.reserve(change.conn, project_id, {resource: -amount}, {})


def count(change: Change, project_id: str, resource: str, amount: int = 1) -> None:
    """Count what the service itself makes for a project: never refused."""
    if not project_id:
        return
    table = t.METADATA.tables["quota_usages"]
    row = sa.and_(table.c.project_id == project_id, table.c.resource == resource)
    bump = sa.update(table).where(row).values(used=table.c.used + amount)
    if not change.conn.execute(bump).rowcount:
        insert_ignore(change.conn, table, [{"project_id": project_id, "resource": resource, "used": 0}])
        change.conn.execute(bump)
