"""The host agent: what each room does on this machine. It opens no database and reaches services over HTTP."""

from __future__ import annotations

import functools
import logging

from pileus.clients import Clients
from pileus.kernel.assembly import Agent, AgentEnv
from pileus.kernel.bus import Bus, BusTimeout, BusUnavailable, RemoteError
from pileus.kernel.config import Config
from pileus.kernel.loops import Loop, LoopRunner
from pileus.kernel.room import load
from pileus.server import rooms
from pileus.server.assembly import http_binding, make_bus, service_tokens
from pileus.server.node import renew_when_due
from pileus.server.process import settle, wait_for_stop
from pileus.server.secrets import node_login

_log = logging.getLogger(__name__)


_SEEN_SECONDS, _RENEW_SECONDS = 30.0, 3600.0


def say_seen(bus: Bus, host: str) -> None:
    """A node tells the registry that it is there."""
    try:
        bus.call("controller.identity", "identity.seen", {"host": host})
    except (BusTimeout, BusUnavailable, RemoteError) as error:
        _log.warning("the registry of nodes does not hear us: %s", error)


def run(config: Config) -> None:
    """Keep this host as the services want it, until asked to stop. Guests and networks stay as they are."""
    settle(config, "agent")
    bus = make_bus(config, "agent")
    clients = Clients({room.name: http_binding(config, room) for room in rooms.enabled(config)})
    node = node_login(config.home)
    token = functools.partial(service_tokens(config).of, node.user) if node else None
    loops = LoopRunner(threads=8)
    agents: list[Agent] = []
    for room in rooms.with_agents(config):
        env = AgentEnv(
            host=config.host, options=config.section(room.name), config=config, bus=bus, clients=clients, token=token
        )
        agent: Agent = load(room.agent)(env)
        agents.append(agent)
        loops.add(agent.loops, agent.subject)
    # All at once: a host that answers for one room and not yet for the next would tell callers that it has no such method.
    bus.serve(f"agent.{config.host}", {name: method for agent in agents for name, method in agent.calls.items()})
    for agent in agents:
        if agent.start is not None:
            agent.start()
    if node:
        seen = Loop("node_seen", _SEEN_SECONDS, lambda _subject: say_seen(bus, config.host))
        renewal = Loop("node_certificate", _RENEW_SECONDS, lambda _subject: renew_when_due(config))
        loops.add([seen, renewal], None)
    loops.start()
    wait_for_stop()
    loops.stop()
    for agent in reversed(agents):
        if agent.stop is not None:
            agent.stop()
    bus.close()
