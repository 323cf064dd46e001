"""Changing compute's services: enabling, disabling, forgetting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from pileus.compute.errors import HostBinaryNotFound, HostNotFound, ServiceNotFound
from pileus.compute.logic import placement
from pileus.compute.store import hosts as store
from pileus.compute.store import moves
from pileus.compute.store.tables import AGGREGATE_HOSTS, COMPUTE_NODES, SERVERS, SERVICES
from pileus.kernel import clock, desired
from pileus.kernel.context import service_context
from pileus.kernel.errors import Conflict
from pileus.kernel.service import Service

Row = dict[str, Any]


def _by_id(conn: sa.Connection, service_id: str) -> Row:
    where = SERVICES.c.id == int(service_id) if service_id.isdigit() else SERVICES.c.uuid == service_id
    found = store.services(conn, where)
    if not found:
        raise ServiceNotFound(service_id)
    return found[0]


def change_service(service: Service, service_id: str, changes: Mapping[str, Any]) -> Row:
    """Set columns of a service; its row then. Raises `ServiceNotFound`."""
    with service.db.write() as conn:
        row = _by_id(conn, service_id)
        values = {**changes, "updated_at": clock.utcnow()}
        conn.execute(SERVICES.update().where(SERVICES.c.id == row["id"]).values(**values))
    return {**row, **values}


def change_by_name(service: Service, host: str, binary: str, changes: Mapping[str, Any]) -> None:
    with service.db.write() as conn:
        row = store.compute_service(conn, host, binary)
        if row is None:
            raise HostBinaryNotFound(host, binary)
        conn.execute(SERVICES.update().where(SERVICES.c.id == row["id"]).values(**changes, updated_at=clock.utcnow()))


def delete_service(service: Service, service_id: str) -> None:
    """Forget a service. Of a host that has servers it raises `Conflict`; an empty host is forgotten in placement too."""
    with service.db.read() as conn:
        row = _by_id(conn, service_id)
        node = store.node_of(conn, row["host"]) if row["binary"] == store.COMPUTE else None
        if node is not None:
            _check_empty(conn, row["host"])
            _check_moves(conn, row["host"])
        leaving = moves.left_behind(conn, row["host"])
    if node is not None:
        for move in leaving:
            placement.release(service, service_context("compute"), move["uuid"])
        placement.remove_provider(service, service_context("compute"), node["uuid"])
    with service.db.write() as conn:
        if node is not None:
            _check_empty(conn, row["host"])
            conn.execute(COMPUTE_NODES.delete().where(COMPUTE_NODES.c.host == row["host"]))
            conn.execute(AGGREGATE_HOSTS.delete().where(AGGREGATE_HOSTS.c.host == row["host"]))
            desired.forget_host(conn, row["host"])
        conn.execute(SERVICES.delete().where(SERVICES.c.id == row["id"]))


def _check_empty(conn: sa.Connection, host: str) -> None:
    query = sa.select(sa.func.count()).where(SERVERS.c.host == host, SERVERS.c.deleted.is_(False))
    if conn.execute(query).scalar():
        raise Conflict(
            "Unable to delete compute service that is hosting instances. Migrate or delete the instances first."
        )


def _check_moves(conn: sa.Connection, host: str) -> None:
    if moves.under_way(conn, host):
        raise Conflict(
            "Unable to delete compute service that has in-progress migrations. Complete the migrations or delete the "
            "instances first."
        )


def host_report(service: Service, host: str) -> list[Row]:
    """What a host has, uses in all, and is used by each project."""
    with service.db.read() as conn:
        node = store.node_of(conn, host)
        if node is None:
            raise HostNotFound(host)
        columns = SERVERS.c
        query = (
            sa.select(
                columns.project_id,
                sa.func.sum(columns.vcpus),
                sa.func.sum(columns.memory_mb),
                sa.func.sum(columns.disk_gb),
            )
            .where(columns.host == host, columns.deleted.is_(False))
            .group_by(columns.project_id)
        )
        by_project = [(row[0], int(row[1]), int(row[2]), int(row[3])) for row in conn.execute(query)]
    used = tuple(sum(row[place] for row in by_project) for place in (1, 2, 3))
    entries = [
        ("(total)", node["vcpus"], node["memory_mb"], node["local_gb"]),
        ("(used_now)", used[0], used[1] + service.options.reserved_host_memory_mb, used[2]),
        ("(used_max)", *used),
        *by_project,
    ]
    return [
        {"resource": {"host": host, "project": name, "cpu": cpu, "memory_mb": memory, "disk_gb": disk}}
        for name, cpu, memory, disk in entries
    ]
