"""An API worker: all services behind the sockets that the supervisor bound."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Sequence

from pileus.kernel import metrics
from pileus.kernel.config import Config
from pileus.kernel.room import Room
from pileus.server.assembly import Assembly, make_bus
from pileus.server.edge import Gateway
from pileus.server.health import plain_app
from pileus.server.listener import make_server
from pileus.server.process import settle


def prepare(config: Config, local: Sequence[Room] | None = None) -> Assembly:
    """Everything that can be made before the fork and shared by all workers: modules, applications."""
    metrics.use(metrics.directory_of(config.home))
    assembly = Assembly(config, make_bus(config, "api"), local)
    assembly.load_apps()
    assembly.mounts()
    return assembly


def run(config: Config, assembly: Assembly, sockets: Sequence[socket.socket], name: str) -> None:
    """Serve until asked to stop; requests under way are answered first."""
    settle(config, name)
    stopping = threading.Event()
    gateway = Gateway(assembly.mounts(), config, ports_of(config, assembly), plain_app(assembly, stopping.is_set))
    server = make_server(gateway, config, stopping)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn, when it has stopped, raises the signal again: by default that would end us before our threads are done
        signal.signal(number, lambda _signal, _frame: None)
    server.run(sockets=list(sockets))
    gateway.close()
    assembly.bus.close()


def ports_of(config: Config, assembly: Assembly) -> dict[int, str]:
    """Classical ports and the prefix each serves, with `endpoints = "ports"`."""
    if config.api.endpoints != "ports":
        return {}
    return {room.port: room.prefix for room in assembly.rooms if room.port != config.api.port}
