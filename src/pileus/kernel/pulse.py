"""Hosts that say the same again: remembered here, so that it costs neither a look at the database nor a transaction each.

Most of what hosts say is that nothing has changed. What a host said last is kept in memory; when it says that again,
only the moment is new. Moments are written together, at most once a second where there are many hosts. Whatever else a report may be is
looked at in full, and so is every report from time to time.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import threading
from collections.abc import Sequence
from typing import Any

from pileus.kernel import clock

FEW = 100
"""So many hosts of a kind have each moment written at once."""
_TOGETHER = 1.0
"""Seconds between two writes for many hosts."""
_VALID = 600.0
"""Seconds after which a report is looked at in full though it is the same."""


@dataclasses.dataclass(frozen=True)
class Beat:
    """A host was heard of at a moment, and said what it said before."""

    host: str
    said: Any
    at: dt.datetime


@dataclasses.dataclass
class _Memory:
    said: Any
    learnt: float
    heard: float


class Pulse:
    """What one process has heard of hosts. A kind is a kind of report."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._memories: dict[str, dict[str, _Memory]] = {}
        self._beats: dict[str, dict[str, Beat]] = {}
        self._written: dict[str, float] = {}

    def again(self, kind: str, host: str, said: Any, silence: float = float("inf")) -> bool:
        """Whether the host says what it said before, and was not silent for longer than `silence` seconds.

        Only silence that matters is to be looked into: a controller that is late with everything must not do more for each report.
        """
        now = clock.monotonic()
        with self._lock:
            memory = self._memories.get(kind, {}).get(host)
            if memory is None or now - memory.heard > silence or now - memory.learnt > _VALID or memory.said != said:
                return False
            memory.heard = now
            self._beats.setdefault(kind, {})[host] = Beat(host, said, clock.utcnow())
            return True

    def learn(self, kind: str, host: str, said: Any) -> None:
        """A report was looked at in full, and there is nothing to be done about it."""
        now = clock.monotonic()
        with self._lock:
            self._memories.setdefault(kind, {})[host] = _Memory(said, now, now)

    def due(self, kind: str) -> list[Beat]:
        """Beats that are to be written now, in the order of their hosts: the caller writes them, or forgets the hosts."""
        now = clock.monotonic()
        with self._lock:
            many = len(self._memories.get(kind, {})) > FEW
            if many and now - self._written.get(kind, float("-inf")) < _TOGETHER:
                return []
            self._written[kind] = now
            beats = self._beats.pop(kind, {})
        return sorted(beats.values(), key=lambda beat: beat.host)

    def forget(self, kind: str, beats: Sequence[Beat]) -> None:
        """What these hosts said is to be looked at in full next time: their moments could not be written."""
        with self._lock:
            memories = self._memories.get(kind, {})
            for beat in beats:
                memories.pop(beat.host, None)
