"""Regions, services and endpoints."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from .listing import Record
from .tables import endpoints, regions, services

REGION_COLUMNS = (regions.c.id, regions.c.description, regions.c.parent_region_id, regions.c.extra)
SERVICE_COLUMNS = (
    services.c.id,
    services.c.type,
    services.c.name,
    services.c.description,
    services.c.enabled,
    services.c.extra,
)
ENDPOINT_COLUMNS = (
    endpoints.c.id,
    endpoints.c.service_id,
    endpoints.c.interface,
    endpoints.c.region_id,
    endpoints.c.url,
    endpoints.c.enabled,
    endpoints.c.extra,
)


def enabled(conn: sa.Connection) -> tuple[Sequence[Record], Sequence[Record]]:
    """Enabled services (id, type, name) and enabled endpoints (id, service_id, interface, region_id, url), ordered."""
    found = conn.execute(
        sa.select(services.c.id, services.c.type, services.c.name)
        .where(services.c.enabled == sa.true())
        .order_by(services.c.type, services.c.id)
    ).all()
    places = conn.execute(
        sa.select(endpoints.c.id, endpoints.c.service_id, endpoints.c.interface, endpoints.c.region_id, endpoints.c.url)
        .where(endpoints.c.enabled == sa.true())
        .order_by(endpoints.c.id)
    ).all()
    return found, places


def region_has_children(conn: sa.Connection, region_id: str) -> bool:
    return (
        conn.execute(sa.select(regions.c.id).where(regions.c.parent_region_id == region_id).limit(1)).first()
        is not None
    )


def region_has_endpoints(conn: sa.Connection, region_id: str) -> bool:
    return (
        conn.execute(sa.select(endpoints.c.id).where(endpoints.c.region_id == region_id).limit(1)).first() is not None
    )


def all_region_parents(conn: sa.Connection) -> dict[str, str | None]:
    """Parent by region: there are few regions."""
    return {row[0]: row[1] for row in conn.execute(sa.select(regions.c.id, regions.c.parent_region_id))}
