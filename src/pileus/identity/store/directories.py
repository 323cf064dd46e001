"""Options of domains, and the rows that stand for users and groups of directories."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from pileus.kernel import clock
from pileus.kernel.db import insert_ignore

from . import people
from .directory_tables import directory_entries, domain_options
from .listing import Lock, Record
from .tables import GROUP, USER, groups, memberships, projects, users

TOGETHER = 500
"""Rows that one statement names."""


class Option(NamedTuple):
    """One option of a domain as it is stored."""

    section: str
    name: str
    value: str | None
    sealed: str | None = None


Options = tuple[Option, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Shadow:
    """An entry of a directory and the row that stands for it; `values` are columns."""

    public_id: str
    local_id: str
    values: Mapping[str, Any]


# Options --------------------------------------------------------------------------------------------------------------


def options(conn: sa.Connection, domain_id: str) -> Options:
    """All options of a domain, in a fixed order."""
    table = domain_options
    query = sa.select(table.c.section, table.c.name, table.c.value, table.c.sealed).where(table.c.domain_id == domain_id)
    return tuple(sorted((Option(*row) for row in conn.execute(query)), key=lambda option: option[:2]))


def replace_options(conn: sa.Connection, domain_id: str, wanted: Options) -> None:
    table = domain_options
    conn.execute(sa.delete(table).where(table.c.domain_id == domain_id))
    if wanted:
        rows = [{"domain_id": domain_id, **one._asdict(), "id": f"{domain_id}/{one.section}/{one.name}"} for one in wanted]
        conn.execute(sa.insert(table), rows)


def option(conn: sa.Connection, domain_id: str, section: str, name: str) -> str | None:
    """The stored value of one option that is no secret."""
    table = domain_options
    query = sa.select(table.c.value).where(table.c.domain_id == domain_id, table.c.section == section, table.c.name == name)
    found: str | None = conn.execute(query).scalar()
    return found


def is_directory(conn: sa.Connection, domain_id: str) -> bool:
    """Whether the users and groups of this domain are in a directory."""
    return option(conn, domain_id, "identity", "driver") not in {None, people.IN_DATABASE}


def domains(conn: sa.Connection) -> list[str]:
    """The ids of all domains whose users and groups are in a directory."""
    table = domain_options
    query = sa.select(table.c.domain_id).where(table.c.section == "identity", table.c.name == "driver", table.c.value != people.IN_DATABASE)
    return sorted(conn.execute(query).scalars())


_driver = domain_options.alias("driver")
_IN_DIRECTORY = sa.and_(
    _driver.c.domain_id == projects.c.id,
    _driver.c.section == "identity",
    _driver.c.name == "driver",
    _driver.c.value != people.IN_DATABASE,
)


def place_of_login(
    conn: sa.Connection, *, user_id: str | None, user_name: str | None, domain_id: str | None, domain_name: str | None
) -> Record | None:
    """(domain id, whether it is enabled; id of the user who is known by this id or name, whether enabled, and the local id) where a
    directory has to be asked.
    """
    known = users.c.domain_id == projects.c.id
    query = (
        sa.select(
            projects.c.id,
            projects.c.enabled,
            users.c.id.label("user_id"),
            users.c.enabled.label("user_enabled"),
            directory_entries.c.local_id,
        )
        .join(_driver, _IN_DIRECTORY)
        .outerjoin(users, known if user_id is not None else sa.and_(known, users.c.name == user_name))
        .outerjoin(directory_entries, directory_entries.c.public_id == users.c.id)
    )
    if user_id is not None:
        return conn.execute(query.where(users.c.id == user_id)).first()
    query = query.where(projects.c.id == domain_id if domain_id is not None else projects.c.name == domain_name)
    return conn.execute(query.where(projects.c.is_domain == sa.true())).first()


def has_people_of_its_own(conn: sa.Connection, domain_id: str) -> bool:
    """Whether a domain has users or groups that no directory has ever had."""
    for table in (users, groups):
        foreign = sa.select(directory_entries.c.public_id).where(directory_entries.c.public_id == table.c.id)
        query = sa.select(table.c.id).where(table.c.domain_id == domain_id, ~sa.exists(foreign)).limit(1)
        if conn.execute(query).first() is not None:
            return True
    return False


# Entries --------------------------------------------------------------------------------------------------------------


def entry(conn: sa.Connection, public_id: str) -> Record | None:
    table = directory_entries
    return conn.execute(sa.select(table).where(table.c.public_id == public_id)).first()


def entries(conn: sa.Connection, domain_id: str, kind: str) -> Sequence[Record]:
    """All of a domain that are known: public id, local id, since when it is gone."""
    table = directory_entries
    query = sa.select(table.c.public_id, table.c.local_id, table.c.gone_at)
    return conn.execute(query.where(table.c.domain_id == domain_id, table.c.kind == kind).order_by(table.c.public_id)).all()


def is_there(conn: sa.Connection, public_id: str) -> bool:
    """Whether this stands for an entry that its directory has, as far as is known."""
    found = entry(conn, public_id)
    return found is not None and found.gone_at is None


def differing(conn: sa.Connection, kind: str, shadows: Sequence[Shadow], lock: Lock = None) -> dict[str, bool]:
    """Of these the ids of those whose row is missing (False) or says something else (True)."""
    table = users if kind == USER else groups
    columns = people.USER_COLUMNS if kind == USER else people.GROUP_COLUMNS
    found: dict[str, bool] = {}
    for start in range(0, len(shadows), TOGETHER):
        part = {shadow.public_id: shadow for shadow in shadows[start : start + TOGETHER]}
        query = (
            sa.select(*columns, directory_entries.c.public_id.label("entry"), directory_entries.c.gone_at)
            .outerjoin(directory_entries, directory_entries.c.public_id == table.c.id)
            .where(table.c.id.in_(part))
            .order_by(table.c.id)
        )
        if lock is not None:
            query = query.with_for_update(of=table)
        rows = {row["id"]: row for row in conn.execute(query).mappings()}
        for public_id, shadow in part.items():
            row = rows.get(public_id)
            if row is None:
                found[public_id] = False
            elif row["entry"] is None or row["gone_at"] is not None or any(row[name] != value for name, value in shadow.values.items()):
                found[public_id] = True
    return found


def names_of_others(conn: sa.Connection, domain_id: str, kind: str, names: Sequence[str]) -> set[str]:
    """Those of these names that users or groups of the domain have who are in no directory: those who log in by federation."""
    table, found = users if kind == USER else groups, set[str]()
    foreign = sa.select(directory_entries.c.public_id).where(directory_entries.c.public_id == table.c.id)
    for start in range(0, len(names), TOGETHER):
        query = sa.select(table.c.name).where(table.c.domain_id == domain_id, table.c.name.in_(names[start : start + TOGETHER]))
        found |= set(conn.execute(query.where(~sa.exists(foreign))).scalars())
    return found


def save(conn: sa.Connection, domain_id: str, kind: str, shadows: Sequence[Shadow]) -> bool:
    """Make rows say what the directory says; whether one that was there before has changed. Raises IntegrityError."""
    table = users if kind == USER else groups
    differences = differing(conn, kind, shadows, "update")
    changed = sorted((shadow for shadow in shadows if shadow.public_id in differences), key=lambda one: one.public_id)
    renamed = False
    for start in range(0, len(changed), TOGETHER):
        part = changed[start : start + TOGETHER]
        renamed |= _free_names(conn, table, domain_id, [shadow.values["name"] for shadow in part])
        new = [shadow for shadow in part if not differences[shadow.public_id]]
        insert_ignore(conn, table, [_new_row(kind, domain_id, shadow) for shadow in new])
        rows = [{"public_id": one.public_id, "domain_id": domain_id, "kind": kind, "local_id": one.local_id} for one in part]
        insert_ignore(conn, directory_entries, rows)
        _update(conn, table, [shadow for shadow in part if differences[shadow.public_id]])
    return renamed or any(differences.values())


def _free_names(conn: sa.Connection, table: sa.Table, domain_id: str, names: Sequence[str]) -> bool:
    """Whoever of the directory had a name until now is called by the id, until the directory is asked about that one again.

    Whether there was anybody.
    """
    holders = (
        sa.select(table.c.id)
        .join(directory_entries, directory_entries.c.public_id == table.c.id)
        .where(table.c.domain_id == domain_id, table.c.name.in_(names))
        .order_by(table.c.id)
    )
    found = list(conn.execute(holders).scalars())
    if found:
        conn.execute(sa.update(table).where(table.c.id.in_(found)).values(name=table.c.id))
    return bool(found)


def _new_row(kind: str, domain_id: str, shadow: Shadow) -> dict[str, Any]:
    row = {"id": shadow.public_id, "domain_id": domain_id, **shadow.values}
    if kind == USER:
        row |= {"options": {}, "created_at": clock.utcnow()}
    return row


def _update(conn: sa.Connection, table: sa.Table, shadows: Sequence[Shadow]) -> None:
    now = clock.utcnow()
    for disabled in (False, True):
        ending = {"tokens_valid_after": now} if disabled else {}
        rows = [
            {"shadow": shadow.public_id, **shadow.values, **ending}
            for shadow in shadows
            if (shadow.values.get("enabled") is False) is disabled
        ]
        if rows:
            conn.execute(sa.update(table).where(table.c.id == sa.bindparam("shadow")), rows)
    here = directory_entries.c.public_id.in_([shadow.public_id for shadow in shadows])
    if shadows:
        conn.execute(sa.update(directory_entries).where(here, directory_entries.c.gone_at.is_not(None)).values(gone_at=None))


def mark_gone(conn: sa.Connection, public_ids: Iterable[str]) -> None:
    """Users can do nothing from now on, groups have no members. What they were given stays, should they come back."""
    wanted, now = sorted(public_ids), clock.utcnow()
    for start in range(0, len(wanted), TOGETHER):
        part = wanted[start : start + TOGETHER]
        conn.execute(sa.update(directory_entries).where(directory_entries.c.public_id.in_(part)).values(gone_at=now))
        conn.execute(sa.update(users).where(users.c.id.in_(part)).values(enabled=False, tokens_valid_after=now))
        conn.execute(sa.delete(memberships).where(sa.or_(memberships.c.group_id.in_(part), memberships.c.user_id.in_(part))))


def mark_all_gone(conn: sa.Connection, domain_id: str) -> None:
    """The domain has no directory any more."""
    for kind in (USER, GROUP):
        mark_gone(conn, [row.public_id for row in entries(conn, domain_id, kind)])


# Memberships ----------------------------------------------------------------------------------------------------------


def differing_groups(conn: sa.Connection, wanted: Mapping[str, set[str]]) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """(user id, group id) that are missing, and that are too much, when users shall be in exactly these groups."""
    shall = {(user_id, group_id) for user_id, group_ids in wanted.items() for group_id in group_ids}
    are = _pairs(conn, memberships.c.user_id, sorted(wanted))
    return shall - are, are - shall


def differing_members(conn: sa.Connection, group_id: str, user_ids: set[str]) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """The same for the users that shall be in one group."""
    shall = {(user_id, group_id) for user_id in user_ids}
    are = _pairs(conn, memberships.c.group_id, [group_id])
    return shall - are, are - shall


def _pairs(conn: sa.Connection, column: sa.ColumnElement[str], identifiers: Sequence[str]) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for start in range(0, len(identifiers), TOGETHER):
        query = sa.select(memberships.c.user_id, memberships.c.group_id).where(column.in_(identifiers[start : start + TOGETHER]))
        found |= {(row[0], row[1]) for row in conn.execute(query)}
    return found


def change_members(conn: sa.Connection, added: set[tuple[str, str]], removed: set[tuple[str, str]]) -> None:
    """Add and remove; a pair of which one side has no row is passed over."""
    gone = sorted(removed)
    for start in range(0, len(gone), TOGETHER):
        part = gone[start : start + TOGETHER]
        of_users = memberships.c.user_id.in_({pair[0] for pair in part})  # what an index finds, of which these pairs
        pairs = sa.tuple_(memberships.c.user_id, memberships.c.group_id).in_(part)
        conn.execute(sa.delete(memberships).where(of_users, pairs))
    there = _existing(conn, users, {pair[0] for pair in added}), _existing(conn, groups, {pair[1] for pair in added})
    new = sorted(pair for pair in added if pair[0] in there[0] and pair[1] in there[1])
    rows = [{"user_id": user_id, "group_id": group_id} for user_id, group_id in new]
    for start in range(0, len(rows), TOGETHER):
        insert_ignore(conn, memberships, rows[start : start + TOGETHER])


def _existing(conn: sa.Connection, table: sa.Table, identifiers: Iterable[str]) -> set[str]:
    wanted, found = sorted(identifiers), set[str]()
    for start in range(0, len(wanted), TOGETHER):
        found |= set(conn.execute(sa.select(table.c.id).where(table.c.id.in_(wanted[start : start + TOGETHER]))).scalars())
    return found
