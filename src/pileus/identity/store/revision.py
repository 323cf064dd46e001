"""The revision: one row that tells every cache whether it still knows enough.

`value` is raised in the transaction of any change that can take a right away or that shows in a token; `roles` and
`catalog` take the new value when the small maps of roles and of services have changed.
"""

from __future__ import annotations

import sqlalchemy as sa

from pileus.kernel.db import insert_ignore

from . import tables

Revision = tuple[int, int, int]

_READ = sa.select(tables.revision.c.value, tables.revision.c.roles, tables.revision.c.catalog).where(
    tables.revision.c.id == 1
)


PEEK = "SELECT value FROM revision WHERE id = 1"
"""The value alone, for `Database.peek`."""


def read(conn: sa.Connection) -> Revision:
    """(value, roles, catalog); zeros before the first change."""
    row = conn.execute(_READ).first()
    return (row[0], row[1], row[2]) if row else (0, 0, 0)


def advance(conn: sa.Connection, *, roles: bool = False, catalog: bool = False) -> None:
    """Raise the revision. Call it last in the transaction: on PostgreSQL and MariaDB it locks the row until the end."""
    revision = tables.revision
    values: dict[str, sa.ColumnElement[int]] = {"value": revision.c.value + 1}
    if roles:
        values["roles"] = revision.c.value + 1
    if catalog:
        values["catalog"] = revision.c.value + 1
    # MariaDB assigns from left to right and would see the raised value: the two others are set first.
    ordered = [(revision.c[name], values[name]) for name in ("roles", "catalog", "value") if name in values]
    change = sa.update(revision).where(revision.c.id == 1).ordered_values(*ordered)
    if conn.execute(change).rowcount == 0:
        insert_ignore(conn, revision, [{"id": 1, "value": 0, "roles": 0, "catalog": 0}])
        conn.execute(change)
