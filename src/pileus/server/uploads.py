"""Large request bodies on their way from the event loop, which receives them, to the thread that reads them.

An ASGI server gathers a body in one buffer and copies it out message by message: for hundreds of megabytes that is as much work
as receiving them. So the listener gives the parts of a large body to the upload as they come, without a copy, once the upload
has put itself into the scope; a server that knows nothing of this gives messages, and they do as well.
"""

from __future__ import annotations

import asyncio
import collections
import threading
from collections.abc import Callable
from typing import Any

from pileus.kernel.errors import UploadBroken

UPLOAD = "pileus.upload"
"""Key of the scope: the Upload that takes the parts of this request's body."""
FLOW = "pileus.flow"
"""Key of the scope: what pauses and resumes the connection, where the listener knows of uploads."""

_AHEAD = 4 << 20  # bytes read ahead of the thread that consumes them
_PART = 1 << 20
_CRUMB = 64 << 10  # smaller parts are gathered: a client may send byte by byte


class Upload:
    """One request body: `pump` and `put` belong to the event loop, `read` to the thread."""

    def __init__(self, scope: dict[str, Any], receive: Callable[[], Any], idle_timeout: float) -> None:
        self._scope = scope
        self._flow: Any = scope.get(FLOW)
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._idle = idle_timeout
        self._parts: collections.deque[bytes | bytearray] = collections.deque()
        self._size = 0
        self._full = False
        self._changed = threading.Condition()
        self._room = asyncio.Event()
        self.ended = False
        self._broken = False
        self._left = False

    async def pump(self) -> None:
        """Receive until the end, never far ahead of the reader."""
        while not (self.ended or self._broken):
            message = await self._receive()
            broken = message["type"] == "http.disconnect"
            self._add(message.get("body", b""), ended=not broken and not message.get("more_body"), broken=broken)
            if self._flow is not None and not self._left:
                self._scope[UPLOAD] = self  # what was received before has been taken, in this very moment
            if self._full:
                await self._room.wait()

    def leave(self) -> None:
        """No more is wanted: whatever still comes is the server's again."""
        self._left = True
        self._scope.pop(UPLOAD, None)

    def break_off(self) -> None:
        """Nothing more will come: the thread that reads must not wait for it."""
        with self._changed:
            self._broken = True
            self._changed.notify_all()

    def put(self, part: bytes) -> None:
        """Take a part from the listener, and have it wait when there are too many."""
        self._add(part)
        if self._full:
            self._flow.pause_reading()

    def _add(self, part: bytes, *, ended: bool = False, broken: bool = False) -> None:
        with self._changed:
            if part:
                self._keep(part)
            self.ended, self._broken = ended, broken
            if self._size > _AHEAD and not self._full:
                self._full = True
                self._room.clear()
            self._changed.notify()

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        last = self._parts[-1] if self._parts else b""
        if len(part) >= _CRUMB:
            self._parts.append(part)
        elif isinstance(last, bytearray) and len(last) < _CRUMB:
            last.extend(part)
        else:
            self._parts.append(bytearray(part))

    def _go_on(self) -> None:
        self._room.set()
        if UPLOAD in self._scope:
            self._flow.resume_reading()

    def read(self, size: int = -1) -> bytes:
        """Some bytes, at most `size` (all that is left when negative); b"" at the end. Raises UploadBroken."""
        if size < 0:
            return b"".join(iter(lambda: self.read(_PART), b""))
        if size == 0:
            return b""
        with self._changed:
            if not self._changed.wait_for(lambda: self._size or self.ended or self._broken, timeout=self._idle):
                raise UploadBroken(f"No more of the body came for {self._idle:g} seconds.")
            if not self._size:
                if self._broken and not self.ended:
                    raise UploadBroken("The body was broken off.")
                return b""
            part = self._parts.popleft()
            if len(part) > size:
                self._parts.appendleft(part[size:])
                part = part[:size]
            self._size -= len(part)
            room = self._full and self._size <= _AHEAD // 2
            if room:
                self._full = False
        if room:
            self._loop.call_soon_threadsafe(self._go_on)
        return bytes(part)
