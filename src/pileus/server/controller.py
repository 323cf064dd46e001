"""The controller: flows, reconciling loops, and the bus methods that agents call."""

from __future__ import annotations

import datetime as dt
import functools
from typing import Any

from pileus.kernel import clock, desired
from pileus.kernel.config import Config
from pileus.kernel.context import service_context
from pileus.kernel.flows import Runner, store
from pileus.kernel.loops import Loop, LoopRunner
from pileus.kernel.room import Room, load
from pileus.kernel.service import Service
from pileus.server import shared
from pileus.server.assembly import Assembly, named
from pileus.server.members import Members
from pileus.server.process import settle, supervisor_stopper, wait_for_stop

FLOW_RETENTION = dt.timedelta(days=7)


def run(config: Config, assembly: Assembly) -> None:
    """Work until asked to stop; steps under way end, the rest is handed over."""
    settle(config, "controller")
    loops = LoopRunner(threads=6)
    if config.bus.url:
        know_nodes(assembly, loops)
    runners = [start_room(assembly, room, loops) for room in assembly.rooms]
    identity = assembly.services.get("identity")
    if identity is not None and shared.is_shared(config):
        stop = supervisor_stopper()
        loops.add([Loop("controllers", shared.SEEN_EVERY, lambda service: shared.be_seen(service, stop))], identity)
    loops.start()
    wait_for_stop()
    for runner in filter(None, runners):
        runner.ask_to_stop()
    loops.stop()
    for runner in filter(None, runners):
        runner.stop()
    if identity is not None and shared.is_shared(config):
        shared.leave(identity)
    assembly.bus.close()


def know_nodes(assembly: Assembly, loops: LoopRunner) -> None:
    """Only nodes that belong to the cloud are listened to."""
    members = Members(assembly.clients.identity(service_context("identity")).list_nodes)
    members.wake = loops.nudge
    members.begin()
    assembly.bus.members = members.__contains__
    loops.add([members.loop], None)


def start_room(assembly: Assembly, room: Room, loops: LoopRunner) -> Runner | None:
    """Serve a room's bus topic, run its flows, add its loops."""
    service = assembly.services[room.name]
    runner = Runner(service, named(load(room.flows))) if room.flows else None
    methods: dict[str, Any] = {"loops.nudge": lambda payload: _nudge(loops, payload)}
    if room.calls:
        calls = load(room.calls)
        methods.update({name: functools.partial(function, service) for name, function in calls.items()})
    if runner is not None:
        methods["flows.nudge"] = lambda _payload: runner.nudge()
        forget = functools.partial(forget_flows, service)
        loops.add([Loop(f"{room.name}.ended_flows", 3600.0, lambda _service: forget())], service)
    if "desired_hosts" in load(room.tables).tables:
        loops.add([Loop(f"{room.name}.tombstones", 3600.0, forget_tombstones)], service)
    if room.loops:
        loops.add(named(load(room.loops)).values(), service, turn=runner.leads if runner is not None else None)
    service.loops.attach(loops)
    if runner is not None:
        runner.start()
    assembly.bus.serve(f"controller.{room.name}", methods)
    return runner


def _nudge(loops: LoopRunner, payload: dict[str, Any]) -> None:
    loops.nudge(str(payload["name"]))


def forget_tombstones(service: Service) -> None:
    """What went from a host long ago is no longer told to it."""
    with service.db.read() as conn:
        hosts = desired.hosts_far_ahead(conn)
    for host in hosts:
        with service.db.write(durable=False) as conn:
            desired.forget_tombstones(conn, host)


def forget_flows(service: Service) -> None:
    """Finished flows are kept for a week."""
    while True:
        with service.db.write(durable=False) as conn:
            if not store.forget_ended(conn, clock.utcnow() - FLOW_RETENTION):
                return
