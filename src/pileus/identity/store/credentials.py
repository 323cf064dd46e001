"""Credentials (encrypted blobs), application credentials and access rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa

from pileus.kernel.db import insert_ignore

from .listing import Record
from .tables import access_rules, application_credentials, credentials

COLUMNS = (
    credentials.c.id,
    credentials.c.user_id,
    credentials.c.project_id,
    credentials.c.type,
    credentials.c.blob,
    credentials.c.extra,
)


def application_credential_by_name(conn: sa.Connection, user_id: str, name: str) -> Record | None:
    table = application_credentials
    return conn.execute(sa.select(table).where(table.c.user_id == user_id, table.c.name == name)).first()


def application_credentials_of(conn: sa.Connection, user_id: str, name: str | None) -> Sequence[Record]:
    table = application_credentials
    query = sa.select(table).where(table.c.user_id == user_id).order_by(table.c.id)
    if name is not None:
        query = query.where(table.c.name == name)
    return conn.execute(query).all()


def count_application_credentials(conn: sa.Connection, user_id: str) -> int:
    table = application_credentials
    return int(conn.execute(sa.select(sa.func.count()).where(table.c.user_id == user_id)).scalar_one())


def access_rules_of_user(conn: sa.Connection, user_id: str) -> Sequence[Record]:
    """(id, service, method, path) of all rules of a user."""
    table = access_rules
    query = sa.select(table.c.id, table.c.service, table.c.method, table.c.path)
    return conn.execute(query.where(table.c.user_id == user_id).order_by(table.c.id)).all()


def access_rule_id(conn: sa.Connection, user_id: str, new_id: str, rule: Mapping[str, str]) -> str:
    """The id of the user's rule with this content, made under `new_id` when there is none."""
    table = access_rules
    same = [table.c.user_id == user_id, *(table.c[name] == rule[name] for name in ("service", "method", "path"))]
    insert_ignore(conn, table, [{"id": new_id, "user_id": user_id, **rule}])
    return str(conn.execute(sa.select(table.c.id).where(*same)).scalar_one())


def rules_in_use(conn: sa.Connection, user_id: str) -> set[str]:
    """Access rule ids that some application credential of the user names."""
    table = application_credentials
    query = sa.select(table.c.access_rule_ids).where(table.c.user_id == user_id)
    lists: Iterable[list[str] | None] = conn.execute(query).scalars()
    return {rule_id for rule_ids in lists if rule_ids for rule_id in rule_ids}
