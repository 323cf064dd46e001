"""How identity providers know users, and the groups in which they put them for a while."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from .federation_tables import federated_memberships, federated_users
from .listing import Record
from .tables import groups, users


def owner(conn: sa.Connection, provider_id: str, protocol_id: str, unique_id: str) -> Record | None:
    """(user_id, display_name) of who has this identity."""
    table = federated_users
    query = sa.select(table.c.user_id, table.c.display_name, table.c.unique_id).where(
        table.c.identity_provider_id == provider_id,
        table.c.protocol_id == protocol_id,
        table.c.unique_id == unique_id,
    )
    row = conn.execute(query).first()
    # A database that was made without a binary collation finds "Alice" for "alice": another person.
    return row if row is not None and row.unique_id == unique_id else None


def of_user(conn: sa.Connection, user_id: str) -> list[dict[str, Any]]:
    """The identities of a user as the API shows them."""
    table = federated_users
    query = (
        sa.select(table.c.identity_provider_id, table.c.protocol_id, table.c.unique_id)
        .where(table.c.user_id == user_id)
        .order_by(table.c.identity_provider_id, table.c.protocol_id, table.c.unique_id)
    )
    found: dict[str, list[dict[str, str]]] = {}
    for provider_id, protocol_id, unique_id in conn.execute(query):
        found.setdefault(provider_id, []).append({"protocol_id": protocol_id, "unique_id": unique_id})
    return [{"idp_id": provider_id, "protocols": protocols} for provider_id, protocols in found.items()]


def add(
    conn: sa.Connection, user_id: str, provider_id: str, protocol_id: str, unique_id: str, display_name: str | None
) -> None:
    """Raises IntegrityError where somebody has this identity."""
    conn.execute(
        sa.insert(federated_users).values(
            identity_provider_id=provider_id,
            protocol_id=protocol_id,
            unique_id=unique_id,
            user_id=user_id,
            display_name=display_name,
        )
    )


def rename(conn: sa.Connection, provider_id: str, protocol_id: str, unique_id: str, display_name: str) -> None:
    table = federated_users
    conn.execute(
        sa.update(table)
        .where(
            table.c.identity_provider_id == provider_id,
            table.c.protocol_id == protocol_id,
            table.c.unique_id == unique_id,
        )
        .values(display_name=display_name)
    )


def forget(conn: sa.Connection, user_id: str) -> None:
    """The user has no identities any more."""
    conn.execute(sa.delete(federated_users).where(federated_users.c.user_id == user_id))


def matching(filters: Mapping[str, str]) -> sa.ColumnElement[bool]:
    """Users with an identity whose columns have these values."""
    conditions = [federated_users.c[name] == value for name, value in filters.items()]
    return users.c.id.in_(sa.select(federated_users.c.user_id).where(*conditions))


def name_is_free(conn: sa.Connection, domain_id: str, name: str, user_id: str) -> bool:
    query = sa.select(users.c.id).where(users.c.domain_id == domain_id, users.c.name == name, users.c.id != user_id)
    return conn.execute(query).first() is None


# Memberships -----------------------------------------------------------------------------------------------------------


def memberships(conn: sa.Connection, user_id: str, provider_id: str) -> dict[str, dt.datetime]:
    """When each membership ends, by group, whether it has ended or not."""
    table = federated_memberships
    query = sa.select(table.c.group_id, table.c.expires_at).where(
        table.c.user_id == user_id, table.c.identity_provider_id == provider_id
    )
    return {row[0]: row[1] for row in conn.execute(query)}


def group_ids(conn: sa.Connection, user_id: str, provider_id: str, now: dt.datetime) -> list[str]:
    """The groups in which an identity provider has put a user, those that still count."""
    return sorted(group for group, ends in memberships(conn, user_id, provider_id).items() if ends > now)


def replace_memberships(
    conn: sa.Connection, user_id: str, provider_id: str, wanted: Iterable[str], expires_at: dt.datetime
) -> None:
    table = federated_memberships
    conn.execute(sa.delete(table).where(table.c.user_id == user_id, table.c.identity_provider_id == provider_id))
    common = {"user_id": user_id, "identity_provider_id": provider_id, "expires_at": expires_at}
    rows = [{**common, "group_id": group_id} for group_id in wanted]
    if rows:
        conn.execute(sa.insert(table), rows)


def end_of_memberships(conn: sa.Connection, user_id: str, now: dt.datetime) -> dt.datetime | None:
    """When the first of those that count ends; None without any."""
    table = federated_memberships
    query = sa.select(sa.func.min(table.c.expires_at)).where(table.c.user_id == user_id, table.c.expires_at > now)
    found: dt.datetime | None = conn.execute(query).scalar()
    return found


def forget_ended(conn: sa.Connection, now: dt.datetime) -> int:
    """Drop memberships that have ended; how many."""
    return conn.execute(sa.delete(federated_memberships).where(federated_memberships.c.expires_at <= now)).rowcount


def existing_groups(conn: sa.Connection, wanted: Collection[str]) -> set[str]:
    """Those of these groups that exist; they will not be deleted before this transaction ends."""
    query = sa.select(groups.c.id).where(groups.c.id.in_(list(wanted))).with_for_update(read=True)
    return set(conn.execute(query).scalars())


def groups_by_name(conn: sa.Connection, domain_id: str, names: Collection[str]) -> dict[str, str]:
    """Ids by name of those that exist."""
    query = sa.select(groups.c.name, groups.c.id).where(groups.c.domain_id == domain_id, groups.c.name.in_(list(names)))
    return {row[0]: row[1] for row in conn.execute(query)}
