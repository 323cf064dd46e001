"""One room in a test: its WSGI application in process, on a database of its own, with identities at hand."""

from __future__ import annotations

import dataclasses
import io
import pathlib
import tempfile
import uuid
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import unquote_to_bytes, urlsplit

import msgspec
import orjson
import sqlalchemy as sa

from pileus.kernel.assembly import make_app, make_service
from pileus.kernel.bus import LocalBus
from pileus.kernel.config import Config
from pileus.kernel.config import load as load_config
from pileus.kernel.context import Context
from pileus.kernel.db import Database
from pileus.kernel.errors import Unauthorized
from pileus.kernel.flows import run_all
from pileus.kernel.room import Room, load
from pileus.kernel.web.auth import Authenticator
from pileus.kernel.web.call import ASSERTION_KEY

PROJECT = "11111111111141118111111111111111"
OTHER_PROJECT = "22222222222242228222222222222222"


def persona(name: str, *roles: str, project_id: str | None = PROJECT, **values: Any) -> Context:
    """An identity for tests; its user id is made from its name."""
    user_id = uuid.uuid5(uuid.NAMESPACE_DNS, name).hex
    return Context(
        user_id=user_id,
        user_name=name,
        user_domain_id="default",
        user_domain_name="Default",
        project_id=project_id,
        project_name=f"project-{project_id[:4]}" if project_id else None,
        project_domain_id="default" if project_id else None,
        project_domain_name="Default" if project_id else None,
        roles=roles,
        **values,
    )


ADMIN = persona("admin", "admin", "manager", "member", "reader", project_id="33333333333343338333333333333333")
MANAGER = persona("manager", "manager", "member", "reader")
MEMBER = persona("member", "member", "reader")
READER = persona("reader", "reader")
OTHER = persona("other", "member", "reader", project_id=OTHER_PROJECT)
SERVICE = persona("service", "service", project_id="44444444444444448444444444444444", service_roles=("service",))
SYSTEM_ADMIN = persona("admin", "admin", "manager", "member", "reader", project_id=None, system_scope="all")
NOBODY: Context | None = None
PERSONAS: dict[str, Context | None] = {
    "admin": ADMIN,
    "manager": MANAGER,
    "member": MEMBER,
    "reader": READER,
    "other": OTHER,
    "service": SERVICE,
    "nobody": NOBODY,
}


@dataclasses.dataclass(frozen=True)
class Response:
    status: int
    headers: dict[str, str]  # lower-case names
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body) if self.body else None

    @property
    def text(self) -> str:
        return self.body.decode()


class TestClient:
    """Requests to one room. `as_` is the caller (MEMBER by default), NOBODY for none."""

    __test__ = False

    def __init__(self, room: Room, config: Config, clients: Any, db_url: str | None, bus: LocalBus | None) -> None:
        self.room = room
        self.bus = bus or LocalBus("test")
        if db_url is not None:
            self.service = make_service(room, config, self.bus, clients, Database(db_url, room.name))
        else:
            self.service = make_service(room, config, self.bus, clients)
        metadata: sa.MetaData = load(room.tables)
        metadata.create_all(self.service.db.engine)
        self.app = make_app(room, self.service, Authenticator(_no_tokens, lambda: 0))
        self.flows = load(room.flows) if room.flows else {}
        self.calls = load(room.calls) if room.calls else {}

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        as_: Context | None = MEMBER,
        client: str = "127.0.0.1",
        assertion: Mapping[str, str] | None = None,
    ) -> Response:
        """One request from the address `client`; `path` is below the prefix and may have a query.

        `assertion` is what a trusted proxy says of who is asking.
        """
        parts = urlsplit(path)
        data = orjson.dumps(json) if json is not None else (body or b"")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": self.room.prefix,
            "PATH_INFO": unquote_to_bytes(parts.path).decode("latin-1"),
            "QUERY_STRING": parts.query,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "5000",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": "localhost:5000",
            "REMOTE_ADDR": client,
            "CONTENT_LENGTH": str(len(data)),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(data),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        if json is not None:
            environ["CONTENT_TYPE"] = "application/json"
        for name, value in (headers or {}).items():
            key = name.upper().replace("-", "_")
            environ[key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"] = value
        if assertion is not None:
            environ[ASSERTION_KEY] = dict(assertion)
        if as_ is not None:
            environ["pileus.context"] = as_
        started: list[Any] = []

        def start_response(status: str, response_headers: list[tuple[str, str]], _exc: Any = None) -> None:
            started[:] = [int(status[:3]), {name.lower(): value for name, value in response_headers}]

        content = b"".join(self.app(environ, start_response))
        return Response(started[0], started[1], content)

    def get(self, path: str, **options: Any) -> Response:
        return self.request("GET", path, **options)

    def post(self, path: str, json: Any = None, **options: Any) -> Response:
        return self.request("POST", path, json=json, **options)

    def put(self, path: str, json: Any = None, **options: Any) -> Response:
        return self.request("PUT", path, json=json, **options)

    def patch(self, path: str, json: Any = None, **options: Any) -> Response:
        return self.request("PATCH", path, json=json, **options)

    def delete(self, path: str, **options: Any) -> Response:
        return self.request("DELETE", path, **options)

    def run_flows(self) -> int:
        """Run every flow that is ready, here and now."""
        by_name = self.flows if isinstance(self.flows, dict) else {flow.name: flow for flow in self.flows}
        return run_all(self.service, by_name)

    def call(self, method: str, payload: dict[str, Any]) -> Any:
        """One of the room's bus methods, as the controller serves it."""
        return self.calls[method](self.service, payload)

    def count_queries(self) -> QueryCounter:
        """`with client.count_queries() as queries: ...`, then `len(queries)`."""
        return QueryCounter(self.service.db.engine)

    def close(self) -> None:
        self.bus.close()
        self.service.db.close()


class QueryCounter(list[str]):
    """The statements that went to a database, BEGIN and PRAGMA left out."""

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__()
        self._engine = engine

    def __enter__(self) -> Self:
        sa.event.listen(self._engine, "before_cursor_execute", self._note)
        return self

    def __exit__(self, *_exc: object) -> None:
        sa.event.remove(self._engine, "before_cursor_execute", self._note)

    def _note(self, _conn: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if not statement.startswith(("BEGIN", "PRAGMA")):
            self.append(statement)


def make_client(
    room: Room,
    *,
    options: Mapping[str, Any] | None = None,
    clients: Any = None,
    db_url: str | None = None,
    bus: LocalBus | None = None,
    home: pathlib.Path | None = None,
    sections: Mapping[str, type[msgspec.Struct]] | None = None,
) -> TestClient:
    """A room on an empty database; `options` are those of its section, `sections` those of others that the home configures."""
    folder = home or pathlib.Path(tempfile.mkdtemp(prefix="pileus-test-"))
    overrides = {room.name: dict(options or {}), "pileus": {"host": "host1"}}
    config = load_config(folder, {**(sections or {}), room.name: load(room.options)}, environ={}, overrides=overrides)
    return TestClient(room, config, clients, db_url, bus)


def _no_tokens(_token: str) -> dict[str, Any]:
    raise Unauthorized
