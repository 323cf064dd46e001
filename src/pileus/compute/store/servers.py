"""SQL of servers: rows, lists with filters, metadata, tags, ports, and the compare-and-swap of their states."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from pileus.compute.store.tables import (
    PLUGGED_PORTS,
    SERVER_ADDRESSES,
    SERVER_GROUP_MEMBERS,
    SERVER_GROUPS,
    SERVER_METADATA,
    SERVER_PORTS,
    SERVER_TAGS,
    SERVERS,
)
from pileus.kernel import clock
from pileus.kernel.db import insert_ignore

Row = Mapping[str, Any]

_BULKY = {"key_data", "user_data", "image", "requested_networks", "placement", "admin_pass", "scheduler_hints"}
LIST_COLUMNS = tuple(c for c in SERVERS.c if c.name not in _BULKY)
BRIEF_COLUMNS = (SERVERS.c.id, SERVERS.c.name)


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What a list of servers is narrowed to; None, empty or absent = not narrowed. `equal` maps columns to values (a list = any of)."""

    project_id: str | None = None
    deleted: bool | None = False
    equal: Mapping[str, Any] = field(default_factory=dict)
    name_matches: str | None = None
    address_matches: Mapping[int, str] = field(default_factory=dict)
    changes_since: dt.datetime | None = None
    changes_before: dt.datetime | None = None
    vm_states: frozenset[str] | None = None
    task_states: frozenset[str] | None = None
    tags: tuple[str, ...] = ()
    tags_any: tuple[str, ...] = ()
    not_tags: tuple[str, ...] = ()
    not_tags_any: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


def insert(conn: sa.Connection, values: Mapping[str, Any]) -> None:
    conn.execute(SERVERS.insert().values(**values))


def get(conn: sa.Connection, server_id: str, *, for_update: bool = False) -> dict[str, Any] | None:
    """The whole row of a server, None when there is none or it is deleted."""
    query = sa.select(SERVERS).where(SERVERS.c.id == server_id, SERVERS.c.deleted.is_(False))
    row = conn.execute(query.with_for_update() if for_update else query).mappings().first()
    return dict(row) if row else None


def get_even_deleted(conn: sa.Connection, server_id: str) -> dict[str, Any] | None:
    row = conn.execute(sa.select(SERVERS).where(SERVERS.c.id == server_id)).mappings().first()
    return dict(row) if row else None


def update(conn: sa.Connection, server_id: str, **values: Any) -> bool:
    """Set columns of a server that is not deleted; False when it is gone."""
    values.setdefault("updated_at", clock.utcnow())
    where = (SERVERS.c.id == server_id, SERVERS.c.deleted.is_(False))
    return conn.execute(SERVERS.update().where(*where).values(**values)).rowcount == 1


def swap(conn: sa.Connection, server: Row, **values: Any) -> bool:
    """Set columns if the server still is in the vm_state and task_state of `server`; False when somebody was faster."""
    values.setdefault("updated_at", clock.utcnow())
    task = server["task_state"]
    result = conn.execute(
        SERVERS.update()
        .where(
            SERVERS.c.id == server["id"],
            SERVERS.c.deleted.is_(False),
            SERVERS.c.vm_state == server["vm_state"],
            SERVERS.c.task_state.is_(None) if task is None else SERVERS.c.task_state == task,
        )
        .values(**values)
    )
    return result.rowcount == 1


def swap_task(conn: sa.Connection, server_id: str, expected: Sequence[str | None], **values: Any) -> bool:
    """Set columns if the server's task is one of `expected`."""
    values.setdefault("updated_at", clock.utcnow())
    tasks = [SERVERS.c.task_state.is_(None)] if None in expected else []
    named = [t for t in expected if t is not None]
    if named:
        tasks.append(SERVERS.c.task_state.in_(named))
    result = conn.execute(
        SERVERS.update().where(SERVERS.c.id == server_id, SERVERS.c.deleted.is_(False), sa.or_(*tasks)).values(**values)
    )
    return result.rowcount == 1


_PLAIN = re.compile(r"[\w\s@:,/-]*\Z")


def matches(column: sa.ColumnElement[Any], pattern: str) -> sa.ColumnElement[bool]:
    """A regular expression search as upstream's database does it; what is no expression is looked for as it stands."""
    if _PLAIN.match(pattern):
        return column.contains(pattern, autoescape=True)
    try:
        re.compile(pattern)
    except (re.error, RecursionError):
        return column.contains(pattern, autoescape=True)
    return column.regexp_match(pattern)


def _with_tag(tag: str) -> sa.ColumnElement[bool]:
    return sa.exists().where(SERVER_TAGS.c.server_id == SERVERS.c.id, SERVER_TAGS.c.tag == tag)


def _task_condition(states: Iterable[str]) -> sa.ColumnElement[bool]:
    """`default` = no task, or one without a status of its own; then the vm_state decides alone."""
    named = [s for s in states if s != "default"]
    return SERVERS.c.task_state.in_(named)


def _equal(name: str, value: Any) -> sa.ColumnElement[bool]:
    column: sa.ColumnElement[Any] = SERVERS.c[name]
    if value is None:
        return column.is_(None)
    if isinstance(value, (list, tuple, set, frozenset)):
        return column.in_(list(value))
    same: sa.ColumnElement[bool] = column == value
    return same


def conditions(filters: Filters) -> list[sa.ColumnElement[bool]]:
    """The WHERE of a list."""
    where: list[sa.ColumnElement[bool]] = []
    if filters.deleted is not None:
        where.append(SERVERS.c.deleted.is_(filters.deleted))
    if filters.project_id is not None:
        where.append(SERVERS.c.project_id == filters.project_id)
    where += [_equal(name, value) for name, value in filters.equal.items()]
    if filters.name_matches:
        where.append(matches(SERVERS.c.name, filters.name_matches))
    for version, pattern in filters.address_matches.items():
        where.append(
            sa.exists().where(
                SERVER_ADDRESSES.c.server_id == SERVERS.c.id,
                SERVER_ADDRESSES.c.version == version,
                matches(SERVER_ADDRESSES.c.address, pattern),
            )
        )
    changed = sa.func.coalesce(SERVERS.c.updated_at, SERVERS.c.created_at)
    if filters.changes_since is not None:
        where.append(changed >= filters.changes_since)
    if filters.changes_before is not None:
        where.append(changed <= filters.changes_before)
    if filters.vm_states is not None:
        where.append(SERVERS.c.vm_state.in_(sorted(filters.vm_states)))
    if filters.task_states is not None and "default" not in filters.task_states:
        where.append(_task_condition(filters.task_states))
    where += [_with_tag(tag) for tag in filters.tags]
    if filters.tags_any:
        where.append(sa.or_(*(_with_tag(tag) for tag in filters.tags_any)))
    if filters.not_tags:
        where.append(sa.not_(sa.and_(*(_with_tag(tag) for tag in filters.not_tags))))
    where += [sa.not_(_with_tag(tag)) for tag in filters.not_tags_any]
    for key, value in filters.metadata.items():
        where.append(
            sa.exists().where(
                SERVER_METADATA.c.server_id == SERVERS.c.id,
                SERVER_METADATA.c.key == key,
                SERVER_METADATA.c.value == value,
            )
        )
    return where


def metadata_of(conn: sa.Connection, server_id: str) -> dict[str, str]:
    query = sa.select(SERVER_METADATA.c.key, SERVER_METADATA.c.value).where(SERVER_METADATA.c.server_id == server_id)
    return {key: value for key, value in conn.execute(query.order_by(SERVER_METADATA.c.key))}


def metadata_of_many(conn: sa.Connection, ids: Sequence[str]) -> dict[str, dict[str, str]]:
    """Server id -> its metadata, for those that have any."""
    found: dict[str, dict[str, str]] = {}
    if ids:
        for server_id, key, value in conn.execute(
            sa.select(SERVER_METADATA.c.server_id, SERVER_METADATA.c.key, SERVER_METADATA.c.value).where(
                SERVER_METADATA.c.server_id.in_(ids)
            )
        ):
            found.setdefault(server_id, {})[key] = value
    return found


def add_metadata(conn: sa.Connection, server_id: str, items: Mapping[str, str]) -> None:
    """Items that are not there yet."""
    if items:
        conn.execute(
            SERVER_METADATA.insert(), [{"server_id": server_id, "key": k, "value": v} for k, v in items.items()]
        )


def set_metadata(conn: sa.Connection, server_id: str, items: Mapping[str, str]) -> None:
    """Exactly these items."""
    conn.execute(SERVER_METADATA.delete().where(SERVER_METADATA.c.server_id == server_id))
    add_metadata(conn, server_id, items)


def tags_of(conn: sa.Connection, server_id: str) -> list[str]:
    query = sa.select(SERVER_TAGS.c.tag).where(SERVER_TAGS.c.server_id == server_id).order_by(SERVER_TAGS.c.tag)
    return list(conn.execute(query).scalars())


def tags_of_many(conn: sa.Connection, ids: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    if ids:
        query = sa.select(SERVER_TAGS.c.server_id, SERVER_TAGS.c.tag).where(SERVER_TAGS.c.server_id.in_(ids))
        for server_id, tag in conn.execute(query.order_by(SERVER_TAGS.c.tag)):
            found.setdefault(server_id, []).append(tag)
    return found


def add_tags(conn: sa.Connection, server_id: str, tags: Iterable[str]) -> None:
    insert_ignore(conn, SERVER_TAGS, [{"server_id": server_id, "tag": tag} for tag in tags])


def remove_tag(conn: sa.Connection, server_id: str, tag: str) -> bool:
    where = (SERVER_TAGS.c.server_id == server_id, SERVER_TAGS.c.tag == tag)
    return conn.execute(SERVER_TAGS.delete().where(*where)).rowcount > 0


def clear_tags(conn: sa.Connection, server_id: str) -> None:
    conn.execute(SERVER_TAGS.delete().where(SERVER_TAGS.c.server_id == server_id))


def group_of(conn: sa.Connection, server_id: str) -> dict[str, Any] | None:
    """The server group of a server."""
    query = (
        sa.select(SERVER_GROUPS)
        .join(SERVER_GROUP_MEMBERS, SERVER_GROUP_MEMBERS.c.group_uuid == SERVER_GROUPS.c.uuid)
        .where(SERVER_GROUP_MEMBERS.c.server_id == server_id)
    )
    row = conn.execute(query).mappings().first()
    return dict(row) if row else None


def ports_of(conn: sa.Connection, server_id: str) -> list[dict[str, Any]]:
    """The ports that compute plugs into a server, in the order of the guest's cards."""
    query = sa.select(SERVER_PORTS).where(SERVER_PORTS.c.server_id == server_id)
    return [dict(r) for r in conn.execute(query.order_by(SERVER_PORTS.c.position, SERVER_PORTS.c.port_id)).mappings()]


def add_port(
    conn: sa.Connection, server_id: str, port_id: str, *, mine: bool, position: int, tag: str | None = None
) -> None:
    """Remember a port of a server. Repeating it changes nothing."""
    insert_ignore(
        conn,
        SERVER_PORTS,
        [{"port_id": port_id, "server_id": server_id, "mine": mine, "tag": tag, "position": position}],
    )


def remove_port(conn: sa.Connection, port_id: str) -> None:
    conn.execute(SERVER_PORTS.delete().where(SERVER_PORTS.c.port_id == port_id))


def remove_ports(conn: sa.Connection, server_id: str) -> None:
    conn.execute(SERVER_PORTS.delete().where(SERVER_PORTS.c.server_id == server_id))


def set_plugged(conn: sa.Connection, server_id: str, port_id: str, *, plugged: bool) -> None:
    """Record whether a port is plugged."""
    if plugged:
        insert_ignore(conn, PLUGGED_PORTS, [{"server_id": server_id, "port_id": port_id}])
        return
    where = (PLUGGED_PORTS.c.server_id == server_id, PLUGGED_PORTS.c.port_id == port_id)
    conn.execute(PLUGGED_PORTS.delete().where(*where))


def plugged_ports(conn: sa.Connection, server_id: str) -> set[str]:
    query = sa.select(PLUGGED_PORTS.c.port_id).where(PLUGGED_PORTS.c.server_id == server_id)
    return set(conn.execute(query).scalars())


def forget_plugged(conn: sa.Connection, server_id: str) -> None:
    """The server goes to another host, where its ports will be plugged, or is deleted."""
    conn.execute(PLUGGED_PORTS.delete().where(PLUGGED_PORTS.c.server_id == server_id))


def set_network_info(conn: sa.Connection, server_id: str, info: list[dict[str, Any]]) -> None:
    """Store what the network service says about the server's ports, and its addresses for the filters."""
    conn.execute(SERVERS.update().where(SERVERS.c.id == server_id).values(network_info=info))
    conn.execute(SERVER_ADDRESSES.delete().where(SERVER_ADDRESSES.c.server_id == server_id))
    rows = {ip["address"]: ip["version"] for vif in info for ip in vif["ips"]}
    insert_ignore(
        conn,
        SERVER_ADDRESSES,
        [{"server_id": server_id, "address": a, "version": v} for a, v in rows.items()],
    )


def mark_deleted(conn: sa.Connection, server_id: str) -> bool:
    """The end of a server; its row stays for a while so that `changes-since` can tell."""
    now = clock.utcnow()
    conn.execute(SERVER_GROUP_MEMBERS.delete().where(SERVER_GROUP_MEMBERS.c.server_id == server_id))
    conn.execute(SERVER_ADDRESSES.delete().where(SERVER_ADDRESSES.c.server_id == server_id))
    remove_ports(conn, server_id)
    ended = update(
        conn,
        server_id,
        deleted=True,
        deleted_at=now,
        terminated_at=now,
        updated_at=now,
        vm_state="deleted",
        task_state=None,
        power_state=0,
        admin_pass=None,
        network_info=[],
    )
    forget_plugged(conn, server_id)  # with the server's row locked: no event about it can come in between
    return ended


def count_building(conn: sa.Connection) -> dict[str, int]:
    """Host -> servers on it that are in work."""
    query = (
        sa.select(SERVERS.c.host, sa.func.count())
        .where(SERVERS.c.deleted.is_(False), SERVERS.c.host.is_not(None), SERVERS.c.task_state.is_not(None))
        .group_by(SERVERS.c.host)
    )
    return {host: number for host, number in conn.execute(query)}
