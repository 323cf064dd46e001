"""The bus inside one machine: a queue within a process, Unix sockets between processes.

A server of topic T listens at `<directory>/T/<pid>-<random>.sock`; callers pick any socket of the topic. Frames are a
4-byte length and msgpack; before a request stands the moment it was sent, by the monotonic clock that all processes of one
machine share, so that one that waited in a stopped process is known to be late. The directory is 0700, so only the same
user connects.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import pathlib
import queue
import random
import socket
import struct
import threading
from collections.abc import Mapping
from typing import Any

import msgspec

from pileus.kernel import clock, ids
from pileus.kernel.bus.base import Bus, BusTimeout, BusUnavailable, Handler, Request, Response, Server, encoded

_log = logging.getLogger(__name__)
_encoder = msgspec.msgpack.Encoder()
_requests = msgspec.msgpack.Decoder(Request)
_responses = msgspec.msgpack.Decoder(Response)
_MAX_FRAME = 64 << 20
_IDLE_SERVERS = 400
"""To so many servers connections are kept open: thousands of hosts must not take all descriptors of a process."""
_IDLE_SECONDS = 30.0
"""A connection that was not needed for so long is closed: what a busy minute opened must not stay open, each with a thread of its server."""
_SENT = struct.Struct("!d")


class LocalBus(Bus):
    """With a directory: between processes. Without: within this process alone (tests)."""

    def __init__(self, node: str, directory: pathlib.Path | None = None) -> None:
        super().__init__(node)
        self._directory = directory
        self._servers: dict[str, Server] = {}
        self._listeners: list[tuple[socket.socket, pathlib.Path]] = []
        self._idle: collections.OrderedDict[str, collections.deque[tuple[float, socket.socket]]] = collections.OrderedDict()
        self._lock = threading.Lock()
        self._casts: queue.SimpleQueue[tuple[Server, Request, float] | None] = queue.SimpleQueue()
        self._caster: threading.Thread | None = None
        self._answering: set[socket.socket] = set()
        self._closed = threading.Event()

    def serve(self, topic: str, methods: Mapping[str, Handler]) -> None:
        with self._lock:
            known = self._servers.get(topic)
            if known is not None:
                known.methods.update(methods)
                return
            server = self._servers[topic] = Server(topic, methods)
        if self._directory is not None:
            self._listen(topic, server)

    def _listen(self, topic: str, server: Server) -> None:
        assert self._directory is not None
        folder = self._directory / topic
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / f"{os.getpid()}-{ids.new_id()[:6]}.sock"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Under its name only when it listens: who finds it earlier is refused and takes it for a dead process's.
        _bind(listener, path.with_suffix(".new"))
        listener.listen(128)
        path.with_suffix(".new").rename(path)
        self._listeners.append((listener, path))
        self._start_accepting(listener, server)

    def _start_accepting(self, listener: socket.socket, server: Server) -> None:
        threading.Thread(target=self._accept, args=(listener, server), name=f"bus {server.topic}", daemon=True).start()

    def _accept(self, listener: socket.socket, server: Server) -> None:
        while not self._closed.is_set():
            try:
                connection, _ = listener.accept()
            except OSError as error:
                # Out of descriptors, say: a server must not go deaf for that.
                if not self._closed.is_set():
                    _log.warning("the bus cannot accept a connection: %s", error)
                    self._closed.wait(0.1)
                continue
            with self._lock:
                self._answering.add(connection)
            threading.Thread(target=self._answer, args=(connection, server), name="bus connection", daemon=True).start()

    def _answer(self, connection: socket.socket, server: Server) -> None:
        try:
            with connection, contextlib.suppress(OSError, EOFError):
                while not self._closed.is_set():
                    self._answer_one(connection, server)
        except (msgspec.MsgspecError, struct.error):
            _log.warning("the bus got what is no request, and closes the connection")
        finally:
            with self._lock:
                self._answering.discard(connection)

    def _answer_one(self, connection: socket.socket, server: Server) -> None:
        """Wait for one request of a connection and do what it asks."""
        frame = _receive(connection)
        (sent,) = _SENT.unpack_from(frame)
        request = _requests.decode(memoryview(frame)[_SENT.size :])
        if request.kind == "cast":
            self._enqueue(server, request, sent)  # a call after it on this connection does not wait for it
            return
        late = Response(request.id, error=("Late", "the request came too late"))
        _send(connection, encoded(server.handle(request, sent) or late))

    def close(self) -> None:
        self._closed.set()
        for listener, path in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            path.unlink(missing_ok=True)
        with self._lock:
            for connections in self._idle.values():
                for _, connection in connections:
                    connection.close()
            self._idle.clear()
            for connection in self._answering:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)  # an answer under way is still given
        if self._caster is not None:
            self._casts.put(None)

    def _call(self, topic: str, request: Request) -> Response:
        own = self._servers.get(topic)
        if own is not None:
            response = own.handle(_copied(request), clock.monotonic())
            return _responses.decode(encoded(response)) if response else Response(request.id, error=("Late", ""))
        data = _SENT.pack(clock.monotonic()) + _encoder.encode(request)
        for path in self._sockets(topic):
            # A connection kept from before may lead to a process that is gone: a second try, on a new one, repeats the id.
            for fresh in (False, True):
                connection = self._connect(path, fresh=fresh)
                if connection is None:
                    continue
                try:
                    connection.settimeout(request.remaining)
                    _send(connection, data)
                    response = _responses.decode(_receive(connection))
                except TimeoutError:
                    connection.close()
                    raise BusTimeout(f"{topic} {request.method}: no answer in {request.remaining:g} s") from None
                except (OSError, EOFError):
                    connection.close()
                    continue
                self._keep(path, connection)
                return response
        raise BusUnavailable(f"nobody serves {topic}")

    def _cast(self, topic: str, request: Request) -> None:
        own = self._servers.get(topic)
        if own is not None:
            self._enqueue(own, _copied(request), clock.monotonic())
            return
        for path in self._sockets(topic):
            if self._send_cast(path, request):
                return

    def _fanout(self, topic: str, request: Request) -> None:
        own = self._servers.get(topic)
        if own is not None:
            self._enqueue(own, _copied(request), clock.monotonic())
        mine = {path for _, path in self._listeners}
        for path in self._sockets(topic):
            if path not in mine:
                self._send_cast(path, request)

    def _send_cast(self, path: pathlib.Path, request: Request) -> bool:
        data = _SENT.pack(clock.monotonic()) + _encoder.encode(request)
        for fresh in (False, True):
            connection = self._connect(path, fresh=fresh)
            if connection is None:
                continue
            try:
                connection.settimeout(1.0)
                _send(connection, data)
            except OSError:
                connection.close()
                continue
            self._keep(path, connection)
            return True
        return False

    def _enqueue(self, server: Server, request: Request, sent: float) -> None:
        """A cast: never in the sender's thread, nor in one that answers calls."""
        with self._lock:
            if self._caster is None or not self._caster.is_alive():  # a forked process has no threads of its parent
                self._caster = threading.Thread(target=self._deliver, name="bus casts", daemon=True)
                self._caster.start()
        self._casts.put((server, request, sent))

    def _deliver(self) -> None:
        while (item := self._casts.get()) is not None:
            server, request, sent = item
            server.handle(request, sent)

    def _sockets(self, topic: str) -> list[pathlib.Path]:
        if self._directory is None:
            return []
        try:
            found = [path for path in (self._directory / topic).iterdir() if path.suffix == ".sock"]
        except FileNotFoundError:
            return []
        random.shuffle(found)
        return found

    def _connect(self, path: pathlib.Path, *, fresh: bool) -> socket.socket | None:
        if not fresh:
            with self._lock:
                idle = self._idle.get(str(path))
                return idle.pop()[1] if idle else None
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(1.0)
        try:
            _connect(connection, path)
        except ConnectionRefusedError:
            connection.close()
            path.unlink(missing_ok=True)  # its process is gone
            return None
        except OSError:
            connection.close()
            return None
        return connection

    def _keep(self, path: pathlib.Path, connection: socket.socket) -> None:
        now = clock.monotonic()
        unused: list[tuple[float, socket.socket]] = []
        with self._lock:
            idle = self._idle.setdefault(str(path), collections.deque())
            self._idle.move_to_end(str(path))
            while idle and (now - idle[0][0] > _IDLE_SECONDS or len(idle) >= 32):
                unused.append(idle.popleft())
            if self._closed.is_set():
                unused.append((now, connection))
            else:
                idle.append((now, connection))
            if len(self._idle) > _IDLE_SERVERS:
                unused += self._idle.popitem(last=False)[1]
        for _, each in unused:
            each.close()


def _copied(request: Request) -> Request:
    """What arrives is never the sender's own object."""
    return _requests.decode(_encoder.encode(request))


def _bind(listener: socket.socket, path: pathlib.Path) -> None:
    _at(path, listener.bind)


def _connect(connection: socket.socket, path: pathlib.Path) -> None:
    _at(path, connection.connect)


def _at(path: pathlib.Path, action: Any) -> None:
    """Unix socket addresses hold 107 bytes; a longer path is reached through a descriptor of its folder."""
    if len(os.fsencode(path)) <= 107:
        action(str(path))
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        action(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


def _send(connection: socket.socket, data: bytes) -> None:
    connection.sendall(struct.pack("!I", len(data)) + data)


def _receive(connection: socket.socket) -> bytes:
    (length,) = struct.unpack("!I", _exactly(connection, 4))
    if length > _MAX_FRAME:
        raise EOFError
    return _exactly(connection, length)


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)
