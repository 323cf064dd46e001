"""Agents: who is alive, what serves where, and where DHCP and routers are placed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.kernel import clock, ids
from pileus.kernel.db import insert_ignore, retried
from pileus.kernel.service import Service
from pileus.network import errors
from pileus.network.logic.change import Change, fetch
from pileus.network.store import tables as t

DHCP, L3, METADATA = "DHCP agent", "L3 agent", "Metadata agent"
_TOPICS = {DHCP: "dhcp_agent", L3: "l3_agent", METADATA: "N/A"}


def since_when_alive(options: Any) -> dt.datetime:
    """Agents that have been heard of since are alive."""
    return clock.from_epoch(clock.time() - options.agent_down_time)


def alive(options: Any, agent_type: str | None = None, *, enabled: bool = True) -> sa.Select[str]:
    """The query for hosts whose agent of the type (None: the one that wires ports) is alive, and administratively up where `enabled`."""
    table = t.agents
    query = sa.select(table.c.host).where(table.c.heartbeat_timestamp >= since_when_alive(options)).distinct()
    if agent_type:
        query = query.where(table.c.agent_type == agent_type)
    else:
        query = query.where(table.c.agent_type.not_in([DHCP, L3, METADATA]))
    return query.where(table.c.admin_state_up) if enabled else query


def alive_hosts(conn: sa.Connection, options: Any, agent_type: str | None = None, *, enabled: bool = True) -> list[str]:
    """Those hosts, by name. In the condition of another query `alive` itself belongs: thousands of names would have to be written into it."""
    return sorted(conn.execute(alive(options, agent_type, enabled=enabled)).scalars())


_WIRES = sa.select(t.agents.c.id).where(
    t.agents.c.host == sa.bindparam("host"),
    t.agents.c.agent_type.not_in([DHCP, L3, METADATA]),
    t.agents.c.heartbeat_timestamp >= sa.bindparam("since"),
)


def wires(conn: sa.Connection, options: Any, host: str) -> bool:
    """Whether the host has a living agent that can attach ports."""
    return conn.execute(_WIRES, {"host": host, "since": since_when_alive(options)}).first() is not None


def place(conn: sa.Connection, options: Any, agent_type: str, column: sa.Column[str], amount: int, zones: list[str] | None = None) -> list[str]:
    """The least loaded living hosts for one more of what `column` counts; hosts of the wanted zones only."""
    hosts = alive_hosts(conn, options, agent_type)
    if zones:
        table = t.agents
        query = sa.select(table.c.host).where(table.c.agent_type == agent_type, table.c.availability_zone.in_(zones))
        fitting = set(conn.execute(query).scalars())
        hosts = [host for host in hosts if host in fitting]
    if len(hosts) <= amount:
        return hosts
    query_load = sa.select(column, sa.func.count()).where(column.in_(alive(options, agent_type))).group_by(column)
    load: dict[str, int] = {row[0]: row[1] for row in conn.execute(query_load)}
    return sorted(hosts, key=lambda host: (load.get(host, 0), host))[:amount]


# -- what agents say -------------------------------------------------------------------------------------------------


@retried
def heartbeat(service: Service, host: str, reports: list[Mapping[str, Any]]) -> bool:
    """Record that a host's agents live; True when one of them is new or was dead. One statement when nothing else is new."""
    now = clock.utcnow()
    table = t.agents
    with service.db.read() as conn:
        known = {row.agent_type: row for row in conn.execute(_OF_HOST, {"host": host})}
    new = [report for report in reports if _differs(known.get(str(report["agent_type"])), report)]
    said = {str(report["agent_type"]) for report in reports}
    was_alive = known and min(row.heartbeat_timestamp for row in known.values()) >= since_when_alive(service.options)
    with service.db.write(durable=False) as conn:
        mine = sa.and_(table.c.host == host, table.c.agent_type.in_(said))
        conn.execute(sa.update(table).where(mine).values(heartbeat_timestamp=now))
        added = [_record(conn, service.options, host, report, now) for report in new]
    return any(added) or not was_alive


@retried
def heard_again(service: Service, moments: Sequence[tuple[str, str, dt.datetime]]) -> bool:
    """Agents (host, type) lived at these moments; whether all of them are known."""
    table = t.agents
    query = sa.update(table).where(table.c.host == sa.bindparam("of"), table.c.agent_type == sa.bindparam("kind"))
    values = [{"of": host, "kind": kind, "at": at} for host, kind, at in sorted(moments)]
    with service.db.write(durable=False) as conn:
        return conn.execute(query.values(heartbeat_timestamp=sa.bindparam("at")), values).rowcount == len(values)


_OF_HOST = sa.select(t.agents.c.agent_type, t.agents.c.binary, t.agents.c.configurations, t.agents.c.heartbeat_timestamp).where(
    t.agents.c.host == sa.bindparam("host")
)


def _differs(row: Any, report: Mapping[str, Any]) -> bool:
    return row is None or (row.binary, row.configurations) != (str(report.get("binary", "")), dict(report.get("configurations") or {}))


def _record(conn: sa.Connection, options: Any, host: str, report: Mapping[str, Any], now: dt.datetime) -> bool:
    kind, table = str(report["agent_type"]), t.agents
    configurations = dict(report.get("configurations") or {})
    row = sa.and_(table.c.host == host, table.c.agent_type == kind)
    values = {"heartbeat_timestamp": now, "configurations": configurations, "binary": str(report.get("binary", ""))}
    if conn.execute(sa.update(table).where(row).values(values)).rowcount:
        return False
    zone = configurations.get("availability_zone") or options.default_availability_zone
    new = {
        **values,
        "id": ids.new_uuid(),
        "agent_type": kind,
        "host": host,
        "topic": _TOPICS.get(kind, "N/A"),
        "availability_zone": zone if kind in {DHCP, L3} else None,
        "admin_state_up": True,
        "description": "",
        "vtep": "",
        "created_at": now,
        "started_at": now,
    }
    return insert_ignore(conn, table, [new]) == 1


# -- what administrators see and do ----------------------------------------------------------------------------------


def body(row: Any, options: Any) -> dict[str, Any]:
    """An agent as clients read it; its times have no zone mark, as upstream prints them."""
    moments = {name: getattr(row, name).isoformat(sep=" ", timespec="seconds") for name in ("created_at", "started_at", "heartbeat_timestamp")}
    return {
        "id": row.id,
        "agent_type": row.agent_type,
        "binary": row.binary,
        "topic": row.topic,
        "host": row.host,
        "availability_zone": row.availability_zone,
        "admin_state_up": row.admin_state_up,
        "alive": row.heartbeat_timestamp >= since_when_alive(options),
        "description": row.description,
        "configurations": row.configurations,
        "resources_synced": None,
        **moments,
    }


def list_agents(service: Service, filters: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    """All agents that fit; `alive` is a filter too."""
    from pileus.network.store.listing import column_condition  # noqa: PLC0415 - not needed where agents only report

    query = sa.select(t.agents).order_by(t.agents.c.host, t.agents.c.agent_type)
    alive: set[bool] = set()
    for name, values in filters.items():
        if name == "alive":
            alive = {value.lower() in {"true", "1"} for value in values}
        elif name in t.agents.c and name not in {"configurations", "vtep"}:
            query = query.where(column_condition(t.agents.c[name], name, values))
        else:
            raise errors.HTTPBadRequest(f"{[name]} is invalid attribute for filtering")
    with service.db.read() as conn:
        rows = conn.execute(query).all()
    found = [body(row, service.options) for row in rows]
    return [agent for agent in found if not alive or agent["alive"] in alive]


def show_agent(service: Service, id: str) -> dict[str, Any]:
    """Raises AgentNotFound."""
    with service.db.read() as conn:
        return body(fetch(conn, t.agents, id, errors.AgentNotFound), service.options)


def update_agent(service: Service, id: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Set `admin_state_up` and `description`. Raises AgentNotFound."""
    with service.db.write() as conn:
        fetch(conn, t.agents, id, errors.AgentNotFound, lock=True)
        if values:
            conn.execute(sa.update(t.agents).where(t.agents.c.id == id).values(**values))
        return body(fetch(conn, t.agents, id, errors.AgentNotFound), service.options)


def zones(service: Service) -> list[dict[str, str]]:
    """Availability zones: those that agents name, for networks (DHCP) and routers (L3)."""
    table = t.agents
    query = sa.select(table.c.agent_type, table.c.availability_zone, table.c.admin_state_up).where(table.c.availability_zone.is_not(None))
    found: dict[tuple[str, str], bool] = {}
    with service.db.read() as conn:
        for kind, zone, up in conn.execute(query):
            resource = "network" if kind == DHCP else "router"
            found[zone, resource] = found.get((zone, resource), False) or up
    return [
        {"name": zone, "resource": resource, "state": "available" if up else "unavailable"}
        for (zone, resource), up in sorted(found.items())
    ]


def check_zones(change: Change, resource: str, wanted: list[str]) -> None:
    """Raise AvailabilityZoneNotFound for a zone no agent names."""
    if not wanted:
        return
    kind = DHCP if resource == "network" else L3
    table = t.agents
    query = sa.select(table.c.availability_zone).where(table.c.agent_type == kind, table.c.availability_zone.in_(wanted))
    known = set(change.conn.execute(query).scalars())
    for zone in wanted:
        if zone not in known:
            raise errors.AvailabilityZoneNotFound(f"AvailabilityZone {zone} could not be found.")
