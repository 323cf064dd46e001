"""Servers for `pileus why`: the state, where it is, and who will take it out of what it is doing."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pileus.compute.logic import states
from pileus.compute.store import servers as store
from pileus.kernel.explain import Explained
from pileus.kernel.flows.store import ENDED, FLOWS


def explain(conn: sa.Connection, id: str) -> Explained | None:
    """None when there is no such server, and never was one lately."""
    server = store.get_even_deleted(conn, id)
    if server is None:
        return None
    task = f" ({server['task_state']})" if server["task_state"] else ""
    now = f"{states.status(server['vm_state'], server['task_state'])}{task} on {server['host'] or 'no host'}"
    if server["deleted"]:
        now = f"deleted at {server['deleted_at']:%Y-%m-%d %H:%M:%S}"
    if server["fault"]:
        now += f"; its fault: {server['fault']['message']}"
    return Explained("server", now, _next(conn, server))


def _next(conn: sa.Connection, server: Any) -> str:
    if server["deleted"] or not server["task_state"]:
        return "nothing is waited for"
    query = sa.select(FLOWS.c.kind).where(FLOWS.c.resource_id == server["id"], FLOWS.c.state.not_in(ENDED)).order_by(FLOWS.c.seq)
    kinds = list(conn.execute(query).scalars())
    if kinds:
        return f"{', then '.join(kinds)}; see below"
    return "no work is recorded for what it is doing; a look every 30 s takes it out of that state or begins again"
