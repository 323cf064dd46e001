"""Unified limits."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from . import listing
from .listing import Listing, Record, locked
from .tables import limits, projects, registered_limits

REGISTERED_COLUMNS = (
    registered_limits.c.id,
    registered_limits.c.service_id,
    registered_limits.c.region_id,
    registered_limits.c.resource_name,
    registered_limits.c.default_limit,
    registered_limits.c.description,
)
_COLUMNS = (
    limits.c.id,
    limits.c.project_id,
    limits.c.domain_id,
    registered_limits.c.service_id,
    registered_limits.c.region_id,
    registered_limits.c.resource_name,
    limits.c.resource_limit,
    limits.c.description,
    limits.c.registered_limit_id,
)
_JOINED = sa.select(*_COLUMNS).join(registered_limits, registered_limits.c.id == limits.c.registered_limit_id)


def limit(conn: sa.Connection, limit_id: str) -> Record | None:
    return conn.execute(_JOINED.where(limits.c.id == limit_id)).first()


def select(conn: sa.Connection, wanted: Listing, project_id: str | None, domain_id: str | None) -> Sequence[Record]:
    """The limits that the listing wants; with ids, those of this project or domain."""
    query = _JOINED
    for one in wanted.filters:
        table = limits if one.attribute in {"project_id", "domain_id"} else registered_limits
        query = query.where(listing.condition(table.c[one.attribute], one, conn.dialect.name))
    if project_id is not None or domain_id is not None:
        own = [limits.c.project_id == project_id] if project_id else []
        own += [limits.c.domain_id == domain_id] if domain_id else []
        query = query.where(sa.or_(sa.false(), *own))
    if wanted.marker is not None:
        query = query.where(limits.c.id > wanted.marker)
    query = query.order_by(limits.c.id)
    return conn.execute(query.limit(wanted.limit + 1) if wanted.limit else query).all()


def registered_for(
    conn: sa.Connection, service_id: str, region_id: str, resource_name: str, lock: listing.Lock = "share"
) -> Record | None:
    """What a limit at this place follows; locked against deletion, with "update" against other limits at this place too."""
    query = sa.select(registered_limits.c.id).where(
        registered_limits.c.service_id == service_id,
        registered_limits.c.region_id == region_id,
        registered_limits.c.resource_name == resource_name,
    )
    return conn.execute(locked(query, lock)).first()


def of_domain(conn: sa.Connection, registered_limit_id: str, domain_id: str) -> int:
    """What a domain may have: its own limit, or else the default."""
    own = sa.and_(limits.c.registered_limit_id == registered_limits.c.id, limits.c.domain_id == domain_id)
    query = (
        sa.select(sa.func.coalesce(limits.c.resource_limit, registered_limits.c.default_limit))
        .select_from(registered_limits)
        .outerjoin(limits, own)
        .where(registered_limits.c.id == registered_limit_id)
    )
    return int(conn.execute(query).scalar_one())


def below(conn: sa.Connection, registered_limit_id: str, domain_id: str) -> Sequence[Record]:
    """(project id, limit) of the projects of a domain that have one."""
    query = (
        sa.select(limits.c.project_id, limits.c.resource_limit)
        .join(projects, projects.c.id == limits.c.project_id)
        .where(limits.c.registered_limit_id == registered_limit_id, projects.c.domain_id == domain_id)
    )
    return conn.execute(query).all()


def below_default(conn: sa.Connection, registered_limit_id: str) -> Sequence[Record]:
    """(project id, limit) of the projects that have one in domains that have none of their own."""
    domains = limits.alias("domains")
    own = sa.and_(domains.c.registered_limit_id == registered_limit_id, domains.c.domain_id == projects.c.domain_id)
    query = (
        sa.select(limits.c.project_id, limits.c.resource_limit)
        .join(projects, projects.c.id == limits.c.project_id)
        .where(limits.c.registered_limit_id == registered_limit_id, ~sa.exists().where(own))
    )
    return conn.execute(query).all()


def deepest(conn: sa.Connection) -> str | None:
    """A project that is more than two levels below its domain, if there is one."""
    parent, above = projects.alias("parent"), projects.alias("above")
    query = (
        sa.select(projects.c.id)
        .join(parent, parent.c.id == projects.c.parent_id)
        .join(above, above.c.id == parent.c.parent_id)
        .where(above.c.is_domain == sa.false())
        .limit(1)
    )
    return conn.execute(query).scalar_one_or_none()


def is_followed(conn: sa.Connection, registered_limit_id: str) -> bool:
    query = sa.select(limits.c.id).where(limits.c.registered_limit_id == registered_limit_id).limit(1)
    return conn.execute(query).first() is not None
