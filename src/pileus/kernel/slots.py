"""How many calls at once may wait for something outside that may be slow, so that it never has all threads."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

from pileus.kernel import clock


def login_threads() -> int:
    """Threads of one process for logins: one per core, as they hash passwords, and never so few that one may stop all."""
    return max(2, os.cpu_count() or 1)


class Slots:
    """At most `size` calls at once.

    Whoever finds none free waits for up to `patience` seconds, but not while a call takes longer than that: then the other end is
    slow, and waiting would only take more threads.
    """

    def __init__(self, size: int, patience: float) -> None:
        self.size = size
        self._patience = patience
        self._changed = threading.Condition()
        self._since: dict[object, float] = {}  # when each call began, the oldest first

    @contextlib.contextmanager
    def turn(self, refusal: Exception) -> Iterator[None]:
        """One call. Raises `refusal` where there is no turn for it."""
        call = object()
        with self._changed:
            until = clock.monotonic() + self._patience
            while len(self._since) >= self.size:
                oldest = next(iter(self._since.values()))
                left = min(until, oldest + self._patience) - clock.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    raise refusal
            self._since[call] = clock.monotonic()
        try:
            yield
        finally:
            with self._changed:
                del self._since[call]
                self._changed.notify()
