"""Which endpoints the catalog of a project shows: those it is given, one by one or by groups, or else all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.identity.errors import AlreadyExists, not_found
from pileus.identity.store import catalog as catalog_store
from pileus.identity.store import endpoint_filter as store
from pileus.identity.store import listing, projects, revision
from pileus.identity.store.listing import Listing, Lock, Record
from pileus.identity.store.tables import endpoint_groups, endpoints, project_endpoint_groups, project_endpoints
from pileus.kernel import ids
from pileus.kernel.db import is_unique_violation
from pileus.kernel.errors import NotFound
from pileus.kernel.service import Service

from .common import check_same_id
from .projects import Tagged

ENDPOINT: sa.Column[str] = project_endpoints.c.endpoint_id
GROUP: sa.Column[str] = project_endpoint_groups.c.endpoint_group_id
"""What a project is given: the column names the kind."""

# Groups ---------------------------------------------------------------------------------------------------------------


def list_groups(service: Service, wanted: Listing) -> Sequence[Record]:
    with service.db.read() as conn:
        return listing.select(conn, store.COLUMNS, endpoint_groups, wanted)


def group(service: Service, group_id: str) -> Record:
    """Raises NotFound."""
    with service.db.read() as conn:
        return _group(conn, group_id)


def create_group(service: Service, body: Mapping[str, Any]) -> Record:
    group_id = ids.new_id()
    values = {"name": body["name"], "description": body.get("description"), "filters": body["filters"]}
    with service.db.write() as conn:
        conn.execute(sa.insert(endpoint_groups).values(id=group_id, **values))
        return _group(conn, group_id)


def update_group(service: Service, group_id: str, body: Mapping[str, Any]) -> Record:
    """Raises NotFound, Invalid."""
    check_same_id("endpoint_group", group_id, body)
    with service.db.write() as conn:
        _group(conn, group_id, "update")
        values = {name: body[name] for name in ("name", "description", "filters") if name in body}
        listing.change(conn, endpoint_groups, group_id, values)
        changed = _group(conn, group_id)
        revision.advance(conn, catalog=True)
        return changed


def delete_group(service: Service, group_id: str) -> None:
    """Raises NotFound."""
    with service.db.write() as conn:
        if listing.remove(conn, endpoint_groups, group_id) == 0:
            raise not_found("Endpoint Group", group_id)
        revision.advance(conn, catalog=True)


def endpoints_of_group(service: Service, group_id: str) -> Sequence[Record]:
    """Raises NotFound."""
    with service.db.read() as conn:
        return store.endpoints_of(conn, store.fitting(_group(conn, group_id).filters))


# What projects are given ----------------------------------------------------------------------------------------------


def groups_of_project(service: Service, project_id: str) -> Sequence[Record]:
    """Raises NotFound."""
    with service.db.read() as conn:
        _project(conn, project_id)
        return store.groups_of_project(conn, project_id)


def endpoints_of_project(service: Service, project_id: str) -> Sequence[Record]:
    """Endpoints that the project is given, by groups too, whether they are enabled or not. Raises NotFound."""
    with service.db.read() as conn:
        _project(conn, project_id)
        groups = store.groups_of_project(conn, project_id)
        by_group = [store.fitting(row.filters) for row in groups]
        return store.endpoints_of(conn, sa.or_(store.own_endpoints(project_id), *by_group))


def projects_with(service: Service, link: sa.Column[str], identifier: str) -> Tagged:
    """Projects that are given this endpoint or group itself. Raises NotFound."""
    with service.db.read() as conn:
        _linked(conn, link, identifier)
        rows = store.projects_of(conn, link, identifier)
        return Tagged(rows, projects.tags_of(conn, [row.id for row in rows]) if rows else {})


def check(service: Service, link: sa.Column[str], identifier: str, project_id: str) -> None:
    """Raises NotFound unless the project is given this."""
    with service.db.read() as conn:
        _linked(conn, link, identifier)
        _project(conn, project_id)
        if not store.is_linked(conn, link, identifier, project_id):
            raise _not_given(link, identifier, project_id)


def add(service: Service, link: sa.Column[str], identifier: str, project_id: str) -> None:
    """Raises NotFound, AlreadyExists."""
    try:
        with service.db.write() as conn:
            _linked(conn, link, identifier, "share")
            _project(conn, project_id, "share")
            table = project_endpoints if link is ENDPOINT else project_endpoint_groups
            conn.execute(sa.insert(table).values({link.name: identifier, "project_id": project_id}))
            revision.advance(conn, catalog=True)
    except sa.exc.IntegrityError as error:
        if not is_unique_violation(error):
            raise
        kind = "project_endpoint" if link is ENDPOINT else "project_endpoint_group"
        raise AlreadyExists(kind, f"Duplicate entry found with ID {identifier} and project {project_id}") from None


def remove(service: Service, link: sa.Column[str], identifier: str, project_id: str) -> None:
    """Raises NotFound."""
    with service.db.write() as conn:
        _linked(conn, link, identifier)
        _project(conn, project_id)
        if not store.unlink(conn, link, identifier, project_id):
            raise _not_given(link, identifier, project_id)
        revision.advance(conn, catalog=True)


def _not_given(link: sa.Column[str], identifier: str, project_id: str) -> NotFound:
    kind = "Endpoint" if link is ENDPOINT else "Endpoint Group"
    return NotFound(f"{kind} {identifier} not found in project {project_id}.")


def _linked(conn: sa.Connection, link: sa.Column[str], identifier: str, lock: Lock = None) -> None:
    if link is GROUP:
        _group(conn, identifier, lock)
    elif listing.by_id(conn, catalog_store.ENDPOINT_COLUMNS, endpoints, identifier, lock) is None:
        raise not_found("endpoint", identifier)


def _group(conn: sa.Connection, group_id: str, lock: Lock = None) -> Record:
    row = listing.by_id(conn, store.COLUMNS, endpoint_groups, group_id, lock)
    if row is None:
        raise not_found("Endpoint Group", group_id)
    return row


def _project(conn: sa.Connection, project_id: str, lock: Lock = None) -> None:
    if projects.project(conn, project_id, lock) is None:
        raise not_found("project", project_id)
