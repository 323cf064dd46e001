"""DHCP and routers are on living hosts: what has none gets one, what is on a dead host moves where another lives.

A host counts as dead only when it was silent while others were heard: after an outage of the controller or the bus all of them have been silent, and
the first to be heard must not get the work of all.
"""

from __future__ import annotations

import dataclasses
import weakref
from typing import Any

import sqlalchemy as sa

from pileus.kernel import clock
from pileus.kernel.db import Database
from pileus.kernel.service import Service
from pileus.network import errors
from pileus.network.logic import agents, dhcp
from pileus.network.logic import router_legs as legs
from pileus.network.logic.change import changing, fetch
from pileus.network.store import tables as t


@dataclasses.dataclass
class Hearing:
    """Since when this process hears hosts (epoch seconds, None: it does not), and when it last looked."""

    since: float | None = None
    looked: float = 0.0


_hearings: weakref.WeakKeyDictionary[Database, Hearing] = weakref.WeakKeyDictionary()


_LONGEST_PAUSE = 30.0
"""Seconds between two looks that are no gap, however short `agent_down_time` is: the loop comes every ten."""


def keep_placed(service: Service) -> int:
    """Place what needs a place; how many networks and routers were moved."""
    options = service.options
    with service.db.read() as conn:
        sure = _hears(conn, service)
        move_dhcp = sure and options.allow_automatic_dhcp_failover
        move_routers = sure and options.allow_automatic_l3agent_failover
        networks = _networks_without(conn, options, move=move_dhcp)
        routers = _routers_without(conn, options, move=move_routers)
    for network_id in networks:
        _serve(service, network_id, move=move_dhcp)
    for router_id in routers:
        _place(service, router_id)
    return len(networks) + len(routers)


def _hears(conn: sa.Connection, service: Service) -> bool:
    """Whether hosts have been heard without a gap for as long as a silent one needs to count as dead."""
    down, now = service.options.agent_down_time, clock.time()
    hearing = _hearings.setdefault(service.db, Hearing())
    newest = conn.execute(sa.select(sa.func.max(t.agents.c.heartbeat_timestamp))).scalar()
    deaf = newest is None or clock.to_epoch(newest) < now - max(down / 2, min(down, 15.0))
    paused = hearing.looked < now - max(down / 2, _LONGEST_PAUSE)
    hearing.looked = now
    if deaf:
        hearing.since = None
    elif paused or hearing.since is None:
        hearing.since = now
    return hearing.since is not None and now - hearing.since >= down


def _networks_without(conn: sa.Connection, options: Any, *, move: bool) -> list[str]:
    """Networks with a subnet to serve and fewer ports of DHCP than they shall have; with `move` those on dead hosts do not count."""
    table, alive = t.ports, agents.alive(options, agents.DHCP)
    some = conn.execute(alive.limit(options.dhcp_agents_per_network)).all()
    if not some:
        return []
    serving = sa.and_(table.c.device_owner == dhcp.OWNER, *([table.c.host_id.in_(alive)] if move else []))
    served = sa.select(table.c.network_id).where(serving).group_by(table.c.network_id).having(sa.func.count() >= len(some))
    query = (
        sa.select(t.subnets.c.network_id)
        .where(t.subnets.c.enable_dhcp, t.subnets.c.ip_version == 4, t.subnets.c.network_id.not_in(served))
        .distinct()
    )
    return list(conn.execute(query).scalars())


def _routers_without(conn: sa.Connection, options: Any, *, move: bool) -> list[str]:
    """Routers with legs that have no host, or with `move` a dead one."""
    alive = agents.alive(options, agents.L3)
    if conn.execute(alive.limit(1)).first() is None:
        return []
    legged = sa.select(t.ports.c.device_id).where(t.ports.c.device_owner.in_([legs.INTERFACE, legs.GATEWAY]))
    homeless = t.routers.c.host.not_in(alive) if move else t.routers.c.host == ""
    return list(conn.execute(sa.select(t.routers.c.id).where(homeless, t.routers.c.id.in_(legged))).scalars())


def _serve(service: Service, network_id: str, *, move: bool) -> None:
    try:
        with changing(service) as change:
            network = fetch(change.conn, t.networks, network_id, errors.NetworkNotFound, lock=True)
            dhcp.ensure(change, network, move=move)
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
