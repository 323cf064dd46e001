"""A service for tests of the edge and of clients, behind a real uvicorn on loopback, as an API worker runs it."""

from __future__ import annotations

import contextlib
import pathlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import sqlalchemy as sa

from pileus.kernel import clock
from pileus.kernel.assembly import make_app, make_service
from pileus.kernel.bus import LocalBus
from pileus.kernel.config import Config, load
from pileus.kernel.context import Context
from pileus.kernel.errors import Conflict, Invalid, NotFound, OverQuota, Unavailable
from pileus.kernel.room import Room
from pileus.kernel.testing import MEMBER
from pileus.kernel.web import Call, Operations, Reply
from pileus.kernel.web.auth import Authenticator
from pileus.server.edge import Gateway
from pileus.server.listener import make_server

METADATA = sa.MetaData()
RULES = {"all": "role:member", "admin": "role:admin"}
TOKEN = "a-valid-token"


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """None."""


operations = Operations()
held = threading.Event()  # requests to /hold wait for it
read_so_far: list[int] = []  # what /upload has read, chunk by chunk
closed: list[str] = []  # streams that were closed


@operations("GET", "/echo", rule="all")
def echo(call: Call) -> dict[str, Any]:
    return {
        "query": call.query.as_lists(),
        "headers": dict(call.headers.items()),
        "assertion": dict(call.assertion),
        "link": call.link("/x"),
        "user": call.context.user_id,
        "roles": list(call.context.roles),
        "request_id": call.context.request_id,
        "global_request_id": call.context.global_request_id,
    }


@operations("POST", "/echo", rule="all", status=201)
def echo_body(call: Call) -> dict[str, Any]:
    return {"body": call.body}


@operations("GET", "/hold", rule="all")
def hold(_call: Call) -> dict[str, Any]:
    held.wait(30)
    return {}


@operations("GET", "/fail/{how}", rule="all")
def fail(call: Call) -> dict[str, Any]:
    raise {
        "400": Invalid("Not like this."),
        "403": OverQuota("Too many."),
        "404": NotFound("No such thing."),
        "409": Conflict("It is in use."),
        "503": Unavailable("Not now."),
        "bug": KeyError("secret"),
    }[call.params["how"]]


@operations("PUT", "/upload", rule="all", raw=True)
def upload(call: Call) -> dict[str, Any]:
    size = 0
    while chunk := call.stream.read(64 << 10):
        size += len(chunk)
        read_so_far.append(len(chunk))
    return {"size": size}


@operations("PUT", "/refused", rule="all", raw=True)
def refused(_call: Call) -> dict[str, Any]:
    raise Conflict("It has data already.")


@operations("PUT", "/early", rule="all", raw=True)
def early(_call: Call) -> Reply:
    return Reply(Chunks(3), content_type="application/octet-stream")


class Chunks:
    """A body that says when it is closed, and can break in the middle."""

    def __init__(self, count: int, *, broken: bool = False) -> None:
        self.left = count
        self.broken = broken

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self.left:
            if self.broken:
                raise OSError("the disk broke")
            raise StopIteration
        self.left -= 1
        return b"y" * 65536

    def close(self) -> None:
        closed.append(f"{self.left} left")


@operations("GET", "/download/{count}", rule="all")
def download(call: Call) -> Reply:
    count = int(call.params["count"])
    headers = {"Content-Length": str(count * 65536)}
    return Reply(Chunks(count), headers=headers, content_type="application/octet-stream")


@operations("GET", "/broken", rule="all")
def broken(_call: Call) -> Reply:
    return Reply(Chunks(3, broken=True), content_type="application/octet-stream")


@operations("DELETE", "/thing", rule="all", status=204)
def delete(_call: Call) -> None:
    return None


@operations("GET", "", public="discovery")
def version(call: Call) -> dict[str, Any]:
    return {"href": call.link()}


ROOM = Room(
    name="served",
    service_type="served",
    service_name="served",
    prefix="/served",
    base="/v1",
    catalog="/served",
    port=9998,
    options="tests.contracts.served:Options",
    tables="tests.contracts.served:METADATA",
    policy="tests.contracts.served:RULES",
    fault="identity",
    api=("tests.contracts.served",),
)


def configuration(folder: pathlib.Path, **api: Any) -> Config:
    overrides = {"api": {"idle_timeout": 30.0, **api}, "pileus": {"host": "host1"}}
    return load(folder, {"served": Options}, environ={}, overrides=overrides)


def validate(token: str) -> dict[str, Any]:
    """What identity says to a token."""
    if token != TOKEN:
        raise NotFound("no such token")
    named = {"id": "default", "name": "Default"}
    return {
        "user": {"id": MEMBER.user_id, "name": "member", "domain": named},
        "project": {"id": MEMBER.project_id, "name": "p", "domain": named},
        "roles": [{"name": "member"}, {"name": "reader"}],
        "expires_at": "2999-01-01T00:00:00.000000Z",
    }


def application(config: Config) -> Any:
    service = make_service(ROOM, config, LocalBus("test"), None)
    return make_app(ROOM, service, Authenticator(validate, lambda: 1))


@contextlib.contextmanager
def running(config: Config) -> Iterator[int]:
    """The service at a free port of loopback; gives the port."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    gateway = Gateway({"/served": application(config)}, config)
    server = make_server(gateway, config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        held.set()
        server.should_exit = True
        thread.join(20)
        gateway.close()
        listener.close()


def until(condition: Any, what: str) -> None:
    """Wait for a condition that another thread brings about."""
    tick = threading.Event()
    deadline = clock.monotonic() + 30
    while not condition():
        assert clock.monotonic() < deadline, f"it never came about that {what}"
        tick.wait(0.005)


def member() -> Context:
    return MEMBER
