"""How services reach each other: at their public REST APIs, in process or over HTTP.

In process the peer's WSGI application is called in the caller's thread, with the verified Context handed over as a
private object of the environ. Over HTTP the context's token is sent, or a token of the service's own user.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import orjson

from pileus.kernel import errors
from pileus.kernel.context import Context
from pileus.kernel.waiting import forbid_in_transaction, forbid_while_serving


class PeerError(errors.Failure):
    """A peer answered with an error, or not at all. `body` is what it said."""

    status = 502

    def __init__(self, message: str, *, status: int, body: Any = None, inside: str = "") -> None:
        super().__init__(message, inside=inside)
        self.status = status
        self.body = body


class PeerInvalid(PeerError):
    """400, 413, 415, 422: what we sent was refused."""


class PeerUnauthorized(PeerError):
    """401"""


class PeerForbidden(PeerError):
    """403, quota refusals among them."""


class PeerNotFound(PeerError):
    """404, 410"""


class PeerConflict(PeerError):
    """409, 412"""


class PeerUnavailable(PeerError):
    """No answer, or 5xx: trying again may help."""


def _kind_of(status: int) -> type[PeerError]:
    if status >= 500:
        return PeerUnavailable
    table = {
        401: PeerUnauthorized,
        403: PeerForbidden,
        404: PeerNotFound,
        410: PeerNotFound,
        409: PeerConflict,
        412: PeerConflict,
    }
    return table.get(status, PeerInvalid)


class Answer:
    """What a peer answered. `body` is an iterator of bytes; who does not read it to its end must `close`."""

    def __init__(self, status: int, headers: Mapping[str, str], body: Iterator[bytes]) -> None:
        self.status = status
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.body = body

    def read(self) -> bytes:
        return b"".join(self.body)

    def close(self) -> None:
        """Read no more: the peer is told to stop, and what it had opened is closed."""
        if isinstance(self.body, _Body):
            self.body.close()


class _Body:
    """A body that is read as it comes. `failures` are what breaking off looks like; `close` is called once, at the end."""

    def __init__(self, chunks: Iterator[bytes], failures: type[Exception], close: Callable[[bool], None]) -> None:
        self._chunks = chunks
        self._failures = failures
        self._close: Callable[[bool], None] | None = close

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._close is None:
            raise StopIteration
        try:
            return next(self._chunks)
        except StopIteration:
            self.close(whole=True)
            raise
        except self._failures as error:
            self.close()
            raise PeerUnavailable("The peer's answer broke off.", status=503, inside=repr(error)) from error

    def close(self, *, whole: bool = False) -> None:
        close, self._close = self._close, None
        if close is not None:
            close(whole)

    def __del__(self) -> None:
        self.close()


class Binding(Protocol):
    """A way to a service: sends one request, returns its answer with the body unread."""

    def send(
        self,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes] | None,
        context: Context,
        timeout: float,
    ) -> Answer: ...


class LocalBinding:
    """Calls the peer's WSGI application in this thread. `app` is looked up at the first call: rooms may need each other."""

    def __init__(self, app: Callable[[], Any], prefix: str, base_url: str) -> None:
        self._app = app
        self._prefix = prefix
        self._base_url = base_url

    def send(
        self,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes] | None,
        context: Context,
        timeout: float,  # noqa: ARG002 - the caller's thread does the work
    ) -> Answer:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": self._prefix,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "0",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "pileus.client": "",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "pileus.context": context,
            "pileus.base_url": self._base_url,
        }
        for name, value in headers.items():
            key = name.upper().replace("-", "_")
            environ[key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else "HTTP_" + key] = value
        if context.request_id:
            environ["HTTP_X_OPENSTACK_REQUEST_ID"] = context.global_request_id or context.request_id
        if isinstance(body, bytes):
            environ["CONTENT_LENGTH"] = str(len(body))
            environ["wsgi.input"] = io.BytesIO(body)
        elif body is None:
            environ["CONTENT_LENGTH"] = "0"
            environ["wsgi.input"] = io.BytesIO(b"")
        else:
            environ["HTTP_TRANSFER_ENCODING"] = "chunked"
            environ["wsgi.input"] = _IteratorReader(iter(body))
            environ["wsgi.input_terminated"] = True
        started: list[Any] = []

        def start_response(status: str, response_headers: list[tuple[str, str]], _exc: Any = None) -> None:
            started[:] = [int(status.split(" ", 1)[0]), dict(response_headers)]

        chunks = self._app()(environ, start_response)
        if isinstance(chunks, (list, tuple)):
            return Answer(started[0], started[1], iter(chunks))

        def close(_whole: bool) -> None:
            if hasattr(chunks, "close"):
                chunks.close()

        return Answer(started[0], started[1], _Body(iter(chunks), Exception, close))


class _IteratorReader:
    """A file-like view of an iterator of bytes."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            data = self._rest + b"".join(self._chunks)
            self._rest = b""
            return data
        while len(self._rest) < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._rest += chunk
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


class HttpBinding:
    """Reaches the peer over HTTP. `token(context)` gives the tokens to send: (X-Auth-Token, X-Service-Token or None).

    `forget(token)` hears of a service's own token that was refused, because keys were rotated or its user was changed; the
    request is sent once more with what `token` gives then.
    """

    def __init__(
        self,
        url: str,
        token: Callable[[Context], tuple[str | None, str | None]],
        ca_file: str | None = None,
        forget: Callable[[str], None] | None = None,
    ) -> None:
        import urllib3  # noqa: PLC0415 - processes whose peers are all local do without

        self._urllib3 = urllib3
        self._url = url.rstrip("/")
        self._token = token
        self._forget = forget
        self._pool = urllib3.PoolManager(
            num_pools=8, maxsize=16, retries=False, ca_certs=ca_file, cert_reqs="CERT_REQUIRED" if ca_file else None
        )

    def send(
        self,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes] | None,
        context: Context,
        timeout: float,
    ) -> Answer:
        url = self._url + path + (f"?{query}" if query else "")
        sent = {**headers, **self._identification(context)}
        answer = self._send(method, url, sent, body, timeout)
        own = context.acts_for is not None and (body is None or isinstance(body, bytes))
        if answer.status == 401 and own and self._forget is not None and "X-Auth-Token" in sent:
            answer.read()
            self._forget(sent["X-Auth-Token"])
            answer = self._send(method, url, {**sent, **self._identification(context)}, body, timeout)
        return answer

    def _identification(self, context: Context) -> dict[str, str]:
        token, service_token = self._token(context)
        found = {"X-Auth-Token": token, "X-Service-Token": service_token}
        if context.request_id:
            found["X-OpenStack-Request-ID"] = context.global_request_id or context.request_id
        return {name: value for name, value in found.items() if value}

    def _send(
        self, method: str, url: str, sent: Mapping[str, str], body: bytes | Iterable[bytes] | None, timeout: float
    ) -> Answer:
        try:
            response = self._pool.request(
                method,
                url,
                headers=sent,
                body=body,
                preload_content=False,
                redirect=False,
                timeout=self._urllib3.Timeout(connect=min(timeout, 5.0), read=timeout),
            )
        except self._urllib3.exceptions.HTTPError as error:
            raise PeerUnavailable(f"{self._url} does not answer.", status=503, inside=repr(error)) from error

        def close(whole: bool) -> None:
            # A connection with half of an answer in it must not be used again.
            (response.release_conn if whole else response.close)()

        body = _Body(response.stream(1 << 18), self._urllib3.exceptions.HTTPError, close)
        return Answer(response.status, dict(response.headers), body)


class Client:
    """One peer, as one identity. Paths are below the peer's prefix."""

    version_header: Mapping[str, str] = {}

    def __init__(self, binding: Binding, context: Context, timeout: float = 30.0) -> None:
        self._binding = binding
        self.context = context
        self._timeout = timeout

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request; JSON in unless `body` is bytes or an iterator of bytes. Raises PeerError for 4xx and 5xx."""
        what = f"a call of another service ({method} {path})"
        forbid_in_transaction(what)
        forbid_while_serving(what)
        sent = {"Accept": "application/json", **self.version_header, **(headers or {})}
        data = body
        if body is not None and not isinstance(body, bytes) and not _is_stream(body):
            data = orjson.dumps(body)
            sent.setdefault("Content-Type", "application/json")
        text = urlencode(query, doseq=True, quote_via=quote) if query else ""
        answer = self._binding.send(method, path, text, sent, data, self.context, self._timeout)
        if answer.status >= 400:
            raise _error_of(answer, method, path)
        return answer

    def get(self, path: str, query: Mapping[str, Any] | None = None, **options: Any) -> Any:
        return _parsed(self.request("GET", path, None, query, **options))

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        return _parsed(self.request("POST", path, body, **options))

    def put(self, path: str, body: Any = None, **options: Any) -> Any:
        return _parsed(self.request("PUT", path, body, **options))

    def patch(self, path: str, body: Any = None, **options: Any) -> Any:
        return _parsed(self.request("PATCH", path, body, **options))

    def delete(self, path: str, query: Mapping[str, Any] | None = None, **options: Any) -> None:
        self.request("DELETE", path, None, query, **options).read()

    def stream(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """GET with the body unread."""
        return self.request("GET", path, headers={"Accept": "*/*", **(headers or {})})


def _is_stream(body: Any) -> bool:
    return hasattr(body, "__next__") or hasattr(body, "read")


def _parsed(answer: Answer) -> Any:
    data = answer.read()
    if not data or "json" not in answer.headers.get("content-type", "json"):
        return None
    return orjson.loads(data)


def _error_of(answer: Answer, method: str, path: str) -> PeerError:
    data = answer.read()
    try:
        body: Any = orjson.loads(data)
    except orjson.JSONDecodeError:
        body = data.decode(errors="replace")
    return _kind_of(answer.status)(
        _sentence(body), status=answer.status, body=body, inside=f"{method} {path}: {answer.status}"
    )


def _sentence(body: Any) -> str:
    """The sentence in any service's error body."""
    while isinstance(body, dict) and body:
        if isinstance(body.get("errors"), list) and body["errors"]:
            return str(body["errors"][0].get("detail", ""))
        if "message" in body:
            return str(body["message"])
        body = next(iter(body.values()))
    return str(body)[:300]
