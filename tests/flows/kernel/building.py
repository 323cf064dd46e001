"""A flow over the outside world, for the tests of the flow engine and as an example of what steps have to look like."""

from __future__ import annotations

import pathlib
from typing import Any

import sqlalchemy as sa

from pileus.kernel import flows
from pileus.kernel.bus import LocalBus
from pileus.kernel.config import load
from pileus.kernel.db import NAMING, Database
from pileus.kernel.flows import Flow, FlowStarter, Run, Step
from pileus.kernel.loops import Nudger
from pileus.kernel.policy import Policy
from pileus.kernel.service import Service
from pileus.kernel.testing import MEMBER
from tests.flows.kernel.outside import World

METADATA = sa.MetaData(naming_convention=NAMING)
SERVERS = sa.Table(
    "servers",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("fault", sa.Text),
    sa.Column("port_id", sa.String(36)),
)
flows.tables(METADATA)


def world(service: Service) -> World:
    return World(service.home / "world")


def set_state(conn: sa.Connection, server_id: str, **values: Any) -> None:
    conn.execute(sa.update(SERVERS).where(SERVERS.c.id == server_id).values(**values))


def take_port(run: Run) -> dict[str, Any]:
    there = world(run.service)
    found = there.ports(run.resource_id)
    port_id = found[0] if found else there.create_port(run.resource_id)
    return {"port_id": port_id}


def drop_ports(run: Run) -> None:
    there = world(run.service)
    for port_id in there.ports(run.resource_id):
        there.delete_port(port_id)


def disown_port(run: Run, result: dict[str, Any]) -> None:
    """Whoever has the flow now looked for a port before this one was made, or uses this one."""
    there = world(run.service)
    guest = there.guest(run.resource_id)
    if guest is None or guest["port_id"] != result["port_id"]:
        there.delete_port(result["port_id"])


def spawn(run: Run) -> None:
    world(run.service).spawn(run.resource_id, run.epoch, run.results["port"]["port_id"])


def destroy(run: Run) -> None:
    world(run.service).destroy(run.resource_id, run.epoch)


def activate(run: Run) -> None:
    with run.service.db.write() as conn:
        set_state(conn, run.resource_id, port_id=run.results["port"]["port_id"])


def deactivate(run: Run) -> None:
    with run.service.db.write() as conn:
        set_state(conn, run.resource_id, port_id=None)


BUILD = Flow(
    "build",
    steps=(
        Step("port", take_port, undo=drop_ports, disown=disown_port),
        Step("spawn", spawn, undo=destroy),
        Step("activate", activate, undo=deactivate),
    ),
    finished=lambda run, conn: set_state(conn, run.resource_id, state="ACTIVE"),
    failed=lambda run, conn, message: set_state(conn, run.resource_id, state="ERROR", fault=message),
    deadline=600,
)


def make(folder: pathlib.Path, url: str | None = None) -> Service:
    """A service with an outside world below `folder`."""
    config = load(folder, {}, environ={}, overrides={"pileus": {"host": "host1"}})
    bus = LocalBus("test")
    return Service(
        name="building",
        base="",
        config=config,
        options=None,
        db=Database(url or f"sqlite:///{folder}/building.sqlite", "building"),
        policy=Policy({}),
        clients=None,
        bus=bus,
        flows=FlowStarter(lambda: None),
        loops=Nudger(lambda name: None),
    )


def add(service: Service, server_id: str = "s1", kind: str = "build", input: dict[str, Any] | None = None) -> str:
    with service.db.write() as conn:
        conn.execute(sa.insert(SERVERS), {"id": server_id, "state": "BUILD"})
        return service.flows.start(conn, kind, resource_id=server_id, input=input, context=MEMBER)


def start(folder: pathlib.Path, url: str | None = None) -> tuple[Service, str]:
    service = make(folder, url)
    METADATA.create_all(service.db.engine)
    add(service)
    return service, "s1"


def row(service: Service, server_id: str = "s1") -> Any:
    with service.db.read() as conn:
        return conn.execute(sa.select(SERVERS).where(SERVERS.c.id == server_id)).one()


def all_there(service: Service, server_id: str) -> None:
    there = world(service)
    server = row(service, server_id)
    assert (server.state, server.fault) == ("ACTIVE", None)
    assert there.ports(server_id) == [server.port_id]
    assert there.guest(server_id) == {"port_id": server.port_id}


def nothing_left(service: Service, server_id: str, message: str) -> None:
    there = world(service)
    server = row(service, server_id)
    assert (server.state, server.fault, server.port_id) == ("ERROR", message, None)
    assert there.ports(server_id) == []
    assert there.guest(server_id) is None
