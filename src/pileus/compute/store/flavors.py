"""SQL of flavors, their extra specs and the projects that may use them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.compute.store.tables import FLAVOR_EXTRA_SPECS, FLAVOR_PROJECTS, FLAVORS

Row = dict[str, Any]


def visible_to(project_id: str | None) -> sa.ColumnElement[bool]:
    """Flavors that are public or given to the project."""
    given = sa.exists().where(FLAVOR_PROJECTS.c.flavor_id == FLAVORS.c.id, FLAVOR_PROJECTS.c.project_id == project_id)
    return sa.or_(FLAVORS.c.is_public.is_(True), given)


def get(conn: sa.Connection, flavorid: str, *, visible: sa.ColumnElement[bool] | None = None) -> Row | None:
    """A flavor with its `extra_specs`, by the id that users see."""
    query = sa.select(FLAVORS).where(FLAVORS.c.flavorid == flavorid)
    row = conn.execute(query if visible is None else query.where(visible)).mappings().first()
    if row is None:
        return None
    return {**row, "extra_specs": extra_specs(conn, [row["id"]]).get(row["id"], {})}


def extra_specs(conn: sa.Connection, ids: Sequence[int]) -> dict[int, dict[str, str]]:
    """Inner id -> extra specs, for those that have any."""
    found: dict[int, dict[str, str]] = {}
    if ids:
        columns = FLAVOR_EXTRA_SPECS.c
        query = sa.select(columns.flavor_id, columns.key, columns.value).where(columns.flavor_id.in_(ids))
        for flavor_id, key, value in conn.execute(query.order_by(columns.flavor_id, columns.key)):
            found.setdefault(flavor_id, {})[key] = value
    return found


def set_extra_specs(conn: sa.Connection, flavor_id: int, specs: Mapping[str, str]) -> None:
    """Add or replace these specs, leave the others."""
    where = (FLAVOR_EXTRA_SPECS.c.flavor_id == flavor_id, FLAVOR_EXTRA_SPECS.c.key.in_(list(specs)))
    conn.execute(FLAVOR_EXTRA_SPECS.delete().where(*where))
    if specs:
        conn.execute(
            FLAVOR_EXTRA_SPECS.insert(), [{"flavor_id": flavor_id, "key": k, "value": v} for k, v in specs.items()]
        )


def remove_extra_spec(conn: sa.Connection, flavor_id: int, key: str) -> bool:
    where = (FLAVOR_EXTRA_SPECS.c.flavor_id == flavor_id, FLAVOR_EXTRA_SPECS.c.key == key)
    return conn.execute(FLAVOR_EXTRA_SPECS.delete().where(*where)).rowcount > 0


def projects(conn: sa.Connection, flavor_id: int) -> list[str]:
    query = sa.select(FLAVOR_PROJECTS.c.project_id).where(FLAVOR_PROJECTS.c.flavor_id == flavor_id)
    return list(conn.execute(query.order_by(FLAVOR_PROJECTS.c.project_id)).scalars())


def add_project(conn: sa.Connection, flavor_id: int, project_id: str) -> None:
    conn.execute(FLAVOR_PROJECTS.insert().values(flavor_id=flavor_id, project_id=project_id))


def remove_project(conn: sa.Connection, flavor_id: int, project_id: str) -> bool:
    where = (FLAVOR_PROJECTS.c.flavor_id == flavor_id, FLAVOR_PROJECTS.c.project_id == project_id)
    return conn.execute(FLAVOR_PROJECTS.delete().where(*where)).rowcount > 0


def listing(
    conn: sa.Connection,
    where: Iterable[sa.ColumnElement[bool]],
    order: Sequence[sa.ColumnElement[Any]],
    marker: int | None,
    limit: int,
) -> list[Row] | None:
    """Flavors in order, after the one with inner id `marker`; None when that is not in the list.

    Clouds have tens of flavors, so the page is cut here.
    """
    rows = [dict(r) for r in conn.execute(sa.select(FLAVORS).where(*where).order_by(*order)).mappings()]
    if marker is None:
        return rows[:limit]
    for place, row in enumerate(rows):
        if row["id"] == marker:
            return rows[place + 1 : place + 1 + limit]
    return None
