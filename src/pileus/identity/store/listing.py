"""Filters and pages of lists, as SQL.

Upstream's inexact filters (`name__icontains=x`) work on every text attribute that may be filtered at all. Lists with
a marker are ordered by id, as upstream's.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import sqlalchemy as sa

Record: TypeAlias = sa.Row[*tuple[Any, ...]]
"""A row of any columns."""

COMPARATORS = ("contains", "icontains", "startswith", "istartswith", "endswith", "iendswith", "equals", "iequals")
_OF_MOMENTS: Mapping[str, Callable[[Any, Any], Any]] = {
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
    "neq": operator.ne,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Filter:
    """`attribute` compared to `value`; the comparator "" is equality, those of moments are named as in queries (lt, neq)."""

    attribute: str
    value: Any
    comparator: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Listing:
    """What a list is asked for. `limit` 0 is all; the answer may hold one row more than it, which says: there is more."""

    filters: tuple[Filter, ...] = ()
    limit: int = 0
    marker: str | None = None

    def with_filter(self, attribute: str, value: Any) -> Listing:
        return dataclasses.replace(self, filters=(*self.filters, Filter(attribute, value)))


def select(
    conn: sa.Connection,
    columns: Sequence[sa.ColumnElement[Any]],
    table: sa.Table,
    listing: Listing,
    *conditions: sa.ColumnElement[bool],
) -> Sequence[Record]:
    """The rows of `table` that the listing wants."""
    query = sa.select(*columns).where(*conditions)
    for wanted in listing.filters:
        query = query.where(condition(table.c[wanted.attribute], wanted, conn.dialect.name))
    if listing.marker is not None:
        query = query.where(table.c.id > listing.marker)
    if listing.limit or listing.marker is not None:
        query = query.order_by(table.c.id)
    if listing.limit:
        query = query.limit(listing.limit + 1)
    return conn.execute(query).all()


def condition(column: sa.ColumnElement[Any], wanted: Filter, dialect: str) -> sa.ColumnElement[bool]:
    """One filter. LIKE ignores case on SQLite and MariaDB, so the exact forms compare substrings."""
    found: sa.ColumnElement[bool] = _comparison(column, wanted, dialect)
    return found


def _comparison(column: sa.ColumnElement[Any], wanted: Filter, dialect: str) -> Any:
    value, kind = wanted.value, wanted.comparator
    if kind in {"", "equals"}:
        return column == value
    if kind in _OF_MOMENTS:
        return _OF_MOMENTS[kind](column, value)
    if not value:
        return column.is_not(None)
    text = sa.func.lower(column) if kind.startswith("i") else column
    if kind.startswith("i"):
        value = value.lower()
    match kind.removeprefix("i"):
        case "contains":
            return sa.func.replace(text, value, "") != text
        case "startswith":
            return sa.func.substr(text, 1, len(value)) == value
        case "endswith" if dialect == "postgresql":
            return sa.func.right(text, len(value)) == value
        case "endswith":
            return sa.func.substr(text, -len(value)) == value
    return text == value


Lock = Literal["share", "update"] | None
"""A row lock until the end of the transaction: "share" keeps a row from being deleted by others while something is
hung on it, "update" comes before changing or deleting it. SQLite has one writer at a time and ignores both."""


def locked(query: Any, lock: Lock) -> Any:
    return query if lock is None else query.with_for_update(read=lock == "share")


def by_id(
    conn: sa.Connection,
    columns: Sequence[sa.ColumnElement[Any]],
    table: sa.Table,
    identifier: str,
    lock: Lock = None,
) -> Record | None:
    """One row by primary key."""
    row: Record | None = conn.execute(locked(sa.select(*columns).where(table.c.id == identifier), lock)).first()
    return row


def change(conn: sa.Connection, table: sa.Table, identifier: str, values: Mapping[str, Any]) -> int:
    """Update one row; how many there were."""
    if not values:
        return 1
    return conn.execute(sa.update(table).where(table.c.id == identifier).values(**values)).rowcount


def remove(conn: sa.Connection, table: sa.Table, identifier: str) -> int:
    """Delete one row; how many there were."""
    return conn.execute(sa.delete(table).where(table.c.id == identifier)).rowcount
