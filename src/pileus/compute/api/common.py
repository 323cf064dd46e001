"""What the handlers of servers share: finding the server that a path names, and whether the caller may."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pileus.compute.errors import ServerNotFound
from pileus.compute.store import servers as store
from pileus.compute.store.tables import SERVERS
from pileus.kernel.web import Call

TARGET_COLUMNS = (
    SERVERS.c.id,
    SERVERS.c.project_id,
    SERVERS.c.user_id,
    SERVERS.c.name,
    SERVERS.c.host,
    SERVERS.c.node,
    SERVERS.c.vm_state,
    SERVERS.c.task_state,
    SERVERS.c.power_state,
    SERVERS.c.launched_at,
    SERVERS.c.locked,
    SERVERS.c.locked_by,
    SERVERS.c.updated_at,
    SERVERS.c.epoch,
)


def check_visible(call: Call, row: dict[str, Any] | None, server_id: str) -> dict[str, Any]:
    """The row, if the caller's project may know of it; raises `ServerNotFound`."""
    if row is None:
        raise ServerNotFound(server_id)
    context = call.context
    if row["project_id"] != context.project_id and not (context.is_admin or context.is_service):
        raise ServerNotFound(server_id)
    return row


def server_of(call: Call, *columns: sa.ColumnElement[Any], name: str = "server_id") -> dict[str, Any]:
    """The server that the path names, with some columns; authorized by the operation's rule."""
    server_id = call.params[name]
    wanted = {column.name: column for column in (*TARGET_COLUMNS, *columns)}
    with call.service.db.read() as conn:
        query = sa.select(*wanted.values()).where(SERVERS.c.id == server_id, SERVERS.c.deleted.is_(False))
        found = conn.execute(query).mappings().first()
    row = check_visible(call, dict(found) if found else None, server_id)
    call.authorize(target(row))
    return row


def target(row: dict[str, Any]) -> dict[str, Any]:
    """What policy compares a server by."""
    return {"project_id": row["project_id"], "tenant_id": row["project_id"], "user_id": row["user_id"]}


def whole_server(call: Call, name: str = "server_id") -> dict[str, Any]:
    """All columns of the server that the path names, authorized."""
    server_id = call.params[name]
    with call.service.db.read() as conn:
        row = store.get(conn, server_id)
    row = check_visible(call, row, server_id)
    call.authorize(target(row))
    return row


def passes_lock(call: Call, row: dict[str, Any]) -> bool:
    """Administrators work on locked servers too."""
    return call.context.is_admin or not row["locked"]
