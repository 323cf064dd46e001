"""Reconciling loops: what must stay true is looked at again, woken by a nudge and by time."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import heapq
import itertools
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

from pileus.kernel import clock, metrics
from pileus.kernel.errors import ProgrammingError

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Loop:
    """`run(subject)` compares what is with what shall be, and acts. It keeps no state between passes that matters.

    `every` is in seconds. An exception is logged and the next pass comes. Where several controllers run, one of them does the
    timed passes, and another one may be at a nudged pass meanwhile: what a pass does must bear that. A loop that is
    `everywhere` is about its own controller, and each does it.
    """

    name: str
    every: float
    run: Callable[[Any], object]
    everywhere: bool = False


class Nudger:
    """Wakes loops of one room from any process: in this one when they run here, else through `remote`."""

    def __init__(self, remote: Callable[[str], None]) -> None:
        self._remote = remote
        self._local: LoopRunner | None = None

    def attach(self, runner: LoopRunner) -> None:
        self._local = runner

    def nudge(self, name: str) -> None:
        if self._local is not None and self._local.nudge(name):
            return
        self._remote(name)


class LoopRunner:
    """Runs loops on a few threads; a loop never runs beside itself."""

    def __init__(self, threads: int = 4) -> None:
        self._threads = threads
        self._loops: dict[str, tuple[Loop, Any]] = {}
        self._turns: dict[str, Callable[[], bool]] = {}
        self._nudged: set[str] = set()
        self._due: list[tuple[float, int, str]] = []
        self._count = itertools.count()
        self._busy: set[str] = set()
        self._again: set[str] = set()
        self._changed = threading.Condition()
        self._stopping = False
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None
        self._scheduler: threading.Thread | None = None

    def add(self, loops: Iterable[Loop], subject: Any, turn: Callable[[], bool] | None = None) -> None:
        """Loops and what they are given. `turn` is asked before a timed pass whether it is this process that does it."""
        for loop in loops:
            if loop.name in self._loops:
                raise ProgrammingError(f"two loops are called {loop.name}")
            self._loops[loop.name] = (loop, subject)
            if turn is not None and not loop.everywhere:
                self._turns[loop.name] = turn

    def start(self) -> None:
        """Every loop runs once at once, then by time."""
        self._pool = concurrent.futures.ThreadPoolExecutor(self._threads, thread_name_prefix="loop")
        with self._changed:
            for name in self._loops:
                heapq.heappush(self._due, (clock.monotonic(), next(self._count), name))
        self._scheduler = threading.Thread(target=self._schedule, name="loops", daemon=True)
        self._scheduler.start()

    def nudge(self, name: str) -> bool:
        """Run a loop now, or again when it is running; False when it is not one of these."""
        if name not in self._loops:
            return False
        with self._changed:
            self._nudged.add(name)
            if name in self._busy:
                self._again.add(name)
            else:
                heapq.heappush(self._due, (clock.monotonic(), next(self._count), name))
            self._changed.notify_all()
        return True

    def stop(self) -> None:
        """Let running passes end, start no more."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._scheduler is not None:
            self._scheduler.join(10)
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _schedule(self) -> None:
        latest: dict[str, float] = {}
        while True:
            with self._changed:
                if self._stopping:
                    return
                now = clock.monotonic()
                if not self._due or self._due[0][0] > now:
                    self._changed.wait(max(0.0, self._due[0][0] - now) if self._due else None)
                    continue
                due, _, name = heapq.heappop(self._due)
                # A nudge leaves the timed entry behind: only the newest pass's own entry counts, a nudge always does.
                if name in self._busy:
                    self._again.add(name)
                    continue
                if due < latest.get(name, 0.0):
                    continue
                self._busy.add(name)
                nudged = name in self._nudged
                self._nudged.discard(name)
            latest[name] = now
            assert self._pool is not None
            self._pool.submit(self._pass, name, nudged)

    def _pass(self, name: str, nudged: bool) -> None:
        loop, subject = self._loops[name]
        turn = None if nudged else self._turns.get(name)
        began = clock.monotonic()
        try:
            if turn is None or turn():
                loop.run(subject)
        except BaseException:  # SystemExit too: whatever a pass does, the loop goes on
            _log.exception("loop %s failed, next pass in %g s", name, loop.every)
            metrics.loop_pass(name, "failed", clock.monotonic() - began)
        else:
            metrics.loop_pass(name, "done", clock.monotonic() - began)
        with self._changed:
            self._busy.discard(name)
            delay = 0.0 if name in self._again else loop.every
            self._again.discard(name)
            self._due = [entry for entry in self._due if entry[2] != name]
            heapq.heapify(self._due)
            heapq.heappush(self._due, (clock.monotonic() + delay, next(self._count), name))
            self._changed.notify_all()
