"""The list of role assignments: as given, or (effective) what they amount to.

Effective means: groups are replaced by their members, inherited assignments by the projects that inherit them, and
roles come with all that they imply. The number of statements does not depend on the number of assignments.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

import sqlalchemy as sa

from pileus.identity.errors import invalid
from pileus.identity.store import live, people, projects, revision
from pileus.identity.store import roles as store
from pileus.identity.store.listing import Record
from pileus.identity.store.roles import Grant
from pileus.identity.store.tables import DOMAIN, GROUP, PROJECT, SYSTEM, SYSTEM_KIND, USER, groups, roles, users
from pileus.identity.store.tables import projects as project_table
from pileus.kernel.service import Service

from . import state as state_module


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The filters of the list."""

    user_id: str | None = None
    group_id: str | None = None
    role_id: str | None = None
    project_id: str | None = None
    domain_id: str | None = None
    system: bool = False
    inherited: bool | None = None
    effective: bool = False
    include_subtree: bool = False
    only_domain: str | None = None  # a domain-scoped caller sees what is on the domain and its projects


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the list. `source` is the assignment it comes from; the others say over what it came."""

    source: Grant
    role_id: str
    actor_kind: str
    actor_id: str
    target_kind: str
    target_id: str
    inherited: bool = False
    member_of: str | None = None
    prior_role_id: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Names:
    """Rows by id, for include_names. Domains are in `projects` too."""

    users: Mapping[str, Record]
    groups: Mapping[str, Record]
    projects: Mapping[str, Record]
    roles: Mapping[str, Record]


def list_assignments(service: Service, wanted: Wanted, *, names: bool) -> tuple[list[Entry], Names | None]:
    """The entries, and the rows for their names when these are wanted. Raises Invalid."""
    _check(wanted)
    with service.db.read() as conn:
        entries = _effective(service, conn, wanted) if wanted.effective else _as_given(conn, wanted)
        if wanted.only_domain is not None:
            entries = _within(conn, entries, wanted.only_domain)
        return entries, _names(conn, entries) if names else None


def _within(conn: sa.Connection, entries: Sequence[Entry], domain_id: str) -> list[Entry]:
    targets = _rows(conn, projects.COLUMNS, project_table, (e.target_id for e in entries if e.target_kind == PROJECT))
    inside = {row.id for row in targets.values() if row.domain_id == domain_id} | {domain_id}
    return [entry for entry in entries if entry.target_kind != SYSTEM_KIND and entry.target_id in inside]


def project_of(service: Service, project_id: str) -> Record | None:
    with service.db.read() as conn:
        return projects.project(conn, project_id)


def _check(wanted: Wanted) -> None:
    if wanted.user_id is not None and wanted.group_id is not None:
        raise invalid("Specify a user or group, not both")
    if sum((wanted.project_id is not None, wanted.domain_id is not None, wanted.system)) > 1:
        raise invalid("Specify system, domain, or project, not more than one of them")
    if wanted.include_subtree and wanted.project_id is None:
        raise invalid("scope.project.id must be specified if include_subtree is also specified")
    if wanted.effective and wanted.group_id is not None:
        raise invalid("Combining effective and group filter will always result in an empty list.")
    if wanted.effective and wanted.inherited and wanted.domain_id is not None:
        raise invalid("Combining effective, domain and inherited filters will always result in an empty list.")


def _targets(conn: sa.Connection, wanted: Wanted) -> list[str] | None:
    if wanted.system:
        return [SYSTEM]
    if wanted.domain_id is not None:
        return [wanted.domain_id]
    if wanted.project_id is None:
        return None
    below = [row.id for row in projects.tree(conn, wanted.project_id)] if wanted.include_subtree else []
    return [wanted.project_id, *below]


def _kinds(wanted: Wanted) -> list[str] | None:
    if wanted.system:
        return [SYSTEM_KIND]
    if wanted.domain_id is not None:
        return [DOMAIN]
    return [PROJECT] if wanted.project_id is not None else None


def _as_given(conn: sa.Connection, wanted: Wanted) -> list[Entry]:
    actor = wanted.user_id or wanted.group_id
    found = store.grants(
        conn,
        actor_ids=None if actor is None else [actor],
        target_ids=_targets(conn, wanted),
        target_kinds=_kinds(wanted),
        role_ids=None if wanted.role_id is None else [wanted.role_id],
        inherited=wanted.inherited,
    )
    return [_entry(grant, grant.target_kind, grant.target_id, inherited=grant.inherited) for grant in found]


def _entry(grant: Grant, target_kind: str, target_id: str, *, inherited: bool = False) -> Entry:
    return Entry(
        source=grant,
        role_id=grant.role_id,
        actor_kind=grant.actor_kind,
        actor_id=grant.actor_id,
        target_kind=target_kind,
        target_id=target_id,
        inherited=inherited,
    )


def _effective(service: Service, conn: sa.Connection, wanted: Wanted) -> list[Entry]:
    actors = None
    if wanted.user_id is not None:
        actors = [wanted.user_id, *store.group_ids_of(conn, wanted.user_id)]
    targets = _targets(conn, wanted)
    above: list[str] = []
    kinds = _kinds(wanted)
    if targets is not None and wanted.project_id is not None:
        above = [one for one in live.ancestors(conn, wanted.project_id) if one not in targets]
        kinds = [PROJECT, DOMAIN]
    found = store.grants(
        conn,
        actor_ids=actors,
        target_ids=None if targets is None else [*targets, *above],
        target_kinds=kinds,
        inherited=wanted.inherited,
    )
    shown_kinds = _kinds(wanted)
    projected = _projected(conn, found, None if targets is None else set(targets), shown_kinds)
    entries = _by_members(conn, projected, wanted.user_id)
    role_map = state_module.role_map(service, conn, revision.read(conn))
    expanded = _with_implied(role_map, entries)
    return [entry for entry in expanded if wanted.role_id is None or entry.role_id == wanted.role_id]


def _projected(
    conn: sa.Connection, found: Sequence[Grant], targets: set[str] | None, kinds: Sequence[str] | None
) -> Iterator[Entry]:
    """Assignments where they count: inherited ones on every project below their target."""
    inherited: dict[str, list[Grant]] = {}
    for grant in found:
        if grant.inherited:
            inherited.setdefault(grant.target_id, []).append(grant)
        elif (targets is None or grant.target_id in targets) and (kinds is None or grant.target_kind in kinds):
            yield _entry(grant, grant.target_kind, grant.target_id)
    if not inherited or (kinds is not None and PROJECT not in kinds):
        return
    parents = projects.parents(conn)
    for project_id in parents if targets is None else targets:
        parent = parents.get(project_id)
        while parent is not None:
            for grant in inherited.get(parent, ()):
                yield _entry(grant, PROJECT, project_id)
            parent = parents.get(parent)


def _by_members(conn: sa.Connection, entries: Iterable[Entry], user_id: str | None) -> list[Entry]:
    """Groups replaced by their members, or by the one user that is asked for."""
    waiting = list(entries)
    group_ids = {entry.actor_id for entry in waiting if entry.actor_kind == GROUP}
    members = store.members(conn, group_ids) if group_ids and user_id is None else {}
    found = []
    for entry in waiting:
        if entry.actor_kind == USER:
            found.append(entry)
            continue
        found += [
            dataclasses.replace(entry, actor_kind=USER, actor_id=member, member_of=entry.actor_id)
            for member in ([user_id] if user_id is not None else members.get(entry.actor_id, ()))
        ]
    return found


def _with_implied(role_map: state_module.RoleMap, entries: Iterable[Entry]) -> list[Entry]:
    """Each with what its role implies; domain-specific roles vanish, their implications stay."""
    found: dict[Entry, None] = {}
    for entry in entries:
        for role_id in sorted(role_map.implied.get(entry.role_id, ())):
            if role_map.domains[role_id]:
                continue
            prior = None if role_id == entry.role_id else entry.role_id
            found[dataclasses.replace(entry, role_id=role_id, prior_role_id=prior)] = None
    return list(found)


def _names(conn: sa.Connection, entries: Sequence[Entry]) -> Names:
    """Five statements."""
    found_users = _rows(conn, people.USER_COLUMNS, users, (e.actor_id for e in entries if e.actor_kind == USER))
    found_groups = _rows(conn, people.GROUP_COLUMNS, groups, (e.actor_id for e in entries if e.actor_kind == GROUP))
    found_roles = _rows(conn, store.COLUMNS, roles, (e.role_id for e in entries))
    targets = (e.target_id for e in entries if e.target_kind != SYSTEM_KIND)
    found_projects = _rows(conn, projects.COLUMNS, project_table, targets)
    owners = {
        row.domain_id
        for rows in (found_users, found_groups, found_roles, found_projects)
        for row in rows.values()
        if row.domain_id
    }
    domains = _rows(conn, projects.COLUMNS, project_table, owners - found_projects.keys())
    return Names(found_users, found_groups, {**found_projects, **domains}, found_roles)


def _rows(
    conn: sa.Connection, columns: Sequence[sa.ColumnElement[object]], table: sa.Table, wanted: Iterable[str]
) -> dict[str, Record]:
    identifiers = sorted(set(wanted))
    if not identifiers:
        return {}
    rows: Sequence[Record] = conn.execute(sa.select(*columns).where(table.c.id.in_(identifiers))).all()
    return {row.id: row for row in rows}
