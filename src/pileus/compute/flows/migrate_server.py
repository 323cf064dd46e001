"""Cold migration and resize: the guest is switched off, its disks go to the destination, it starts there and waits for confirmation.

The source keeps the disks until then; on one and the same host a copy of them is kept.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pileus.compute.flows import common, moving
from pileus.compute.flows.common import HostFailed, Row
from pileus.compute.logic import actions, moves, states
from pileus.compute.store import moves as move_store
from pileus.compute.store import servers as store
from pileus.kernel.flows import Abort, Flow, Run, Step, Wait

EVENT = "compute_finish_resize"
_AWAKE = ("running", "paused")


def _here(move: Row) -> bool:
    return bool(move["dest_compute"] == move["source_compute"])


def _enter(run: Run, task: str, status: str) -> tuple[Row, Row]:
    """The task and the status of this part of the way, for all to see; server and migration then."""
    with run.service.db.write(durable=False) as conn:
        store.swap_task(conn, run.resource_id, states.RESIZING, task_state=task, epoch=common.keep_epoch(run))
        move_store.update(conn, int(run.input["migration"]), status=status)
    return common.server_of(run), moving.move_of(run)


def claim(run: Run) -> dict[str, Any]:
    """Choose a destination and claim it; a resize may stay where it is."""
    return {"host": _destination(run)["dest_compute"]}


def _destination(run: Run) -> Row:
    is_resize = moving.move_of(run)["migration_type"] == move_store.RESIZE
    return moving.destination(run, may_stay=is_resize and run.service.options.allow_resize_to_same_host)


def depart(run: Run) -> dict[str, Any]:
    """Switch the guest off and take it off its host; its disks stay."""
    server, move = _enter(run, states.RESIZE_MIGRATING, "migrating")
    source = move["source_compute"]
    try:
        with common.asking(run, source):
            _switch_off(run, server, source)
            common.call_host(run, source, "destroy", keep_disks=True)
            if _here(move):
                common.call_host(run, source, "keep_copy")
    except HostFailed as error:
        raise Abort(f"{source}: {error}") from error
    return {}


def _switch_off(run: Run, server: Row, source: str) -> None:
    if common.call_host(run, source, "state")["power_state"] not in _AWAKE:
        return
    doc = moving.document(run, server).to_dict()
    timeout = run.service.options.shutdown_timeout
    answer = common.call_host(run, source, "power", steady=True, action="shutdown_graceful", doc=doc, timeout=timeout)
    if not answer["done"]:
        raise Wait(f"the guest is {answer['power_state']}", 2.0)


def undepart(run: Run) -> None:
    """The guest is back where it was, with the disks that it had."""
    moving.bring_back(run, restore=_here(moving.move_of(run)))


def carry(run: Run) -> dict[str, Any]:
    """The destination fetches image and disks; one that cannot is left for the next."""
    move = _destination(run)
    if not _here(move):
        _fetch(run, common.server_of(run), move)
    _enter(run, states.RESIZE_MIGRATED, "post-migrating")
    return {}


def _fetch(run: Run, server: Row, move: Row) -> None:
    moving.clear_destination(run, move)
    source, there = move["source_compute"], moving.moved(server, move, move["old_flavor"])
    try:
        with common.asking(run, source):
            offer = common.call_host(run, source, "offer", token=move["details"]["token"])
    except HostFailed as error:
        raise Abort(f"{source}: {error}") from error
    try:
        with common.asking(run, there["host"]):
            common.prepare_on(run, there["host"], moving.document(run, there).to_dict(), offer=offer)
    except HostFailed as error:
        moving.not_there(run, move, str(error))
    try:
        with common.asking(run, source):
            common.call_host(run, source, "withdraw")
    except HostFailed as error:
        raise Abort(f"{source}: {error}") from error


def ports(run: Run) -> dict[str, Any]:
    """Bind the ports to the destination."""
    moving.still_mine(run)
    return {"ports": moving.bind_ports(run, run.resource_id, moving.move_of(run)["dest_compute"])}


def spawn(run: Run) -> dict[str, Any]:
    """Make the guest there, with the new flavor."""
    server, move = _enter(run, states.RESIZE_FINISH, "post-migrating")
    try:
        return moving.make_there(run, moving.moved(server, move, move["new_flavor"]))
    except HostFailed as error:
        raise Abort(f"{move['dest_compute']}: {error}") from error


def activate(run: Run) -> dict[str, Any]:
    """Let it run if it ran before."""
    move = moving.move_of(run)
    server = moving.moved(common.server_of(run), move, move["new_flavor"])
    stopped = move["details"]["vm_state"] == states.STOPPED
    bound, began = run.results["ports"]["ports"], run.results["spawn"]["at"]
    moving.let_go_on(run, server, stopped=stopped, ports=bound, began=began)
    return {}


def finished(run: Run, conn: sa.Connection) -> None:
    move = move_store.get(conn, int(run.input["migration"]))
    server = store.get(conn, run.resource_id)
    if server is None or move is None:
        return
    stopped = move["details"]["vm_state"] == states.STOPPED
    kept = {"disk_config": move["details"]["disk_config"]} if move["details"].get("disk_config") else {}
    power = states.SHUTDOWN if stopped else states.RUNNING
    moving.arrive(
        run, conn, server, move, vm_state=states.RESIZED, task_state=None, power_state=power, fault=None, **kept
    )
    common.touch(run.service, conn, move["source_compute"], server["id"])
    move_store.update(conn, move["id"], status="finished")
    actions.finish(conn, run.input.get("action"), EVENT, host=move["dest_compute"])


def failed(run: Run, conn: sa.Connection, message: str) -> None:
    """The server is where it was, and as it was."""
    server = moving.give_up(run, conn, message, states.RESIZING, "error")
    move = move_store.get(conn, int(run.input["migration"]))
    if server is not None and move is not None:
        moves.settle_quota(conn, server, move, confirmed=False)
    host = server["host"] if server else None
    actions.finish(conn, run.input.get("action"), EVENT, host=host, error=message)


MIGRATE_SERVER = Flow(
    "migrate_server",
    steps=(
        Step("claim", claim, undo=moving.unclaim),
        Step("depart", depart, undo=undepart),
        Step("carry", carry, undo=moving.remove_there),
        Step("ports", ports, undo=moving.ports_back),
        Step("spawn", spawn, undo=moving.remove_there),
        Step("activate", activate),
    ),
    finished=finished,
    failed=failed,
    deadline=6 * 3600.0,
)
