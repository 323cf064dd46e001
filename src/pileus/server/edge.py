"""The listening edge: an ASGI callable that gives each request to a service's WSGI application in a worker thread.

Bodies are read here, in the event loop, before a thread is taken: a stalled client never holds one. Large and chunked
bodies and streamed answers pass through a pool of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import ipaddress
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from pileus.kernel.config import Config
from pileus.kernel.slots import login_threads
from pileus.kernel.web.call import ASSERTION_KEY
from pileus.server.assertions import Assertions
from pileus.server.pool import Pool
from pileus.server.uploads import Upload

_log = logging.getLogger(__name__)
_SMALL = 1 << 20
_MAX_HEADERS = 64 << 10
_LINGER_BYTES = 64 << 20
_LINGER_SECONDS = 10.0

Wsgi = Callable[[dict[str, Any], Any], Any]
Scope = dict[str, Any]
Receive = Callable[[], Any]
Send = Callable[[dict[str, Any]], Any]


class Gateway:
    """All mounted applications behind one or several listening ports.

    `mounts` maps prefixes ("/compute") to applications; `ports` maps listening ports to a prefix that is served there
    without being written, for `endpoints = "ports"`.
    """

    def __init__(
        self,
        mounts: Mapping[str, Wsgi],
        config: Config,
        ports: Mapping[int, str] | None = None,
        plain: Wsgi | None = None,
    ) -> None:
        self.mounts = dict(mounts)
        self.config = config
        self.ports = dict(ports or {})
        self.plain = plain
        api = config.api
        self._requests = Pool(api.threads, "request")
        self._streams = Pool(api.stream_threads, "stream")
        self._logins = Pool(login_threads(), "login")
        self._trusted = [ipaddress.ip_network(text) for text in api.trusted_proxies]
        self._assertions = Assertions(api.assertion_headers, api.assertion_secret)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            await self._serve(scope, receive, send)
        except _Gone:
            return
        except _Stalled:
            await _short_answer(send, 408, "The rest of the request did not come.", close=True)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if sum(len(name) + len(value) for name, value in scope["headers"]) > _MAX_HEADERS:
            await _short_answer(send, 431, "Request Header Fields Too Large")
            return
        app, prefix, path = self._route(scope)
        if app is None:
            await _short_answer(send, 404, "There is no service at this path.")
            return
        environ = self._environ(scope, prefix, path)
        length = environ.get("CONTENT_LENGTH")
        chunked = "HTTP_TRANSFER_ENCODING" in environ
        if length is not None and not (length.isascii() and length.isdigit()):
            await _short_answer(send, 400, "Content-Length is not a number.")
            return
        upload: Upload | None = None
        if chunked or int(length or 0) > _SMALL:
            upload = Upload(scope, receive, self.config.api.idle_timeout)
            environ["wsgi.input"] = upload
            environ["wsgi.input_terminated"] = True
            pump = asyncio.ensure_future(upload.pump())
            pool = self._streams
        else:
            body = await self._whole(receive, int(length or 0))
            environ["wsgi.input"] = io.BytesIO(body)
            pool = self._pool_of(environ["REQUEST_METHOD"], app, path)
            pump = None
        try:
            status, headers, chunks = await pool.run(_call, app, environ)
        finally:
            if upload is not None and pump is not None:
                upload.leave()
                pump.cancel()
                upload.break_off()  # should we be stopped, the thread that reads must not wait for more
        unread = upload is not None and not upload.ended
        if unread:
            headers.append((b"connection", b"close"))  # the rest of the body is not wanted
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if isinstance(chunks, (list, tuple)):
            await send({"type": "http.response.body", "body": b"".join(chunks), "more_body": unread})
            if not unread:
                return
        else:
            await self._stream(receive, send, chunks)
        if unread:
            await _swallow(receive)
        await send({"type": "http.response.body", "body": b""})

    def _pool_of(self, method: str, app: Wsgi, path: str) -> Pool:
        """Logins wait for each other in a pool of one thread per core, never in the threads of all other requests."""
        logins = getattr(app, "logins", ())
        return self._logins if any(_fits(method, path, login) for login in logins) else self._requests

    async def _stream(self, receive: Receive, send: Send, chunks: Any) -> None:
        """Send what the iterator gives, as fast as the client takes it and as long as it is there."""
        iterator: Iterator[bytes] = iter(chunks)
        gone = asyncio.ensure_future(_disconnect(receive))
        try:
            while (chunk := await self._streams.run(next, iterator, None)) is not None:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                if gone.done():
                    return
        finally:
            gone.cancel()
            close = getattr(chunks, "close", None)
            if close is not None:
                await self._streams.run(close)

    def _route(self, scope: Scope) -> tuple[Wsgi | None, str, str]:
        """(application, the part of the path that is its mount, the rest)."""
        path = scope["path"]
        port = (scope.get("server") or ("", 0))[1]
        if port in self.ports:
            return self.mounts.get(self.ports[port]), "", path
        if self.plain is not None and path in {"/healthcheck", "/metrics"}:
            return self.plain, "", path
        first = "/" + path.split("/", 2)[1] if len(path) > 1 else "/"
        if first in self.mounts:
            return self.mounts[first], first, path[len(first) :]
        if first in {"/", "/v3"}:
            return self.mounts.get("/identity"), "", path
        return None, "", path

    async def _whole(self, receive: Receive, length: int) -> bytes:
        if length == 0:
            return b""
        parts = []
        while True:
            try:
                message = await asyncio.wait_for(receive(), self.config.api.idle_timeout)
            except TimeoutError:
                raise _Stalled from None
            if message["type"] == "http.disconnect":
                raise _Gone
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                return b"".join(parts)

    def _environ(self, scope: Scope, prefix: str, path: str) -> dict[str, Any]:
        server = scope.get("server") or ("localhost", 0)
        client = scope.get("client") or ("", 0)
        environ: dict[str, Any] = {
            "REQUEST_METHOD": scope["method"],
            "SCRIPT_NAME": prefix,
            "PATH_INFO": _wsgi_path(scope, prefix, path),
            "QUERY_STRING": scope["query_string"].decode("latin-1"),
            "SERVER_NAME": server[0],
            "SERVER_PORT": str(server[1]),
            "SERVER_PROTOCOL": "HTTP/" + scope["http_version"],
            "REMOTE_ADDR": client[0],
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": scope["scheme"],
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }
        told: list[tuple[str, bytes]] = []
        for raw, value in scope["headers"]:
            name = raw.decode("latin-1").upper()
            if self._assertions.has(name):
                told.append((name, value))
                continue  # nobody else has to see these
            if "_" in name:
                continue  # would be mistaken for the same name with a dash
            key = name.replace("-", "_")
            key = key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else "HTTP_" + key
            text = value.decode("latin-1")
            environ[key] = f"{environ[key]},{text}" if key in environ else text
        environ["pileus.base_url"] = self._base_url(environ, client[0])
        environ["pileus.client"] = self._client(environ, client[0])
        if told and self._trusted and self._is_trusted(client[0]):
            environ[ASSERTION_KEY] = self._assertions.read(told)
        return environ

    def _client(self, environ: Mapping[str, Any], peer: str) -> str:
        """The address of who asks. Each proxy on the way adds the one it heard from: the last that is no proxy of ours counts,
        as those before it are what a client made up.
        """
        if not self._trusted:
            return peer
        told = [part.strip() for part in environ.get("HTTP_X_FORWARDED_FOR", "").split(",") if part.strip()]
        address = peer
        while told and self._is_trusted(address):
            address = _without_port(told.pop())
        return address

    def _base_url(self, environ: Mapping[str, Any], client: str) -> str:
        if self.config.api.public_url:
            return self.config.api.public_url.rstrip("/")
        scheme = environ["wsgi.url_scheme"]
        host = environ.get("HTTP_HOST") or f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"
        if self._trusted and self._is_trusted(client):
            # Each proxy on the way adds its own: the first is what the client spoke to.
            forwarded = environ.get("HTTP_X_FORWARDED_PROTO", "").partition(",")[0].strip().lower()
            scheme = forwarded if forwarded in {"http", "https"} else scheme
            host = environ.get("HTTP_X_FORWARDED_HOST", "").partition(",")[0].strip() or host
        return f"{scheme}://{host}"

    def _is_trusted(self, client: str) -> bool:
        with contextlib.suppress(ValueError):
            address = ipaddress.ip_address(client)
            plain = getattr(address, "ipv4_mapped", None) or address  # how IPv4 looks on an IPv6 socket
            return any(plain in network for network in self._trusted)
        return False

    def close(self) -> None:
        """Let requests under way end."""
        self._requests.close()
        self._logins.close()
        self._streams.close(drop=True)


def _fits(method: str, path: str, pattern: tuple[str, str]) -> bool:
    """Whether a request is of a pattern, in which `*` stands for one part of the path."""
    if method != pattern[0]:
        return False
    parts, wanted = path.rstrip("/").split("/"), pattern[1].split("/")
    return len(parts) == len(wanted) and all(want in {"*", part} for want, part in zip(wanted, parts, strict=True))


def _without_port(address: str) -> str:
    """Some proxies tell the port as well: 192.0.2.1:4711, [2001:db8::1]:4711."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address


class _Gone(Exception):
    """The client is no longer there."""


class _Stalled(Exception):
    """The client has sent nothing for too long."""


async def _disconnect(receive: Receive) -> None:
    """Return when the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _swallow(receive: Receive) -> None:
    """Take in the rest of a body that was answered early, within limits.

    Closed with unread data, the connection would be reset, and the client lose the answer that says what was wrong.
    """
    left = _LINGER_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_SECONDS):
            while left > 0:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    return
                left -= len(message.get("body", b""))


def _call(app: Wsgi, environ: dict[str, Any]) -> tuple[int, list[tuple[bytes, bytes]], Any]:
    started: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], _exc: Any = None) -> None:
        pairs = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        started[:] = [int(status[:3]), pairs]

    chunks = app(environ, start_response)
    return started[0], started[1], chunks


def _wsgi_path(scope: Scope, prefix: str, path: str) -> str:
    """PATH_INFO in WSGI's peculiar form: the decoded bytes as latin-1."""
    raw = scope.get("raw_path")
    if raw is None or prefix.encode() != raw[: len(prefix)]:
        return str(path).encode().decode("latin-1")
    return unquote_to_bytes(raw[len(prefix) :]).decode("latin-1")


async def _short_answer(send: Send, status: int, text: str, *, close: bool = False) -> None:
    body = f'{{"error": {{"code": {status}, "message": "{text}", "title": "{text}"}}}}'.encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(b"connection", b"close")] if close else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
