"""Which domains have their users and groups in a directory, and that directory, opened by the options of the domain.

The options are read from the database for every use: a change acts at once in all processes.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import msgspec
import orjson
import sqlalchemy as sa

from pileus.identity.errors import DirectoryUnavailable, ReadOnly, invalid
from pileus.identity.store import directories as store
from pileus.identity.store.directories import Option, Options
from pileus.identity.store.people import IN_DATABASE
from pileus.identity.wire import Ldap, Person, Team, Wanted
from pileus.kernel.errors import Invalid
from pileus.kernel.room import load
from pileus.kernel.service import Service
from pileus.kernel.slots import Slots
from pileus.kernel.waiting import forbid_in_transaction

from . import sealing
from . import state as state_module

_log = logging.getLogger(__name__)

DRIVER = "pileus.identity.drivers.ldap"
"""The module with `open_directory` and `check`."""

_LDAP = '"ldap"'

Config = dict[str, dict[str, Any]]
"""Options by group and name."""

_LISTS = frozenset(name for name, kind in Ldap.__annotations__.items() if "list" in str(kind))
_TEXTS = frozenset(name for name, kind in Ldap.__annotations__.items() if str(kind).startswith("str"))


@dataclasses.dataclass(frozen=True)
class Place:
    """The directory of a domain, and the options that it was opened by."""

    domain_id: str
    options: Options
    opened: Any
    slots: Slots | None
    """Who shares the threads that may wait for it; None for a thread of one's own."""

    @property
    def directory(self) -> Any:
        """The directory (`drivers.base.Directory`). It may wait for the network, so never in a transaction."""
        forbid_in_transaction("a question to a directory")
        return self.opened if self.slots is None else _InTurn(self.opened, self.slots)


class _InTurn:
    """A directory whose callers leave threads for those who need none. Raises DirectoryUnavailable where too many wait for one."""

    def __init__(self, opened: Any, slots: Slots) -> None:
        self._opened, self._slots = opened, slots

    def people(self, wanted: Wanted) -> Iterator[Person]:
        with self._turn():
            yield from self._opened.people(wanted)

    def teams(self, wanted: Wanted) -> Iterator[Team]:
        with self._turn():
            yield from self._opened.teams(wanted)

    def teams_of(self, people: Sequence[Person]) -> dict[str, list[Team]]:
        with self._turn():
            found: dict[str, list[Team]] = self._opened.teams_of(people)
        return found

    def members_of(self, team: Team) -> list[Person]:
        with self._turn():
            found: list[Person] = self._opened.members_of(team)
        return found

    def proves(self, person: Person | None, password: str) -> bool:
        with self._turn():
            return bool(self._opened.proves(person, password))

    def _turn(self) -> AbstractContextManager[None]:
        return self._slots.turn(DirectoryUnavailable("as many as may wait for directories do so already"))


def of_domain(service: Service, domain_id: str) -> Place | None:
    """The directory of a domain; None for one whose users and groups are in the database. Raises DirectoryUnavailable."""
    with service.db.read() as conn:
        options = store.options(conn, domain_id)
    driver = next((option.value for option in options if option[:2] == ("identity", "driver")), IN_DATABASE)
    if driver == IN_DATABASE:
        close(service, domain_id)
        return None
    if driver != _LDAP:
        raise DirectoryUnavailable(f"domain {domain_id} has driver {driver}, which is not there")
    state = state_module.of(service)
    known: Place | None = state.directories.get(domain_id)
    if known is not None and known.options == options:
        return known
    try:
        plain = parsed(substituted(opened_options(service, options)).get("ldap", {}))
    except Invalid as error:  # checked when it was set: by a newer or an older release, perhaps
        raise DirectoryUnavailable(f"the options of domain {domain_id} cannot be used: {error.message}") from error
    with state.lock:
        known = state.directories.get(domain_id)
        if known is None or known.options != options:
            opened = load(f"{DRIVER}:open_directory")(plain)
            state.directories[domain_id] = Place(domain_id, options, opened, state.directory_requests)
            if known is not None:
                known.opened.close()
        found: Place = state.directories[domain_id]
    return found


def of_login(service: Service, place: Place) -> Place:
    """The same, asked in the threads of logins."""
    return dataclasses.replace(place, slots=state_module.of(service).directory_logins)


def of_loop(place: Place) -> Place:
    """The same, asked in a thread that serves no request."""
    return dataclasses.replace(place, slots=None)


def close(service: Service, domain_id: str) -> None:
    """Let go of a directory that is open by options that are no longer those of the domain."""
    known = state_module.of(service).directories.pop(domain_id, None)
    if known is not None:
        known.opened.close()


def forbid_writes(conn: sa.Connection, domain_id: str, what: str) -> None:
    """Raises ReadOnly where "users" or "groups" of a domain are those of a directory."""
    if store.is_directory(conn, domain_id):
        raise ReadOnly(what)


# Options --------------------------------------------------------------------------------------------------------------


def opened_options(service: Service, options: Options) -> Config:
    """Options in plain text, as they were given."""
    found: Config = {}
    for option in options:
        plain = option.value if option.sealed is None else sealing.unseal(service, option.sealed)
        found.setdefault(option.section, {})[option.name] = orjson.loads(plain or "null")
    return found


def sealed_options(service: Service, config: Config, secret: Mapping[str, frozenset[str]]) -> Options:
    """Options as they are stored: those that are named as secret encrypted with the keys of credentials."""
    found = []
    for section, values in config.items():
        for name, value in values.items():
            plain = orjson.dumps(value).decode()
            if name in secret[section]:
                found.append(Option(section, name, None, sealing.seal(service, plain)))
            else:
                found.append(Option(section, name, plain))
    return tuple(sorted(found, key=lambda option: option[:2]))


def substituted(config: Config) -> Config:
    """Options with `%(password)s` in others replaced; what cannot be replaced stays as it is, as upstream leaves it."""
    found: Config = {}
    for section, values in config.items():
        secrets = {name: value for name, value in values.items() if name == "password"}
        for name, value in values.items():
            replaced = value
            if isinstance(value, str) and name not in secrets and "%" in value:
                try:
                    replaced = value % secrets
                except (KeyError, ValueError, TypeError):
                    _log.warning("%s.%s: what looks like a reference to another option is none", section, name)
            found.setdefault(section, {})[name] = replaced
    return found


def parsed(values: Mapping[str, Any]) -> Ldap:
    """The options of group ldap; numbers and lists may be given as text. Raises Invalid."""
    plain = {name: _natural(name, value) for name, value in values.items()}
    try:
        return msgspec.convert(plain, Ldap, strict=False)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$.")
        raise invalid(f"ldap.{where.rstrip('`')}: {what}." if where else f"ldap: {what}.") from None


def _natural(name: str, value: Any) -> Any:
    if name in _LISTS and isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if name in _TEXTS and isinstance(value, int):
        return str(value)
    return value
