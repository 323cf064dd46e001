"""Keys that all controllers read from one vault: what a directory of keys is on one machine.

The keys of tokens change, and each change raises identity's revision in its transaction. Every request that makes or reads a
token has read the revision in the same transaction, so no machine ever signs with a key that others have lost, however long it
was stopped or away. Of two machines in the middle of a rotation one has the staged key as staged and the other as primary:
both can read what either signs.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import orjson
import sqlalchemy as sa
from cryptography.fernet import Fernet

from pileus.kernel.installation import Vault
from pileus.kernel.key_kinds import FERNET, Kind

_log = logging.getLogger(__name__)

Numbered = Mapping[int, str]
"""As in a directory: 0 is staged, the highest is primary, those between are secondary."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ring:
    """Keys as of a revision, as their kind loads them, primary first."""

    revision: int
    keys: tuple[Any, ...]

    def fernets(self) -> tuple[Fernet, ...]:
        return self.keys


def rotated(keys: Numbered, max_active: int, kind: Kind = FERNET) -> dict[int, str]:
    """The staged key becomes primary, a new one is staged, the oldest secondary ones go."""
    primary = max(keys) + 1
    kept = sorted((number for number in keys if number), reverse=True)[: max(max_active - 2, 0)]
    return {0: kind.new(), primary: keys[0], **{number: kind.retired(keys[number]) for number in kept}}


class SharedKeys:
    """The keys of one kind. Nothing is read twice for the same revision."""

    def __init__(self, vault: Vault, name: str, kind: Kind = FERNET) -> None:
        self._vault = vault
        self._name = name
        self._kind = kind
        self._ring: Ring | None = None

    def at(self, conn: sa.Connection, revision: int) -> Ring:
        """The keys as of a revision that was read in the same transaction. Raises FileNotFoundError when there are none."""
        ring = self._ring
        if ring is None or ring.revision != revision:
            ring = Ring(revision, self.read(conn))
            self._ring = ring
        return ring

    def read(self, conn: sa.Connection) -> tuple[Any, ...]:
        """The keys as this transaction sees them, primary first. Raises FileNotFoundError when there are none."""
        content = self._read(conn)
        if content is None:
            raise FileNotFoundError(f"there are no {self._name} in the vault")
        return tuple(self._kind.load(content[number]) for number in sorted(content, reverse=True))

    def known(self) -> Ring | None:
        """The keys as they were read last."""
        return self._ring

    def exists(self, conn: sa.Connection) -> bool:
        """Whether anybody has ever made such keys."""
        return self._read(conn) is not None

    def setup(self, conn: sa.Connection, present: Numbered | None = None) -> None:
        """See to it that there are keys: those already in the vault, those given, or new ones."""
        own = dict(present or {}) or {0: self._kind.new(), 1: self._kind.new()}
        self._vault.agree(conn, self._name, _dumped(own))

    def rotate(self, conn: sa.Connection, max_active: int) -> int:
        """`rotated`; the number of the primary key. The caller raises the revision first, which lets in one at a time."""
        self.setup(conn)
        content = self._read(conn)
        assert content is not None, "setup saw to it"
        after = rotated(content, max_active, self._kind)
        self._vault.put(conn, self._name, _dumped(after))
        _log.info("%s rotated", self._name, extra={"primary": max(after)})
        return max(after)

    def _read(self, conn: sa.Connection) -> dict[int, str] | None:
        stored = self._vault.get(conn, self._name)
        return None if stored is None else {int(number): key for number, key in orjson.loads(stored).items()}


def _dumped(keys: Numbered) -> bytes:
    return orjson.dumps({str(number): key for number, key in keys.items()})
