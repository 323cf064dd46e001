"""The diary of each server: which actions were asked for, by whom, and how they went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from pileus.compute.store.tables import ACTION_EVENTS, ACTIONS
from pileus.kernel import clock
from pileus.kernel.context import Context

CREATE, DELETE, STOP, START, REBOOT = "create", "delete", "stop", "start", "reboot"


def start(conn: sa.Connection, context: Context, server_id: str, action: str, message: str | None = None) -> int:
    """Note that somebody asked for an action; its number."""
    now = clock.utcnow()
    row = {
        "server_id": server_id,
        "action": action,
        "request_id": context.request_id,
        "user_id": context.user_id,
        "project_id": context.project_id,
        "start_time": now,
        "updated_at": now,
        "message": message,
    }
    key = conn.execute(ACTIONS.insert().values(**row)).inserted_primary_key
    assert key is not None
    return int(key[0])


def done(conn: sa.Connection, context: Context, server_id: str, action: str) -> None:
    """Note an action that is already over."""
    number = start(conn, context, server_id, action)
    conn.execute(ACTIONS.update().where(ACTIONS.c.id == number).values(finish_time=clock.utcnow()))


def finish(
    conn: sa.Connection,
    number: int | None,
    event: str,
    *,
    host: str | None,
    began: Any = None,
    error: str | None = None,
) -> None:
    """Note the end of an action, with the one event of the host's work."""
    if number is None:
        return
    now = clock.utcnow()
    action = conn.execute(sa.select(ACTIONS.c.start_time).where(ACTIONS.c.id == number)).scalar()
    if action is None:
        return
    conn.execute(
        ACTION_EVENTS.insert().values(
            action_id=number,
            event=event,
            start_time=began or action,
            finish_time=now,
            result="Error" if error else "Success",
            details=error,
            traceback=None,
            host=host,
        )
    )
    message = {"message": "Error"} if error else {}
    conn.execute(ACTIONS.update().where(ACTIONS.c.id == number).values(finish_time=now, updated_at=now, **message))


def listing(
    conn: sa.Connection,
    server_id: str,
    *,
    marker: Mapping[str, Any] | None = None,
    limit: int | None = None,
    since: Any = None,
    before: Any = None,
) -> list[dict[str, Any]]:
    """A server's actions, the newest first."""
    query = sa.select(ACTIONS).where(ACTIONS.c.server_id == server_id)
    if since is not None:
        query = query.where(ACTIONS.c.updated_at >= since)
    if before is not None:
        query = query.where(ACTIONS.c.updated_at <= before)
    if marker is not None:
        query = query.where(ACTIONS.c.id < marker["id"])
    return [dict(row) for row in conn.execute(query.order_by(ACTIONS.c.id.desc()).limit(limit)).mappings()]


def by_request(conn: sa.Connection, server_id: str, request_id: str) -> dict[str, Any] | None:
    query = sa.select(ACTIONS).where(ACTIONS.c.server_id == server_id, ACTIONS.c.request_id == request_id)
    row = conn.execute(query.order_by(ACTIONS.c.id.desc())).mappings().first()
    return dict(row) if row else None


def events(conn: sa.Connection, number: int) -> list[dict[str, Any]]:
    query = sa.select(ACTION_EVENTS).where(ACTION_EVENTS.c.action_id == number).order_by(ACTION_EVENTS.c.id.desc())
    return [dict(row) for row in conn.execute(query).mappings()]
