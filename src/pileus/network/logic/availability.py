"""How many addresses networks have and use, counted by the database."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from pileus.kernel.service import Service
from pileus.network import errors
from pileus.network.store import tables as t


def of_networks(service: Service, filters: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    """Networks that fit the filters, with their subnets; three queries for any number."""
    networks = sa.select(t.networks.c.id, t.networks.c.name, t.networks.c.project_id).order_by(t.networks.c.id)
    columns = {"network_id": t.networks.c.id, "network_name": t.networks.c.name}
    for name, values in filters.items():
        if name != "ip_version":
            networks = networks.where(columns.get(name, t.networks.c.project_id).in_(values))
    subnets = sa.select(t.subnets)
    if "ip_version" in filters:
        if any(value not in {"4", "6"} for value in filters["ip_version"]):
            raise errors.HTTPBadRequest("Invalid input for ip_version. Reason: it is 4 or 6.")
        subnets = subnets.where(t.subnets.c.ip_version.in_([int(value) for value in filters["ip_version"]]))
    used = sa.select(t.allocations.c.subnet_id, sa.func.count()).group_by(t.allocations.c.subnet_id)
    if "network_id" in filters:
        subnets = subnets.where(t.subnets.c.network_id.in_(filters["network_id"]))
        used = used.where(t.allocations.c.network_id.in_(filters["network_id"]))
    with service.db.read() as conn:
        rows = conn.execute(networks).all()
        counts: dict[str, int] = {row[0]: row[1] for row in conn.execute(used)}
        by_network: dict[str, list[dict[str, Any]]] = {}
        for subnet in conn.execute(subnets.order_by(t.subnets.c.id)):
            by_network.setdefault(subnet.network_id, []).append(_subnet(subnet, counts.get(subnet.id, 0)))
    return [_network(row, by_network.get(row.id, [])) for row in rows]


def _subnet(row: Any, used: int) -> dict[str, Any]:
    return {
        "subnet_id": row.id,
        "subnet_name": row.name,
        "cidr": row.cidr,
        "ip_version": row.ip_version,
        "used_ips": used,
        "total_ips": sum(_size(pool) for pool in row.allocation_pools),
    }


def _size(pool: Mapping[str, str]) -> int:
    size = int(ipaddress.ip_address(pool["end"])) - int(ipaddress.ip_address(pool["start"])) + 1
    return min(size, 2**62)  # JSON readers stop at 64 bits, and sums of these shall fit


def _network(row: Any, subnets: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "network_id": row.id,
        "network_name": row.name,
        "tenant_id": row.project_id,
        "project_id": row.project_id,
        "subnet_ip_availability": subnets,
        "used_ips": sum(subnet["used_ips"] for subnet in subnets),
        "total_ips": sum(subnet["total_ips"] for subnet in subnets),
    }
