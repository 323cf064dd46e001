"""The metadata proxy: guests ask 169.254.169.254, this tells compute who asks.

A listening socket is opened inside each router's namespace (where 169.254.169.254:80 is redirected to it) and inside the DHCP namespace of each
isolated network; all are served by one thread of this process. The socket names the router or network, the source address names the port. Nothing a
guest says about itself is believed: of its headers only a few harmless ones are passed on. Requests are small and few: header, body, time and number
at once are limited, so that no guest can hold up another.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import http
import logging
import socket
import ssl
import threading
import urllib.parse
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field

from pileus.host import netns
from pileus.kernel.errors import Failure
from pileus.network.agent.secret import sign
from pileus.network.drivers.base import Listener
from pileus.network.wire import MetadataOwner

_log = logging.getLogger(__name__)

HEADER_LIMIT = 16 * 1024
BODY_LIMIT = 64 * 1024
READ_SECONDS = 10.0
ANSWER_SECONDS = 60.0
AT_ONCE = 256
AT_ONCE_LISTENER = 64
AT_ONCE_GUEST = 8
_BACKLOG = 64
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT"})
_PASSED = frozenset({"accept", "content-type", "user-agent"})
_ANSWERED = frozenset({"content-type", "content-length", "last-modified", "etag", "cache-control"})
_PIECE = 64 * 1024

Lookup = Callable[[str, str, str], MetadataOwner | None]
"""From the kind and id of the listener and the source address to whose instance asks."""


Proof = Callable[[str], dict[str, str]]
"""From the id of an instance to the headers by which compute believes that it asks. May wait for identity."""


def by_secret(secret: bytes) -> Proof:
    """Signed with what the agents of a controller share with compute."""
    return lambda instance_id: {"X-Instance-ID-Signature": sign(secret, instance_id)}


def by_token(token: Callable[[], str]) -> Proof:
    """With the token of a node, which shares no secret and whose right ends with its membership."""
    return lambda _instance_id: {"X-Auth-Token": token()}


class Refused(Exception):
    """The request is answered with this status and sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


@dataclass(slots=True)
class _Open:
    """A listener in service. `place` identifies the namespace: one that was made anew under the same name is another."""

    listener: Listener
    place: int
    server: asyncio.Server
    guests: collections.Counter[str] = field(default_factory=collections.Counter)


@dataclass(frozen=True, slots=True)
class Request:
    """What a guest asks, as far as it counts."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(default=b"", repr=False)


class MetadataProxy:
    """All metadata sockets of the host. `url` is compute's base, below which `/metadata` is."""

    def __init__(self, url: str, proof: Proof, lookup: Lookup, *, ca_file: str = "") -> None:
        parsed = urllib.parse.urlsplit(url)
        self._host = parsed.hostname or "127.0.0.1"
        self._port = parsed.port or (443 if parsed.scheme == "https" else 80)
        self._base = parsed.path.rstrip("/") + "/metadata"
        self._tls = ssl.create_default_context(cafile=ca_file or None) if parsed.scheme == "https" else None
        self._proof = proof
        self._lookup = lookup
        self._open: dict[Listener, _Open] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="metadata", daemon=True)
        self._requests = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
        self._loop.close()

    def listen(self, listeners: Collection[Listener]) -> None:
        """Have exactly these listeners. One that cannot be opened is logged and tried again with the next call."""
        wanted = {}
        for listener in listeners:
            with contextlib.suppress(FileNotFoundError):
                wanted[listener] = netns.identity(listener.namespace)
        for listener, opened in list(self._open.items()):
            if wanted.get(listener) != opened.place:
                del self._open[listener]
                self._loop.call_soon_threadsafe(opened.server.close)
        for listener, place in wanted.items():
            if listener not in self._open:
                try:
                    self._open_one(listener, place)
                except OSError as error:
                    _log.error("no metadata for %s %s: %s", listener.kind, listener.id, error)

    def _open_one(self, listener: Listener, place: int) -> None:
        sock = netns.inside(listener.namespace, lambda: _listening(listener))

        async def begin() -> None:
            server = await asyncio.start_server(
                lambda reader, writer: self._connected(listener, reader, writer), sock=sock, limit=HEADER_LIMIT, backlog=_BACKLOG
            )
            self._open[listener] = _Open(listener, place, server)

        asyncio.run_coroutine_threadsafe(begin(), self._loop).result(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _close(self) -> None:
        for opened in self._open.values():
            opened.server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, listener: Listener, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(listener, reader, writer)
        except (OSError, asyncio.CancelledError, asyncio.IncompleteReadError, TimeoutError):
            pass
        except Exception:
            _log.exception("a metadata request failed")
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, listener: Listener, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = str(writer.get_extra_info("peername")[0])
        method = "GET"
        begun = False
        try:
            async with self._admitted(listener, address):
                request = await asyncio.wait_for(read_request(reader), READ_SECONDS)
                method = request.method
                owner = self._owner(listener, address)
                async with asyncio.timeout(ANSWER_SECONDS):
                    async for piece in self._answer(request, owner, address):
                        begun = True
                        writer.write(piece)
                        await writer.drain()
        except Refused as refused:
            if not begun:
                writer.write(_sentence(refused.status, refused.sentence, method))
        except TimeoutError:
            if not begun:
                writer.write(_sentence(408, "The request or its answer took too long.", method))
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(writer.drain(), READ_SECONDS)

    @contextlib.asynccontextmanager
    async def _admitted(self, listener: Listener, address: str) -> AsyncIterator[None]:
        """A place among those served at once: of all, of this listener's, of this guest's; 503 when there is none."""
        opened = self._open.get(listener)
        if (
            opened is None
            or self._requests >= AT_ONCE
            or opened.guests.total() >= AT_ONCE_LISTENER
            or opened.guests[address] >= AT_ONCE_GUEST
        ):
            raise Refused(503, "Too many metadata requests at once; try again.")
        self._requests += 1
        opened.guests[address] += 1
        try:
            yield
        finally:
            self._requests -= 1
            opened.guests[address] -= 1
            if not opened.guests[address]:
                del opened.guests[address]

    def _owner(self, listener: Listener, address: str) -> MetadataOwner:
        owner = self._lookup(listener.kind, listener.id, address)
        if owner is None or not owner.device_id:
            raise Refused(404, f"No instance has the address {address} here.")
        return owner

    async def _answer(self, request: Request, owner: MetadataOwner, address: str) -> AsyncIterator[bytes]:
        """Compute's answer in pieces, its status line and chosen headers first."""
        try:
            proof = await asyncio.to_thread(self._proof, owner.device_id)
            reader, writer = await asyncio.wait_for(
                asyncio.open_connection(self._host, self._port, ssl=self._tls, limit=HEADER_LIMIT), READ_SECONDS
            )
        except (OSError, TimeoutError, Failure) as error:
            _log.warning("compute does not answer metadata: %s", error)
            raise Refused(503, "The metadata service is not available now; try again.") from error
        try:
            writer.write(self._forwarded(request, owner, address, proof))
            await writer.drain()
            try:
                yield _relayed(await reader.readuntil(b"\r\n\r\n"))
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, OSError) as error:
                _log.warning("compute broke off its metadata answer: %s", error)
                raise Refused(503, "The metadata service is not available now; try again.") from error
            while piece := await reader.read(_PIECE):
                yield piece
        finally:
            writer.close()

    def _forwarded(self, request: Request, owner: MetadataOwner, address: str, proof: dict[str, str]) -> bytes:
        """The request as compute gets it: HTTP/1.0, so that its answer ends with the connection."""
        lines = [
            f"{request.method} {self._base}{request.target} HTTP/1.0",
            f"Host: {self._host}:{self._port}",
            "Connection: close",
            *(f"{name}: {value}" for name, value in request.headers),
            f"X-Forwarded-For: {address}",
            f"X-Instance-ID: {owner.device_id}",
            f"X-Tenant-ID: {owner.project_id}",
            *(f"{name}: {value}" for name, value in proof.items()),
        ]
        if request.body or request.method in {"POST", "PUT"}:
            lines.append(f"Content-Length: {len(request.body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + request.body


async def read_request(reader: asyncio.StreamReader) -> Request:
    """Read one request within the limits; Refused says what is wrong with it."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as error:
        raise Refused(431, "The request's headers are too large.") from error
    first, *rest = head.decode("latin-1").split("\r\n")[:-2]
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise Refused(400, "The request line cannot be understood.")
    if words[0] not in _METHODS:
        raise Refused(405, f"Metadata cannot be asked with {words[0][:20]}.")
    headers: dict[str, str] = {}
    for line in rest:
        name, colon, value = line.partition(":")
        name, value = name.lower(), value.strip()
        if not colon or name != name.strip() or (name in {"content-length", "transfer-encoding"} and name in headers):
            raise Refused(400, "A header of the request cannot be understood.")
        if any(ord(letter) < 32 and letter != "\t" for letter in value):
            raise Refused(400, "A header of the request cannot be understood.")
        headers[name] = value
    if "transfer-encoding" in headers:
        raise Refused(411, "The request's body needs a Content-Length.")
    length = headers.get("content-length", "0")
    if not length.isdecimal() or not length.isascii():
        raise Refused(400, "The Content-Length cannot be understood.")
    if int(length) > BODY_LIMIT:
        raise Refused(413, "The request's body is too large.")
    body = await reader.readexactly(int(length)) if int(length) else b""
    passed = tuple((name, value) for name, value in headers.items() if name in _PASSED)
    return Request(words[0], _target(words[1]), passed, body)


def _target(given: str) -> str:
    """The path (and query) of a request target, given alone or as a whole URL."""
    if given.startswith("http://"):
        given = "/" + given[7:].partition("/")[2]
    if not given.startswith("/") or any(not 0x21 <= ord(letter) < 0x7F for letter in given):
        raise Refused(400, "The request's path cannot be understood.")
    if any(urllib.parse.unquote(part) in {"..", "."} for part in given.partition("?")[0].split("/")):
        raise Refused(400, "The request's path must be written without dots.")
    return given


def _relayed(head: bytes) -> bytes:
    """Compute's status line and headers as the guest gets them; ValueError when they are none."""
    first, *rest = head.decode("latin-1").split("\r\n")[:-2]
    version, status, *_ = first.split(" ")
    if not version.startswith("HTTP/") or not status.isdecimal():
        raise ValueError(f"{first!r} is no status line")
    kept = [line for line in rest if line.partition(":")[0].lower() in _ANSWERED]
    return "\r\n".join([f"HTTP/1.1 {_status(int(status))}", *kept, "Connection: close", "", ""]).encode("latin-1")


def _sentence(status: int, sentence: str, method: str) -> bytes:
    body = f"{sentence}\n".encode()
    head = f"HTTP/1.1 {_status(status)}\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode("latin-1") + (b"" if method == "HEAD" else body)


def _status(status: int) -> str:
    try:
        return f"{status} {http.HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} Unknown"


def _listening(listener: Listener) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((listener.address, listener.port))
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock
