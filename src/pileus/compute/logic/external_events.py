"""What other services tell compute about its servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.compute.store import servers as store
from pileus.compute.store.tables import SERVER_PORTS, SERVERS
from pileus.kernel.service import Service

PLUGGED, UNPLUGGED, DELETED, CHANGED = (
    "network-vif-plugged",
    "network-vif-unplugged",
    "network-vif-deleted",
    "network-changed",
)

Event = dict[str, Any]


def receive(service: Service, given: Sequence[Mapping[str, Any]]) -> tuple[list[Event], list[str]]:
    """Record the events and wake whoever waits for them; (events with their codes, servers whose addresses have to be looked up again)."""
    ids = sorted({event["server_uuid"] for event in given})
    events: list[Event] = []
    stale: list[str] = []
    with service.db.write() as conn:
        alive = sa.and_(SERVERS.c.id.in_(ids), SERVERS.c.deleted.is_(False))
        query = sa.select(SERVERS.c.id, SERVERS.c.host).where(alive).order_by(SERVERS.c.id)
        # Locked: a server that is deleted meanwhile would leave what is recorded here behind.
        known = {server_id: host for server_id, host in conn.execute(query.with_for_update())}
        for event in given:
            server_id = event["server_uuid"]
            answer: Event = {"status": "completed", **event, "code": 200}
            if server_id not in known:
                answer |= {"code": 404, "status": "failed"}
            elif not known[server_id]:
                # Without a host nobody can act on it.
                answer |= {"code": 422, "status": "failed"}
            else:
                stale += _take(service, conn, server_id, event)
            events.append(answer)
    return events, sorted(set(stale))


def _take(service: Service, conn: sa.Connection, server_id: str, event: Mapping[str, Any]) -> list[str]:
    """Record one event; the server when its addresses may have changed."""
    name, port_id = event["name"], event.get("tag") or ""
    if name in {PLUGGED, UNPLUGGED} and port_id:
        store.set_plugged(conn, server_id, port_id, plugged=name == PLUGGED)
        if name == PLUGGED:
            service.flows.wake(conn, server_id)
        return []
    if name == DELETED and port_id:
        conn.execute(SERVER_PORTS.delete().where(SERVER_PORTS.c.port_id == port_id))
        return [server_id]
    return [server_id] if name == CHANGED else []
