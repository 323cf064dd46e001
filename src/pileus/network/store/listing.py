"""Lists: filters, tags, order and pages as one statement, and the dictionaries of its rows."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.kernel import clock, pagination
from pileus.network.errors import HTTPBadRequest
from pileus.network.store import tables as t
from pileus.network.store.kinds import Condition, Kind

TAG_FILTERS = ("tags", "tags-any", "not-tags", "not-tags-any")


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a list request asks for. `visible` None: every row. `backwards`: the page before the marker, still in order."""

    visible: Condition | None
    filters: Mapping[str, list[str]]
    sort: Sequence[tuple[str, str]] = ()
    limit: int | None = None
    marker: str | None = None
    backwards: bool = False
    viewer: str | None = None


def find(conn: sa.Connection, kind: Kind, wanted: Wanted) -> list[dict[str, Any]]:
    """The dictionaries of one page. Raises HTTPBadRequest for filters and sort keys that are none, the kind's error for an unknown marker."""
    query = sa.select(kind.table)
    if wanted.visible is not None:
        query = query.where(wanted.visible)
    for name, values in wanted.filters.items():
        query = query.where(_condition(kind, name, values, wanted.viewer))
    sort = [(_sort_column(kind, key), direction) for key, direction in wanted.sort]
    if "id" not in [name for name, _ in sort]:
        sort.append(("id", "asc"))
    if wanted.backwards:
        sort = [(name, "asc" if direction == "desc" else "desc") for name, direction in sort]
    marker = _marker(conn, kind, wanted.marker) if wanted.marker else None
    rows: Sequence[Any] = conn.execute(pagination.page(query, kind.table, sort=sort, marker=marker, limit=wanted.limit)).all()
    if wanted.backwards:
        rows = rows[::-1]
    return kind.render(conn, rows, wanted.viewer)


def _marker(conn: sa.Connection, kind: Kind, id: str) -> Mapping[str, Any]:
    row = conn.execute(sa.select(kind.table).where(kind.table.c.id == id)).mappings().first()
    if row is None:
        raise kind.missing(id)
    return row  # type: ignore[return-value]


def _sort_column(kind: Kind, key: str) -> str:
    column = kind.columns.get(key)
    if column is None:
        raise HTTPBadRequest(f"[{key!r}] is invalid attribute for sort_keys")
    return column.name


def is_filter(kind: Kind, name: str) -> bool:
    """Whether lists of this kind can be filtered by the name."""
    return name in kind.columns or name in kind.special or (kind.revised and name == "changed_since") or (kind.tagged and name in TAG_FILTERS)


def _condition(kind: Kind, name: str, values: list[str], viewer: str | None) -> Condition:
    if name in TAG_FILTERS:
        return _tag_condition(kind, name, values)
    if name in kind.special:
        return kind.special[name](values, viewer)
    if name == "changed_since":
        return sa.or_(*[kind.table.c.updated_at >= _moment(value) for value in values])
    return column_condition(kind.columns[name], name, values)


def column_condition(column: sa.Column[Any], name: str, values: list[str]) -> Condition:
    """The column has one of the values, given as text. Raises HTTPBadRequest."""
    if isinstance(column.type, sa.Boolean):
        return sa.or_(*[column.is_(_truth(name, value)) for value in values])
    if isinstance(column.type, sa.Integer):
        return column.in_([_number(name, value) for value in values])
    if isinstance(column.type, sa.DateTime):
        return column.in_([_moment(value) for value in values])
    if column.nullable and "" in values:
        return sa.or_(column.is_(None), column.in_(values))
    return column == values[0] if len(values) == 1 else column.in_(values)


def _truth(name: str, value: str) -> bool:
    if value.lower() in {"true", "1"}:
        return True
    if value.lower() in {"false", "0"}:
        return False
    raise HTTPBadRequest(f"Invalid input for {name}. Reason: '{value}' cannot be converted to boolean.")


def _number(name: str, value: str) -> int:
    try:
        number = int(value)
    except ValueError:
        raise HTTPBadRequest(f"Invalid input for {name}. Reason: '{value}' is not an integer.") from None
    if abs(number) >= 2**63:
        raise HTTPBadRequest(f"Invalid input for {name}. Reason: '{value}' is too large.")
    return number


def _moment(value: str) -> dt.datetime:
    try:
        return clock.parse(value)
    except ValueError:
        raise HTTPBadRequest(f"The input changed_since must be a moment in ISO 8601 format: '{value}' is none.") from None


def _tag_condition(kind: Kind, name: str, values: list[str]) -> Condition:
    """tags: has all; tags-any: has one; not-tags: lacks at least one of all; not-tags-any: has none."""
    wanted = sorted({tag for value in values for tag in value.split(",") if tag})
    if not wanted:
        return sa.true()
    table = t.tags
    having = sa.select(table.c.resource_id).where(table.c.tag.in_(wanted))
    if name in {"tags", "not-tags"}:
        having = having.group_by(table.c.resource_id).having(sa.func.count() == len(wanted))
    has = kind.table.c.id.in_(having)
    return sa.not_(has) if name.startswith("not-") else has
