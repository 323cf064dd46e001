"""Ports for `pileus why`: where one is bound, whether its host has plugged it, and who has yet to hear of it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pileus.kernel import clock
from pileus.kernel.explain import Explained
from pileus.network.store import tables as t

_ITEMS = t.METADATA.tables["desired_items"]


def explain(conn: sa.Connection, id: str) -> Explained | None:
    """None when there is no such port."""
    port = conn.execute(sa.select(t.ports).where(t.ports.c.id == id)).first()
    if port is None:
        return None
    owner = f", {port.device_owner} of {port.device_id}" if port.device_id else ", of no device"
    where = f"bound to {port.host_id} ({port.vif_type})" if port.host_id else "bound to no host"
    now = f"{port.status}, {where}{owner}; made {port.created_at:%Y-%m-%d %H:%M:%S}, changed {port.updated_at:%H:%M:%S}"
    related = (port.device_id,) if port.device_owner.startswith("compute:") else ()
    return Explained("port", now, _next(conn, port), related)


def _next(conn: sa.Connection, port: Any) -> str:
    waiting = conn.execute(sa.select(t.port_events.c.name).where(t.port_events.c.tag == port.id)).scalars().all()
    if waiting:
        return f"compute has not taken {', '.join(waiting)} yet; it is told again every 5 s"
    if not port.host_id or port.status == "ACTIVE":
        return "nothing is waited for"
    if not port.admin_state_up:
        return "it stays down: its admin_state_up is false"
    query = sa.select(_ITEMS.c.version, _ITEMS.c.gone).where(_ITEMS.c.host == port.host_id, _ITEMS.c.kind == "port", _ITEMS.c.item_id == port.id)
    item = conn.execute(query).first()
    beats = sa.select(sa.func.max(t.agents.c.heartbeat_timestamp)).where(t.agents.c.host == port.host_id)
    heard = conn.execute(beats).scalar()
    ago = f"its agent reported {(clock.utcnow() - heard).total_seconds():.0f} s ago" if heard else "no agent has ever reported from there"
    if item is None or item.gone:
        return f"{port.host_id} has not been told to have it; {ago}"
    return f"waits until {port.host_id} says that it is plugged (told in version {item.version}, asks every 10 s); {ago}"
