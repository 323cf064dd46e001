"""The two answers to a server that has moved: confirm takes away what it left behind, revert brings it back. Neither is undone, only repeated."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pileus.compute.flows import common, moving
from pileus.compute.flows.common import HostFailed
from pileus.compute.logic import actions, moves, placement, states
from pileus.compute.store import moves as move_store
from pileus.compute.store import servers as store
from pileus.kernel.flows import Flow, Retry, Run, Step

CONFIRM_EVENT = "compute_confirm_resize"
REVERT_EVENT = "compute_revert_resize"
_FOREVER = 10 * 365 * 86400.0
_REVERTING = (states.RESIZE_REVERTING,)


def tidy(run: Run) -> None:
    """The source forgets the server; on one and the same host the copy of the disks goes."""
    moving.still_mine(run)
    move = moving.move_of(run)
    source = move["source_compute"]
    if source == move["dest_compute"]:
        _on_the_spot(run, source, "drop_copy")
        return
    with run.service.db.write(durable=False) as conn:
        common.drop(run.service, conn, source, run.resource_id)
    common.destroy_on(run, source)


def _on_the_spot(run: Run, host: str, method: str) -> None:
    try:
        common.call_host(run, host, method)
    except HostFailed as error:
        raise Retry(5.0, f"{host}: {error}") from error


def release(run: Run) -> None:
    """What was held at the source is free."""
    moving.still_mine(run)
    placement.release(run.service, run.context, moving.move_of(run)["uuid"])


def confirmed(run: Run, conn: sa.Connection) -> None:
    server = store.get(conn, run.resource_id)
    move = move_store.get(conn, int(run.input["migration"]))
    if server is None or move is None:
        return
    move_store.update(conn, move["id"], status="confirmed")
    off = server["power_state"] in {states.SHUTDOWN, states.CRASHED}
    after = {"vm_state": states.STOPPED if off else states.ACTIVE, "epoch": common.keep_epoch(run), "fault": None}
    if server["vm_state"] == states.RESIZED:
        store.update(conn, server["id"], **after)
    moves.settle_quota(conn, server, move, confirmed=True)
    common.touch(run.service, conn, server["host"], server["id"])
    actions.finish(conn, run.input.get("action"), CONFIRM_EVENT, host=move["source_compute"])


def not_confirmed(run: Run, conn: sa.Connection, message: str) -> None:
    """It was called off: the server still waits for an answer."""
    move_store.swap(conn, int(run.input["migration"]), ["confirming"], "finished")
    actions.finish(conn, run.input.get("action"), CONFIRM_EVENT, host=None, error=message)


CONFIRM_RESIZE = Flow(
    "confirm_resize",
    steps=(Step("tidy", tidy), Step("release", release)),
    finished=confirmed,
    failed=not_confirmed,
    deadline=_FOREVER,
)


def leave(run: Run) -> None:
    """Off the destination, with all that was written there."""
    moving.still_mine(run)
    move = moving.move_of(run)
    if move["dest_compute"] == move["source_compute"]:
        _on_the_spot(run, move["source_compute"], "restore_copy")
        return
    with run.service.db.write(durable=False) as conn:
        common.drop(run.service, conn, move["dest_compute"], run.resource_id)
    common.destroy_on(run, move["dest_compute"])


def ports(run: Run) -> dict[str, Any]:
    """The ports belong to the source again."""
    moving.still_mine(run)
    return {"ports": moving.bind_ports(run, run.resource_id, moving.move_of(run)["source_compute"])}


def spawn(run: Run) -> dict[str, Any]:
    """The guest with the disks and the flavor that it had."""
    moving.still_mine(run)
    return moving.make_there(run, _as_before(run))


def _as_before(run: Run) -> dict[str, Any]:
    server, move = common.server_of(run), moving.move_of(run)
    return {**server, "host": move["source_compute"], "node": move["source_node"], "flavor": move["old_flavor"]}


def activate(run: Run) -> dict[str, Any]:
    """Let it run if it ran before."""
    stopped = moving.move_of(run)["details"]["vm_state"] == states.STOPPED
    bound, began = run.results["ports"]["ports"], run.results["spawn"]["at"]
    moving.let_go_on(run, _as_before(run), stopped=stopped, ports=bound, began=began)
    return {}


def claims(run: Run) -> None:
    """What was held at the source is the server's again, and the destination's is free."""
    moving.still_mine(run)
    placement.give_back(run.service, run.context, run.resource_id, moving.move_of(run)["uuid"])


def reverted(run: Run, conn: sa.Connection) -> None:
    server = store.get(conn, run.resource_id)
    move = move_store.get(conn, int(run.input["migration"]))
    if server is None or move is None:
        return
    stopped = move["details"]["vm_state"] == states.STOPPED
    back = {**move, "dest_compute": move["source_compute"], "dest_node": move["source_node"]}
    back["new_flavor"], back["details"] = move["old_flavor"], {"zone": move["details"].get("old_zone")}
    moving.arrive(
        run,
        conn,
        server,
        back,
        vm_state=states.STOPPED if stopped else states.ACTIVE,
        power_state=states.SHUTDOWN if stopped else states.RUNNING,
        task_state=None,
        fault=None,
    )
    moves.settle_quota(conn, server, move, confirmed=False)
    move_store.update(conn, move["id"], status="reverted")
    actions.finish(conn, run.input.get("action"), REVERT_EVENT, host=move["source_compute"])


def not_reverted(run: Run, conn: sa.Connection, message: str) -> None:
    """Neither here nor there: an administrator has to look, or the server is deleted."""
    server = store.get(conn, run.resource_id)
    move = move_store.get(conn, int(run.input["migration"]))
    if move is None:
        return
    move_store.update(conn, move["id"], status="error")
    if server is not None:
        store.swap_task(
            conn, server["id"], _REVERTING, vm_state=states.ERROR, task_state=None, fault=common.fault(message)
        )
        moves.settle_quota(conn, server, move, confirmed=True)
    actions.finish(conn, run.input.get("action"), REVERT_EVENT, host=move["source_compute"], error=message)


REVERT_RESIZE = Flow(
    "revert_resize",
    steps=(
        Step("leave", leave),
        Step("ports", ports),
        Step("spawn", spawn),
        Step("activate", activate),
        Step("claims", claims),
    ),
    finished=reverted,
    failed=not_reverted,
    deadline=6 * 3600.0,
)
