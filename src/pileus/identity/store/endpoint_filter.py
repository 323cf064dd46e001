"""Endpoint groups, and which endpoints and groups projects are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from . import catalog
from .listing import Record
from .projects import COLUMNS as PROJECT_COLUMNS
from .tables import endpoint_groups, endpoints, project_endpoint_groups, project_endpoints, projects

COLUMNS = (endpoint_groups.c.id, endpoint_groups.c.name, endpoint_groups.c.description, endpoint_groups.c.filters)


def fitting(filters: Mapping[str, str | None]) -> sa.ColumnElement[bool]:
    """The condition on endpoints that a group stands for."""
    return sa.and_(sa.true(), *(endpoints.c[name] == value for name, value in sorted(filters.items())))


def endpoints_of(conn: sa.Connection, condition: sa.ColumnElement[bool]) -> Sequence[Record]:
    return conn.execute(sa.select(*catalog.ENDPOINT_COLUMNS).where(condition).order_by(endpoints.c.id)).all()


def own_endpoints(project_id: str) -> sa.ColumnElement[bool]:
    """The condition on endpoints that a project is given one by one."""
    links = project_endpoints
    return endpoints.c.id.in_(sa.select(links.c.endpoint_id).where(links.c.project_id == project_id))


def groups_of_project(conn: sa.Connection, project_id: str) -> Sequence[Record]:
    links = project_endpoint_groups
    query = (
        sa.select(*COLUMNS)
        .join(links, links.c.endpoint_group_id == endpoint_groups.c.id)
        .where(links.c.project_id == project_id)
        .order_by(endpoint_groups.c.id)
    )
    return conn.execute(query).all()


def projects_of(conn: sa.Connection, link: sa.Column[str], identifier: str) -> Sequence[Record]:
    """The projects that are given an endpoint or a group; `link` is the column that names it."""
    given = sa.select(link.table.c.project_id).where(link == identifier)
    return conn.execute(sa.select(*PROJECT_COLUMNS).where(projects.c.id.in_(given)).order_by(projects.c.id)).all()


def is_linked(conn: sa.Connection, link: sa.Column[str], identifier: str, project_id: str) -> bool:
    query = sa.select(link).where(link == identifier, link.table.c.project_id == project_id)
    return conn.execute(query).first() is not None


def unlink(conn: sa.Connection, link: sa.Column[str], identifier: str, project_id: str) -> bool:
    removal = sa.delete(project_endpoints if link.table is project_endpoints else project_endpoint_groups)
    return conn.execute(removal.where(link == identifier, link.table.c.project_id == project_id)).rowcount > 0


def everything(conn: sa.Connection) -> dict[str, frozenset[str]]:
    """Ids of the endpoints that each project is given, disabled ones too; projects that are given nothing are left out."""
    found: dict[str, set[str]] = {}
    links = project_endpoints
    for project_id, endpoint_id in conn.execute(sa.select(links.c.project_id, links.c.endpoint_id)):
        found.setdefault(project_id, set()).add(endpoint_id)
    grouped = project_endpoint_groups
    given = conn.execute(sa.select(grouped.c.project_id, grouped.c.endpoint_group_id)).all()
    if given:
        filters = conn.execute(sa.select(endpoint_groups.c.id, endpoint_groups.c.filters)).all()
        places = conn.execute(
            sa.select(endpoints.c.id, endpoints.c.service_id, endpoints.c.region_id, endpoints.c.interface)
        ).all()
        members = {
            group_id: {place.id for place in places if all(getattr(place, name) == asked[name] for name in asked)}
            for group_id, asked in filters
        }
        for project_id, group_id in given:
            found.setdefault(project_id, set()).update(members[group_id])
    return {project_id: frozenset(ids) for project_id, ids in found.items() if ids}
