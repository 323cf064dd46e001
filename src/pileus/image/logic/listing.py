"""Which images a list shows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from pileus.image.errors import BadRequest
from pileus.image.logic.images import sees_everything
from pileus.image.store import images as store
from pileus.image.store.images import Image
from pileus.image.store.tables import images
from pileus.kernel import pagination
from pileus.kernel.context import Context
from pileus.kernel.service import Service

_I = images.c
_COMPARE = {
    "gt": lambda column, value: column > value,
    "gte": lambda column, value: column >= value,
    "lt": lambda column, value: column < value,
    "lte": lambda column, value: column <= value,
    "eq": lambda column, value: column == value,
    "neq": lambda column, value: column != value,
}
COMPARISONS = frozenset(_COMPARE)


@dataclass(frozen=True)
class Filter:
    """All conditions of a list; each that is given must hold. `equal`: any of these values, by column."""

    visibility: str | None = None
    member_status: str | None = "accepted"
    equal: dict[str, Sequence[object]] = field(default_factory=dict)
    moments: Sequence[tuple[str, str, dt.datetime]] = ()
    size_min: int | None = None
    size_max: int | None = None
    tags: Sequence[str] = ()
    properties: dict[str, str] = field(default_factory=dict)
    nothing: bool = False
    """A condition that no image can meet."""


def list_images(
    service: Service, context: Context, wanted: Filter, sort: pagination.Sort, marker: str | None, limit: int
) -> list[Image]:
    """A page of the images this caller may see: four statements, whatever their number."""
    if limit == 0 or wanted.nothing:
        return []
    with service.db.read() as conn:
        start: Mapping[Any, Any] | None = None
        if marker is not None:
            seen = store.visible(context.project_id, None, everything=sees_everything(context))
            known = sa.select(images).where(_I.id == marker)
            start = conn.execute(known if seen is None else known.where(seen)).mappings().first()
            if start is None:
                raise BadRequest(f"No image found with ID {marker}")
        query = sa.select(images).where(*_conditions(context, wanted))
        page = pagination.page(query, images, sort=sort, marker=start, limit=limit)
        return store.assemble(conn, conn.execute(page).mappings().all())


def _conditions(context: Context, wanted: Filter) -> list[sa.ColumnElement[bool]]:
    everything = sees_everything(context)
    conditions: list[sa.ColumnElement[bool]] = []
    seen = store.visible(context.project_id, wanted.member_status, everything=everything)
    if seen is not None:
        conditions.append(seen)
    if wanted.visibility is None:
        # Community images of others are for those who ask for them.
        conditions.append(sa.or_(_I.visibility != "community", _I.owner == context.project_id))
    elif wanted.visibility != "all":
        conditions.append(_I.visibility == wanted.visibility)
    for name, values in wanted.equal.items():
        conditions.append(_I[name].in_(list(values)) if len(values) != 1 else _I[name] == values[0])
    conditions += [_COMPARE[word](_I[name], moment) for name, word, moment in wanted.moments]
    if wanted.size_min is not None:
        conditions.append(_I.size >= wanted.size_min)
    if wanted.size_max is not None:
        conditions.append(_I.size <= wanted.size_max)
    conditions += [store.with_tag(tag) for tag in wanted.tags]
    conditions += [store.with_property(name, value) for name, value in wanted.properties.items()]
    return conditions
