"""Roles, what they imply, and who has them where."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from pileus.kernel import clock
from pileus.kernel.db import insert_ignore

from . import listing
from .federation_tables import federated_memberships
from .listing import Lock, Record
from .tables import assignments, implied_roles, memberships, roles

COLUMNS = (roles.c.id, roles.c.name, roles.c.domain_id, roles.c.description, roles.c.options, roles.c.extra)


@dataclasses.dataclass(frozen=True, slots=True)
class Grant:
    """One row of assignments: `actor` and `target` with their kinds, see `tables`."""

    actor_id: str
    actor_kind: str
    target_id: str
    target_kind: str
    role_id: str
    inherited: bool = False


def role(conn: sa.Connection, role_id: str, lock: Lock = None) -> Record | None:
    return listing.by_id(conn, COLUMNS, roles, role_id, lock)


def everything(conn: sa.Connection) -> Sequence[Record]:
    """(id, name, domain_id) of all roles: there are few."""
    return conn.execute(sa.select(roles.c.id, roles.c.name, roles.c.domain_id)).all()


def implications(conn: sa.Connection) -> list[tuple[str, str]]:
    """(prior, implied) of all inference rules."""
    query = sa.select(implied_roles.c.prior_role_id, implied_roles.c.implied_role_id)
    return [(row[0], row[1]) for row in conn.execute(query)]


def implied_by(conn: sa.Connection, prior_role_id: str) -> Sequence[Record]:
    """The roles (COLUMNS) that one implies directly."""
    query = sa.select(*COLUMNS).join(implied_roles, implied_roles.c.implied_role_id == roles.c.id)
    return conn.execute(query.where(implied_roles.c.prior_role_id == prior_role_id).order_by(roles.c.name)).all()


def add_implication(conn: sa.Connection, prior_role_id: str, implied_role_id: str) -> bool:
    """Whether it is new."""
    row = {"prior_role_id": prior_role_id, "implied_role_id": implied_role_id}
    return insert_ignore(conn, implied_roles, [row]) > 0


def remove_implication(conn: sa.Connection, prior_role_id: str, implied_role_id: str) -> bool:
    removal = sa.delete(implied_roles).where(
        implied_roles.c.prior_role_id == prior_role_id, implied_roles.c.implied_role_id == implied_role_id
    )
    return conn.execute(removal).rowcount > 0


def add_grant(conn: sa.Connection, grant: Grant) -> bool:
    """Whether it is new."""
    return insert_ignore(conn, assignments, [dataclasses.asdict(grant)]) > 0


def _same(grant: Grant) -> list[sa.ColumnElement[bool]]:
    return [assignments.c[name] == value for name, value in dataclasses.asdict(grant).items()]


def remove_grant(conn: sa.Connection, grant: Grant) -> bool:
    return conn.execute(sa.delete(assignments).where(*_same(grant))).rowcount > 0


def has_grant(conn: sa.Connection, grant: Grant) -> bool:
    return conn.execute(sa.select(assignments.c.role_id).where(*_same(grant))).first() is not None


def granted(
    conn: sa.Connection, actor_id: str, target_id: str, target_kind: str, *, inherited: bool
) -> Sequence[Record]:
    """The roles (COLUMNS) that an actor was given on a target, nothing expanded."""
    query = (
        sa.select(*COLUMNS)
        .join(assignments, assignments.c.role_id == roles.c.id)
        .where(
            assignments.c.actor_id == actor_id,
            assignments.c.target_id == target_id,
            assignments.c.target_kind == target_kind,
            assignments.c.inherited == sa.true() if inherited else assignments.c.inherited == sa.false(),
        )
    )
    return conn.execute(query).all()


def grants(
    conn: sa.Connection,
    *,
    actor_ids: Iterable[str] | None = None,
    target_ids: Iterable[str] | None = None,
    target_kinds: Iterable[str] | None = None,
    role_ids: Iterable[str] | None = None,
    inherited: bool | None = None,
) -> list[Grant]:
    """Assignments as stored; None does not restrict."""
    query = sa.select(
        assignments.c.actor_id,
        assignments.c.actor_kind,
        assignments.c.target_id,
        assignments.c.target_kind,
        assignments.c.role_id,
        assignments.c.inherited,
    )
    for column, wanted in (
        (assignments.c.actor_id, actor_ids),
        (assignments.c.target_id, target_ids),
        (assignments.c.target_kind, target_kinds),
        (assignments.c.role_id, role_ids),
    ):
        if wanted is not None:
            query = query.where(column.in_(list(wanted)))
    if inherited is not None:
        query = query.where(assignments.c.inherited == (sa.true() if inherited else sa.false()))
    return [Grant(row[0], row[1], row[2], row[3], row[4], bool(row[5])) for row in conn.execute(query)]


def group_ids_of(conn: sa.Connection, user_id: str) -> list[str]:
    return [row.group_id for row in conn.execute(_memberships("user_id", [user_id]))]


def _memberships(column: str, values: Sequence[str]) -> sa.CompoundSelect[str, str]:
    """(group_id, user_id) of memberships for good, and of those by federation that still count."""
    for_good, for_a_while = (
        sa.select(table.c.group_id, table.c.user_id).where(table.c[column].in_(values))
        for table in (memberships, federated_memberships)
    )
    return sa.union(for_good, for_a_while.where(federated_memberships.c.expires_at > clock.utcnow()))


def members(conn: sa.Connection, group_ids: Iterable[str]) -> dict[str, list[str]]:
    """User ids by group id."""
    found: dict[str, list[str]] = {}
    for group_id, user_id in conn.execute(_memberships("group_id", list(group_ids))):
        found.setdefault(group_id, []).append(user_id)
    return found
