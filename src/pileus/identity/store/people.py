"""Users, groups and who belongs to which."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence

import sqlalchemy as sa

from pileus.kernel import clock
from pileus.kernel.db import insert_ignore

from . import listing, passwords
from .directory_tables import directory_entries, domain_options
from .federation_tables import federated_memberships
from .listing import Lock, Record
from .tables import (
    access_rules,
    application_credentials,
    assignments,
    credentials,
    groups,
    memberships,
    projects,
    trusts,
    users,
)

IN_DATABASE = '"sql"'
"""The value of the option identity.driver of a domain whose users and groups are not in a directory."""

USER_COLUMNS = (
    users.c.id,
    users.c.domain_id,
    users.c.name,
    users.c.enabled,
    users.c.default_project_id,
    users.c.options,
    users.c.extra,
    users.c.password_expires_at,
    users.c.last_active_at,
)
GROUP_COLUMNS = (groups.c.id, groups.c.domain_id, groups.c.name, groups.c.description, groups.c.extra)

_PASSWORD_COLUMNS = (
    users.c.id,
    users.c.name,
    users.c.enabled,
    users.c.default_project_id,
    users.c.password_hash,
    users.c.password_expires_at,
    users.c.options,
    users.c.domain_id,
    users.c.last_active_at,
    projects.c.enabled.label("domain_enabled"),
    sa.exists()
    .where(
        domain_options.c.domain_id == users.c.domain_id,
        domain_options.c.section == "identity",
        domain_options.c.name == "driver",
        domain_options.c.value != IN_DATABASE,
    )
    .label("in_directory"),
)


def user(conn: sa.Connection, user_id: str, lock: Lock = None) -> Record | None:
    return listing.by_id(conn, USER_COLUMNS, users, user_id, lock)


def group(conn: sa.Connection, group_id: str, lock: Lock = None) -> Record | None:
    return listing.by_id(conn, GROUP_COLUMNS, groups, group_id, lock)


def for_password(
    conn: sa.Connection, *, user_id: str | None, name: str | None, domain_id: str | None, domain_name: str | None
) -> Record | None:
    """The user with hash and flags, by id, or by name and the id or name of the domain."""
    query = sa.select(*_PASSWORD_COLUMNS).join(projects, projects.c.id == users.c.domain_id)
    if user_id is not None:
        query = query.where(users.c.id == user_id)
    else:
        query = query.where(users.c.name == name, projects.c.is_domain == sa.true())
        query = query.where(projects.c.id == domain_id if domain_id is not None else projects.c.name == domain_name)
    return conn.execute(query).first()


def _for_good_or_a_while(wanted: str, given: str, value: str) -> sa.CompoundSelect[str]:
    """One column of the memberships in which another one has a value; of those by federation, which still count."""
    for_a_while = sa.select(federated_memberships.c[wanted]).where(
        federated_memberships.c[given] == value, federated_memberships.c.expires_at > clock.utcnow()
    )
    return sa.union(sa.select(memberships.c[wanted]).where(memberships.c[given] == value), for_a_while)


def groups_of(conn: sa.Connection, user_id: str, wanted: listing.Listing) -> Sequence[Record]:
    member = groups.c.id.in_(_for_good_or_a_while("group_id", "user_id", user_id))
    return listing.select(conn, GROUP_COLUMNS, groups, wanted, member)


def members_of(
    conn: sa.Connection, group_id: str, wanted: listing.Listing, inactive_until: dt.date | None
) -> Sequence[Record]:
    member = users.c.id.in_(_for_good_or_a_while("user_id", "group_id", group_id))
    return list_users(conn, wanted, inactive_until, member)


def list_users(
    conn: sa.Connection, wanted: listing.Listing, inactive_until: dt.date | None, *conditions: sa.ColumnElement[bool]
) -> Sequence[Record]:
    """Who was last active on that day or before is not enabled."""
    flags = [passwords.is_enabled(one.value, inactive_until) for one in wanted.filters if one.attribute == "enabled"]
    others = tuple(one for one in wanted.filters if one.attribute != "enabled")
    rest = dataclasses.replace(wanted, filters=others)
    return listing.select(conn, USER_COLUMNS, users, rest, *conditions, *flags)


def is_member(conn: sa.Connection, user_id: str, group_id: str) -> bool:
    return group_id in conn.execute(_for_good_or_a_while("group_id", "user_id", user_id)).scalars().all()


def add_member(conn: sa.Connection, user_id: str, group_id: str) -> None:
    insert_ignore(conn, memberships, [{"user_id": user_id, "group_id": group_id}])


def remove_member(conn: sa.Connection, user_id: str, group_id: str) -> bool:
    removed = 0
    for table in (memberships, federated_memberships):
        removal = sa.delete(table).where(table.c.user_id == user_id, table.c.group_id == group_id)
        removed += conn.execute(removal).rowcount
    return removed > 0


def delete_user(conn: sa.Connection, user_id: str) -> bool:
    """The user and all that hangs on it; memberships go by foreign key."""
    if user(conn, user_id, "update") is None:
        return False
    conn.execute(sa.delete(assignments).where(assignments.c.actor_id == user_id))
    conn.execute(sa.delete(credentials).where(credentials.c.user_id == user_id))
    conn.execute(sa.delete(application_credentials).where(application_credentials.c.user_id == user_id))
    conn.execute(sa.delete(access_rules).where(access_rules.c.user_id == user_id))
    conn.execute(
        sa.delete(trusts).where(sa.or_(trusts.c.trustor_user_id == user_id, trusts.c.trustee_user_id == user_id))
    )
    conn.execute(sa.delete(directory_entries).where(directory_entries.c.public_id == user_id))
    return listing.remove(conn, users, user_id) > 0


def delete_group(conn: sa.Connection, group_id: str) -> bool:
    if group(conn, group_id, "update") is None:
        return False
    conn.execute(sa.delete(assignments).where(assignments.c.actor_id == group_id))
    conn.execute(sa.delete(directory_entries).where(directory_entries.c.public_id == group_id))
    return listing.remove(conn, groups, group_id) > 0
