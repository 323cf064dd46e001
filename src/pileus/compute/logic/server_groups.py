"""Server groups: which servers shall stay together or apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.compute.errors import BadRequest, ServerGroupNotFound, TooMany
from pileus.compute.logic import quotas
from pileus.compute.store.tables import SERVER_GROUP_MEMBERS, SERVER_GROUPS, SERVERS
from pileus.kernel import clock, ids, quota
from pileus.kernel.context import Context
from pileus.kernel.service import Service

Row = dict[str, Any]


def _with_members(conn: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    members: dict[str, list[str]] = {row["uuid"]: [] for row in rows}
    if members:
        query = (
            sa.select(SERVER_GROUP_MEMBERS.c.group_uuid, SERVER_GROUP_MEMBERS.c.server_id)
            .join(SERVERS, SERVERS.c.id == SERVER_GROUP_MEMBERS.c.server_id)
            .where(SERVER_GROUP_MEMBERS.c.group_uuid.in_(list(members)), SERVERS.c.deleted.is_(False))
            .order_by(SERVERS.c.created_at, SERVERS.c.id)
        )
        for group, server_id in conn.execute(query):
            members[group].append(server_id)
    return [{**row, "members": members[row["uuid"]]} for row in rows]


def get_group(conn: sa.Connection, context: Context, uuid: str) -> Row:
    """A group of the caller's project (of any project for administrators), with `members`. Raises `ServerGroupNotFound`."""
    query = sa.select(SERVER_GROUPS).where(SERVER_GROUPS.c.uuid == uuid)
    if not context.is_admin:
        query = query.where(SERVER_GROUPS.c.project_id == context.project_id)
    row = conn.execute(query).mappings().first()
    if row is None:
        raise ServerGroupNotFound(uuid)
    return _with_members(conn, [dict(row)])[0]


def list_groups(service: Service, context: Context, *, all_projects: bool, limit: int, offset: int) -> list[Row]:
    query = sa.select(SERVER_GROUPS).order_by(SERVER_GROUPS.c.id)
    if not all_projects:
        query = query.where(SERVER_GROUPS.c.project_id == context.project_id)
    with service.db.read() as conn:
        rows = conn.execute(query.limit(limit).offset(offset)).mappings().all()
        return _with_members(conn, [dict(row) for row in rows])


def create_group(service: Service, context: Context, name: str, policy: str, rules: Mapping[str, Any]) -> Row:
    """Make a group. Raises `TooMany` beyond the project's quota."""
    row = {
        "uuid": ids.new_uuid(),
        "project_id": context.project_id,
        "user_id": context.user_id,
        "name": name,
        "policy": policy,
        "rules": dict(rules),
        "created_at": clock.utcnow(),
    }
    with service.db.write() as conn:
        try:
            base = quotas.defaults(service, conn)
            quota.reserve(conn, context.project_id or "", {"server_groups": 1}, base)
        except quota.Exceeded:
            raise TooMany("Quota exceeded, too many server groups.") from None
        conn.execute(SERVER_GROUPS.insert().values(**row))
    return {**row, "members": []}


def delete_group(service: Service, context: Context, uuid: str) -> None:
    """Remove a group; its servers stay."""
    with service.db.write() as conn:
        row = get_group(conn, context, uuid)
        if conn.execute(SERVER_GROUPS.delete().where(SERVER_GROUPS.c.uuid == uuid)).rowcount:
            quotas.release(conn, row["project_id"], {"server_groups": 1})


def join(service: Service, conn: sa.Connection, context: Context, uuid: str, server_ids: Sequence[str]) -> None:
    """Put new servers into a group. Raises `BadRequest` for one that is not there, `TooMany` when it would be too full."""
    lock = sa.select(SERVER_GROUPS.c.uuid).where(SERVER_GROUPS.c.uuid == uuid).with_for_update()
    conn.execute(lock)
    try:
        group = get_group(conn, context, uuid)
    except ServerGroupNotFound:
        raise BadRequest(f"Instance group {uuid} could not be found.") from None
    limit = quotas.limits(service, conn, group["project_id"])["server_group_members"]
    if limit != quota.UNLIMITED and len(group["members"]) + len(server_ids) > limit:
        raise TooMany("Quota exceeded, too many servers in group")
    conn.execute(
        SERVER_GROUP_MEMBERS.insert(), [{"server_id": server_id, "group_uuid": uuid} for server_id in server_ids]
    )
