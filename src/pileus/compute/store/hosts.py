"""SQL of hosts: their services, compute nodes, aggregates and zones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from pileus.compute.store.tables import (
    AGGREGATE_HOSTS,
    AGGREGATE_METADATA,
    AGGREGATES,
    COMPUTE_NODES,
    SERVERS,
    SERVICES,
)

Row = dict[str, Any]
COMPUTE = "nova-compute"


def services(conn: sa.Connection, *where: sa.ColumnElement[bool]) -> list[Row]:
    query = sa.select(SERVICES).where(*where).order_by(SERVICES.c.id)
    return [dict(row) for row in conn.execute(query).mappings()]


def compute_service(conn: sa.Connection, host: str, binary: str = COMPUTE) -> Row | None:
    found = services(conn, SERVICES.c.host == host, SERVICES.c.binary == binary)
    return found[0] if found else None


def nodes(conn: sa.Connection, *where: sa.ColumnElement[bool]) -> list[Row]:
    query = sa.select(COMPUTE_NODES).where(*where).order_by(COMPUTE_NODES.c.id)
    return [dict(row) for row in conn.execute(query).mappings()]


def fewer_than(conn: sa.Connection, number: int) -> bool:
    """Whether there are fewer compute nodes, without counting thousands."""
    return len(conn.execute(sa.select(COMPUTE_NODES.c.id).limit(number)).all()) < number


def node_of(conn: sa.Connection, host: str) -> Row | None:
    found = nodes(conn, COMPUTE_NODES.c.host == host)
    return found[0] if found else None


@dataclass(frozen=True)
class Usage:
    """What the servers of a host use by their flavors."""

    servers: int = 0
    vcpus: int = 0
    memory_mb: int = 0
    disk_gb: int = 0
    in_work: int = 0


def usage(conn: sa.Connection, hosts: Sequence[str] | None = None) -> dict[str, Usage]:
    """Host -> usage, for those that have servers; of all hosts when none are named."""
    columns = SERVERS.c
    query = (
        sa.select(
            columns.host,
            sa.func.count(),
            sa.func.sum(columns.vcpus),
            sa.func.sum(columns.memory_mb),
            sa.func.sum(columns.disk_gb),
            sa.func.sum(sa.case((columns.task_state.is_not(None), 1), else_=0)),
        )
        .where(columns.deleted.is_(False), columns.host.is_not(None))
        .group_by(columns.host)
    )
    if hosts is not None:
        query = query.where(columns.host.in_(hosts))
    return {row[0]: Usage(*(int(number) for number in row[1:])) for row in conn.execute(query)}


@dataclass(frozen=True)
class Aggregate:
    """An aggregate with its hosts and metadata."""

    id: int
    uuid: str
    name: str
    created_at: Any
    updated_at: Any
    hosts: list[str] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def zone(self) -> str | None:
        return self.metadata.get("availability_zone")


def aggregates(conn: sa.Connection, *where: sa.ColumnElement[bool]) -> list[Aggregate]:
    """Aggregates in the order of their ids; three queries."""
    found = {
        row["id"]: Aggregate(**row)
        for row in conn.execute(sa.select(AGGREGATES).where(*where).order_by(AGGREGATES.c.id)).mappings()
    }
    if not found:
        return []
    hosts = sa.select(AGGREGATE_HOSTS).where(AGGREGATE_HOSTS.c.aggregate_id.in_(list(found)))
    for aggregate_id, host in conn.execute(hosts.order_by(AGGREGATE_HOSTS.c.host)):
        found[aggregate_id].hosts.append(host)
    metadata = sa.select(AGGREGATE_METADATA).where(AGGREGATE_METADATA.c.aggregate_id.in_(list(found)))
    for aggregate_id, key, value in conn.execute(metadata):
        found[aggregate_id].metadata[key] = value
    return list(found.values())


def zones_by_host(conn: sa.Connection) -> dict[str, str]:
    """Host -> zone, for hosts in an aggregate that is one."""
    query = (
        sa.select(AGGREGATE_HOSTS.c.host, AGGREGATE_METADATA.c.value)
        .join(AGGREGATE_METADATA, AGGREGATE_METADATA.c.aggregate_id == AGGREGATE_HOSTS.c.aggregate_id)
        .where(AGGREGATE_METADATA.c.key == "availability_zone")
    )
    return {host: zone for host, zone in conn.execute(query)}


def set_aggregate_metadata(conn: sa.Connection, aggregate_id: int, changes: Mapping[str, str | None]) -> None:
    """Add, replace and (with None) remove metadata."""
    where = (AGGREGATE_METADATA.c.aggregate_id == aggregate_id, AGGREGATE_METADATA.c.key.in_(list(changes)))
    conn.execute(AGGREGATE_METADATA.delete().where(*where))
    rows = [{"aggregate_id": aggregate_id, "key": k, "value": v} for k, v in changes.items() if v is not None]
    if rows:
        conn.execute(AGGREGATE_METADATA.insert(), rows)


def servers_on(conn: sa.Connection, hosts: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
    """Host -> (id, name) of its servers."""
    columns = SERVERS.c
    query = sa.select(columns.host, columns.id, columns.name).where(
        columns.host.in_(list(hosts)), columns.deleted.is_(False)
    )
    found: dict[str, list[tuple[str, str]]] = {}
    for host, server_id, name in conn.execute(query.order_by(columns.created_at, columns.id)):
        found.setdefault(host, []).append((server_id, name))
    return found
