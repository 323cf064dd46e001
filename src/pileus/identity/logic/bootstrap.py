"""The initial content of identity.

Repeating it adds what is missing. Of what is there it changes the URLs of the catalog alone, which follow the
configuration; passwords, roles and names stay as they are.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.identity.store import revision
from pileus.identity.store.tables import (
    DOMAIN,
    NO_DOMAIN,
    PROJECT,
    SYSTEM,
    SYSTEM_KIND,
    USER,
    assignments,
    implied_roles,
    projects,
    regions,
    roles,
    services,
    users,
)
from pileus.identity.store.tables import endpoints as endpoint_table
from pileus.kernel import clock, ids
from pileus.kernel.db import insert_ignore
from pileus.kernel.service import Service

from . import keys, limits
from . import state as state_module

INTERFACES = ("public", "internal", "admin")
_CHAIN = ("admin", "manager", "member", "reader")


def bootstrap(
    service: Service,
    admin_password: str,
    endpoints: Sequence[Mapping[str, str]],
    service_users: Mapping[str, str],
) -> dict[str, str]:
    """Make domain, roles, admin, service users, region and catalog, and the token keys.

    `endpoints` are `{"service_type", "service_name", "url", "region"}`, each registered with all three interfaces.
    `service_users` are passwords by name: users with role `service` on project `service`.
    Returns the ids of what others refer to: domain, admin user, projects and roles.
    """
    state = state_module.of(service)
    limits.check_depth(service)
    keys.setup(service)
    wanted = {"admin": admin_password, **service_users}
    with service.db.read() as conn:
        known = _names(conn, users, service.options.default_domain_id)
    # Hashing is slow and never done inside a transaction; only what is missing is hashed.
    hashes = {name: state.hasher.hash(password) for name, password in wanted.items() if name not in known}
    with service.db.write() as conn:
        revision.advance(conn, roles=True, catalog=True)  # first: its row lock lets one process at a time do this
        made = _people(service, conn, hashes, sorted(service_users))
        _catalog(conn, endpoints)
    return made


def _people(
    service: Service, conn: sa.Connection, hashes: Mapping[str, str], service_users: Sequence[str]
) -> dict[str, str]:
    domain_id = service.options.default_domain_id
    _ensure_domain(conn, domain_id)
    role_ids = _ensure_roles(service, conn)
    project_ids = {name: _ensure_project(conn, name, domain_id) for name in ("admin", "service")}
    user_ids = _ensure_users(conn, hashes, domain_id, service_users)
    admin, role = user_ids["admin"], role_ids["admin"]
    _ensure_grant(conn, admin, PROJECT, project_ids["admin"], role)
    _ensure_grant(conn, admin, DOMAIN, domain_id, role)
    _ensure_grant(conn, admin, SYSTEM_KIND, SYSTEM, role)
    for name in service_users:
        _ensure_grant(conn, user_ids[name], PROJECT, project_ids["service"], role_ids["service"])
    return {
        "domain": domain_id,
        "admin_user": admin,
        "admin_project": project_ids["admin"],
        "service_project": project_ids["service"],
        **{f"role_{name}": role_id for name, role_id in role_ids.items()},
    }


def _names(conn: sa.Connection, table: sa.Table, domain_id: str) -> dict[str, str]:
    """Ids by name in one domain."""
    query = sa.select(table.c.name, table.c.id).where(table.c.domain_id == domain_id)
    return {row[0]: row[1] for row in conn.execute(query)}


def _ensure_domain(conn: sa.Connection, domain_id: str) -> None:
    row: dict[str, Any] = {
        "id": domain_id,
        "name": "Default",
        "domain_id": NO_DOMAIN,
        "parent_id": None,
        "description": "The default domain",
        "enabled": True,
        "is_domain": True,
        "options": {},
        "extra": {},
    }
    insert_ignore(conn, projects, [row])


def _ensure_project(conn: sa.Connection, name: str, domain_id: str) -> str:
    row: dict[str, Any] = {
        "id": ids.new_id(),
        "name": name,
        "domain_id": domain_id,
        "parent_id": domain_id,
        "description": f"The {name} project",
        "enabled": True,
        "is_domain": False,
        "options": {},
        "extra": {},
    }
    insert_ignore(conn, projects, [row])
    return _names(conn, projects, domain_id)[name]


def _ensure_roles(service: Service, conn: sa.Connection) -> dict[str, str]:
    options = {"immutable": True} if service.options.immutable_default_roles else {}
    for name in (*_CHAIN, "service"):
        row = {"id": ids.new_id(), "name": name, "domain_id": NO_DOMAIN, "options": options, "extra": {}}
        insert_ignore(conn, roles, [row])
    role_ids = _names(conn, roles, NO_DOMAIN)
    for prior, implied in itertools.pairwise(_CHAIN):
        pair = {"prior_role_id": role_ids[prior], "implied_role_id": role_ids[implied]}
        insert_ignore(conn, implied_roles, [pair])
    return {name: role_ids[name] for name in (*_CHAIN, "service")}


def _ensure_users(
    conn: sa.Connection, hashes: Mapping[str, str], domain_id: str, of_services: Sequence[str]
) -> dict[str, str]:
    """Users of services are never locked: their passwords are random, and who guesses must not stop the cloud."""
    now = clock.utcnow()
    for name, password_hash in hashes.items():
        row = {
            "id": ids.new_id(),
            "domain_id": domain_id,
            "name": name,
            "enabled": True,
            "options": {"ignore_lockout_failure_attempts": True} if name in of_services else {},
            "extra": {},
            "password_hash": password_hash,
            "password_changed_at": now,
            "created_at": now,
        }
        insert_ignore(conn, users, [row])
    return _names(conn, users, domain_id)


def _ensure_grant(conn: sa.Connection, user_id: str, target_kind: str, target_id: str, role_id: str) -> None:
    row: dict[str, Any] = {
        "actor_id": user_id,
        "actor_kind": USER,
        "target_id": target_id,
        "target_kind": target_kind,
        "role_id": role_id,
        "inherited": False,
    }
    insert_ignore(conn, assignments, [row])


def _catalog(conn: sa.Connection, wanted: Sequence[Mapping[str, str]]) -> None:
    """Services by type and name, endpoints by service, region and interface."""
    for entry in wanted:
        insert_ignore(conn, regions, [{"id": entry["region"], "description": "", "extra": {}}])
        service_id = _ensure_service(conn, entry["service_type"], entry["service_name"])
        place = {"service_id": service_id, "region_id": entry["region"]}
        here = [endpoint_table.c[name] == value for name, value in place.items()]
        present = set(conn.execute(sa.select(endpoint_table.c.interface).where(*here)).scalars())
        conn.execute(
            sa.update(endpoint_table).where(*here, endpoint_table.c.url != entry["url"]).values(url=entry["url"])
        )
        for interface in INTERFACES:
            if interface not in present:
                row = {"id": ids.new_id(), "interface": interface, "url": entry["url"], "enabled": True, "extra": {}}
                conn.execute(sa.insert(endpoint_table).values(**row, **place))


def _ensure_service(conn: sa.Connection, kind: str, name: str) -> str:
    query = sa.select(services.c.id).where(services.c.type == kind, services.c.name == name)
    found: str | None = conn.execute(query).scalar()
    if found is not None:
        return found
    made: dict[str, Any] = {"id": ids.new_id(), "type": kind, "name": name, "enabled": True, "extra": {}}
    conn.execute(sa.insert(services).values(**made))
    return str(made["id"])
