"""What a directory of users and groups must do. `tests/contracts/test_directories.py` holds every driver to it.

A directory is only ever read. Each of its methods may wait for the network, as long as the options allow for each piece of an answer,
and raises DirectoryUnavailable when there is no answer that can be trusted to be whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from pileus.identity.wire import Person, Team, Wanted


class Directory(Protocol):
    """A directory; its methods may be called from several threads."""

    def people(self, wanted: Wanted) -> Iterator[Person]:
        """The users that are wanted, in no order. Raises DirectoryUnavailable, DirectoryLimit, also between two of them."""
        ...

    def teams(self, wanted: Wanted) -> Iterator[Team]:
        """The groups that are wanted, as `people`."""
        ...

    def teams_of(self, people: Sequence[Person]) -> dict[str, list[Team]]:
        """The groups of each user by local id, through other groups too where the options say so."""
        ...

    def members_of(self, team: Team) -> list[Person]:
        """The users of a group, through other groups too where the options say so; none when it is gone."""
        ...

    def proves(self, person: Person | None, password: str) -> bool:
        """Whether this is the user's password, which is not empty. For None it takes about as long, and is False."""
        ...

    def close(self) -> None:
        """Let go of everything; calls under way end as they may."""
        ...
