"""Commands and queries on regions, services and endpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from pileus.identity.errors import AlreadyExists, invalid, not_found
from pileus.identity.store import catalog as store
from pileus.identity.store import listing, revision
from pileus.identity.store.listing import Listing, Record
from pileus.identity.store.tables import endpoints, regions, services
from pileus.kernel import ids
from pileus.kernel.db import is_unique_violation
from pileus.kernel.errors import Forbidden
from pileus.kernel.service import Service

from . import state as state_module
from . import tokens as token_logic
from .common import check_same_id, extra_of, merged_extra

REGION_KNOWN = frozenset({"id", "description", "parent_region_id", "url"})
SERVICE_KNOWN = frozenset({"id", "type", "name", "description", "enabled"})
ENDPOINT_KNOWN = frozenset(
    {"id", "service_id", "interface", "region_id", "region", "url", "enabled", "legacy_endpoint_id"}
)


def catalog_for(service: Service, user_id: str, project_id: str | None) -> list[dict[str, Any]]:
    """The catalog as a token of this user and project shows it."""
    with service.db.read() as conn:
        templates = state_module.catalog_templates(service, conn, revision.read(conn), project_id)
    return token_logic.filled_catalog(templates, user_id, project_id)


# Regions --------------------------------------------------------------------------------------------------------------


def list_regions(service: Service, wanted: Listing) -> Sequence[Record]:
    with service.db.read() as conn:
        return listing.select(conn, store.REGION_COLUMNS, regions, wanted)


def region(service: Service, region_id: str) -> Record:
    """Raises NotFound."""
    with service.db.read() as conn:
        return _region(conn, region_id)


def create_region(service: Service, body: Mapping[str, Any], region_id: str | None = None) -> Record:
    """Create a region, by default with an id of ours. Raises AlreadyExists, NotFound for the parent."""
    wanted = region_id or body.get("id") or ids.new_id()
    if len(wanted) > 255:
        raise invalid("The id of a region has at most 255 characters.")
    with _unique_region(wanted), service.db.write() as conn:
        if body.get("parent_region_id"):
            _region(conn, body["parent_region_id"])
        values = {
            "id": wanted,
            "description": body.get("description") or "",
            "parent_region_id": body.get("parent_region_id"),
            "extra": extra_of(body, REGION_KNOWN),
        }
        conn.execute(sa.insert(regions).values(**values))
        return _region(conn, wanted)


@contextmanager
def _unique_region(region_id: str) -> Iterator[None]:
    try:
        yield
    except sa.exc.IntegrityError as error:
        if not is_unique_violation(error):
            raise
        raise AlreadyExists("region", f"Duplicate ID, {region_id}") from None


def update_region(service: Service, region_id: str, body: Mapping[str, Any]) -> Record:
    """Raises NotFound, Invalid for a circle."""
    check_same_id("region", region_id, body)
    with service.db.write() as conn:
        present = _region(conn, region_id)
        values: dict[str, Any] = {"extra": merged_extra(present.extra, body, REGION_KNOWN)}
        if "description" in body:
            values["description"] = body["description"] or ""
        if "parent_region_id" in body:
            values["parent_region_id"] = body["parent_region_id"]
            _check_no_circle(conn, region_id, body["parent_region_id"])
        listing.change(conn, regions, region_id, values)
        return _region(conn, region_id)


def _check_no_circle(conn: sa.Connection, region_id: str, parent_id: str | None) -> None:
    parents = store.all_region_parents(conn)
    if parent_id is not None and parent_id not in parents:
        raise not_found("region", parent_id)
    above: str | None = parent_id
    while above is not None:
        if above == region_id:
            raise invalid(f"Unable to make region {region_id} a child of {parent_id}: that would form a circle.")
        above = parents.get(above)


def delete_region(service: Service, region_id: str) -> None:
    """Raises NotFound, Forbidden while something is in the region."""
    with service.db.write() as conn:
        _region(conn, region_id)
        if store.region_has_children(conn, region_id) or store.region_has_endpoints(conn, region_id):
            raise Forbidden(
                f"Unable to delete region {region_id} because it or its child regions have associated endpoints."
            )
        listing.remove(conn, regions, region_id)


def _region(conn: sa.Connection, region_id: str) -> Record:
    row = listing.by_id(conn, store.REGION_COLUMNS, regions, region_id)
    if row is None:
        raise not_found("region", region_id)
    return row


# Services -------------------------------------------------------------------------------------------------------------


def list_services(service: Service, wanted: Listing) -> Sequence[Record]:
    with service.db.read() as conn:
        return listing.select(conn, store.SERVICE_COLUMNS, services, wanted)


def find_service(service: Service, service_id: str) -> Record:
    """Raises NotFound."""
    with service.db.read() as conn:
        return _service(conn, service_id)


def create_service(service: Service, body: Mapping[str, Any]) -> Record:
    """Register a service. Several may have the same type and name, as upstream has it."""
    service_id = ids.new_id()
    with service.db.write() as conn:
        values = {
            "id": service_id,
            "type": body["type"],
            "name": body.get("name"),
            "description": body.get("description"),
            "enabled": body.get("enabled", True),
            "extra": extra_of(body, SERVICE_KNOWN),
        }
        conn.execute(sa.insert(services).values(**values))
        created = _service(conn, service_id)
        revision.advance(conn, catalog=True)
        return created


def update_service(service: Service, service_id: str, body: Mapping[str, Any]) -> Record:
    """Raises NotFound, Invalid."""
    check_same_id("service", service_id, body)
    with service.db.write() as conn:
        present = _service(conn, service_id)
        values = {name: body[name] for name in ("type", "name", "description", "enabled") if name in body}
        values["extra"] = merged_extra(present.extra, body, SERVICE_KNOWN)
        listing.change(conn, services, service_id, values)
        changed = _service(conn, service_id)
        revision.advance(conn, catalog=True)
        return changed


def delete_service(service: Service, service_id: str) -> None:
    """Delete a service and its endpoints. Raises NotFound."""
    with service.db.write() as conn:
        if listing.remove(conn, services, service_id) == 0:
            raise not_found("service", service_id)
        revision.advance(conn, catalog=True)


def _service(conn: sa.Connection, service_id: str) -> Record:
    row = listing.by_id(conn, store.SERVICE_COLUMNS, services, service_id)
    if row is None:
        raise not_found("service", service_id)
    return row


# Endpoints ------------------------------------------------------------------------------------------------------------


def list_endpoints(service: Service, wanted: Listing) -> Sequence[Record]:
    with service.db.read() as conn:
        return listing.select(conn, store.ENDPOINT_COLUMNS, endpoints, wanted)


def endpoint(service: Service, endpoint_id: str) -> Record:
    """Raises NotFound."""
    with service.db.read() as conn:
        return _endpoint(conn, endpoint_id)


def create_endpoint(service: Service, body: Mapping[str, Any]) -> Record:
    """Register a URL of a service. Raises Invalid for an unknown service or region."""
    endpoint_id = ids.new_id()
    _check_url(body["url"])
    with service.db.write() as conn:
        _check_places(conn, body)
        values = {
            "id": endpoint_id,
            "service_id": body["service_id"],
            "interface": body["interface"],
            "region_id": _region_of(body),
            "url": body["url"],
            "enabled": body.get("enabled", True),
            "extra": extra_of(body, ENDPOINT_KNOWN),
        }
        conn.execute(sa.insert(endpoints).values(**values))
        created = _endpoint(conn, endpoint_id)
        revision.advance(conn, catalog=True)
        return created


def update_endpoint(service: Service, endpoint_id: str, body: Mapping[str, Any]) -> Record:
    """Raises NotFound, Invalid."""
    check_same_id("endpoint", endpoint_id, body)
    if "url" in body:
        _check_url(body["url"])
    with service.db.write() as conn:
        present = _endpoint(conn, endpoint_id)
        _check_places(conn, body)
        values = {name: body[name] for name in ("service_id", "interface", "url", "enabled") if name in body}
        if "region_id" in body or "region" in body:
            values["region_id"] = _region_of(body)
        values["extra"] = merged_extra(present.extra, body, ENDPOINT_KNOWN)
        listing.change(conn, endpoints, endpoint_id, values)
        changed = _endpoint(conn, endpoint_id)
        revision.advance(conn, catalog=True)
        return changed


def delete_endpoint(service: Service, endpoint_id: str) -> None:
    """Raises NotFound."""
    with service.db.write() as conn:
        if listing.remove(conn, endpoints, endpoint_id) == 0:
            raise not_found("endpoint", endpoint_id)
        revision.advance(conn, catalog=True)


def _region_of(body: Mapping[str, Any]) -> str | None:
    found: str | None = body.get("region_id", body.get("region"))
    return found


def _check_places(conn: sa.Connection, body: Mapping[str, Any]) -> None:
    """The service and the region must exist; the old `region` names one that is made when it does not."""
    if "service_id" in body and listing.by_id(conn, store.SERVICE_COLUMNS, services, body["service_id"]) is None:
        raise invalid(f"Could not find service: {body['service_id']}.")
    wanted = _region_of(body)
    if wanted is None or listing.by_id(conn, store.REGION_COLUMNS, regions, wanted) is not None:
        return
    if body.get("region_id") is not None:
        raise invalid(f"Could not find region: {wanted}.")
    conn.execute(sa.insert(regions).values(id=wanted, description="", parent_region_id=None, extra={}))


_SUBSTITUTES = ("user_id", "project_id", "tenant_id")


def _check_url(url: str) -> None:
    """Only what the catalog can fill in may be left open in a URL."""
    probe = url
    for name in _SUBSTITUTES:
        probe = probe.replace(f"$({name})s", "").replace(f"%({name})s", "")
    if "$(" in probe or "%(" in probe:
        raise invalid(f"An invalid URL was given for an endpoint: {url}. It may hold $(project_id)s and $(user_id)s.")


def _endpoint(conn: sa.Connection, endpoint_id: str) -> Record:
    row = listing.by_id(conn, store.ENDPOINT_COLUMNS, endpoints, endpoint_id)
    if row is None:
        raise not_found("endpoint", endpoint_id)
    return row
