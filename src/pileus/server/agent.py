"""The host agent: what each room does on this machine. It opens no database and reaches services over HTTP."""

from __future__ import annotations

from pileus.clients import Clients
from pileus.kernel.assembly import Agent, AgentEnv
from pileus.kernel.config import Config
from pileus.kernel.loops import LoopRunner
from pileus.kernel.room import load
from pileus.server import rooms
from pileus.server.assembly import http_binding, make_bus
from pileus.server.process import settle, wait_for_stop


def run(config: Config) -> None:
    """Keep this host as the services want it, until asked to stop. Guests and networks stay as they are."""
    settle(config, "agent")
    bus = make_bus(config, "agent")
    enabled = rooms.enabled(config)
    clients = Clients({room.name: http_binding(config, room) for room in enabled})
    loops = LoopRunner(threads=8)
    agents: list[Agent] = []
    for room in enabled:
        if not room.agent:
            continue
        env = AgentEnv(host=config.host, options=config.section(room.name), config=config, bus=bus, clients=clients)
        agent: Agent = load(room.agent)(env)
        agents.append(agent)
        bus.serve(f"agent.{config.host}", agent.calls)
        loops.add(agent.loops, agent.subject)
    for agent in agents:
        if agent.start is not None:
            agent.start()
    loops.start()
    wait_for_stop()
    loops.stop()
    for agent in reversed(agents):
        if agent.stop is not None:
            agent.stop()
    bus.close()
