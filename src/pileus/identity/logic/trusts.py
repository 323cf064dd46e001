"""Trusts: a user lets another act with some of the own roles on one project, in the own name or in that of the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.identity.errors import invalid, not_found
from pileus.identity.store import listing, live, people, revision
from pileus.identity.store import trusts as store
from pileus.identity.store.listing import Record
from pileus.identity.store.tables import trusts
from pileus.kernel import clock, ids
from pileus.kernel.context import Context
from pileus.kernel.errors import Forbidden
from pileus.kernel.service import Service

from . import application_credentials, redelegation
from . import state as state_module
from . import tokens as token_logic
from .common import expiry, extra_of

KNOWN = frozenset(
    {
        "id",
        "trustor_user_id",
        "trustee_user_id",
        "project_id",
        "impersonation",
        "roles",
        "expires_at",
        "remaining_uses",
        "allow_redelegation",
        "redelegation_count",
        "redelegated_trust_id",
    }
)


def required(service: Service, trust_id: str) -> Record:
    """A trust that still holds, with all that it was made from. Raises NotFound."""
    return with_giver(service, trust_id)[0]


def with_giver(service: Service, trust_id: str) -> tuple[Record, str]:
    """A trust that still holds, and the user whose rights it passes on: the first trustor. Raises NotFound."""
    now = clock.utcnow()
    with service.db.read() as conn:
        row = store.trust(conn, trust_id)
        if row is None or store.has_ended(row, now) or store.is_used_up(row):
            raise not_found("trust", trust_id)
        try:
            first = redelegation.root(service, conn, row, now)
        except redelegation.Broken:
            raise not_found("trust", trust_id) from None
    return row, first.trustor_user_id


def with_roles(service: Service, row: Record) -> list[dict[str, str]]:
    """The roles (id and name) that the trust passes on, of those that still exist."""
    with service.db.read() as conn:
        role_map = state_module.role_map(service, conn, revision.read(conn))
    return [{"id": one, "name": role_map.names[one]} for one in row.role_ids if one in role_map.names]


def list_trusts(service: Service, trustor_user_id: str | None, trustee_user_id: str | None) -> Sequence[Record]:
    with service.db.read() as conn:
        return store.all_of(conn, trustor_user_id, trustee_user_id)


def create(service: Service, context: Context, body: Mapping[str, Any]) -> Record:
    """Make a trust of the caller; with the token of a trust, one that passes it on. Raises Invalid, NotFound, Forbidden."""
    application_credentials.check_unrestricted(service, context)
    claims = token_logic.claims_of(service, context.token) if context.token is not None else None
    source_id = claims.trust_id if claims is not None else None
    if body.get("redelegated_trust_id") not in {None, source_id}:
        raise invalid("A trust is passed on with a token of it: leave redelegated_trust_id out.")
    if body.get("remaining_uses") is not None and body["remaining_uses"] < 1:
        raise invalid("remaining_uses must be a positive integer or null.")
    project_id, expires_at, now = body.get("project_id"), expiry("a trust", body.get("expires_at")), clock.utcnow()
    if (project_id is None) != (not body.get("roles")):
        raise Forbidden("A trust names a project and at least one role, or neither.")
    trust_id = ids.new_id()
    with service.db.write() as conn:
        source = _source(conn, source_id)
        giver_id = redelegation.giver_id(service, conn, source, now) if source is not None else body["trustor_user_id"]
        if people.user(conn, body["trustee_user_id"], "share") is None:
            raise not_found("user", body["trustee_user_id"])
        values = {
            "id": trust_id,
            "trustor_user_id": body["trustor_user_id"],
            "trustee_user_id": body["trustee_user_id"],
            "project_id": project_id,
            "impersonation": body["impersonation"],
            "role_ids": _role_ids(service, conn, body, giver_id),
            "expires_at": source.expires_at if source is not None and expires_at is None else expires_at,
            "remaining_uses": body.get("remaining_uses"),
            "redelegation_count": redelegation.count(service, body, source),
            "redelegated_trust_id": source_id,
            "extra": extra_of(body, KNOWN),
        }
        if source is not None:
            redelegation.check(service, conn, source, values)
        conn.execute(sa.insert(trusts).values(**values))
        created = store.trust(conn, trust_id)
    if created is None:
        raise not_found("trust", trust_id)
    return created


def _source(conn: sa.Connection, trust_id: str | None) -> Record | None:
    """The trust that is passed on, kept from being deleted meanwhile. Raises NotFound."""
    if trust_id is None:
        return None
    row = listing.by_id(conn, tuple(trusts.c), trusts, trust_id, "share")
    if row is None:
        raise not_found("trust", trust_id)
    return row


def _role_ids(service: Service, conn: sa.Connection, body: Mapping[str, Any], giver_id: str) -> list[str]:
    """The wanted roles by id or name; the user whose rights they are must have all of them on the project."""
    project_id = body.get("project_id")
    if project_id is None:
        return []
    row = live.state(conn, giver_id, project_id)
    if row is None or row.project_id is None:
        raise not_found("project", project_id)
    role_map = state_module.role_map(service, conn, revision.read(conn))
    has = role_map.with_implied(token_logic.project_role_ids(conn, giver_id, row))
    by_name = {name: role_id for role_id, name in role_map.names.items() if not role_map.domains[role_id]}
    found = []
    for role in body["roles"]:
        role_id = role.get("id") or by_name.get(role.get("name", ""))
        if role_id is None or role_id not in has:
            raise not_found("role", role.get("id") or role.get("name", ""))  # upstream's answer for roles one has not, too
        found.append(role_id)
    return sorted(set(found))


def use(service: Service, trust_id: str) -> bool:
    """Count one use of a trust that has only some; whether there was one left."""
    with service.db.write() as conn:
        return store.use(conn, trust_id)


def delete(service: Service, trust_id: str) -> None:
    """Delete it with all that were made from it; their tokens end at once. Raises NotFound."""
    with service.db.write() as conn:
        if not store.delete(conn, trust_id):
            raise not_found("trust", trust_id)
        revision.advance(conn)
