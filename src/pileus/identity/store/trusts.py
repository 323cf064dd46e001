"""Trusts."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import sqlalchemy as sa

from .listing import Record
from .tables import projects, trusts, users


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


def is_used_up(row: Record) -> bool:
    return row.remaining_uses is not None and row.remaining_uses <= 0


def ancestors(conn: sa.Connection, row: Record) -> list[Record]:
    """The trusts that this one was made from, the nearest first, as far as they exist."""
    if row.redelegated_trust_id is None:
        return []
    chain = (
        sa.select(trusts.c.id, trusts.c.redelegated_trust_id)
        .where(trusts.c.id == row.redelegated_trust_id)
        .cte("chain", recursive=True)
    )
    above = trusts.alias("above")
    chain = chain.union(
        sa.select(above.c.id, above.c.redelegated_trust_id).where(above.c.id == chain.c.redelegated_trust_id)
    )
    known = {found.id: found for found in conn.execute(sa.select(trusts).join(chain, chain.c.id == trusts.c.id))}
    line: list[Record] = []
    while (found := known.pop((line[-1] if line else row).redelegated_trust_id, None)) is not None:
        line.append(found)
    return line


def delete(conn: sa.Connection, trust_id: str) -> bool:
    """The trust and all that were made from it; whether there was one."""
    waiting, found = [trust_id], [trust_id]
    while waiting:
        waiting = list(conn.execute(sa.select(trusts.c.id).where(trusts.c.redelegated_trust_id.in_(waiting))).scalars())
        found += waiting
    return conn.execute(sa.delete(trusts).where(trusts.c.id.in_(found))).rowcount > 0


def enabled_users(conn: sa.Connection, user_ids: set[str]) -> set[str]:
    """Those of the users who exist and are enabled, with their domain."""
    query = (
        sa.select(users.c.id)
        .join(projects, projects.c.id == users.c.domain_id)
        .where(users.c.id.in_(user_ids), users.c.enabled == sa.true(), projects.c.enabled == sa.true())
    )
    return set(conn.execute(query).scalars())
