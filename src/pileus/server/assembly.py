"""The services of one process, each bound to its peers: in process when they run here, over HTTP otherwise."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable
from typing import Any

from pileus.clients import Clients
from pileus.clients.base import Binding, HttpBinding, LocalBinding
from pileus.kernel.assembly import make_app, make_service
from pileus.kernel.bus import Bus, LocalBus
from pileus.kernel.config import Config
from pileus.kernel.context import service_context
from pileus.kernel.errors import ConfigurationError
from pileus.kernel.room import Room, load
from pileus.kernel.service import Service
from pileus.kernel.web.auth import Authenticator, Polled
from pileus.server import rooms
from pileus.server.secrets import node_login, passwords
from pileus.server.tokens import ServiceTokens

_log = logging.getLogger(__name__)

Wsgi = Callable[[dict[str, Any], Any], Any]


def make_bus(config: Config, role: str) -> Bus:
    """The bus of this process: RabbitMQ where one is configured, Unix sockets below the home otherwise."""
    node = f"{config.host}:{role}"
    if not config.bus.url:
        return LocalBus(node, config.home / "run" / "bus")
    try:
        from pileus.kernel.bus.rabbitmq import RabbitBus  # noqa: PLC0415 - kombu is optional
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"bus.url names RabbitMQ, and its client is not installed ({error}): pip install pileus[rabbitmq]"
        ) from error
    return RabbitBus(node, config.bus)


class Assembly:
    """Enabled services of one process. Nothing is opened before the first use, so it may be made before a fork."""

    def __init__(self, config: Config, bus: Bus, local: Iterable[Room] | None = None) -> None:
        self.config = config
        self.bus = bus
        everything = rooms.enabled(config)
        self.rooms = list(everything if local is None else local)
        self.apps: dict[str, Wsgi] = {}
        self.clients = Clients({room.name: self._binding(room) for room in everything})
        self._identity = self.clients.identity(service_context("identity"))
        self.services: dict[str, Service] = {}
        for room in self.rooms:
            self.services[room.name] = make_service(room, config, bus, self.clients)
        self.authenticator = Authenticator(self._identity.validate, self._revision())

    def load_apps(self) -> None:
        """Import the API modules and make the applications."""
        for room in self.rooms:
            self.apps[room.name] = make_app(room, self.services[room.name], self.authenticator)

    def mounts(self) -> dict[str, Wsgi]:
        """Applications by prefix, those of `extra_apps` included."""
        found: dict[str, Wsgi] = {}
        for room in self.rooms:
            found[room.prefix] = self.apps[room.name]
            for prefix, path in room.extra_apps.items():
                found[prefix] = load(path)(self.services[room.name])
        return found

    def _binding(self, room: Room) -> Binding:
        if any(local.name == room.name for local in self.rooms):
            base_url = self.config.base_url
            return LocalBinding(lambda: self.apps[room.name], room.prefix, base_url)
        return http_binding(self.config, room)

    def _revision(self) -> Callable[[], int]:
        """On one machine the revision is read for every request; over HTTP it is polled each second."""
        for room in self.rooms:
            if room.revision:
                return functools.partial(load(room.revision), self.services[room.name])
        return Polled(self._identity.revision)


def http_binding(config: Config, room: Room) -> HttpBinding:
    """A peer behind the API listener of this installation."""
    url, ca_file = config.internal_url, config.ca_file
    tokens = service_tokens(config)
    return HttpBinding(url + room.prefix, tokens.headers, ca_file, tokens.forget)


def service_tokens(config: Config) -> ServiceTokens:
    """Tokens of the services that this machine may speak for: of all of them, or of the node that it is."""
    node = node_login(config.home)
    known = {node.user: node.password} if node else passwords(config.home, ())
    return ServiceTokens(f"{config.internal_url}/identity", known, config.ca_file, node=node.user if node else "")


def named(items: Any) -> dict[str, Any]:
    """Flows or loops as a mapping by name, however a room lists them."""
    return dict(items) if isinstance(items, dict) else {item.name: item for item in items}
