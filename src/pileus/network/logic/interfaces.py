"""What of a router's interfaces follows when the addresses of their ports are changed."""

from __future__ import annotations

import ipaddress
from typing import Any

import sqlalchemy as sa

from pileus.kernel.db import insert_ignore
from pileus.network import errors
from pileus.network.logic import concerns
from pileus.network.logic.change import Change, fetch
from pileus.network.store import tables as t

OWNERS = ("network:router_interface", "network:router_gateway")


def follow_addresses(change: Change, port: Any, subnets: set[str]) -> None:
    """Make the router's legs those of the port's subnets. Raises BadRequest for none, and for one the router reaches by another leg."""
    table = t.router_interfaces
    mine = sa.and_(table.c.router_id == port.device_id, table.c.port_id == port.id)
    before = set(change.conn.execute(sa.select(table.c.subnet_id).where(mine)).scalars())
    if not subnets:
        raise errors.BadRequest("Bad router request: Router port must have at least one fixed IP.")
    if subnets != before:
        router = fetch(change.conn, t.routers, port.device_id, errors.RouterNotFound)
        for subnet_id in before - subnets:
            check_unused(change, router, subnet_id)
        cidrs = change.conn.execute(sa.select(t.subnets.c.id, t.subnets.c.cidr).where(t.subnets.c.id.in_(subnets - before))).all()
        check_overlap(change, port.device_id, [(row[0], row[1]) for row in cidrs], but=port.id)
        change.conn.execute(sa.delete(table).where(mine, table.c.subnet_id.not_in(subnets)))
        for subnet_id in sorted(subnets - before):
            record(change, port.device_id, subnet_id, port.id)
    host = change.conn.execute(sa.select(t.routers.c.host).where(t.routers.c.id == port.device_id)).scalar()
    if host:
        concerns.router_changed(change, port.device_id, host)


def record(change: Change, router_id: str, subnet_id: str, port_id: str) -> None:
    """Write that a router has a leg in a subnet. Raises BadRequest when it has one already."""
    row = {"router_id": router_id, "subnet_id": subnet_id, "port_id": port_id}
    if not insert_ignore(change.conn, t.router_interfaces, [row]):
        raise errors.BadRequest(f"Bad router request: Router already has a port on subnet {subnet_id}.")


def check_overlap(change: Change, router_id: str, new: list[tuple[str, str]], but: str | None = None) -> None:
    """Two legs of a router never reach the same addresses; the port `but` does not count. Raises BadRequest."""
    query = (
        sa.select(t.subnets.c.id, t.subnets.c.cidr)
        .join(t.allocations, t.allocations.c.subnet_id == t.subnets.c.id)
        .join(t.ports, t.ports.c.id == t.allocations.c.port_id)
        .where(t.ports.c.device_id == router_id, t.ports.c.device_owner.in_(OWNERS))
    )
    if but:
        query = query.where(t.ports.c.id != but)
    for id, cidr in change.conn.execute(query).all():
        for new_id, new_cidr in new:
            if id == new_id:
                raise errors.BadRequest(f"Bad router request: Router already has a port on subnet {id}.")
            one, two = ipaddress.ip_network(cidr), ipaddress.ip_network(new_cidr)
            if one.version == two.version and one.overlaps(two):
                raise errors.BadRequest(
                    f"Bad router request: Cidr {new_cidr} of subnet {new_id} overlaps with cidr {cidr} of subnet {id}."
                )


def check_unused(change: Change, router: Any, subnet_id: str) -> None:
    """Raise RouterInterfaceInUseByFloatingIP, RouterInterfaceInUseByRoute while something goes through the leg in the subnet."""
    allocated = sa.select(t.allocations.c.port_id).where(t.allocations.c.subnet_id == subnet_id)
    table = t.floatingips
    query = sa.select(table.c.id).where(table.c.router_id == router.id, table.c.port_id.in_(allocated)).limit(1)
    if change.conn.execute(query).first():
        raise errors.RouterInterfaceInUseByFloatingIP(
            f"Router interface for subnet {subnet_id} on router {router.id} cannot be deleted, as it is required by one or more floating IPs."
        )
    cidr = ipaddress.ip_network(fetch(change.conn, t.subnets, subnet_id, errors.SubnetNotFound).cidr)
    if any(ipaddress.ip_address(route["nexthop"]) in cidr for route in router.routes):
        raise errors.RouterInterfaceInUseByRoute(
            f"Router interface for subnet {subnet_id} on router {router.id} cannot be deleted, as it is required by one or more routes."
        )
