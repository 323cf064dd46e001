"""Nothing is kept for servers that do not exist: allocations, ports, orders to hosts, old rows."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa

from pileus.compute.logic import hosts, networks, placement
from pileus.compute.store import hosts as host_store
from pileus.compute.store import moves
from pileus.compute.store.tables import ACTIONS, METADATA, MIGRATIONS, SERVER_PORTS, SERVERS
from pileus.kernel import clock, desired
from pileus.kernel.context import Context, service_context
from pileus.kernel.service import Service

_BATCH = 500
_BUILT_SINCE = dt.timedelta(hours=2)
"""Longer than a build may last: no worker asks for ports of an older server."""


def _gone(service: Service, ids: list[str]) -> list[str]:
    """Those of the ids that are servers of ours and deleted. Ids that we never had are not ours to judge."""
    found: list[str] = []
    with service.db.read() as conn:
        for start in range(0, len(ids), _BATCH):
            part = ids[start : start + _BATCH]
            query = sa.select(SERVERS.c.id).where(SERVERS.c.id.in_(part), SERVERS.c.deleted.is_(True))
            found += conn.execute(query).scalars()
    return found


def _ended(service: Service, ids: list[str]) -> list[str]:
    """Those of the ids that are migrations whose source needs nothing any more."""
    over = [status for status in moves.ENDED if status != "done"]
    found: list[str] = []
    with service.db.read() as conn:
        for start in range(0, len(ids), _BATCH):
            part = ids[start : start + _BATCH]
            query = sa.select(MIGRATIONS.c.uuid).where(MIGRATIONS.c.uuid.in_(part), MIGRATIONS.c.status.in_(over))
            found += conn.execute(query).scalars()
    return found


def orphaned_allocations(service: Service) -> None:
    """Free what placement holds for deleted servers and for migrations that are over."""
    context = service_context("compute")
    with service.db.read() as conn:
        nodes = [row["uuid"] for row in host_store.nodes(conn)]
    for uuid in nodes:
        consumers = placement.consumers_on(service, context, uuid)
        for consumer in [*_gone(service, consumers), *_ended(service, consumers)]:
            placement.release(service, context, consumer)


def orphaned_ports(service: Service) -> None:
    """Remove ports that carry the mark of a server that was deleted within the last day."""
    context = service_context("compute")
    since = clock.utcnow() - dt.timedelta(days=1)
    with service.db.read() as conn:
        query = sa.select(SERVERS.c.id, SERVERS.c.requested_networks).where(
            SERVERS.c.deleted.is_(True), SERVERS.c.deleted_at >= since
        )
        gone = {server_id: asked or {} for server_id, asked in conn.execute(query)}
    ids = sorted(gone)
    for start in range(0, len(ids), 100):
        _remove_ports(service, context, ids[start : start + 100], gone)


def _remove_ports(service: Service, context: Context, ids: list[str], gone: dict[str, dict[str, object]]) -> None:
    for port in networks.ports_of(service, context, ids):
        nics = gone[port["device_id"]].get("nics") or []
        assert isinstance(nics, list)
        if port["id"] in {nic["port_id"] for nic in nics}:
            networks.release_port(service, context, port["id"])
        elif str(port.get("device_owner", "")).startswith("compute:"):
            networks.delete_port(service, context, port["id"])


def unknown_ports(service: Service) -> None:
    """Remove ports that were made for a server's card after its build had ended: a worker that was thought dead had asked for them."""
    context = service_context("compute")
    since = clock.utcnow() - _BUILT_SINCE
    with service.db.read() as conn:
        query = sa.select(SERVERS.c.id, SERVERS.c.requested_networks).where(
            SERVERS.c.deleted.is_(False), SERVERS.c.created_at >= since, SERVERS.c.task_state.is_(None)
        )
        cards = {server_id: len((asked or {}).get("nics") or []) for server_id, asked in conn.execute(query)}
    built = sorted(cards)
    for start in range(0, len(built), 100):
        made = {networks.id_of_port(id, place) for id in built[start : start + 100] for place in range(cards[id])}
        with service.db.read() as conn:
            made -= set(conn.execute(sa.select(SERVER_PORTS.c.port_id).where(SERVER_PORTS.c.port_id.in_(made))).scalars())
        if made:
            for port in networks.list_all(service, context, "ports", id=sorted(made), fields=["id"]):
                networks.delete_port(service, context, port["id"])


_ITEMS = METADATA.tables["desired_items"]
_HERE = sa.exists().where(SERVERS.c.id == _ITEMS.c.item_id, SERVERS.c.deleted.is_(False), SERVERS.c.host == _ITEMS.c.host)
_AT_WORK = sa.exists().where(SERVERS.c.id == _ITEMS.c.item_id, SERVERS.c.task_state.is_not(None))
_MOVING = sa.exists().where(
    MIGRATIONS.c.server_id == _ITEMS.c.item_id,
    MIGRATIONS.c.status.not_in(moves.ENDED),
    sa.or_(MIGRATIONS.c.source_compute == _ITEMS.c.host, MIGRATIONS.c.dest_compute == _ITEMS.c.host),
)
_UNFOUNDED = sa.select(_ITEMS.c.host, _ITEMS.c.item_id).where(
    _ITEMS.c.kind == hosts.KIND, _ITEMS.c.gone.is_(False), ~_HERE, ~_AT_WORK, ~_MOVING
)
"""Servers that a host is told to have, though they are not on it or on their way, and nobody works on them."""


def unfounded_orders(service: Service) -> None:
    """Take from hosts what has no reason to be there: flows keep them right, this is for what a fault left behind."""
    with service.db.read() as conn:
        if not conn.execute(_UNFOUNDED.limit(1)).first():
            return
    with service.db.write() as conn:  # ask again: the reason may have come meanwhile
        for host, server_id in conn.execute(_UNFOUNDED).all():
            desired.drop(conn, host, hosts.KIND, [server_id])


def deleted_retention(service: Service) -> None:
    """Forget servers that were deleted long ago, with their diaries."""
    before = clock.utcnow() - dt.timedelta(seconds=service.options.deleted_retention)
    while True:
        with service.db.write(durable=False) as conn:
            query = sa.select(SERVERS.c.id).where(SERVERS.c.deleted.is_(True), SERVERS.c.deleted_at < before)
            old = list(conn.execute(query.limit(_BATCH)).scalars())
            if not old:
                return
            conn.execute(ACTIONS.delete().where(ACTIONS.c.server_id.in_(old)))
            conn.execute(MIGRATIONS.delete().where(MIGRATIONS.c.server_id.in_(old)))
            conn.execute(SERVERS.delete().where(SERVERS.c.id.in_(old)))
