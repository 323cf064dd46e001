"""Credentials (encrypted blobs) and application credentials."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa

from pileus.kernel.db import insert_ignore

from .listing import Record, locked
from .tables import access_rules, application_credential_rules, application_credentials, credentials

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


RULE_COLUMNS = (
    access_rules.c.id,
    access_rules.c.user_id,
    access_rules.c.service,
    access_rules.c.path,
    access_rules.c.method,
)


def rules_of(conn: sa.Connection, credential_ids: Iterable[str]) -> dict[str, list[Record]]:
    """Access rules by application credential; those without any are left out."""
    links = application_credential_rules
    query = (
        sa.select(links.c.application_credential_id, *RULE_COLUMNS)
        .join(access_rules, access_rules.c.id == links.c.access_rule_id)
        .where(links.c.application_credential_id.in_(list(credential_ids)))
        .order_by(access_rules.c.id)
    )
    found: dict[str, list[Record]] = {}
    for row in conn.execute(query):
        found.setdefault(row.application_credential_id, []).append(row)
    return found


def add_rules(conn: sa.Connection, rows: Sequence[Mapping[str, str]]) -> None:
    """Keep these access rules, unless the user has the same ones already."""
    insert_ignore(conn, access_rules, rows)


def rules_of_user(conn: sa.Connection, user_id: str) -> Sequence[Record]:
    """All access rules of a user, kept from being deleted until the end of the transaction."""
    query = sa.select(*RULE_COLUMNS).where(access_rules.c.user_id == user_id)
    return conn.execute(locked(query, "share")).all()


def link_rules(conn: sa.Connection, credential_id: str, rule_ids: Iterable[str]) -> None:
    rows = [{"application_credential_id": credential_id, "access_rule_id": rule_id} for rule_id in sorted(rule_ids)]
    if rows:
        conn.execute(sa.insert(application_credential_rules), rows)


def rule_is_used(conn: sa.Connection, rule_id: str) -> bool:
    links = application_credential_rules
    return conn.execute(sa.select(links.c.access_rule_id).where(links.c.access_rule_id == rule_id)).first() is not None
