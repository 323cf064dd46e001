"""Pages by key: the rows after a marker, in the order of the sort keys. Never OFFSET, so pages cost the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.kernel.errors import Invalid
from pileus.kernel.web import Call

Sort = Sequence[tuple[str, str]]


def page(
    query: sa.Select[Any],
    table: sa.FromClause,
    *,
    sort: Sort,
    marker: Mapping[str, Any] | None = None,
    limit: int | None = None,
) -> sa.Select[Any]:
    """The query in the order of `sort` ((column, "asc" or "desc"), the last one unique), after the marker's row.

    `marker` is a row with all sort columns. NULLs come first ascending and last descending, on every database.
    """
    if marker is not None:
        query = query.where(_after(table, sort, marker))
    for name, direction in sort:
        column = table.c[name]
        descending = direction == "desc"
        if column.nullable:
            absent = sa.case((column.is_(None), 0), else_=1)
            query = query.order_by(absent.desc() if descending else absent.asc())
        query = query.order_by(column.desc() if descending else column.asc())
    return query.limit(limit) if limit is not None else query


def _after(table: sa.FromClause, sort: Sort, marker: Mapping[str, Any]) -> sa.ColumnElement[bool]:
    """(a > x) or (a = x and b > y) or ..., with NULL below everything."""
    alternatives: list[sa.ColumnElement[bool]] = []
    equal: list[sa.ColumnElement[bool]] = []
    for name, direction in sort:
        column, value = table.c[name], marker[name]
        alternatives.append(sa.and_(*equal, _beyond(column, value, direction == "desc")))
        equal.append(column.is_(None) if value is None else column == value)
    return sa.or_(*alternatives)


def _beyond(column: sa.ColumnElement[Any], value: Any, descending: bool) -> sa.ColumnElement[bool]:
    if value is None:
        return sa.false() if descending else column.is_not(None)
    if descending:
        return sa.or_(column < value, column.is_(None))
    return sa.and_(column > value)


def parse_limit(call: Call, maximum: int, default: int | None = None) -> int | None:
    """The `limit` of a request: whole and not negative, cut at `maximum`; 0 is a page of nothing only where upstream
    says so (compute), so it is returned as it is. Raises Invalid.
    """
    text = call.query.one("limit")
    if text is None:
        return default
    try:
        limit = int(text)
    except ValueError:
        raise Invalid("limit param must be an integer") from None
    if limit < 0:
        raise Invalid("limit param must be positive")
    return min(limit, maximum)


def parse_sort(
    keys: Sequence[str], directions: Sequence[str], allowed: Mapping[str, str], default: Sort, unique: str = "id"
) -> list[tuple[str, str]]:
    """sort_key and sort_dir lists as (column, direction); `allowed` maps API names to columns. Raises Invalid."""
    if not keys:
        sort = list(default)
        if directions:
            sort = [(name, _direction(directions[0])) for name, _ in sort]
    else:
        sort = []
        for index, key in enumerate(keys):
            if key not in allowed:
                raise Invalid(f"Invalid sort key '{key}'.")
            direction = (
                directions[index] if index < len(directions) else (directions[-1] if directions else default[0][1])
            )
            sort.append((allowed[key], _direction(direction)))
    if unique not in [name for name, _ in sort]:
        sort.append((unique, sort[-1][1] if sort else "asc"))
    return sort


def _direction(text: str) -> str:
    if text not in {"asc", "desc"}:
        raise Invalid(f"Unknown sort direction '{text}', must be 'desc' or 'asc'.")
    return text
