"""Routers as their hosts see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.network import wire
from pileus.network.store import tables as t
from pileus.network.store.render import grouped

_OWNERS = ("network:router_interface", "network:router_gateway")


def routers(conn: sa.Connection, ids: Sequence[str]) -> list[wire.RouterItem]:
    """Routers with legs, floating addresses and routes; without those in networks that are down."""
    if not ids:
        return []
    rows = conn.execute(sa.select(t.routers).where(t.routers.c.id.in_(ids))).all()
    legs = _legs(conn, ids)
    table = t.floatingips
    query = sa.select(table.c.router_id, table.c.id, table.c.floating_ip_address, table.c.fixed_ip_address, table.c.port_id)
    floating = grouped(conn, query, table.c.router_id, ids)
    return [
        wire.RouterItem(
            id=row.id,
            admin_state_up=row.admin_state_up,
            gateway=_gateway(row, legs.get(row.id, {})),
            interfaces=tuple(
                _interface(addresses)
                for port_id, addresses in sorted(legs.get(row.id, {}).items())
                if addresses[0].device_owner == "network:router_interface"
            ),
            floating_ips=tuple(
                wire.FloatingIp(id=f.id, floating=f.floating_ip_address, fixed=f.fixed_ip_address, port_id=f.port_id)
                for f in floating.get(row.id, ())
                if f.port_id and row.gateway_port_id in legs.get(row.id, {})
            ),
            routes=tuple(wire.HostRoute(destination=route["destination"], nexthop=route["nexthop"]) for route in row.routes),
        )
        for row in rows
    ]


def _legs(conn: sa.Connection, ids: Sequence[str]) -> dict[str, dict[str, list[Any]]]:
    """Router id -> port id -> a row for each address of the port, with its subnet and network."""
    query = (
        sa.select(
            t.ports.c.device_id,
            t.ports.c.id,
            t.ports.c.device_owner,
            t.ports.c.mac_address,
            t.ports.c.network_id,
            t.networks.c.mtu,
            t.allocations.c.ip_address,
            t.subnets.c.id.label("subnet_id"),
            t.subnets.c.cidr,
            t.subnets.c.gateway_ip,
            t.subnets.c.ip_version,
        )
        .join(t.allocations, t.allocations.c.port_id == t.ports.c.id)
        .join(t.subnets, t.subnets.c.id == t.allocations.c.subnet_id)
        .join(t.networks, t.networks.c.id == t.ports.c.network_id)
        .where(t.ports.c.device_owner.in_(_OWNERS), t.networks.c.admin_state_up)
        .order_by(t.subnets.c.ip_version, t.subnets.c.id)
    )
    found: dict[str, dict[str, list[Any]]] = {}
    for router_id, rows in grouped(conn, query, t.ports.c.device_id, ids).items():
        for row in rows:
            found.setdefault(router_id, {}).setdefault(row.id, []).append(row)
    return found


def _gateway(router: Any, legs: Mapping[str, list[Any]]) -> wire.RouterGateway | None:
    addresses = legs.get(router.gateway_port_id) if router.gateway_port_id else None
    if not addresses:
        return None
    first = addresses[0]
    return wire.RouterGateway(
        port_id=first.id,
        network_id=first.network_id,
        mac=first.mac_address,
        ips=tuple(wire.GatewayIp(ip=a.ip_address, prefix=_prefix(a.cidr), subnet_id=a.subnet_id) for a in addresses),
        gateway_ip=next((a.gateway_ip for a in addresses if a.gateway_ip and a.ip_version == 4), None),
        snat=router.enable_snat,
        mtu=first.mtu,
    )


def _interface(addresses: Sequence[Any]) -> wire.RouterInterface:
    first = addresses[0]
    return wire.RouterInterface(
        port_id=first.id,
        network_id=first.network_id,
        mac=first.mac_address,
        ips=tuple(wire.InterfaceIp(ip=a.ip_address, prefix=_prefix(a.cidr), cidr=a.cidr, subnet_id=a.subnet_id) for a in addresses),
        mtu=first.mtu,
    )


def _prefix(cidr: str) -> int:
    return int(cidr.rpartition("/")[2])
