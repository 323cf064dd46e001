"""Trusts."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import sqlalchemy as sa

from .listing import Record
from .tables import trusts


def trust(conn: sa.Connection, trust_id: str) -> Record | None:
    return conn.execute(sa.select(trusts).where(trusts.c.id == trust_id)).first()


def all_of(conn: sa.Connection, trustor_user_id: str | None, trustee_user_id: str | None) -> Sequence[Record]:
    """By trustor, trustee, both or neither."""
    query = sa.select(trusts).order_by(trusts.c.id)
    if trustor_user_id is not None:
        query = query.where(trusts.c.trustor_user_id == trustor_user_id)
    if trustee_user_id is not None:
        query = query.where(trusts.c.trustee_user_id == trustee_user_id)
    return conn.execute(query).all()


def use(conn: sa.Connection, trust_id: str) -> bool:
    """Count one use of a trust that has a number of them; whether there was one left."""
    left = sa.update(trusts).where(trusts.c.id == trust_id, trusts.c.remaining_uses > 0)
    return conn.execute(left.values(remaining_uses=trusts.c.remaining_uses - 1)).rowcount > 0


def has_ended(row: Record, now: dt.datetime) -> bool:
    return row.expires_at is not None and row.expires_at <= now
