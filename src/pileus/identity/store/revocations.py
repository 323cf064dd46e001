"""Tokens that ended before their time."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa

from pileus.kernel.db import insert_ignore

from .tables import revocations


def add(conn: sa.Connection, audit_id: str, expires_at: dt.datetime, now: dt.datetime, *, chain: bool = False) -> None:
    """End one token, or with `chain` all tokens of its chain."""
    row = {"audit_id": audit_id, "chain": chain, "revoked_at": now, "expires_at": expires_at}
    insert_ignore(conn, revocations, [row])


def forget(conn: sa.Connection, before: dt.datetime) -> int:
    """Drop what concerns tokens that could not be validated any more anyhow; how many rows."""
    return conn.execute(sa.delete(revocations).where(revocations.c.expires_at < before)).rowcount
