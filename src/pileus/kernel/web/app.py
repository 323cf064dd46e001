"""One service's WSGI application, made from its declared operations.

A request passes: request id, microversion, identity, operation, body and query, policy, handler, rendering. Errors on
any of these ways leave in the service's own format.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote

import falcon
import orjson
import sqlalchemy as sa

from pileus.kernel import access_rules, client_certificates, clock, ids, metrics
from pileus.kernel.access_rules import AccessRule
from pileus.kernel.bus import BusTimeout, BusUnavailable
from pileus.kernel.context import Context
from pileus.kernel.errors import (
    Failure,
    Forbidden,
    Internal,
    Invalid,
    MethodNotAllowed,
    NotFound,
    ProgrammingError,
    Unauthorized,
    Unavailable,
    UnsupportedMedia,
)
from pileus.kernel.service import Service
from pileus.kernel.web import faults, trail
from pileus.kernel.web.auth import Authenticator
from pileus.kernel.web.call import ASSERTION_KEY, MOST_LEVELS, Call, Headers, Query, Reply, is_deep, read_bounded
from pileus.kernel.web.microversions import Microversions, Version
from pileus.kernel.web.operations import Operation
from pileus.kernel.web.schema import SchemaError

_log = logging.getLogger(__name__)
_GLOBAL_ID = re.compile(r"req-[0-9a-f-]{36}\Z")
_PARAMETER = re.compile(r"\{([^}:]+)(:[^}]+)?\}")
_AWAY = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError, BusTimeout, BusUnavailable)
_NO_NUL = "The request holds a NUL character, which no text here may have."  # PostgreSQL stores none
_PRINTABLE = "".join(chr(code) for code in range(0x20, 0x7F))
_JSON_TYPES = ("application/json", "")

CONTEXT_KEY = "pileus.context"
"""Environ key under which another service of this process hands over a verified Context. No HTTP header can set it."""

CLIENT_KEY = "pileus.client"
"""Environ key of the address that asks, behind all proxies; empty when this process asks itself."""


class Application:
    """WSGI application of one service."""

    def __init__(
        self,
        service: Service,
        operations: Iterable[Operation],
        style: faults.Style,
        authenticator: Authenticator,
        microversions: Microversions | None = None,
        identity_url: str = "",
        logins: frozenset[tuple[str, str]] = frozenset(),
        service_type: str = "",
    ) -> None:
        self.service = service
        self.operations = tuple(operations)
        self.style = style
        self.authenticator = authenticator
        self.microversions = microversions
        self.logins = logins
        self.service_type = service_type
        self._challenge = f'Keystone uri="{identity_url}"'
        self.hosts = threading.BoundedSemaphore(max(1, service.config.api.threads // 2))
        self._max_body = service.config.api.max_body
        self.falcon = falcon.App(middleware=[_Entrance(self)], cors_enable=False)
        self.falcon.req_options.strip_url_path_trailing_slash = True
        self.falcon.req_options.auto_parse_qs_csv = False
        # Whatever has a body names its type itself; an empty answer that claims to be JSON breaks clients that parse it.
        self.falcon.resp_options.default_media_type = None  # type: ignore[assignment]
        self.falcon.add_error_handler(falcon.HTTPError, self._framework_error)
        self.falcon.add_error_handler(Exception, self._error)
        self._add_routes()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        began = clock.monotonic()

        def starting(status: str, headers: Any, *rest: Any) -> Any:
            metrics.request(self.service.name, environ["REQUEST_METHOD"], status[:3], clock.monotonic() - began)
            return start_response(status, headers, *rest)

        return self.falcon(environ, starting)

    def _add_routes(self) -> None:
        routes: dict[str, _Route] = {}
        for operation in self.operations:
            for path in (operation.path, *operation.aliases):
                full = (path if operation.root else self.service.base + path) or "/"
                template, names = _positional(full)
                route = routes.setdefault(template, _Route(self))
                route.add(operation, names)
        for template, route in routes.items():
            route.publish()
            self.falcon.add_route(template, route)
        self.falcon.add_sink(self._nowhere)

    def _nowhere(self, req: falcon.Request, resp: falcon.Response, **kwargs: Any) -> None:
        del resp, kwargs
        self.authenticate(req)
        raise NotFound(self.style.not_found)

    def authenticate(self, req: falcon.Request) -> Context:
        """The verified caller. Raises Unauthorized when there is none."""
        handed = req.env.get(CONTEXT_KEY)
        if handed is not None:
            context: Context = handed
        else:
            token = req.env.get("HTTP_X_AUTH_TOKEN")
            found = self.authenticator.context(token, req.env.get("HTTP_X_SERVICE_TOKEN")) if token else None
            if found is None:
                raise Unauthorized
            context = found
            if context.access_rules is not None and "service" not in context.service_roles:
                self._confine(req, context.access_rules)
            if context.thumbprint is not None and "service" not in context.service_roles:
                self._check_bound(req, context.thumbprint)
        return context.with_request(req.context.request_id, req.context.global_request_id or context.global_request_id)

    def _check_bound(self, req: falcon.Request, thumbprint: str) -> None:
        """Refuse a token that is bound to a certificate (RFC 8705) unless the client has shown it. Raises Unauthorized.

        Requests that another service makes for the caller pass: there it was checked.
        """
        header = self.service.config.api.client_certificate_header
        if not client_certificates.is_shown(thumbprint, req.env.get(ASSERTION_KEY) or {}, header):
            raise Unauthorized

    def _confine(self, req: falcon.Request, rules: Sequence[AccessRule]) -> None:
        """Refuse a request that the rules of the caller's application credential do not name.

        Requests that another service makes for the caller pass: what was asked for was checked there. Paths count with
        and without the service's prefix. Raises Unauthorized, as upstream's services do.
        """
        path = req.path
        if self.service_type == "identity" and req.method == "GET" and path == "/v3/auth/tokens":
            return  # any token may be shown
        if not access_rules.allow(rules, self.service_type, req.method, (path, req.root_path + path)):
            raise Unauthorized

    def _framework_error(
        self, req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, _params: Any
    ) -> None:
        failure: Failure
        if isinstance(error, falcon.HTTPMethodNotAllowed):
            try:
                self.authenticate(req)
            except Unauthorized as refused:
                self._fail(req, resp, refused)
                return
            failure = MethodNotAllowed(
                "The method specified is not allowed for this resource.", headers=dict(error.headers or {})
            )
        elif isinstance(error, falcon.HTTPNotFound):
            failure = NotFound(self.style.not_found)
        else:
            failure = Invalid(error.description or error.title or "The request cannot be read.")
            failure.status = error.status_code
        self._fail(req, resp, failure)

    def _error(self, req: falcon.Request, resp: falcon.Response, error: Exception, _params: Any) -> None:
        if isinstance(error, Failure):
            if error.inside or error.status >= 500:
                known = {"request_id": req.context.request_id, "path": req.path}
                _log.warning("%s: %s", error.message, error.inside, extra=known)
            self._fail(req, resp, error)
            return
        _log.error("%s %s failed", req.method, req.path, exc_info=error, extra={"request_id": req.context.request_id})
        if isinstance(error, _AWAY):
            what = "A host" if isinstance(error, (BusTimeout, BusUnavailable)) else "The database"
            self._fail(
                req, resp, Unavailable(f"{what} does not answer. Try again later. (request {req.context.request_id})")
            )
            return
        if isinstance(error, sa.exc.DataError):  # ours to find before, which is why it was logged, but the client's to change
            self._fail(req, resp, Invalid("The request holds a value that cannot be stored."))
            return
        text = "An unexpected error prevented the server from fulfilling your request."
        self._fail(req, resp, Internal(f"{text} (request {req.context.request_id})"))

    def _fail(self, req: falcon.Request, resp: falcon.Response, failure: Failure) -> None:
        resp.status = failure.status
        resp.stream = None
        if isinstance(failure, Unauthorized) and not failure.message:
            resp.content_type, resp.data = faults.unauthorized()
            resp.set_header("WWW-Authenticate", self._challenge)
        else:
            resp.content_type, resp.data = self.style.render(failure, req.context.request_id)
            if failure.status == 401:
                resp.set_header("WWW-Authenticate", self._challenge)
        for name, value in failure.headers.items():
            resp.set_header(name, value)
        if req.method == "HEAD":
            resp.set_header("Content-Length", str(len(resp.data)))
            resp.data = b""


class _Entrance:
    """What every request gets before routing: an id, and the version it speaks."""

    def __init__(self, app: Application) -> None:
        self.app = app

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        request_id = ids.request_id()
        req.context.request_id = request_id
        incoming = req.env.get("HTTP_X_OPENSTACK_REQUEST_ID", "")
        req.context.global_request_id = incoming if _GLOBAL_ID.match(incoming) else None
        for header in self.app.style.request_id_headers:
            resp.set_header(header, request_id)
        req.context.version = (0, 0)
        req.context.version_error = None
        versions = self.app.microversions
        if versions is None:
            return
        try:
            req.context.version = versions.requested(_LowerHeaders(req.env))
        except Failure as failure:
            req.context.version = versions.min
            req.context.version_error = failure
        for name, value in versions.response_headers(req.context.version).items():
            resp.set_header(name, value)


class _LowerHeaders(dict[str, str]):
    """The two or three headers that microversions look at, by lower-case name."""

    def __init__(self, environ: dict[str, Any]) -> None:
        super().__init__()
        self._environ = environ

    def __contains__(self, name: object) -> bool:
        return self._key(str(name)) in self._environ

    def get(self, name: str, default: Any = None) -> Any:
        return self._environ.get(self._key(name), default)

    def __getitem__(self, name: str) -> str:
        return str(self._environ[self._key(name)])

    @staticmethod
    def _key(name: str) -> str:
        return "HTTP_" + name.upper().replace("-", "_")


class _Route:
    """All operations of one path; falcon finds the responders on the instance."""

    def __init__(self, app: Application) -> None:
        self.app = app
        self.by_method: dict[str, list[tuple[Operation, tuple[str, ...]]]] = {}

    def add(self, operation: Operation, names: tuple[str, ...]) -> None:
        self.by_method.setdefault(operation.method, []).append((operation, names))

    def publish(self) -> None:
        methods = list(self.by_method)
        if "GET" in methods and "HEAD" not in methods:
            self.by_method["HEAD"] = self.by_method["GET"]
            methods.append("HEAD")
        for method in methods:
            setattr(self, f"on_{method.lower()}", self._responder(method))

    def _responder(self, method: str) -> Any:
        candidates = self.by_method[method]

        def respond(req: falcon.Request, resp: falcon.Response, **values: str) -> None:
            _answer(self.app, candidates, req, resp, list(values.values()))

        return respond


def _answer(
    app: Application,
    candidates: Sequence[tuple[Operation, tuple[str, ...]]],
    req: falcon.Request,
    resp: falcon.Response,
    values: list[str],
) -> None:
    public = candidates[0][0].rule is None
    context = Context.anonymous(req.context.request_id) if public else app.authenticate(req)
    if req.context.version_error is not None and not public:
        raise req.context.version_error
    version: Version = req.context.version
    fitting = [pair for pair in candidates if pair[0].first <= version <= pair[0].last]
    if not fitting:
        raise NotFound(app.style.not_found)
    raw = fitting[0][0].raw
    if "%00" in req.query_string or "\0" in req.path:
        raise Invalid(_NO_NUL)
    body = None if raw else _read_json(app, req, fitting[0][0])
    operation, names = _by_action(app, fitting, body)
    call = Call(
        context=context,
        service=app.service,
        operation=operation,
        params=dict(zip(names, values, strict=True)),
        query=Query(parse_qsl(req.query_string, keep_blank_values=True)),
        headers=Headers(req.env),
        method=req.method,
        path=req.path,
        base_url=_base_url(req.env),
        version=version,
        body=body,
        stream=req.env["wsgi.input"] if raw else None,
        refusal=app.style.forbidden,
        client=str(req.env.get(CLIENT_KEY, req.env.get("REMOTE_ADDR", ""))),
        assertion=req.env.get(ASSERTION_KEY),
    )
    _admit(app, call)
    result = _waiting(app, call) if operation.waits else operation.handler(call)
    if operation.late and not call.authorized:
        raise ProgrammingError(f"{operation.method} {operation.path} answered without authorizing")
    trail.note(call, result)
    _render(result, operation, req, resp)


def _waiting(app: Application, call: Call) -> Any:
    """A handler that waits for a host: never more than half of the pool, so that the rest of the API stays quick."""
    if not app.hosts.acquire(blocking=False):
        raise Unavailable("Too many requests are waiting for hosts. Try again later.", retry_after=5)
    try:
        return call.operation.handler(call)
    finally:
        app.hosts.release()


def _by_action(
    app: Application, fitting: Sequence[tuple[Operation, tuple[str, ...]]], body: Any
) -> tuple[Operation, tuple[str, ...]]:
    if fitting[0][0].action is None:
        return fitting[0]
    if not isinstance(body, dict) or len(body) != 1:
        raise Invalid(app.style.bad_json)
    key = next(iter(body))
    for pair in fitting:
        if pair[0].action == key:
            return pair
    raise Invalid(f"There is no such action: {key}")


def _admit(app: Application, call: Call) -> None:
    """Query, body and policy, in this order; a late operation authorizes itself."""
    operation = call.operation
    try:
        if (query := operation.query_for(call.version)) is not None:
            query(call.query.as_lists())
        if operation.rule is not None and not operation.late and not call.allows(operation.rule):
            raise Forbidden(app.style.forbidden(operation.rule), code="PolicyNotAuthorized")
        if (body := operation.body_for(call.version)) is not None:
            if call.body is None:
                raise Invalid(app.style.bad_json)
            body(call.body)
    except SchemaError as error:
        raise app.style.invalid(error) from None


def _read_json(app: Application, req: falcon.Request, operation: Operation) -> Any:
    length = req.content_length
    if req.method in {"GET", "HEAD", "DELETE"} and not length:
        return None
    if length == 0:
        return None
    limit = operation.max_body or app._max_body  # noqa: SLF001 - same module
    data = read_bounded(req.env["wsgi.input"], length, limit)
    if not data:
        return None
    kind = (req.content_type or "").partition(";")[0].strip().lower()
    if kind not in _JSON_TYPES and not kind.endswith("+json") and kind not in operation.accepts:
        raise UnsupportedMedia(f"Unsupported Content-Type: {kind}")
    if b"\\u0000" in data:
        raise Invalid(_NO_NUL)
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise Invalid(app.style.bad_json) from None
    if data.count(b"[") + data.count(b"{") > MOST_LEVELS and is_deep(document):
        raise Invalid(f"The request is nested more than {MOST_LEVELS} levels deep.")
    return document


def _render(result: Any, operation: Operation, req: falcon.Request, resp: falcon.Response) -> None:
    reply = result if isinstance(result, Reply) else None
    body = reply.body if reply else result
    resp.status = (reply.status if reply and reply.status else None) or operation.status
    if reply:
        for name, value in reply.headers.items():
            resp.set_header(name, _on_the_wire(value))
        if reply.content_type:
            resp.content_type = reply.content_type
    if body is None:
        resp.data = b""
        if not (reply and reply.content_type):
            resp._headers.pop("content-type", None)  # noqa: SLF001 - an empty answer has no type
    elif isinstance(body, (bytes, str)):
        resp.data = body.encode() if isinstance(body, str) else body
        if not (reply and reply.content_type):
            resp.content_type = faults.JSON
    elif isinstance(body, (dict, list)):
        resp.data = orjson.dumps(body)
        if not (reply and reply.content_type):
            resp.content_type = faults.JSON
    else:
        resp.stream = body
    if req.method == "HEAD" and resp.stream is not None:
        if hasattr(body, "close"):
            body.close()
        resp.stream, resp.data = None, b""
    elif req.method == "HEAD" and resp.data is not None:
        if body is not None:
            resp.set_header("Content-Length", str(len(resp.data)))
        resp.data = b""


def _on_the_wire(value: str) -> str:
    """A header value as it may be sent: a name in it, say, must neither end the header nor be unsendable."""
    return value if value.isascii() and value.isprintable() else quote(value, safe=_PRINTABLE)


def _positional(path: str) -> tuple[str, tuple[str, ...]]:
    """A template whose parameters are named by position, so that resources may name the same segment differently."""
    names: list[str] = []

    def replace(found: re.Match[str]) -> str:
        names.append(found.group(1))
        return f"{{p{len(names)}{found.group(2) or ''}}}"

    return _PARAMETER.sub(replace, path.rstrip("/") or "/"), tuple(names)


def _base_url(environ: dict[str, Any]) -> str:
    """scheme://host/prefix as the client used them; the edge has already applied public_url and trusted proxies."""
    given = environ.get("pileus.base_url")
    if given:
        return str(given) + str(environ.get("SCRIPT_NAME", ""))
    host = environ.get("HTTP_HOST") or f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"
    return f"{environ['wsgi.url_scheme']}://{host}{environ.get('SCRIPT_NAME', '')}"
