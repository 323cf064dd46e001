"""Projects, domains (which are projects) and tags."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from . import listing
from .listing import Lock, Record
from .tables import (
    NO_DOMAIN,
    access_rules,
    application_credentials,
    assignments,
    credentials,
    groups,
    limits,
    project_tags,
    projects,
    roles,
    trusts,
    users,
)

COLUMNS = (
    projects.c.id,
    projects.c.name,
    projects.c.domain_id,
    projects.c.parent_id,
    projects.c.description,
    projects.c.enabled,
    projects.c.is_domain,
    projects.c.options,
    projects.c.extra,
)


def project(conn: sa.Connection, project_id: str, lock: Lock = None) -> Record | None:
    return listing.by_id(conn, COLUMNS, projects, project_id, lock)


def domain(conn: sa.Connection, domain_id: str, lock: Lock = None) -> Record | None:
    row = project(conn, domain_id, lock)
    return row if row is not None and row.is_domain else None


def domain_by_name(conn: sa.Connection, name: str) -> Record | None:
    query = sa.select(*COLUMNS).where(projects.c.name == name, projects.c.is_domain == sa.true())
    return conn.execute(query).first()


_named_domain = projects.alias("named_domain")


def project_by_name(conn: sa.Connection, name: str, domain_id: str | None, domain_name: str | None) -> Record | None:
    """A project that is no domain, by its name in a domain given by id or name."""
    query = sa.select(*COLUMNS).where(projects.c.name == name)
    if domain_id is not None:
        return conn.execute(query.where(projects.c.domain_id == domain_id)).first()
    query = query.join(_named_domain, _named_domain.c.id == projects.c.domain_id)
    return conn.execute(
        query.where(_named_domain.c.name == domain_name, _named_domain.c.is_domain == sa.true())
    ).first()


def add(
    conn: sa.Connection,
    project_id: str,
    name: str,
    *,
    domain_id: str,
    parent_id: str | None = None,
    description: str = "",
    enabled: bool = True,
    options: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """A project, or in NO_DOMAIN a domain. Raises IntegrityError where the name is taken."""
    conn.execute(
        sa.insert(projects).values(
            id=project_id,
            name=name,
            domain_id=domain_id,
            parent_id=parent_id,
            description=description,
            enabled=enabled,
            is_domain=domain_id == NO_DOMAIN,
            options=dict(options or {}),
            extra=dict(extra or {}),
        )
    )


def tags_of(conn: sa.Connection, project_ids: Iterable[str] | sa.Select[*tuple[Any, ...]]) -> dict[str, list[str]]:
    """Tags by project; projects without any are absent."""
    condition = project_tags.c.project_id.in_(project_ids if isinstance(project_ids, sa.Select) else list(project_ids))
    found: dict[str, list[str]] = {}
    query = sa.select(project_tags.c.project_id, project_tags.c.name).where(condition).order_by(project_tags.c.name)
    for project_id, name in conn.execute(query):
        found.setdefault(project_id, []).append(name)
    return found


def replace_tags(conn: sa.Connection, project_id: str, names: Iterable[str]) -> None:
    conn.execute(sa.delete(project_tags).where(project_tags.c.project_id == project_id))
    rows = [{"project_id": project_id, "name": name} for name in dict.fromkeys(names)]
    if rows:
        conn.execute(sa.insert(project_tags), rows)


def remove_tag(conn: sa.Connection, project_id: str, name: str) -> bool:
    removal = sa.delete(project_tags).where(project_tags.c.project_id == project_id, project_tags.c.name == name)
    return conn.execute(removal).rowcount > 0


def with_tags(*, every: Sequence[str] = (), some: Sequence[str] = ()) -> sa.ColumnElement[bool]:
    """Projects that carry all of `every`, or at least one of `some`."""
    names = tuple(every or some)
    tagged = sa.select(project_tags.c.project_id).where(project_tags.c.name.in_(names))
    if every:
        tagged = tagged.group_by(project_tags.c.project_id).having(sa.func.count() == len(set(names)))
    return projects.c.id.in_(tagged)


def tree(conn: sa.Connection, *project_ids: str) -> Sequence[Record]:
    """Everything below these projects (or domains), parents before children, without themselves."""
    below = sa.select(projects.c.id, sa.literal(1).label("level")).where(projects.c.parent_id.in_(project_ids))
    below_cte = below.cte("below", recursive=True)
    child = projects.alias("child")
    below_cte = below_cte.union_all(
        sa.select(child.c.id, below_cte.c.level + 1).where(child.c.parent_id == below_cte.c.id)
    )
    query = (
        sa.select(*COLUMNS).join(below_cte, below_cte.c.id == projects.c.id).order_by(below_cte.c.level, projects.c.id)
    )
    seen: dict[str, Record] = {}
    for row in conn.execute(query):
        seen.setdefault(row.id, row)
    return list(seen.values())


def parents(conn: sa.Connection) -> dict[str, str]:
    """Parent by project, of all that have one."""
    query = sa.select(projects.c.id, projects.c.parent_id).where(projects.c.parent_id.is_not(None))
    return {row[0]: row[1] for row in conn.execute(query)}


def by_ids(conn: sa.Connection, identifiers: Iterable[str]) -> Sequence[Record]:
    return conn.execute(sa.select(*COLUMNS).where(projects.c.id.in_(list(identifiers)))).all()


def children(conn: sa.Connection, project_id: str) -> list[str]:
    return list(conn.execute(sa.select(projects.c.id).where(projects.c.parent_id == project_id)).scalars())


def delete_project(conn: sa.Connection, project_id: str) -> bool:
    """The project and all that hangs on it; tags go by foreign key."""
    conn.execute(sa.delete(assignments).where(assignments.c.target_id == project_id))
    conn.execute(sa.delete(credentials).where(credentials.c.project_id == project_id))
    conn.execute(sa.delete(application_credentials).where(application_credentials.c.project_id == project_id))
    conn.execute(sa.delete(trusts).where(trusts.c.project_id == project_id))
    conn.execute(sa.delete(limits).where(limits.c.project_id == project_id))
    conn.execute(sa.update(users).where(users.c.default_project_id == project_id).values(default_project_id=None))
    return listing.remove(conn, projects, project_id) > 0


def delete_domain(conn: sa.Connection, domain_id: str) -> None:
    """The domain with its users, groups, roles and projects, and all that hangs on those."""
    owned_users = sa.select(users.c.id).where(users.c.domain_id == domain_id)
    owned_groups = sa.select(groups.c.id).where(groups.c.domain_id == domain_id)
    owned_projects = sa.select(projects.c.id).where(projects.c.domain_id == domain_id)
    for gone in (
        assignments.c.actor_id.in_(owned_users),
        assignments.c.actor_id.in_(owned_groups),
        assignments.c.target_id.in_(owned_projects),
        assignments.c.target_id == domain_id,
    ):
        conn.execute(sa.delete(assignments).where(gone))
    for table in (credentials, application_credentials, access_rules):
        conn.execute(sa.delete(table).where(table.c.user_id.in_(owned_users)))
    for table in (credentials, application_credentials, trusts):
        conn.execute(sa.delete(table).where(table.c.project_id.in_(owned_projects)))
    for person in (trusts.c.trustor_user_id, trusts.c.trustee_user_id):
        conn.execute(sa.delete(trusts).where(person.in_(owned_users)))
    conn.execute(sa.delete(limits).where(limits.c.project_id.in_(owned_projects)))
    conn.execute(sa.delete(limits).where(limits.c.domain_id == domain_id))
    conn.execute(sa.delete(users).where(users.c.domain_id == domain_id))
    conn.execute(sa.delete(groups).where(groups.c.domain_id == domain_id))
    conn.execute(sa.delete(roles).where(roles.c.domain_id == domain_id))
    conn.execute(sa.delete(projects).where(projects.c.domain_id == domain_id))
    listing.remove(conn, projects, domain_id)
