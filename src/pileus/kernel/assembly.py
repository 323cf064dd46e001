"""Putting one room together: from its declaration to a Service and a WSGI application."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from pileus.kernel import openapi
from pileus.kernel.bus import Bus
from pileus.kernel.config import Config
from pileus.kernel.db import Database
from pileus.kernel.flows import FlowStarter
from pileus.kernel.loops import Nudger
from pileus.kernel.policy import Policy
from pileus.kernel.room import Room, load
from pileus.kernel.service import Service
from pileus.kernel.web import faults
from pileus.kernel.web.app import Application
from pileus.kernel.web.auth import Authenticator


def make_service(room: Room, config: Config, bus: Bus, clients: Any, db: Database | None = None) -> Service:
    """The service of a room: nothing is opened yet.

    Raises ConfigurationError for a policy file that cannot be read.
    """
    topic = f"controller.{room.name}"
    return Service(
        name=room.name,
        base=room.base,
        config=config,
        options=config.section(room.name),
        db=db or Database(config.database_url(room.name), room.name, config.database.pool_size),
        policy=Policy(
            load(room.policy),
            config.home / "etc" / f"{room.name}-policy.yaml",
            load(room.scopes) if room.scopes else {},
        ),
        clients=clients,
        bus=bus,
        flows=FlowStarter(lambda: bus.cast(topic, "flows.nudge")),
        loops=Nudger(lambda name: bus.cast(topic, "loops.nudge", {"name": name})),
    )


def make_app(room: Room, service: Service, authenticator: Authenticator) -> Application:
    """The WSGI application of a room, to be mounted at its prefix."""
    return Application(
        service,
        [*room.operations(), *openapi.operations(room)],
        faults.STYLES[room.fault],
        authenticator,
        room.microversions,
        identity_url=f"{service.config.base_url}/identity",
        logins=room.logins,
        service_type=room.service_type,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgentEnv:
    """What a room's host agent gets. It has no database.

    `token` gives a token of the node's own user; None on a controller, where agents share the installation's secrets.
    """

    host: str
    options: Any
    config: Config
    bus: Bus
    clients: Any
    token: Callable[[], str] | None = None

    @property
    def home(self) -> Any:
        return self.config.home


@dataclasses.dataclass(frozen=True, kw_only=True)
class Agent:
    """A room's part on a host: bus methods, loops, and what to do at start and stop.

    `halt()` ends guests, networks and data-plane children of ours and keeps their files; `remove()` takes every trace of
    ours off the host. Both work from what is on the host alone, while nothing else of Pileus runs.
    """

    calls: Any
    loops: tuple[Any, ...] = ()
    start: Any = None
    stop: Any = None
    subject: Any = None
    halt: Any = None
    remove: Any = None
