"""Placement knows every host and what it has."""

from __future__ import annotations

import sqlalchemy as sa

from pileus.compute.logic import hosts, placement
from pileus.compute.store import hosts as store
from pileus.compute.store.tables import COMPUTE_NODES
from pileus.kernel.context import service_context
from pileus.kernel.service import Service


def providers(service: Service) -> None:
    """Tell placement of hosts that are new or have changed."""
    with service.db.read() as conn:
        nodes = store.nodes(conn)
    context = service_context("compute")
    for node in nodes:
        wanted = hosts.inventory_of(service.options, node)
        if node["inventory"] == wanted:
            continue
        is_new = node["inventory"] is None
        placement.ensure_provider(service, context, node["uuid"], node["hypervisor_hostname"], wanted, is_new=is_new)
        with service.db.write(durable=False) as conn:
            conn.execute(sa.update(COMPUTE_NODES).where(COMPUTE_NODES.c.id == node["id"]).values(inventory=wanted))
