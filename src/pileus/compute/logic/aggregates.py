"""Aggregates: named sets of hosts with metadata; one with an availability_zone is a zone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from pileus.compute.errors import AggregateNotFound, BadRequest, HostNotFound
from pileus.compute.store import hosts as store
from pileus.compute.store.hosts import Aggregate
from pileus.compute.store.tables import AGGREGATE_HOSTS, AGGREGATE_METADATA, AGGREGATES, SERVERS
from pileus.kernel import clock, ids
from pileus.kernel.db import is_unique_violation
from pileus.kernel.errors import Conflict, NotFound
from pileus.kernel.service import Service

ZONE = "availability_zone"


def get_aggregate(conn: sa.Connection, aggregate_id: int) -> Aggregate:
    found = store.aggregates(conn, AGGREGATES.c.id == aggregate_id)
    if not found:
        raise AggregateNotFound(aggregate_id)
    return found[0]


def list_aggregates(service: Service) -> list[Aggregate]:
    with service.db.read() as conn:
        return store.aggregates(conn)


def create_aggregate(service: Service, name: str, zone: str | None) -> Aggregate:
    """Raises `Conflict` for a taken name."""
    row = {"uuid": ids.new_uuid(), "name": name, "created_at": clock.utcnow()}
    try:
        with service.db.write() as conn:
            key = conn.execute(AGGREGATES.insert().values(**row)).inserted_primary_key
            assert key is not None
            if zone is not None:
                store.set_aggregate_metadata(conn, key[0], {ZONE: zone})
            return get_aggregate(conn, key[0])
    except sa.exc.IntegrityError as error:
        if not is_unique_violation(error):
            raise
        raise Conflict(f"Aggregate {name} already exists.") from None


def update_aggregate(service: Service, aggregate_id: int, changes: Mapping[str, Any]) -> Aggregate:
    """Change name or zone. Raises `Conflict` for a taken name or a zone that its hosts cannot have."""
    try:
        with service.db.write() as conn:
            aggregate = get_aggregate(conn, aggregate_id)
            if ZONE in changes:
                _check_zone(conn, aggregate, changes[ZONE], aggregate.hosts)
                store.set_aggregate_metadata(conn, aggregate_id, {ZONE: changes[ZONE]})
            values = {"updated_at": clock.utcnow()} | ({"name": changes["name"]} if "name" in changes else {})
            conn.execute(AGGREGATES.update().where(AGGREGATES.c.id == aggregate_id).values(**values))
            return get_aggregate(conn, aggregate_id)
    except sa.exc.IntegrityError as error:
        if not is_unique_violation(error):
            raise
        raise Conflict(f"Aggregate {changes.get('name')} already exists.") from None


def delete_aggregate(service: Service, aggregate_id: int) -> None:
    """Raises `BadRequest` while hosts are in it."""
    with service.db.write() as conn:
        aggregate = get_aggregate(conn, aggregate_id)
        if aggregate.hosts:
            raise BadRequest(f"Cannot remove host from aggregate {aggregate_id}. Reason: Host aggregate is not empty.")
        conn.execute(AGGREGATES.delete().where(AGGREGATES.c.id == aggregate_id))


def set_metadata(service: Service, aggregate_id: int, changes: Mapping[str, str | None]) -> Aggregate:
    """Add, replace and (with None) remove metadata."""
    with service.db.write() as conn:
        aggregate = get_aggregate(conn, aggregate_id)
        if ZONE in changes:
            _check_zone(conn, aggregate, changes[ZONE], aggregate.hosts)
        store.set_aggregate_metadata(conn, aggregate_id, changes)
        conn.execute(AGGREGATES.update().where(AGGREGATES.c.id == aggregate_id).values(updated_at=clock.utcnow()))
        return get_aggregate(conn, aggregate_id)


def add_host(service: Service, aggregate_id: int, host: str) -> Aggregate:
    """Raises `HostNotFound`, `Conflict` when it is in already or would be in two zones."""
    with service.db.write() as conn:
        aggregate = get_aggregate(conn, aggregate_id)
        if store.compute_service(conn, host) is None:
            raise HostNotFound(host)
        if host in aggregate.hosts:
            raise Conflict(f"Aggregate {aggregate_id} already has host {host}.")
        _check_zone(conn, aggregate, aggregate.zone, [host])
        conn.execute(AGGREGATE_HOSTS.insert().values(aggregate_id=aggregate_id, host=host))
        conn.execute(AGGREGATES.update().where(AGGREGATES.c.id == aggregate_id).values(updated_at=clock.utcnow()))
        return get_aggregate(conn, aggregate_id)


def remove_host(service: Service, aggregate_id: int, host: str) -> Aggregate:
    """Raises `NotFound` for a host that is not in it, `Conflict` when its servers are in its zone."""
    with service.db.write() as conn:
        aggregate = get_aggregate(conn, aggregate_id)
        if host not in aggregate.hosts:
            raise NotFound(f"Aggregate {aggregate_id} has no host {host}.")
        if aggregate.zone is not None:
            _check_no_servers(conn, aggregate, [host])
        where = (AGGREGATE_HOSTS.c.aggregate_id == aggregate_id, AGGREGATE_HOSTS.c.host == host)
        conn.execute(AGGREGATE_HOSTS.delete().where(*where))
        conn.execute(AGGREGATES.update().where(AGGREGATES.c.id == aggregate_id).values(updated_at=clock.utcnow()))
        return get_aggregate(conn, aggregate_id)


def _check_zone(conn: sa.Connection, aggregate: Aggregate, zone: str | None, hosts: list[str]) -> None:
    """A host is in one zone at most, and servers do not change theirs."""
    if zone is None or not hosts:
        return
    if zone != aggregate.zone or hosts != aggregate.hosts:
        query = (
            sa.select(AGGREGATE_HOSTS.c.host)
            .join(AGGREGATE_METADATA, AGGREGATE_METADATA.c.aggregate_id == AGGREGATE_HOSTS.c.aggregate_id)
            .where(
                AGGREGATE_HOSTS.c.host.in_(hosts),
                AGGREGATE_HOSTS.c.aggregate_id != aggregate.id,
                AGGREGATE_METADATA.c.key == ZONE,
                AGGREGATE_METADATA.c.value != zone,
            )
        )
        if (other := conn.execute(query).scalar()) is not None:
            raise Conflict(
                f"Cannot perform action on aggregate {aggregate.id}. Reason: host {other} is in another zone."
            )
        in_zone = store.zones_by_host(conn)
        moving = [host for host in hosts if in_zone.get(host) != zone]
        _check_no_servers(conn, aggregate, moving)


def _check_no_servers(conn: sa.Connection, aggregate: Aggregate, hosts: list[str]) -> None:
    query = sa.select(sa.func.count()).where(SERVERS.c.host.in_(hosts), SERVERS.c.deleted.is_(False))
    if hosts and conn.execute(query).scalar():
        raise Conflict(
            f"Cannot perform action on aggregate {aggregate.id}. Reason: One or more hosts contain instances in this zone."
        )
