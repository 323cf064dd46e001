"""Users and groups of directories, for which rows of the database stand.

The directory is the truth. Its entries get a row when identity meets them, so that assignments, trusts and tokens need no
directory; the row follows whenever the entry is read again. One that is gone is disabled and keeps what it was given. A directory
that does not answer changes nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import heapq
import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from pileus.identity.errors import AuthenticationFailed, DirectoryLimit, DirectoryUnavailable
from pileus.identity.store import directories as store
from pileus.identity.store import projects, revision
from pileus.identity.store.directories import Shadow
from pileus.identity.store.listing import Listing, Record
from pileus.identity.store.tables import GROUP, USER
from pileus.identity.wire import Named, Person, Team, Wanted
from pileus.kernel import clock
from pileus.kernel.db import is_unique_violation, retried
from pileus.kernel.errors import Conflict
from pileus.kernel.service import Service

from . import directories
from . import state as state_module
from .directories import Place
from .proofs import Attempt, Section, Who

_log = logging.getLogger(__name__)

_LONGEST_ID, _LONGEST_NAME = 255, {USER: 255, GROUP: 64}
_NO_ANSWER = (DirectoryUnavailable, DirectoryLimit)


class UserRow(NamedTuple):
    """A user of a directory, with the columns of `people.USER_COLUMNS`."""

    id: str
    domain_id: str
    name: str
    enabled: bool
    default_project_id: str | None
    options: dict[str, Any]
    extra: dict[str, Any]
    password_expires_at: None = None
    last_active_at: None = None


class GroupRow(NamedTuple):
    """A group of a directory, with the columns of `people.GROUP_COLUMNS`."""

    id: str
    domain_id: str
    name: str
    description: str
    extra: dict[str, Any]


Row = UserRow | GroupRow
_OWN = {"domain_id", "options", "password_expires_at", "last_active_at"}
"""Columns that no directory decides."""
_KINDS = {USER: "user", GROUP: "group"}


def public_id(domain_id: str, kind: str, local_id: str) -> str:
    """The id of an entry, the same in every process, and the same that upstream makes."""
    return hashlib.sha256(f"{domain_id}{_KINDS[kind]}{local_id}".encode()).hexdigest()


# Login ----------------------------------------------------------------------------------------------------------------


def login(attempt: Attempt, user: Section) -> Who | None:
    """The user who has shown the password of a directory; None where the domain of the user has none.

    The directory is asked twice whether there is such a user or not, and once more for one that was known and is not found:
    what is learnt of somebody who is disabled or gone there is written down, though the login is refused. Raises AuthenticationFailed, DirectoryUnavailable.
    """
    service = attempt.service
    found = home_of(service, user)
    if found is None:
        return None
    if not found.enabled:
        raise AuthenticationFailed(f"domain {found.id} is disabled")
    place = directories.of_domain(service, found.id)
    if place is None or not user["password"]:
        raise AuthenticationFailed("no password was given")
    place = directories.of_login(service, place)
    person = _named(place, user, found.local_id)
    proved = place.directory.proves(person, user["password"])
    if person is None:
        _look_for(service, place, found)
    elif not person.enabled:  # some directories take no password of such a one
        record(service, place, [person])
    if not proved or person is None:
        raise AuthenticationFailed("unknown user" if person is None else f"wrong password for {person.handle}")
    if not person.enabled:
        raise AuthenticationFailed(f"{person.handle} is disabled in the directory")
    record(service, place, [person], place.directory.teams_of([person]))
    return Who(
        user_id=public_id(found.id, USER, person.local_id),
        methods=("password",),
        default_project_id=person.default_project_id,
        proved_at=attempt.began,
    )


def home_of(service: Service, user: Section) -> Record | None:
    """The domain with a directory in which a user would be; None where the users of that domain are in the database."""
    domain = user.get("domain") or {}
    with service.db.read() as conn:
        return store.place_of_login(
            conn,
            user_id=user.get("id"),
            user_name=user.get("name"),
            domain_id=domain.get("id"),
            domain_name=domain.get("name"),
        )


def _named(place: Place, user: Section, local_id: str | None) -> Person | None:
    if user.get("id") is not None:
        wanted = Wanted(ids=(local_id,)) if local_id is not None else Wanted(ids=())
    else:
        wanted = Wanted(names=(Named(user["name"]),))
    people = list(place.directory.people(wanted))
    if len(people) > 1:
        _log.warning("%d entries of domain %s have one name: %s", len(people), place.domain_id, people[0].handle)
    return people[0] if len(people) == 1 and len(people[0].local_id) <= _LONGEST_ID else None


def _look_for(service: Service, place: Place, known: Record) -> None:
    """Ask the directory about the entry that had this name or id, which may be gone or be called otherwise now."""
    if known.local_id is None or not known.user_enabled:
        return
    with _known_is_enough(known.user_id):
        people = [one for one in place.directory.people(Wanted(ids=(known.local_id,))) if one.local_id == known.local_id]
        if people:
            record(service, place, people)
        else:
            _mark_gone(service, place, [known.user_id])


# Reading --------------------------------------------------------------------------------------------------------------


def place_of(service: Service, wanted: Listing) -> Place | None:
    """The directory that a list is about: of the one domain that it names."""
    domains = {one.value for one in wanted.filters if one.attribute == "domain_id" and one.comparator in {"", "equals"}}
    return directories.of_domain(service, domains.pop()) if len(domains) == 1 else None


def list_entries(service: Service, place: Place, kind: str, wanted: Listing) -> Sequence[Row]:
    """Users or groups of a directory that a list wants, in its order. Raises DirectoryUnavailable, DirectoryLimit."""
    names = tuple(Named(str(one.value), one.comparator) for one in wanted.filters if one.attribute == "name")
    of_database = any(one.attribute in _OWN - {"domain_id"} for one in wanted.filters)
    if of_database or any(not named.value and not named.comparator for named in names):
        return ()
    asked = Wanted(names=names)
    found = place.directory.people(asked) if kind == USER else place.directory.teams(asked)
    pairs: Iterator[tuple[Row, Any]] = (pair for pair in _rows(place, kind, found) if _fits(pair[0], wanted))
    if wanted.limit:
        pairs = iter(heapq.nsmallest(wanted.limit + 1, pairs, key=lambda pair: pair[0].id))
    rows: list[Row] = []
    while part := list(itertools.islice(pairs, store.TOGETHER)):
        if kind == USER:
            record(service, place, [entry for _, entry in part])
        else:
            record(service, place, [], teams=[entry for _, entry in part])
        rows += [row for row, _ in part]
    return sorted(rows, key=lambda row: row.id)


def _rows(place: Place, kind: str, found: Iterable[Any]) -> Iterator[tuple[Row, Any]]:
    for entry in found:
        if len(entry.local_id) <= _LONGEST_ID:
            yield _user_row(place, entry) if kind == USER else _group_row(place, entry), entry


def _fits(row: Row, wanted: Listing) -> bool:
    if wanted.marker is not None and row.id <= wanted.marker:
        return False
    return all(getattr(row, one.attribute) == one.value for one in wanted.filters if one.attribute == "enabled")


def fresh_user(service: Service, row: Record) -> Any:
    """A user as the directory has it now, as far as it answers; the same row for one of the database; None when gone."""
    found = _asked(service, row, USER)
    if found is None:
        return row
    place, people = found
    if not people:
        return None
    record(service, place, people)
    return _user_row(place, people[0])


def fresh_group(service: Service, row: Record) -> Any:
    """The same for a group."""
    found = _asked(service, row, GROUP)
    if found is None:
        return row
    place, teams = found
    if not teams:
        return None
    record(service, place, [], teams=teams)
    return _group_row(place, teams[0])


def refresh_groups(service: Service, row: Record) -> None:
    """Have the memberships of a user say what the directory says, if it answers."""
    found = _asked(service, row, USER)
    if found is not None and found[1]:
        place, people = found
        with _known_is_enough(row.id):
            record(service, place, people, place.directory.teams_of(people))


def refresh_members(service: Service, row: Record) -> None:
    """Have the members of a group say what the directory says, if it answers."""
    found = _asked(service, row, GROUP)
    if found is not None and found[1]:
        place, teams = found
        with _known_is_enough(row.id):
            _record_members(service, place, teams[0], place.directory.members_of(teams[0]))


def _asked(service: Service, row: Record, kind: str) -> tuple[Place, list[Any]] | None:
    """What the directory has of this row; None where there is nobody to ask, or no answer. One that is gone is marked so."""
    with _known_is_enough(row.id):
        place = directories.of_domain(service, row.domain_id)
        if place is None:
            return None
        with service.db.read() as conn:
            entry = store.entry(conn, row.id)
        if entry is None:
            return None
        asked = Wanted(ids=(entry.local_id,))
        found = list(place.directory.people(asked) if kind == USER else place.directory.teams(asked))
        found = [one for one in found if one.local_id == entry.local_id]
        if not found and entry.gone_at is None:
            _mark_gone(service, place, [row.id])
        return place, found
    return None


class _known_is_enough:  # noqa: N801 - reads as a statement
    """A directory that does not answer leaves the caller with what is known of one entry."""

    def __init__(self, identifier: str) -> None:
        self._identifier = identifier

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if isinstance(error, _NO_ANSWER):
            _log.warning("%s is shown as it was known: %s", self._identifier, error.inside or error.message)
            return True
        return False


# Writing --------------------------------------------------------------------------------------------------------------


def record(
    service: Service,
    place: Place,
    people: Sequence[Person],
    teams_of: Mapping[str, Sequence[Team]] | None = None,
    teams: Sequence[Team] = (),
) -> None:
    """Have rows say what the directory said of these users, of their groups if they are given, and of further groups."""
    users = _shadows(place, USER, people)
    met = {team.local_id: team for found in (teams_of or {}).values() for team in found} | {one.local_id: one for one in teams}
    groups = _shadows(place, GROUP, list(met.values()))
    known = {shadow.local_id: shadow.public_id for shadow in groups}
    wanted = {
        public_id(place.domain_id, USER, local_id): {known[team.local_id] for team in found if team.local_id in known}
        for local_id, found in (teams_of or {}).items()
    }
    with service.db.read() as conn:
        wanted_users, wanted_groups = _yielding(conn, place, USER, users), _yielding(conn, place, GROUP, groups)
        same = not store.differing(conn, USER, wanted_users) and not store.differing(conn, GROUP, wanted_groups)
        if same and not any(store.differing_groups(conn, wanted)):
            return
    for last in (False, True):
        try:
            _write(service, place, users, groups, wanted)
        except IntegrityError as error:  # a name was taken at the same moment: it is free when it is asked for again
            if last or not is_unique_violation(error):
                raise Conflict("Entries of the directory are changing; try again.", inside=str(error)) from error
        else:
            return


@retried
def _write(
    service: Service, place: Place, users: Sequence[Shadow], groups: Sequence[Shadow], wanted: Mapping[str, set[str]]
) -> None:
    with service.db.write() as conn:
        if not _still(conn, place):
            return
        changed = store.save(conn, place.domain_id, USER, _yielding(conn, place, USER, users))
        store.save(conn, place.domain_id, GROUP, _yielding(conn, place, GROUP, groups))
        added, removed = store.differing_groups(conn, wanted)
        store.change_members(conn, added, removed)
        if changed or added or removed:
            revision.advance(conn)


def _record_members(service: Service, place: Place, team: Team, people: Sequence[Person]) -> None:
    record(service, place, people, teams=[team])
    group_id = public_id(place.domain_id, GROUP, team.local_id)
    members = {shadow.public_id for shadow in _shadows(place, USER, people)}
    with service.db.read() as conn:
        if not any(store.differing_members(conn, group_id, members)):
            return
    _write_members(service, place, group_id, members)


@retried
def _write_members(service: Service, place: Place, group_id: str, members: set[str]) -> None:
    with service.db.write() as conn:
        if _still(conn, place):
            store.change_members(conn, *store.differing_members(conn, group_id, members))
            revision.advance(conn)


@retried
def _mark_gone(service: Service, place: Place, identifiers: Sequence[str]) -> None:
    with service.db.write() as conn:
        if _still(conn, place):
            store.mark_gone(conn, identifiers)
            revision.advance(conn)


def _still(conn: sa.Connection, place: Place) -> bool:
    """Whether the domain is there and has the options that the directory was asked by; it keeps them until the transaction ends."""
    return projects.domain(conn, place.domain_id, "share") is not None and store.options(conn, place.domain_id) == place.options


def _shadows(place: Place, kind: str, entries: Sequence[Any]) -> list[Shadow]:
    """Rows that entries shall have. A name that is too long, or another one's among these, gives way to the id."""
    found, names = [], set()
    for entry in sorted({one.local_id: one for one in entries}.values(), key=lambda one: one.local_id):
        if len(entry.local_id) > _LONGEST_ID:
            _log.warning("%s is passed over: its id is longer than %d characters", entry.handle, _LONGEST_ID)
            continue
        values = _columns(_user_row(place, entry) if kind == USER else _group_row(place, entry))
        identifier = values.pop("id")
        if values["name"] in names or len(values["name"]) > _LONGEST_NAME[kind]:
            values["name"] = identifier
        names.add(values["name"])
        found.append(Shadow(identifier, entry.local_id, values))
    return found


def _yielding(conn: sa.Connection, place: Place, kind: str, shadows: Sequence[Shadow]) -> list[Shadow]:
    """The same, where a name that somebody of the domain has who is not of the directory gives way to the id."""
    taken = store.names_of_others(conn, place.domain_id, kind, [one.values["name"] for one in shadows])
    return [
        dataclasses.replace(one, values={**one.values, "name": one.public_id}) if one.values["name"] in taken else one
        for one in shadows
    ]


def _columns(row: Row) -> dict[str, Any]:
    """What of a row the directory decides."""
    return {name: value for name, value in row._asdict().items() if name not in _OWN}


def _user_row(place: Place, person: Person) -> UserRow:
    return UserRow(
        id=public_id(place.domain_id, USER, person.local_id),
        domain_id=place.domain_id,
        name=person.name,
        enabled=person.enabled,
        default_project_id=person.default_project_id,
        options={},
        extra=dict(person.extra),
    )


def _group_row(place: Place, team: Team) -> GroupRow:
    identifier = public_id(place.domain_id, GROUP, team.local_id)
    return GroupRow(identifier, place.domain_id, team.name, team.description, dict(team.extra))


# Comparing ------------------------------------------------------------------------------------------------------------


def compare(service: Service) -> None:
    """Compare what is known of each directory with it, when it is time or its options have changed."""
    with service.db.read() as conn:
        domains = store.domains(conn)
    compared = state_module.of(service).compared
    for gone in compared.keys() - set(domains):
        del compared[gone]
    for domain_id in domains:
        try:
            place = directories.of_domain(service, domain_id)
            last = compared.get(domain_id)
            now = clock.monotonic()
            if place is None or (last and last[0] == place.options and now - last[1] < service.options.directory_interval * 60):
                continue
            _compare(service, directories.of_loop(place))
        except _NO_ANSWER as error:
            _log.warning("nothing is changed in domain %s: %s", domain_id, error.inside or error.message)
        else:
            compared[domain_id] = (place.options, now)


def _compare(service: Service, place: Place) -> None:
    """Everything is read before anything is concluded: half an answer changes nothing."""
    with service.db.read() as conn:
        known = {kind: store.entries(conn, place.domain_id, kind) for kind in (USER, GROUP)}
    people = _of(place.directory.people, [row.local_id for row in known[USER]])
    teams = _of(place.directory.teams, [row.local_id for row in known[GROUP]])
    teams_of = place.directory.teams_of(people) if people else {}
    there = {(USER, one.local_id) for one in people} | {(GROUP, one.local_id) for one in teams}
    gone = [
        row.public_id for kind in known for row in known[kind] if (kind, row.local_id) not in there and row.gone_at is None
    ]
    if gone:
        _mark_gone(service, place, gone)
    for start in range(0, len(people), store.TOGETHER):
        part = people[start : start + store.TOGETHER]
        record(service, place, part, {one.local_id: teams_of.get(one.local_id, []) for one in part})
    record(service, place, [], teams=teams)


def _of(ask: Any, local_ids: Sequence[str]) -> list[Any]:
    wanted = set(local_ids)
    return [entry for entry in ask(Wanted(ids=tuple(local_ids))) if entry.local_id in wanted] if wanted else []


def limited(service: Service, wanted: Listing) -> Listing:
    """A list of one domain has the limit of that domain, if it has one that is smaller."""
    domains = {one.value for one in wanted.filters if one.attribute == "domain_id" and not one.comparator}
    if len(domains) != 1:
        return wanted
    with service.db.read() as conn:
        found = store.option(conn, domains.pop(), "identity", "list_limit")
    most = int(found) if found is not None else 0
    return dataclasses.replace(wanted, limit=min(wanted.limit or most, most)) if most else wanted
