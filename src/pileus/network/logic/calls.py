"""What hosts call: the bus methods that the controller serves. They use the store alone, never another service."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from pileus.kernel import clock, ids
from pileus.kernel import desired as kernel_desired
from pileus.kernel.db import retried
from pileus.kernel.service import Service
from pileus.network import wire
from pileus.network.logic import agents, concerns, desired_state
from pileus.network.logic.change import Change, changing
from pileus.network.store import tables as t

Payload = dict[str, Any]


def desired(service: Service, payload: Payload) -> Payload:
    """`network.desired`: what changed for a host since a version, or everything."""
    return wire.to_dict(desired_state.render(service, str(payload["host"]), int(payload.get("since", 0))))


def heartbeat(service: Service, payload: Payload) -> Payload:
    """`network.heartbeat`: the agents of a host live. A new or returning one is given work by the loops.

    The host hears which version it should have, and when to speak again.
    """
    host, down = str(payload["host"]), service.options.agent_down_time
    version = kernel_desired.newest_version(service.db, host)
    again = service.pulse.again(_KIND, host, payload, down)
    if again and (beats := service.pulse.due(_KIND)):
        again = agents.heard_again(service, [(beat.host, str(said["agent_type"]), beat.at) for beat in beats for said in beat.said["agents"]])
        if not again:
            service.pulse.forget(_KIND, beats)
    if not again:
        if agents.heartbeat(service, host, list(payload["agents"])):
            service.loops.nudge("placement")
        _note_vtep(service, host, payload.get("vtep"))
        service.pulse.learn(_KIND, host, payload)
    return {"version": version, "seconds": service.pace.next(_KIND, host, _LEAST_SECONDS, down / 4)}


_KIND = "network"
_LEAST_SECONDS = 5.0
"""Between two heartbeats of a host of a small cloud."""


@retried
def _note_vtep(service: Service, host: str, vtep: str | None) -> None:
    """Record a host's tunnel address; the hosts that share a network with it have to learn it."""
    if vtep is None:
        return
    other = sa.and_(t.agents.c.host == host, t.agents.c.vtep != vtep)
    with service.db.read() as conn:
        if conn.execute(sa.select(t.agents.c.id).where(other)).first() is None:
            return
    with changing(service) as change:
        change.conn.execute(sa.update(t.agents).where(other).values(vtep=vtep))
        concerns.tunnel_changed(change, host)


@retried
def report(service: Service, payload: Payload) -> Payload:
    """`network.report`: the states of what a host has. What changed is written; compute is told by a loop."""
    said = wire.from_dict(wire.Report, payload)
    _note_vtep(service, said.host, said.agent.get("vtep"))
    if not _news(service, said):
        return {}
    with changing(service) as change:
        _ports(change, said)
        _prepared(change, said)
        _floating(change, said)
        for id, state in _changed_routers(change.conn, said):
            change.conn.execute(sa.update(t.routers).where(t.routers.c.id == id).values(status=state))
    return {}


def _news(service: Service, said: wire.Report) -> bool:
    """Whether a report says anything new: most do not, and cost one read."""
    with service.db.read() as conn:
        changed = (_changed_ports, _changed_prepared, _changed_floating, _changed_routers)
        return any(look(conn, said) for look in changed)


def _changed_ports(conn: sa.Connection, said: wire.Report) -> list[Any]:
    """The host's ports whose state differs from the reported one; unlisted ones are down in a complete report."""
    table = t.ports
    query = sa.select(table.c.id, table.c.status, table.c.device_id, table.c.device_owner, table.c.admin_state_up).where(
        table.c.host_id == said.host
    )
    if not said.complete:
        if not said.ports:
            return []
        query = query.where(table.c.id.in_(list(said.ports)))
    return [row for row in conn.execute(query) if _state(row, said) not in {None, row.status}]


def _state(row: Any, said: wire.Report) -> str | None:
    """The state the report gives a port; None where it says nothing of it."""
    return said.ports.get(row.id, wire.DOWN if said.complete else None)


def _ports(change: Change, said: wire.Report) -> None:
    rows = _changed_ports(change.conn, said)
    by_state: dict[str, list[str]] = {}
    for row in rows:
        by_state.setdefault(str(_state(row, said)), []).append(row.id)
    for state, changed in by_state.items():
        for part in _parts(changed):
            change.conn.execute(sa.update(t.ports).where(t.ports.c.id.in_(part)).values(status=state))
    for row in rows:
        if _is_guest(row):
            up = _state(row, said) == wire.ACTIVE
            change.tell_compute("network-vif-plugged" if up else "network-vif-unplugged", row.device_id, row.id)


def _changed_prepared(conn: sa.Connection, said: wire.Report) -> list[Any]:
    """The host's inactive bindings whose state differs from the reported one."""
    table = t.port_bindings
    query = (
        sa.select(t.ports.c.id, table.c.status, t.ports.c.device_id, t.ports.c.device_owner)
        .join(t.ports, t.ports.c.id == table.c.port_id)
        .where(table.c.host == said.host)
    )
    return [row for row in conn.execute(query) if _state(row, said) not in {None, row.status}]


def _prepared(change: Change, said: wire.Report) -> None:
    """A tap on a host that a port may move to: its guest waits there for the news. That it goes again concerns nobody."""
    for row in _changed_prepared(change.conn, said):
        table, state = t.port_bindings, str(_state(row, said))
        here = sa.and_(table.c.port_id == row.id, table.c.host == said.host)
        change.conn.execute(sa.update(table).where(here).values(status=state))
        if state == wire.ACTIVE and _is_guest(row):
            change.tell_compute("network-vif-plugged", row.device_id, row.id)


def _is_guest(row: Any) -> bool:
    """Whether compute knows the device of the port."""
    return bool(row.device_owner.startswith("compute:") and ids.is_uuid_like(row.device_id))


def _changed_routers(conn: sa.Connection, said: wire.Report) -> list[tuple[str, str]]:
    """(id, state) of the host's routers whose state differs."""
    table = t.routers
    found = []
    for part in _parts(list(said.routers)):
        query = sa.select(table.c.id, table.c.status).where(table.c.id.in_(part), table.c.host == said.host)
        found += [(row.id, said.routers[row.id]) for row in conn.execute(query) if row.status != said.routers[row.id]]
    return found


def _changed_floating(conn: sa.Connection, said: wire.Report) -> list[tuple[str, str]]:
    """(id, state) of floating IPs of the host's routers whose state differs; a report older than the association does not speak of it."""
    if not said.floating_ips:
        return []
    table = t.floatingips
    here = sa.select(t.routers.c.id).where(t.routers.c.host == said.host)
    found = []
    for part in _parts(list(said.floating_ips)):
        query = sa.select(table.c.id, table.c.status).where(
            table.c.id.in_(part), table.c.router_id.in_(here), table.c.version <= said.version
        )
        found += [(row.id, said.floating_ips[row.id]) for row in conn.execute(query) if row.status != said.floating_ips[row.id]]
    return found


def _floating(change: Change, said: wire.Report) -> None:
    for id, state in _changed_floating(change.conn, said):
        change.conn.execute(
            sa.update(t.floatingips).where(t.floatingips.c.id == id).values(status=state, updated_at=clock.utcnow().replace(microsecond=0))
        )


def _parts(items: list[str], size: int = 1000) -> Iterable[list[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))


CALLS: Mapping[str, Callable[[Service, Payload], Payload]] = {
    "network.desired": desired,
    "network.report": report,
    "network.heartbeat": heartbeat,
}
