"""How often hosts speak: the more there are, the less often each does.

A controller that hears thousands of hosts every few seconds does nothing else. So it counts those it hears and tells each, in its answer, when to speak
again; what changes is told at once all the same. No host is asked to be silent for so long that it would be taken for dead.
"""

from __future__ import annotations

import threading

from pileus.kernel import clock

REPORTS_PER_SECOND = 100.0
"""Of one kind, for all hosts together, as long as none has to be silent for too long: some percent of a core."""
_SILENT_FOR = 4.0
"""A host that is told to speak every so many seconds is forgotten after this many times that."""


class Pace:
    """What one process has heard of hosts lately."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heard: dict[tuple[str, str], float] = {}
        self._counts: dict[str, int] = {}
        self._swept = 0.0

    def next(self, kind: str, host: str, least: float, most: float) -> float:
        """A host has spoken: seconds until it shall again, between `least` and `most`."""
        now = clock.monotonic()
        with self._lock:
            if (kind, host) not in self._heard:
                self._counts[kind] = self._counts.get(kind, 0) + 1
            self._heard[kind, host] = now
            if now - self._swept > most:
                self._swept = now
                self._sweep(now - _SILENT_FOR * most)
            return min(max(self._counts[kind] / REPORTS_PER_SECOND, least), max(most, least))

    def _sweep(self, before: float) -> None:
        self._heard = {key: moment for key, moment in self._heard.items() if moment >= before}
        self._counts = {}
        for kind, _ in self._heard:
            self._counts[kind] = self._counts.get(kind, 0) + 1


class Due:
    """Whether something that a timer asks for is due: the timer may tick more often than it shall be done."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._done = float("-inf")

    def now(self) -> bool:
        """Whether it is time."""
        return clock.monotonic() - self._done >= self.seconds * 0.9  # a timer that ticks a moment early must not lose its turn

    def done(self) -> None:
        """The next time counts from here."""
        self._done = clock.monotonic()
