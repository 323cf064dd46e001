"""Tokens that ended before their time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import sqlalchemy as sa

from pileus.kernel.db import insert_ignore

from .listing import Record
from .tables import revocations


def add(conn: sa.Connection, audit_id: str, expires_at: dt.datetime, now: dt.datetime, *, chain: bool = False) -> None:
    """End one token, or with `chain` all tokens of its chain."""
    row = {"audit_id": audit_id, "chain": chain, "revoked_at": now, "expires_at": expires_at}
    insert_ignore(conn, revocations, [row])


def since(conn: sa.Connection, moment: dt.datetime | None) -> Sequence[Record]:
    """What was ended at a moment or later, oldest first."""
    query = sa.select(revocations.c.audit_id, revocations.c.chain, revocations.c.revoked_at)
    if moment is not None:
        query = query.where(revocations.c.revoked_at >= moment)
    return conn.execute(query.order_by(revocations.c.revoked_at, revocations.c.audit_id)).all()


def forget(conn: sa.Connection, before: dt.datetime) -> int:
    """Drop what concerns tokens that could not be validated any more anyhow; how many rows."""
    return conn.execute(sa.delete(revocations).where(revocations.c.expires_at < before)).rowcount
