"""Credentials (encrypted blobs) and application credentials."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from .listing import Record
from .tables import application_credentials, credentials

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
