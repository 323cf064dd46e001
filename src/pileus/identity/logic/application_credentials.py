"""Application credentials: secrets with which a program acts for a user on one project, with some of the roles."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.identity.errors import duplicate_name, invalid, not_found
from pileus.identity.store import credentials as store
from pileus.identity.store import listing, live, revision
from pileus.identity.store.listing import Record
from pileus.identity.store.tables import application_credentials
from pileus.kernel import ids
from pileus.kernel.context import Context
from pileus.kernel.db import is_unique_violation
from pileus.kernel.errors import Forbidden
from pileus.kernel.service import Service

from . import access_rules, passwords
from . import state as state_module
from . import tokens as token_logic
from .common import expiry


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """Application credentials and what is needed to show them: all roles, and the access rules by credential."""

    rows: Sequence[Record]
    roles: state_module.RoleMap
    rules: Mapping[str, Sequence[Record]]


def list_of(service: Service, user_id: str, name: str | None = None) -> Found:
    with service.db.read() as conn:
        return _found(service, conn, store.application_credentials_of(conn, user_id, name))


def find(service: Service, user_id: str, credential_id: str) -> Found:
    """Raises NotFound, for another user's too."""
    with service.db.read() as conn:
        row = live.application_credential(conn, credential_id)
        if row is None or row.user_id != user_id:
            raise not_found("Application Credential", credential_id)
        return _found(service, conn, [row])


def _found(service: Service, conn: sa.Connection, rows: Sequence[Record]) -> Found:
    roles = state_module.role_map(service, conn, revision.read(conn))
    return Found(rows, roles, store.rules_of(conn, [row.id for row in rows]) if rows else {})


def create(service: Service, context: Context, body: Mapping[str, Any]) -> tuple[Found, str]:
    """Make one for the caller's project; returns it with the secret, which is shown this once.

    Raises Invalid, Forbidden, NotFound for an unknown access rule, AlreadyExists.
    """
    if context.project_id is None or context.user_id is None:
        raise Forbidden("Application credentials are made with a token for a project.")
    check_may_manage(service, context)
    secret = body.get("secret")
    if secret is None:
        secret = base64.urlsafe_b64encode(ids.token_bytes(64)).decode().rstrip("=")
        secret_hash = passwords.hash_generated(secret)
    else:
        secret_hash = state_module.of(service).hasher.hash(secret)
    expires_at = expiry("an application credential", body.get("expires_at"))
    credential_id = ids.new_id()
    try:
        with service.db.write() as conn:
            _check_limit(service, conn, context.user_id)
            role_map = state_module.role_map(service, conn, revision.read(conn))
            values = {
                "id": credential_id,
                "user_id": context.user_id,
                "project_id": context.project_id,
                "name": body["name"],
                "description": body.get("description"),
                "secret_hash": secret_hash,
                "expires_at": expires_at,
                "unrestricted": body.get("unrestricted", False),
                "role_ids": _role_ids(role_map, context, body.get("roles")),
            }
            conn.execute(sa.insert(application_credentials).values(**values))
            access_rules.attach(conn, context.user_id, credential_id, body.get("access_rules", ()))
            row = live.application_credential(conn, credential_id)
            found = _found(service, conn, [row] if row is not None else [])
    except sa.exc.IntegrityError as error:
        if is_unique_violation(error):
            raise duplicate_name("application_credential", body["name"]) from None
        raise
    return found, secret


def check_unrestricted(service: Service, context: Context) -> None:
    """Raises Forbidden for a caller that is itself a restricted application credential."""
    if context.token is None:
        return
    claims = token_logic.claims_of(service, context.token)
    if "ec2credential" in claims.methods:
        raise Forbidden("A token of an EC2 credential cannot be used for this.")
    if claims.access_token_id is not None:
        raise Forbidden("A token of OAuth 1.0 cannot be used for this.")
    if claims.application_credential_id is None:
        return
    with service.db.read() as conn:
        row = live.application_credential(conn, claims.application_credential_id)
    if row is None or not row.unrestricted:
        raise Forbidden(
            "Using method 'application_credential' is not allowed for managing additional application credentials."
        )


def check_may_manage(service: Service, context: Context) -> None:
    """Raises Forbidden for those, and for a token of a trust: an application credential would outlive the trust."""
    check_unrestricted(service, context)
    if context.token is not None and token_logic.claims_of(service, context.token).trust_id is not None:
        raise Forbidden("A token of a trust cannot be used to manage application credentials.")


def check_not_delegated(service: Service, context: Context) -> None:
    """Raises Forbidden for a token that stands for a part of its user's rights: a credential would stand for all."""
    if context.token is None:
        return
    claims = token_logic.claims_of(service, context.token)
    delegated = claims.application_credential_id or claims.trust_id or claims.access_token_id
    if delegated or "ec2credential" in claims.methods:
        raise Forbidden(
            "Credentials cannot be used with a token of an application credential, a trust, OAuth 1.0 or an EC2 key."
        )


def _check_limit(service: Service, conn: sa.Connection, user_id: str) -> None:
    limit = service.options.application_credential_limit
    if 0 <= limit <= store.count_application_credentials(conn, user_id):
        raise Forbidden(f"Unable to create additional application credentials, maximum of {limit} already reached.")


def _role_ids(
    role_map: state_module.RoleMap, context: Context, wanted: Sequence[Mapping[str, str]] | None
) -> list[str]:
    """The wanted roles, all of which the caller must have now; without a wish all of the caller's."""
    by_name = {name: role_id for role_id, name in role_map.names.items() if not role_map.domains[role_id]}
    own = {by_name[name] for name in context.roles if name in by_name}
    if not wanted:
        return sorted(own)
    found = set()
    for role in wanted:
        role_id = role.get("id") or by_name.get(role.get("name", ""))
        if role_id not in own:
            raise invalid(f"Invalid application credential: Could not find role assignment with role: {role_id}.")
        found.add(role_id)
    return sorted(found)


def delete(service: Service, user_id: str, credential_id: str) -> None:
    """Delete it; its tokens end at once. Raises NotFound."""
    with service.db.write() as conn:
        row = live.application_credential(conn, credential_id)
        if row is None or row.user_id != user_id:
            raise not_found("Application Credential", credential_id)
        listing.remove(conn, application_credentials, credential_id)
        revision.advance(conn)
