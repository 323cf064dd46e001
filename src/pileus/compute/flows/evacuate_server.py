"""Evacuation: a server whose host is down is made anew elsewhere, from its image, with its ports and addresses.

The dead host keeps the server's claim under the migration's id until it is back and has removed what it had; a loop sees to that.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pileus.compute.flows import common, moving
from pileus.compute.flows.common import HostFailed
from pileus.compute.logic import actions, hosts, states
from pileus.compute.store import moves
from pileus.compute.store import servers as store
from pileus.kernel import clock
from pileus.kernel.flows import Abort, Flow, Run, Step

_TASKS = (states.REBUILDING, states.REBUILD_SPAWNING)
EVENT = "compute_rebuild_instance"


def claim(run: Run) -> dict[str, Any]:
    """Choose a host that is up, and claim it."""
    move = moving.move_of(run)
    with run.service.db.read() as conn:
        if hosts.host_is_up(run.service.options, conn, move["source_compute"]):
            raise Abort(f"Compute service of {move['source_compute']} is still in use.")
    return {"host": moving.destination(run)["dest_compute"]}


def ports(run: Run) -> dict[str, Any]:
    """Bind the ports to the new host."""
    moving.still_mine(run)
    return {"ports": moving.bind_ports(run, run.resource_id, moving.move_of(run)["dest_compute"])}


def spawn(run: Run) -> dict[str, Any]:
    """Make disk and guest on the new host. One that cannot is left for the next, and the ports follow."""
    move = moving.destination(run)
    with run.service.db.write(durable=False) as conn:
        store.swap_task(conn, run.resource_id, _TASKS, task_state=states.REBUILD_SPAWNING, epoch=common.keep_epoch(run))
        moves.swap(conn, int(run.input["migration"]), ["accepted"], "pre-migrating")
    moving.clear_destination(run, move)
    if move["details"].get("tried"):
        moving.bind_ports(run, run.resource_id, move["dest_compute"])
    try:
        return moving.make_there(run, moving.moved(common.server_of(run), move))
    except HostFailed as error:
        moving.not_there(run, move, str(error))


def activate(run: Run) -> dict[str, Any]:
    """Let it run, or leave it off."""
    move = moving.move_of(run)
    server = moving.moved(common.server_of(run), move)
    bound, began = run.results["ports"]["ports"], run.results["spawn"]["at"]
    moving.let_go_on(run, server, stopped=move["details"]["stopped"], ports=bound, began=began)
    return {}


def finished(run: Run, conn: sa.Connection) -> None:
    move = moves.get(conn, int(run.input["migration"]))
    server = store.get(conn, run.resource_id)
    if server is None or move is None:
        return
    stopped = move["details"]["stopped"]
    moving.arrive(
        run,
        conn,
        server,
        move,
        vm_state=states.STOPPED if stopped else states.ACTIVE,
        power_state=states.SHUTDOWN if stopped else states.RUNNING,
        task_state=None,
        launched_at=clock.utcnow(),
        fault=None,
    )
    common.drop(run.service, conn, move["source_compute"], server["id"])
    moves.update(conn, move["id"], status="done")
    actions.finish(conn, run.input.get("action"), EVENT, host=move["dest_compute"])


def failed(run: Run, conn: sa.Connection, message: str) -> None:
    """The server stays with its dead host, to be evacuated again."""
    server = moving.give_up(run, conn, message, _TASKS, "failed")
    host = server["host"] if server else None
    actions.finish(conn, run.input.get("action"), EVENT, host=host, error=message)


EVACUATE_SERVER = Flow(
    "evacuate_server",
    steps=(
        Step("claim", claim, undo=moving.unclaim),
        Step("ports", ports, undo=moving.ports_back),
        Step("spawn", spawn, undo=moving.remove_there),
        Step("activate", activate),
    ),
    finished=finished,
    failed=failed,
    deadline=3600.0,
)
