"""Addresses that servers show are those that the network service has."""

from __future__ import annotations

import sqlalchemy as sa

from pileus.compute.logic import networks
from pileus.compute.store import servers as store
from pileus.compute.store.tables import SERVER_PORTS, SERVERS
from pileus.kernel.context import service_context
from pileus.kernel.service import Service

_BATCH = 100


def network_info(service: Service) -> None:
    """Compare all servers with the network service, a hundred at a time."""
    with service.db.read() as conn:
        query = (
            sa.select(SERVERS.c.id)
            .where(SERVERS.c.deleted.is_(False), SERVERS.c.task_state.is_(None))
            .where(sa.exists().where(SERVER_PORTS.c.server_id == SERVERS.c.id))
            .order_by(SERVERS.c.id)
        )
        ids = list(conn.execute(query).scalars())
    for start in range(0, len(ids), _BATCH):
        refresh(service, ids[start : start + _BATCH])


def refresh(service: Service, server_ids: list[str]) -> int:
    """Bring the addresses of some servers up to date; how many had changed. Seven calls and queries for any number."""
    context = service_context("compute")
    ports = {port["id"]: port for port in networks.ports_of(service, context, server_ids)}
    info = networks.network_info(service, context, list(ports.values()))
    changed = 0
    with service.db.read() as conn:
        rows = sa.select(SERVER_PORTS).where(SERVER_PORTS.c.server_id.in_(server_ids))
        order: dict[str, list[str]] = {}
        for port in conn.execute(rows.order_by(SERVER_PORTS.c.position)).mappings():
            order.setdefault(port["server_id"], []).append(port["port_id"])
        query = sa.select(SERVERS.c.id, SERVERS.c.network_info).where(SERVERS.c.id.in_(server_ids))
        current = {server_id: stored or [] for server_id, stored in conn.execute(query)}
    for server_id, stored in current.items():
        wanted = [info[port_id] for port_id in order.get(server_id, []) if port_id in info]
        if wanted == stored:
            continue
        changed += 1
        with service.db.write(durable=False) as conn:
            store.set_network_info(conn, server_id, wanted)
    return changed
