"""Nudges that have time: what concerns many hosts a little is told to one after another, and once to each."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from pileus.kernel import clock
from pileus.kernel.bus.base import Bus

PER_SECOND = 200
"""A hundred hosts hear of a change within half a second; when thousands have to, each hears once of all that changed meanwhile."""


class Later:
    """Casts `method` to hosts with their newest versions, at a bounded rate. What is lost with the process, hosts find by themselves."""

    def __init__(self, bus: Bus, method: str) -> None:
        self._bus, self._method = bus, method
        self._waiting: dict[str, int] = {}
        self._lock = threading.Lock()
        self._working = False

    def nudge(self, versions: Mapping[str, int]) -> None:
        """These hosts have something new."""
        with self._lock:
            self._waiting.update(versions)
            if self._working or not self._waiting:
                return
            self._working = True
        threading.Thread(target=self._work, name=f"later {self._method}", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                host = next(iter(self._waiting), None)
                if host is None:
                    self._working = False
                    return
                version = self._waiting.pop(host)
            self._bus.cast(f"agent.{host}", self._method, {"version": version})
            clock.sleep(1 / PER_SECOND)
