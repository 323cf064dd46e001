"""Commands and queries on users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.identity.errors import AuthenticationFailed, ReadOnly, invalid, not_found
from pileus.identity.store import directories as directory_store
from pileus.identity.store import federated_users, listing, passwords, people, projects, revision
from pileus.identity.store.listing import Listing, Record
from pileus.identity.store.tables import USER, users
from pileus.kernel import clock, ids
from pileus.kernel.service import Service

from . import compliance, federated_identities, lockout, multi_factor, shadows
from . import state as state_module
from .common import check_same_domain, check_same_id, extra_of, merged_extra, merged_options, unique_name
from .directories import forbid_writes
from .proofs import Attempt

KNOWN = frozenset(
    {"id", "name", "domain_id", "enabled", "default_project_id", "password", "options", "password_expires_at", "federated"}
)


def find(service: Service, user_id: str) -> Record | None:
    with service.db.read() as conn:
        return people.user(conn, user_id)


def list_users(service: Service, wanted: Listing, identity: Mapping[str, str] | None = None) -> Sequence[Any]:
    """The users of one directory as they are there, else what the database knows.

    `identity` are columns of federated_users, with the values that they must have.
    """
    conditions = [federated_users.matching(identity)] if identity else []
    place = shadows.place_of(service, wanted) if not identity else None
    if place is not None:
        return shadows.list_entries(service, place, USER, wanted)
    with service.db.read() as conn:
        return people.list_users(conn, wanted, compliance.inactive_until(service), *conditions)


def create(
    service: Service, body: Mapping[str, Any], user_id: str | None = None, *, any_provider: bool = False
) -> Record:
    """Create a user in an existing domain; `any_provider` as in `federated_identities.replace`.

    Raises AlreadyExists, NotFound for the domain, Invalid, Forbidden.
    """
    multi_factor.check(body)
    password_hash = compliance.hashed(service, body.get("password"))
    now = clock.utcnow()
    user_id = user_id or ids.new_id()
    name, domain_id = body["name"].strip(), body["domain_id"]
    options = merged_options(None, body.get("options"))
    with unique_name("user", name, domain_id), service.db.write() as conn:
        require_domain(conn, domain_id)
        forbid_writes(conn, domain_id, "users")
        _check_default_project(conn, body.get("default_project_id"))
        conn.execute(
            sa.insert(users).values(
                id=user_id,
                domain_id=domain_id,
                name=name,
                enabled=body.get("enabled", True),
                default_project_id=body.get("default_project_id"),
                options=options,
                extra=extra_of(body, KNOWN),
                created_at=now,
                **compliance.of_new_user(service, password_hash, options, now),
            )
        )
        created = people.user(conn, user_id)
        if created is None:
            raise not_found("user", user_id)
        federated_identities.replace(conn, created, name, body.get("federated") or (), any_provider=any_provider)
    return created


def update(service: Service, user_id: str, body: Mapping[str, Any], *, any_provider: bool = False) -> Record:
    """Change a user; a new password or `enabled: false` ends all of the user's tokens.

    `any_provider` as in `federated_identities.replace`. Raises NotFound, AlreadyExists, Invalid, Forbidden.
    """
    check_same_id("user", user_id, body)
    values: dict[str, Any] = {name: body[name] for name in ("enabled", "default_project_id") if name in body}
    if "name" in body:
        values["name"] = body["name"].strip()
    multi_factor.check(body)
    password_hash = compliance.hashed(service, body.get("password"))
    with unique_name("user", values.get("name", ""), body.get("domain_id")), service.db.write() as conn:
        present = people.user(conn, user_id, "update")
        if present is None:
            raise not_found("user", user_id)
        if directory_store.entry(conn, user_id) is not None:
            forbid_writes(conn, present.domain_id, "users")
        if password_hash is not None:  # logging in with it would ask the directory, which does not know those who are not there
            forbid_writes(conn, present.domain_id, "passwords")
        check_same_domain(present.domain_id, body)
        _check_default_project(conn, body.get("default_project_id"))
        values["extra"] = merged_extra(present.extra, body, KNOWN)
        options = values["options"] = merged_options(present.options, body.get("options"))
        values.update(compliance.of_update(service, conn, user_id, body, present.options, options, password_hash))
        if body.get("enabled") is False:
            values["tokens_valid_after"] = clock.utcnow()
        listing.change(conn, users, user_id, values)
        if "federated" in body:
            name, wanted = values.get("name", present.name), body["federated"] or ()
            federated_identities.replace(conn, present, name, wanted, any_provider=any_provider)
        changed = people.user(conn, user_id)
        revision.advance(conn)
    if changed is None:
        raise not_found("user", user_id)
    return changed


def delete(service: Service, user_id: str) -> None:
    """Delete a user with assignments, memberships and credentials, or what is left of one of a directory. Raises NotFound, ReadOnly."""
    with service.db.write() as conn:
        present = people.user(conn, user_id, "update")
        if present is not None and directory_store.is_there(conn, user_id):
            forbid_writes(conn, present.domain_id, "users")
        if not people.delete_user(conn, user_id):
            raise not_found("user", user_id)
        revision.advance(conn)


def change_password(service: Service, user_id: str, original: str, password: str) -> None:
    """A user's own change; knowing the old password is the authorization, also when it has expired. A token is not needed.

    Raises AuthenticationFailed when the old one is wrong or the user locked, Invalid when a rule forbids the change, ReadOnly.
    """
    with service.db.read() as conn:
        row = people.for_password(conn, user_id=user_id, name=None, domain_id=None, domain_name=None)
        present = passwords.present(conn, user_id)
    if row is not None and row.in_directory:
        shadows.login(Attempt(service, clock.utcnow()), {"id": user_id, "password": original})
        raise ReadOnly("users")
    hasher = state_module.of(service).hasher
    verified = hasher.verify(original, row.password_hash if row is not None else None)
    row = lockout.judge(service, row, right=verified, what="password")
    if not (row.enabled and row.domain_enabled) or compliance.is_inactive(service, row.last_active_at):
        raise AuthenticationFailed(f"user {user_id} or its domain is disabled")
    assert present is not None, "it was read with the user"
    since, chosen = present.password_changed_at, present.password_self_service
    compliance.check_changeable(service, row.options, since=since, self_service=chosen)
    compliance.check_strength(service, password)
    compliance.check_unused(service, user_id, row.password_hash, password)
    new_hash = hasher.hash(password)
    with service.db.write() as conn:
        mine = sa.update(users).where(users.c.id == user_id, users.c.password_hash == row.password_hash)
        values = compliance.of_new_password(service, new_hash, row.options, self_service=True)
        if conn.execute(mine.values(**values)).rowcount == 0:
            raise AuthenticationFailed(f"the password of user {user_id} was changed meanwhile")
        compliance.retire(service, conn, user_id, row.password_hash)
        revision.advance(conn)


def groups_of(service: Service, user_id: str, wanted: Listing) -> Sequence[Record]:
    with service.db.read() as conn:
        return people.groups_of(conn, user_id, wanted)


def require_domain(conn: sa.Connection, domain_id: str) -> Record:
    """The domain, which will not be deleted before this transaction ends. Raises NotFound."""
    domain = projects.domain(conn, domain_id, "share")
    if domain is None:
        raise not_found("domain", domain_id)
    return domain


def _check_default_project(conn: sa.Connection, project_id: str | None) -> None:
    """Upstream lets it name what does not exist; a domain it refuses."""
    if project_id is None:
        return
    project = projects.project(conn, project_id)
    if project is not None and project.is_domain:
        raise invalid("User's default project ID cannot be a domain ID.")
