"""Commands and queries on roles, their implications, and grants."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.identity.errors import not_found, role_assignment_not_found
from pileus.identity.store import listing, people, projects, revision
from pileus.identity.store import roles as store
from pileus.identity.store.listing import Listing, Lock, Record
from pileus.identity.store.roles import Grant
from pileus.identity.store.tables import DOMAIN, GROUP, NO_DOMAIN, PROJECT, SYSTEM, SYSTEM_KIND, USER, roles
from pileus.kernel import ids
from pileus.kernel.errors import Forbidden
from pileus.kernel.service import Service

from . import state as state_module
from .common import (
    check_immutable,
    check_same_domain,
    check_same_id,
    extra_of,
    merged_extra,
    merged_options,
    unique_name,
)
from .users import require_domain

KNOWN = frozenset({"id", "name", "domain_id", "description", "options"})


def find(service: Service, role_id: str) -> Record | None:
    with service.db.read() as conn:
        return store.role(conn, role_id)


def list_roles(service: Service, wanted: Listing) -> Sequence[Record]:
    with service.db.read() as conn:
        return listing.select(conn, store.COLUMNS, roles, wanted)


def some(service: Service, role_ids: Sequence[str]) -> Sequence[Record]:
    """Those of the roles that exist, by name."""
    with service.db.read() as conn:
        return sorted(listing.select(conn, store.COLUMNS, roles, Listing(), roles.c.id.in_(role_ids)), key=lambda row: row.name)


def create(service: Service, body: Mapping[str, Any], role_id: str | None = None) -> Record:
    """Create a global role, or one of a domain. Raises AlreadyExists, NotFound for the domain."""
    role_id = role_id or ids.new_id()
    name, domain_id = body["name"].strip(), body.get("domain_id") or NO_DOMAIN
    with unique_name("role", name, domain_id or None), service.db.write() as conn:
        if domain_id:
            require_domain(conn, domain_id)
        values = {
            "id": role_id,
            "name": name,
            "domain_id": domain_id,
            "description": body.get("description"),
            "options": merged_options(None, body.get("options")),
            "extra": extra_of(body, KNOWN),
        }
        conn.execute(sa.insert(roles).values(**values))
        created = required(conn, role_id)
        revision.advance(conn, roles=True)
        return created


def update(service: Service, role_id: str, body: Mapping[str, Any]) -> Record:
    """Raises NotFound, AlreadyExists, Invalid, Immutable."""
    check_same_id("role", role_id, body)
    with unique_name("role", str(body.get("name"))), service.db.write() as conn:
        present = required(conn, role_id, "update")
        check_immutable("role", role_id, present.options, body)
        check_same_domain(present.domain_id or None, body)
        values: dict[str, Any] = {
            "extra": merged_extra(present.extra, body, KNOWN),
            "options": merged_options(present.options, body.get("options")),
        }
        if "name" in body:
            values["name"] = body["name"].strip()
        if "description" in body:
            values["description"] = body["description"]
        listing.change(conn, roles, role_id, values)
        changed = required(conn, role_id)
        revision.advance(conn, roles=True)
        return changed


def delete(service: Service, role_id: str) -> None:
    """Delete a role; assignments and implications go with it. Raises NotFound, Immutable."""
    with service.db.write() as conn:
        present = required(conn, role_id, "update")
        check_immutable("role", role_id, present.options, None)
        listing.remove(conn, roles, role_id)
        revision.advance(conn, roles=True)


def required(conn: sa.Connection, role_id: str, lock: Lock = None) -> Record:
    """Raises NotFound."""
    row = store.role(conn, role_id, lock)
    if row is None:
        raise not_found("role", role_id)
    return row


# Implications ---------------------------------------------------------------------------------------------------------


def implied_by(service: Service, prior_role_id: str) -> list[Record]:
    """The roles that this one implies directly."""
    with service.db.read() as conn:
        return list(store.implied_by(conn, prior_role_id))


def inferences(service: Service) -> list[tuple[Record, list[Record]]]:
    """(prior, implied) of all rules, in three statements."""
    with service.db.read() as conn:
        known = {row.id: row for row in listing.select(conn, store.COLUMNS, roles, Listing())}
        found: dict[str, list[Record]] = {}
        for prior, implied in store.implications(conn):
            found.setdefault(prior, []).append(known[implied])
    return [(known[prior], implied) for prior, implied in sorted(found.items())]


def imply(service: Service, prior_role_id: str, implied_role_id: str) -> bool:
    """Add a rule; whether it is new. Raises NotFound, Forbidden."""
    with service.db.write() as conn:
        prior = required(conn, prior_role_id, "share")
        implied = required(conn, implied_role_id, "share")
        if implied.name in service.options.prohibited_implied_roles and not implied.domain_id:
            raise Forbidden(f"{implied_role_id} cannot be an implied role")
        if implied.domain_id and not prior.domain_id:
            raise Forbidden(f"Global role {prior_role_id} cannot imply domain-specific role {implied_role_id}.")
        direct: dict[str, list[str]] = {}
        for one, other in store.implications(conn):
            direct.setdefault(one, []).append(other)
        if prior_role_id in state_module.closure(implied_role_id, direct):
            raise Forbidden(f"{implied_role_id} implies {prior_role_id} already; rules must not form a circle.")
        new = store.add_implication(conn, prior_role_id, implied_role_id)
        revision.advance(conn, roles=True)
        return new


def stop_implying(service: Service, prior_role_id: str, implied_role_id: str) -> None:
    """Raises NotFound."""
    with service.db.write() as conn:
        if not store.remove_implication(conn, prior_role_id, implied_role_id):
            raise not_found("implied role", f"{prior_role_id} implies {implied_role_id}")
        revision.advance(conn, roles=True)


# Grants ---------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where a grant is: its actor, its target, and whether it is for what is below the target."""

    actor_kind: str
    actor_id: str
    target_kind: str
    target_id: str
    inherited: bool = False

    def with_role(self, role_id: str) -> Grant:
        return Grant(self.actor_id, self.actor_kind, self.target_id, self.target_kind, role_id, self.inherited)


@dataclasses.dataclass(frozen=True, slots=True)
class Parties:
    """The rows that a grant names; None for those that do not exist or are not of this kind."""

    user: Record | None = None
    group: Record | None = None
    project: Record | None = None
    domain: Record | None = None
    role: Record | None = None


def parties(service: Service, place: Place, role_id: str | None = None) -> Parties:
    """Look up all that a grant names, for the policy and for the 404."""
    with service.db.read() as conn:
        return _parties(conn, place, role_id)


def _parties(conn: sa.Connection, place: Place, role_id: str | None, lock: Lock = None) -> Parties:
    return Parties(
        role=store.role(conn, role_id, lock) if role_id is not None else None,
        user=people.user(conn, place.actor_id, lock) if place.actor_kind == USER else None,
        group=people.group(conn, place.actor_id, lock) if place.actor_kind == GROUP else None,
        project=projects.project(conn, place.target_id, lock) if place.target_kind == PROJECT else None,
        domain=projects.domain(conn, place.target_id, lock) if place.target_kind == DOMAIN else None,
    )


def check_parties(place: Place, found: Parties, role_id: str | None = None, *, actor: bool = True) -> None:
    """Raises NotFound for the first party that does not exist."""
    if role_id is not None and found.role is None:
        raise not_found("role", role_id)
    if actor and (found.user if place.actor_kind == USER else found.group) is None:
        raise not_found("user" if place.actor_kind == USER else "group", place.actor_id)
    if place.target_kind == PROJECT and found.project is None:
        raise not_found("project", place.target_id)
    if place.target_kind == DOMAIN and found.domain is None:
        raise not_found("domain", place.target_id)


def grant(service: Service, place: Place, role_id: str) -> None:
    """Give a role; given twice is given once. Raises NotFound, Forbidden."""
    with service.db.write() as conn:
        found = _parties(conn, place, role_id, "share")
        check_parties(place, found, role_id)
        role, target = found.role, found.project or found.domain
        owner = None if target is None else target.domain_id or target.id
        if role is not None and role.domain_id and owner not in {None, role.domain_id}:
            raise Forbidden(
                f"Project {place.target_id} must be in the same domain as the role {role_id} being assigned."
            )
        store.add_grant(conn, place.with_role(role_id))
        revision.advance(conn)


def revoke(service: Service, place: Place, role_id: str) -> None:
    """Take a role away. Raises NotFound when it was not given."""
    with service.db.write() as conn:
        if not store.remove_grant(conn, place.with_role(role_id)):
            raise role_assignment_not_found(role_id, place.actor_id, place.target_id)
        revision.advance(conn)


def check(service: Service, place: Place, role_id: str) -> None:
    """Raises NotFound unless the role was given just there."""
    with service.db.read() as conn:
        if not store.has_grant(conn, place.with_role(role_id)):
            raise role_assignment_not_found(role_id, place.actor_id, place.target_id)


def granted(service: Service, place: Place) -> Sequence[Record]:
    """The roles given just there."""
    with service.db.read() as conn:
        return store.granted(conn, place.actor_id, place.target_id, place.target_kind, inherited=place.inherited)


def on_system(actor_kind: str, actor_id: str) -> Place:
    return Place(actor_kind, actor_id, SYSTEM_KIND, SYSTEM)
