"""DHCP and routers are on living hosts: what has none gets one, what is on a dead host moves where another lives."""

from __future__ import annotations

import sqlalchemy as sa

from pileus.kernel.service import Service
from pileus.network import errors
from pileus.network.logic import agents, dhcp
from pileus.network.logic import router_legs as legs
from pileus.network.logic.change import changing, fetch
from pileus.network.store import tables as t


def keep_placed(service: Service) -> int:
    """Place what needs a place; how many networks and routers were moved."""
    with service.db.read() as conn:
        dhcp_hosts = agents.alive_hosts(conn, service.options, agents.DHCP)
        l3_hosts = agents.alive_hosts(conn, service.options, agents.L3)
        networks = _networks_without(conn, service, dhcp_hosts) if dhcp_hosts else []
        routers = _routers_without(conn, l3_hosts) if l3_hosts else []
    for network_id in networks:
        _serve(service, network_id)
    for router_id in routers:
        _place(service, router_id)
    return len(networks) + len(routers)


def _networks_without(conn: sa.Connection, service: Service, alive: list[str]) -> list[str]:
    """Networks with a subnet to serve and fewer ports of DHCP on living hosts than they shall have."""
    wanted = min(service.options.dhcp_agents_per_network, len(alive))
    table = t.ports
    served = (
        sa.select(table.c.network_id)
        .where(table.c.device_owner == dhcp.OWNER, table.c.host_id.in_(alive))
        .group_by(table.c.network_id)
        .having(sa.func.count() >= wanted)
    )
    query = (
        sa.select(t.subnets.c.network_id)
        .where(t.subnets.c.enable_dhcp, t.subnets.c.ip_version == 4, t.subnets.c.network_id.not_in(served))
        .distinct()
    )
    return list(conn.execute(query).scalars())


def _routers_without(conn: sa.Connection, alive: list[str]) -> list[str]:
    """Routers with legs whose host is none or dead."""
    legged = sa.select(t.ports.c.device_id).where(t.ports.c.device_owner.in_([legs.INTERFACE, legs.GATEWAY]))
    query = sa.select(t.routers.c.id).where(t.routers.c.host.not_in(alive), t.routers.c.id.in_(legged))
    return list(conn.execute(query).scalars())


def _serve(service: Service, network_id: str) -> None:
    try:
        with changing(service) as change:
            dhcp.ensure(change, fetch(change.conn, t.networks, network_id, errors.NetworkNotFound, lock=True))
    except errors.NetworkNotFound:
        return


def _place(service: Service, router_id: str) -> None:
    try:
        with changing(service) as change:
            router = fetch(change.conn, t.routers, router_id, errors.RouterNotFound, lock=True)
            alive = agents.alive_hosts(change.conn, service.options, agents.L3)
            if router.host in alive:
                return
            hosts = agents.place(change.conn, service.options, agents.L3, t.routers.c.host, 1, router.availability_zone_hints)
            if hosts:
                legs.move(change, router, hosts[0])
    except errors.RouterNotFound:
        return
