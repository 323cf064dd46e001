"""Unified limits: defaults that a service registers, and what projects and domains have instead.

Identity keeps them for services and clients that enforce them. In the flat model a limit says nothing about others. In the
strict one of two levels no project's limit is above its domain's, which is the default where the domain has none; -1, no limit, is
above every number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.identity.errors import AlreadyExists, invalid, not_found
from pileus.identity.store import catalog as catalog_store
from pileus.identity.store import limits as store
from pileus.identity.store import listing, projects
from pileus.identity.store.listing import Listing, Record
from pileus.identity.store.tables import limits, regions, registered_limits, services
from pileus.kernel import ids
from pileus.kernel.db import is_unique_violation
from pileus.kernel.errors import ConfigurationError, Forbidden
from pileus.kernel.service import Service

_PLACE = ("service_id", "region_id", "resource_name")
_NO_LIMIT = -1


def list_registered(service: Service, wanted: Listing) -> Sequence[Record]:
    with service.db.read() as conn:
        return listing.select(conn, store.REGISTERED_COLUMNS, registered_limits, wanted)


def find_registered(service: Service, limit_id: str) -> Record:
    """Raises NotFound."""
    with service.db.read() as conn:
        return _registered(conn, limit_id)


def create_registered(service: Service, bodies: Sequence[Mapping[str, Any]]) -> list[Record]:
    """All of them or none. Raises AlreadyExists, Invalid for an unknown service or region."""
    made = [ids.new_id() for _ in bodies]
    try:
        with service.db.write() as conn:
            for limit_id, body in zip(made, bodies, strict=True):
                _check_place(conn, body)
                conn.execute(
                    sa.insert(registered_limits).values(
                        id=limit_id,
                        service_id=body["service_id"],
                        region_id=body.get("region_id") or "",
                        resource_name=body["resource_name"],
                        default_limit=body["default_limit"],
                        description=body.get("description"),
                    )
                )
            return [_registered(conn, limit_id) for limit_id in made]
    except sa.exc.IntegrityError as error:
        raise _duplicate(error, "registered_limit") from None


def update_registered(service: Service, limit_id: str, body: Mapping[str, Any]) -> Record:
    """Raises NotFound, Invalid, AlreadyExists, Forbidden while projects have a limit that follows it or the model is broken."""
    try:
        with service.db.write() as conn:
            _registered(conn, limit_id, "update")
            values = dict(body)
            if any(name in values for name in _PLACE):
                _check_unused(conn, limit_id)
                _check_place(conn, body)
            if "region_id" in values:
                values["region_id"] = values["region_id"] or ""
            listing.change(conn, registered_limits, limit_id, values)
            changed = _registered(conn, limit_id)
            if "default_limit" in values:
                _check_default(service, conn, changed)
            return changed
    except sa.exc.IntegrityError as error:
        raise _duplicate(error, "registered_limit") from None


def delete_registered(service: Service, limit_id: str) -> None:
    """Raises NotFound, Forbidden while projects have a limit that follows it."""
    with service.db.write() as conn:
        _registered(conn, limit_id, "update")
        _check_unused(conn, limit_id)
        listing.remove(conn, registered_limits, limit_id)


def _check_unused(conn: sa.Connection, limit_id: str) -> None:
    if store.is_followed(conn, limit_id):
        raise Forbidden(
            f"Unable to update or delete registered limit {limit_id} because there are project limits associated with it."
        )


def _check_place(conn: sa.Connection, body: Mapping[str, Any]) -> None:
    wanted = body.get("service_id")
    if wanted is not None and listing.by_id(conn, catalog_store.SERVICE_COLUMNS, services, wanted, "share") is None:
        raise invalid(f"Could not find service: {wanted}.")
    region_id = body.get("region_id")
    if region_id and listing.by_id(conn, catalog_store.REGION_COLUMNS, regions, region_id, "share") is None:
        raise invalid(f"Could not find region: {region_id}.")


def _registered(conn: sa.Connection, limit_id: str, lock: listing.Lock = None) -> Record:
    row = listing.by_id(conn, store.REGISTERED_COLUMNS, registered_limits, limit_id, lock)
    if row is None:
        raise not_found("registered limit", limit_id)
    return row


def _duplicate(error: sa.exc.IntegrityError, kind: str) -> Exception:
    return AlreadyExists(kind, "Duplicate entry") if is_unique_violation(error) else error


# Limits of projects and domains ---------------------------------------------------------------------------------------


def list_limits(
    service: Service, wanted: Listing, *, project_id: str | None, domain_id: str | None
) -> Sequence[Record]:
    """With ids, only what is on this project or domain."""
    with service.db.read() as conn:
        return store.select(conn, wanted, project_id, domain_id)


def find_limit(service: Service, limit_id: str) -> Record | None:
    with service.db.read() as conn:
        return store.limit(conn, limit_id)


def domain_of(service: Service, project_id: str) -> str | None:
    with service.db.read() as conn:
        row = projects.project(conn, project_id)
    return row.domain_id if row is not None else None


def create_limits(service: Service, bodies: Sequence[Mapping[str, Any]]) -> list[Record]:
    """All of them or none. Raises AlreadyExists, Invalid, Forbidden where nothing is registered or the model is broken."""
    made = [ids.new_id() for _ in bodies]
    try:
        with service.db.write() as conn:
            for limit_id, body in zip(made, bodies, strict=True):
                _create_limit(service, conn, limit_id, body)
            rows = [_limit(conn, limit_id) for limit_id in made]
            _check_model(service, conn, rows)
            return rows
    except sa.exc.IntegrityError as error:
        raise _duplicate(error, "limit") from None


def _create_limit(service: Service, conn: sa.Connection, limit_id: str, body: Mapping[str, Any]) -> None:
    project_id, domain_id = body.get("project_id"), body.get("domain_id")
    if (project_id is None) == (domain_id is None):
        raise invalid("A limit is of a project or of a domain: give one of project_id and domain_id.")
    owner = projects.project(conn, project_id or domain_id or "", "share")
    if owner is None or (domain_id is not None and not owner.is_domain):
        raise invalid(f"Could not find project or domain: {project_id or domain_id}.")
    place = (body["service_id"], body.get("region_id") or "", body["resource_name"])
    registered = store.registered_for(conn, *place, _lock(service))
    if registered is None:
        raise Forbidden("Unable to create a limit that has no corresponding registered limit.")
    values = {
        "id": limit_id,
        "registered_limit_id": registered.id,
        "project_id": "" if owner.is_domain else owner.id,
        "domain_id": owner.id if owner.is_domain else "",
        "resource_limit": body["resource_limit"],
        "description": body.get("description"),
    }
    conn.execute(sa.insert(limits).values(**values))


def update_limit(service: Service, limit_id: str, body: Mapping[str, Any]) -> Record:
    """Raises NotFound, Forbidden when the model is broken."""
    with service.db.write() as conn:
        present = _limit(conn, limit_id)
        store.registered_for(conn, present.service_id, present.region_id, present.resource_name, _lock(service))
        if listing.change(conn, limits, limit_id, body) == 0:
            raise not_found("limit", limit_id)
        changed = _limit(conn, limit_id)
        _check_model(service, conn, [changed])
        return changed


# The strict model of two levels -----------------------------------------------------------------------------------------

STRICT = "strict_two_level"
DEPTH = 2
"""Levels of projects below a domain in the strict model."""


def is_strict(service: Service) -> bool:
    return bool(service.options.limit_enforcement_model == STRICT)


def check_depth(service: Service) -> None:
    """Raises ConfigurationError when the strict model is asked for and there are projects it has no place for."""
    if not is_strict(service):
        return
    with service.db.read() as conn:
        found = store.deepest(conn)
    if found is not None:
        raise ConfigurationError(
            f"identity.limit_enforcement_model cannot be {STRICT}: project {found} is more than {DEPTH} levels below its domain."
        )


def _lock(service: Service) -> listing.Lock:
    """In the strict model, limits of one resource are changed one after the other."""
    return "update" if is_strict(service) else "share"


def _check_model(service: Service, conn: sa.Connection, changed: Sequence[Record]) -> None:
    """Whether limits that were just written fit to those above and below them. Raises Forbidden."""
    if not is_strict(service):
        return
    for row in changed:
        project = projects.project(conn, row.project_id) if row.project_id else None
        domain_id = project.domain_id if project is not None else row.domain_id
        most = store.of_domain(conn, row.registered_limit_id, domain_id)
        if project is not None and _is_above(row.resource_limit, most):
            raise Forbidden(
                f"Invalid resource limit: {row.resource_name} of project {row.project_id} cannot be {row.resource_limit},"
                f" its domain {domain_id} has {most}."
            )
        for project_id, limit in store.below(conn, row.registered_limit_id, domain_id) if project is None else ():
            if _is_above(limit, most):
                raise Forbidden(
                    f"Invalid resource limit: {row.resource_name} of domain {domain_id} cannot be {most},"
                    f" its project {project_id} has {limit}."
                )


def _check_default(service: Service, conn: sa.Connection, changed: Record) -> None:
    """Whether a default that was just written fits to the projects below domains for which it counts. Raises Forbidden."""
    for project_id, limit in store.below_default(conn, changed.id) if is_strict(service) else ():
        if _is_above(limit, changed.default_limit):
            raise Forbidden(
                f"Invalid resource limit: {changed.resource_name} cannot be {changed.default_limit} by default,"
                f" project {project_id} has {limit} and its domain no limit of its own."
            )


def _is_above(limit: int, other: int) -> bool:
    return other != _NO_LIMIT and (limit == _NO_LIMIT or limit > other)


def delete_limit(service: Service, limit_id: str) -> None:
    """Raises NotFound, Forbidden when the model is broken: a domain then has the default."""
    with service.db.write() as conn:
        present = _limit(conn, limit_id)
        if present.domain_id:
            store.registered_for(conn, present.service_id, present.region_id, present.resource_name, _lock(service))
        if listing.remove(conn, limits, limit_id) == 0:
            raise not_found("limit", limit_id)
        if present.domain_id:
            _check_model(service, conn, [present])


def _limit(conn: sa.Connection, limit_id: str) -> Record:
    row = store.limit(conn, limit_id)
    if row is None:
        raise not_found("limit", limit_id)
    return row
