"""A directory in memory, for tests and simulated clouds: as slow, as dead and as limited as it is told to be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from pileus.identity.errors import DirectoryLimit, DirectoryUnavailable
from pileus.identity.wire import Ldap, Named, Person, Team, Wanted

Entry = TypeVar("Entry", Person, Team)


@dataclasses.dataclass
class Content:
    """What is in a directory: users and groups by local id, passwords, and members of groups (users or groups) by local id."""

    people: dict[str, Person] = dataclasses.field(default_factory=dict)
    teams: dict[str, Team] = dataclasses.field(default_factory=dict)
    passwords: dict[str, str] = dataclasses.field(default_factory=dict)
    members: dict[str, set[str]] = dataclasses.field(default_factory=dict)
    dead: bool = False
    limit: int = 0
    asked: int = 0
    slow: Callable[[], None] | None = None  # called before each answer

    def add_person(self, local_id: str, password: str, **fields: object) -> Person:
        made = Person(local_id=local_id, name=str(fields.pop("name", local_id)), handle=f"user/{local_id}", **fields)  # type: ignore[arg-type]
        self.people[local_id], self.passwords[local_id] = made, password
        return made

    def add_team(self, local_id: str, *members: str, **fields: object) -> Team:
        made = Team(local_id=local_id, name=str(fields.pop("name", local_id)), handle=f"group/{local_id}", **fields)  # type: ignore[arg-type]
        self.teams[local_id], self.members[made.handle] = made, set(members)
        return made


_contents: dict[str, Content] = {}


def content(url: str) -> Content:
    """What is behind a URL, to be filled."""
    return _contents.setdefault(url, Content())


def open_directory(options: Ldap) -> FakeDirectory:
    return FakeDirectory(options)


def check(_options: Ldap) -> None:
    """Everything will do."""


class FakeDirectory:
    """Members of groups are named by handles ("user/x", "group/y")."""

    def __init__(self, options: Ldap) -> None:
        self._options = options
        self._content = content(options.url)

    def people(self, wanted: Wanted) -> Iterator[Person]:
        self._ask()
        return self._limited([one for one in self._content.people.values() if _is_wanted(one, wanted)])

    def teams(self, wanted: Wanted) -> Iterator[Team]:
        self._ask()
        return self._limited([one for one in self._content.teams.values() if _is_wanted(one, wanted)])

    def teams_of(self, people: Sequence[Person]) -> dict[str, list[Team]]:
        self._ask()
        return {person.local_id: self._above(person.handle) for person in people}

    def members_of(self, team: Team) -> list[Person]:
        self._ask()
        return [person for person in self._content.people.values() if team in self._above(person.handle)]

    def proves(self, person: Person | None, password: str) -> bool:
        self._ask()
        known = self._content.passwords.get(person.local_id) if person is not None else None
        return bool(password) and known == password

    def close(self) -> None:
        """Nothing is open."""

    def _ask(self) -> None:
        self._content.asked += 1
        if self._content.slow is not None:
            self._content.slow()
        if self._content.dead:
            raise DirectoryUnavailable("it is dead")

    def _above(self, handle: str) -> list[Team]:
        found: dict[str, Team] = {}
        waiting = [handle]
        while waiting:
            below = waiting.pop()
            for team in self._content.teams.values():
                if below in self._content.members[team.handle] and team.handle not in found:
                    found[team.handle] = team
                    waiting += [team.handle] if self._options.group_ad_nesting else []
        return list(found.values())

    def _limited(self, found: list[Entry]) -> Iterator[Entry]:
        for place, one in enumerate(found):
            if self._content.limit and place >= self._content.limit and not self._options.page_size:
                raise DirectoryLimit
            yield one


def _is_wanted(one: Person | Team, wanted: Wanted) -> bool:
    if wanted.ids is not None and one.local_id not in wanted.ids:
        return False
    return all(_fits(one.name, named) for named in wanted.names)


def _fits(name: str, named: Named) -> bool:
    return named.fits(name) if named.comparator else name.lower() == named.value.lower()
