"""uvicorn as every API worker runs it, with limits on the part of a request that comes before a request is one.

uvicorn counts neither the bytes nor the time of a request's head: without these limits a client could fill the memory with one
endless header, or hold connections for ever by never ending theirs.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pileus.server.uploads import FLOW, UPLOAD

if TYPE_CHECKING:
    from pileus.kernel.config import Config
    from pileus.server.edge import Gateway
    from pileus.server.uploads import Upload

_MAX_HEAD = 128 << 10
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Draining(uvicorn.Server):
    """Serves for `seconds` after it was asked to stop; `stopping` tells the load balancer meanwhile."""

    def __init__(self, config: uvicorn.Config, stopping: threading.Event, seconds: float) -> None:
        super().__init__(config)
        self._stopping = stopping
        self._seconds = seconds
        self._parent = os.getppid()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        orphaned = os.getppid() != self._parent  # a new supervisor wants the port
        if self._seconds and not orphaned and not self._stopping.is_set():
            self._stopping.set()
            later = threading.Timer(self._seconds, super().handle_exit, (sig, frame))
            later.daemon = True
            later.start()
            return
        self._stopping.set()
        super().handle_exit(sig, frame)


def make_server(gateway: Gateway, config: Config, stopping: threading.Event | None = None) -> uvicorn.Server:
    """The server of one worker; `run(sockets=...)` serves until SIGTERM, which sets `stopping`."""

    class Limited(Listener):
        head_seconds = config.api.idle_timeout

    options: dict[str, Any] = {}
    if config.api.certificate:
        options = {"ssl_certfile": config.api.certificate, "ssl_keyfile": config.api.key}
    return Draining(
        uvicorn.Config(
            gateway,
            loop="uvloop",
            http=Limited,
            ws="none",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=math.ceil(config.api.stop_seconds),
            backlog=2048,
            **options,
        ),
        stopping or threading.Event(),
        config.api.drain,
    )


class Listener(HttpToolsProtocol):
    """One connection. A head may have 128 KiB and `head_seconds`."""

    head_seconds = 60.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._in_head = True
        self._head = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._head += len(data)
        super().data_received(data)
        if not self._in_head or not self._head:
            return
        if self._head > _MAX_HEAD:
            if not self._is_answering():
                self.transport.write(_TOO_LARGE)
            self.transport.close()
        elif self._timer is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_waiting()
        self.scope[FLOW] = self.flow  # type: ignore[literal-required]
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        upload: Upload | None = self.scope.get(UPLOAD)  # type: ignore[assignment]
        if upload is None:
            super().on_body(body)
        else:
            upload.put(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head = True
        self._head = 0

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _await_head(self) -> None:
        self._timer = self.loop.call_later(self.head_seconds, self._too_slow)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        if self._is_answering():  # an earlier request of this connection
            self._await_head()
        else:
            self.transport.close()
