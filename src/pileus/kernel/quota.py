"""Quota: usage counted in the transaction that creates or deletes, refused by a conditional update.

The tables stand in each service's own database. Nothing rests on SQLite's single writer: the row of a project and
resource is the lock.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from pileus.kernel.db import insert_ignore

UNLIMITED = -1


class Exceeded(Exception):
    """A limit stands in the way; a room turns it into upstream's error."""

    def __init__(self, resource: str, limit: int, used: int, requested: int) -> None:
        super().__init__(f"{resource}: {used} of {limit} used, {requested} more wanted")
        self.resource = resource
        self.limit = limit
        self.used = used
        self.requested = requested


def tables(metadata: sa.MetaData) -> None:
    """Add quota_limits and quota_usages to a room's metadata."""
    for name, column in (("quota_limits", "hard_limit"), ("quota_usages", "used")):
        sa.Table(
            name,
            metadata,
            sa.Column("project_id", sa.String(64), primary_key=True),
            sa.Column("resource", sa.String(64), primary_key=True),
            sa.Column(column, sa.BigInteger, nullable=False),
        )


_metadata = sa.MetaData()
tables(_metadata)
_limits = _metadata.tables["quota_limits"]
_usages = _metadata.tables["quota_usages"]


def reserve(conn: sa.Connection, project_id: str, amounts: Mapping[str, int], defaults: Mapping[str, int]) -> None:
    """Count `amounts` on the project's usage; negative ones release and are never refused.

    Raises Exceeded; the transaction must then be rolled back, which undoes what was counted before.
    """
    wanted = {resource: amount for resource, amount in amounts.items() if amount}
    if not wanted:
        return
    own = limits(conn, project_id, defaults) if any(amount > 0 for amount in wanted.values()) else {}
    for resource in sorted(wanted):  # one order everywhere, so that two projects' rows cannot deadlock
        amount = wanted[resource]
        limit = own.get(resource, UNLIMITED) if amount > 0 else UNLIMITED
        if not _count(conn, project_id, resource, amount, limit):
            insert_ignore(conn, _usages, [{"project_id": project_id, "resource": resource, "used": 0}])
            if not _count(conn, project_id, resource, amount, limit):
                used = usages(conn, project_id).get(resource, 0)
                raise Exceeded(resource, limit, used, amount)


def _count(conn: sa.Connection, project_id: str, resource: str, amount: int, limit: int) -> bool:
    row = sa.and_(_usages.c.project_id == project_id, _usages.c.resource == resource)
    if amount > 0 and limit != UNLIMITED:
        row = sa.and_(row, _usages.c.used + amount <= limit)
    new = _usages.c.used + amount
    if amount < 0:
        new = sa.case((_usages.c.used + amount < 0, 0), else_=_usages.c.used + amount)
    return conn.execute(sa.update(_usages).where(row).values(used=new)).rowcount > 0


def limits(conn: sa.Connection, project_id: str, defaults: Mapping[str, int]) -> dict[str, int]:
    """The limits in force for a project; -1 means none."""
    rows = conn.execute(sa.select(_limits.c.resource, _limits.c.hard_limit).where(_limits.c.project_id == project_id))
    return {**defaults, **{resource: limit for resource, limit in rows}}


def usages(conn: sa.Connection, project_id: str) -> dict[str, int]:
    rows = conn.execute(sa.select(_usages.c.resource, _usages.c.used).where(_usages.c.project_id == project_id))
    return {resource: used for resource, used in rows}


def set_limits(conn: sa.Connection, project_id: str, values: Mapping[str, int]) -> None:
    """Set limits of a project."""
    for resource, value in values.items():
        row = sa.and_(_limits.c.project_id == project_id, _limits.c.resource == resource)
        if not conn.execute(sa.update(_limits).where(row).values(hard_limit=value)).rowcount:
            # MariaDB reports no row when the value is already there.
            insert_ignore(conn, _limits, [{"project_id": project_id, "resource": resource, "hard_limit": value}])


def reset_limits(conn: sa.Connection, project_id: str) -> None:
    """Back to the defaults."""
    conn.execute(sa.delete(_limits).where(_limits.c.project_id == project_id))


def own_limits(conn: sa.Connection) -> dict[str, dict[str, int]]:
    """The projects that have limits of their own, with them."""
    found: dict[str, dict[str, int]] = {}
    for project_id, resource, limit in conn.execute(sa.select(_limits)):
        found.setdefault(project_id, {})[resource] = limit
    return found
