"""Many hosts as they were a moment ago, for many servers that ask for the same.

Looking at a thousand hosts costs more than all else of a boot. So what was seen for one server serves others of the same size for a second or two, less
what was given away meanwhile. It only says in which order hosts are tried: whoever is chosen is looked at anew before it is claimed, and what is free is
placement's to say. Few hosts, traits, server groups and hints are always looked at anew.
"""

from __future__ import annotations

import dataclasses
import threading
import weakref
from collections.abc import Mapping

from pileus.compute.logic import placement, scheduler
from pileus.compute.options import Options
from pileus.kernel import clock
from pileus.kernel.db import Database
from pileus.kernel.service import Service

FEW = 50
"""So many hosts are looked at each time."""
_SECONDS = 2.0


@dataclasses.dataclass
class Outlook:
    """Candidates by provider, and the hosts in placement's order."""

    candidates: Mapping[str, placement.Candidate]
    states: list[scheduler.HostState]
    at: float = dataclasses.field(default_factory=clock.monotonic)


class Memory:
    """The outlooks of one service in this process, by the amounts that were asked for. `looking` is held by who looks anew: one is enough."""

    def __init__(self) -> None:
        self.looking = threading.Lock()
        self._lock = threading.Lock()
        self._known: dict[object, Outlook] = {}

    def recall(self, wanted: Mapping[str, int]) -> Outlook | None:
        """What was seen lately for the same amounts."""
        with self._lock:
            now = clock.monotonic()
            self._known = {key: seen for key, seen in self._known.items() if 0 <= now - seen.at < _SECONDS}
            return self._known.get(frozenset(wanted.items()))

    def keep(self, wanted: Mapping[str, int], seen: Outlook) -> bool:
        """Remember what was seen, if looking again is dear; whether it is."""
        if len(seen.states) < FEW:
            return False
        with self._lock:
            self._known[frozenset(wanted.items())] = seen
        return True

    def pick(self, options: Options, wish: scheduler.Wish, wanted: Mapping[str, int], seen: Outlook) -> scheduler.HostState | None:
        """The best host; it has less before anybody else decides."""
        with self._lock:
            best = next(iter(scheduler.choose(options, wish, seen.states).hosts), None)
            if best is not None:
                seen.states[seen.states.index(best)] = _less(best, wanted)
            return best


def _less(state: scheduler.HostState, wanted: Mapping[str, int]) -> scheduler.HostState:
    return dataclasses.replace(
        state,
        free_vcpus=state.free_vcpus - wanted.get("VCPU", 0),
        free_memory_mb=state.free_memory_mb - wanted.get("MEMORY_MB", 0),
        free_disk_gb=state.free_disk_gb - wanted.get("DISK_GB", 0),
        in_work=state.in_work + 1,
    )


_memories: weakref.WeakKeyDictionary[Database, Memory] = weakref.WeakKeyDictionary()


def memory(service: Service) -> Memory:
    """The memory of a service: that of its database in this process."""
    return _memories.setdefault(service.db, Memory())
