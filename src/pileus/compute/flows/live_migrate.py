"""Live migration: the destination gets ready, the running guest goes over, its ports follow, the source forgets it.

Up to the moment in which the guest runs at the destination everything is undone by letting it run on where it is. From then on (status
`post-migrating`) nothing is undone any more, only finished, whatever the flow is told: `settle` is also what the undo of `send` does then.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pileus.clients.base import PeerConflict, PeerError, PeerNotFound
from pileus.compute.flows import common, moving
from pileus.compute.flows.common import HostFailed, Row
from pileus.compute.logic import actions, hosts, placement, states
from pileus.compute.store import moves
from pileus.compute.store import servers as store
from pileus.kernel import clock
from pileus.kernel.bus import BusTimeout, BusUnavailable
from pileus.kernel.flows import Abort, Flow, Retry, Run, Step, Wait

EVENT = "compute_live_migration"
_TASKS = (states.MIGRATING,)
_PLUG_SECONDS = 30.0
"""How long the destination may take to plug the ports before the guest goes; it follows anyway."""


def _status(run: Run, status: str) -> tuple[Row, Row]:
    """The status of this part of the way, for all to see; server and migration then."""
    with run.service.db.write(durable=False) as conn:
        store.swap_task(conn, run.resource_id, _TASKS, epoch=common.keep_epoch(run))
        moves.swap(conn, int(run.input["migration"]), ("accepted", "queued", "preparing", "running"), status)
    return common.server_of(run), moving.move_of(run)


def has_arrived(move: Row) -> bool:
    """Whether the guest is at its destination for good."""
    return move["status"] in {"post-migrating", "completed"}


def claim(run: Run) -> dict[str, Any]:
    """Choose a destination and claim it."""
    _status(run, "preparing")
    return {"host": moving.destination(run)["dest_compute"]}


def unclaim(run: Run) -> None:
    if not has_arrived(moving.move_of(run)):
        moving.unclaim(run)


def prepare(run: Run) -> dict[str, Any]:
    """The destination has image, config drive and disks into which the source will write. One that cannot is left for the next."""
    move = moving.destination(run)
    server, _ = _status(run, "preparing")
    there = moving.moved(server, move)
    moving.clear_destination(run, move)
    try:
        with common.asking(run, there["host"]):
            common.prepare_on(run, there["host"], moving.document(run, there).to_dict())
    except HostFailed as error:
        moving.not_there(run, move, str(error))
    return {}


def unprepare(run: Run) -> None:
    if not has_arrived(moving.move_of(run)):
        moving.remove_there(run)


def bind(run: Run) -> dict[str, Any]:
    """The ports get a second binding, on the destination."""
    moving.still_mine(run)
    move = moving.move_of(run)
    with run.service.db.read() as conn:
        known = [port["port_id"] for port in store.ports_of(conn, run.resource_id)]
    with run.service.db.write(durable=False) as conn:
        for port_id in known:
            store.set_plugged(conn, run.resource_id, port_id, plugged=False)
    client = run.service.clients.network(run.context)
    bound = []
    for port_id in known:
        try:
            client.create_port_binding(port_id, move["dest_compute"])
        except PeerConflict:
            pass  # there already
        except PeerNotFound:
            continue  # somebody deleted the port
        except PeerError as error:
            raise common.network_call(error) from error
        bound.append(port_id)
    return {"ports": bound, "at": clock.time()}


def unbind(run: Run) -> None:
    move = moving.move_of(run)
    if has_arrived(move) or not move["dest_compute"]:
        return
    with run.service.db.read() as conn:
        known = [port["port_id"] for port in store.ports_of(conn, run.resource_id)]
    client = run.service.clients.network(run.context)
    for port_id in known:
        client.delete_port_binding(port_id, move["dest_compute"])


def receive(run: Run) -> dict[str, Any]:
    """The destination has network devices and waits for the guest."""
    server, move = _status(run, "preparing")
    there = moving.moved(server, move)
    doc, token = moving.document(run, there).to_dict(), move["details"]["token"]
    try:
        with common.asking(run, there["host"]):
            ready = common.call_host(run, there["host"], "receive", doc=doc, token=token)
    except HostFailed as error:
        raise Abort(f"{there['host']}: {error}") from error
    waited = clock.time() - run.results["bind"]["at"]
    missing = common.missing_ports(run, server["id"], set(run.results["bind"]["ports"]), ask=False)
    if missing and waited < _PLUG_SECONDS and run.service.options.vif_plugging_timeout:
        raise Wait(f"ports to be plugged: {', '.join(sorted(missing))}", 2.0)
    return {"offer": ready["offer"], "there": ready["there"]}


def send(run: Run) -> dict[str, Any]:
    """The guest goes over, running."""
    _, move = _status(run, "running")
    if has_arrived(move):
        return {}
    source = move["source_compute"]
    ready = run.results["receive"]
    try:
        answer = common.call_host(run, source, "send", offer=ready["offer"], there=ready["there"])
    except HostFailed as error:
        raise Abort(f"{source}: {error}") from error
    except (BusTimeout, BusUnavailable):
        if _is_up(run, source):
            raise
        raise Abort(f"{source} went down during the migration.") from None
    if answer["state"] == "failed":
        raise Abort(answer["error"] or "The migration failed.")
    if answer["state"] == "sent" and not _has_come(run, move):
        raise Abort("The guest was lost on its way; its disks are where they were.")
    with run.service.db.write(durable=False) as conn:
        if answer["progress"]:
            moves.update(conn, move["id"], progress=answer["progress"])
            store.update(conn, run.resource_id, progress=_percent(answer["progress"]))
        if answer["state"] == "sent":
            moves.update(conn, move["id"], status="post-migrating")
            return {}
    raise Wait("the guest is on its way", 2.0)


def _percent(progress: Row) -> int:
    total = progress.get("memory_total_bytes", 0) + progress.get("disk_total_bytes", 0)
    left = progress.get("memory_remaining_bytes", 0) + progress.get("disk_remaining_bytes", 0)
    return 0 if not total else max(0, min(99, int(100 * (total - left) / total)))


def _is_up(run: Run, host: str) -> bool:
    with run.service.db.read() as conn:
        return hosts.host_is_up(run.service.options, conn, host)


def unsend(run: Run) -> None:
    """The guest stays, or, if it has gone already, its move is finished."""
    move = moving.move_of(run)
    if not has_arrived(move):
        if not _has_left(run, move):
            return
        with run.service.db.write(durable=False) as conn:
            moves.update(conn, move["id"], status="post-migrating")
    settle(run)


def _has_left(run: Run, move: Row) -> bool:
    """Ask the source to give up; whether it was too late. Of a source that is down the destination knows."""
    try:
        answer = common.call_host(run, move["source_compute"], "abort_send", token=move["details"]["token"])
        return bool(answer["left"]) and _is_there(run, move, ("running", "paused"))
    except HostFailed as error:
        raise Retry(2.0, f"{move['source_compute']}: {error}") from error
    except (BusTimeout, BusUnavailable) as error:
        if _is_up(run, move["source_compute"]):
            raise Retry(2.0, f"{move['source_compute']} does not answer") from error
    return _is_there(run, move, ("running",))  # one that is still awaited there is paused


def _has_come(run: Run, move: Row) -> bool:
    """Whether the guest, which the source has no more, has come to the destination; one that is down meanwhile went down with it."""
    try:
        return _is_there(run, move, ("running", "paused"))
    except (BusTimeout, BusUnavailable):
        if _is_up(run, move["dest_compute"]):
            raise
        return True


def _is_there(run: Run, move: Row, powers: tuple[str, ...]) -> bool:
    """Whether the destination has the guest."""
    try:
        return common.call_host(run, move["dest_compute"], "state")["power_state"] in powers
    except HostFailed:
        return False


def settle(run: Run) -> dict[str, Any]:
    """The ports follow, the destination takes the guest for its own, the source forgets it. This must succeed, sooner or later.

    A destination that is down has the server all the same, as any host that goes down: it takes the guest when it is back, or the server is evacuated.
    """
    moving.still_mine(run)
    move = moving.move_of(run)
    dest, source = move["dest_compute"], move["source_compute"]
    with run.service.db.read() as conn:
        known = [port["port_id"] for port in store.ports_of(conn, run.resource_id)]
    client = run.service.clients.network(run.context)
    for port_id in known:
        try:
            client.activate_port_binding(port_id, dest)
            client.delete_port_binding(port_id, source)
        except PeerNotFound:
            continue  # the port is gone, or was moved by hand
        except PeerError as error:
            raise Retry(2.0, f"port {port_id} does not move: {error}") from error
    power = None
    try:
        power = common.call_host(run, dest, "received")["power_state"]
    except (HostFailed, Abort) as error:
        raise Retry(2.0, f"{dest}: {error}") from error
    except (BusTimeout, BusUnavailable):
        if _is_up(run, dest):
            raise
    with run.service.db.write(durable=False) as conn:
        common.drop(run.service, conn, source, run.resource_id)
    common.destroy_on(run, source)
    placement.release(run.service, run.context, move["uuid"])
    return {"power_state": power}


def finished(run: Run, conn: sa.Connection) -> None:
    _arrive(run, conn)
    move = moves.get(conn, int(run.input["migration"]))
    actions.finish(conn, run.input.get("action"), EVENT, host=move["source_compute"] if move else None)


def _arrive(run: Run, conn: sa.Connection) -> None:
    move = moves.get(conn, int(run.input["migration"]))
    server = store.get(conn, run.resource_id)
    if move is None:
        return
    moves.update(conn, move["id"], status="completed")
    if server is None:
        return
    task = {"task_state": None} if server["task_state"] == states.MIGRATING else {}
    moving.arrive(run, conn, server, move, fault=None, **task)


def failed(run: Run, conn: sa.Connection, message: str) -> None:
    """It runs on where it was; or, if it had arrived before the flow was called off, where it is."""
    move = moves.get(conn, int(run.input["migration"]))
    if move is not None and has_arrived(move):
        _arrive(run, conn)
        actions.finish(conn, run.input.get("action"), EVENT, host=move["source_compute"])
        return
    called_off = run.cancelled and bool((move or {}).get("details", {}).get("aborted"))
    server = moving.give_up(run, conn, message, _TASKS, "cancelled" if called_off else "error")
    actions.finish(conn, run.input.get("action"), EVENT, host=server["host"] if server else None, error=message)


LIVE_MIGRATE = Flow(
    "live_migrate",
    steps=(
        Step("claim", claim, undo=unclaim),
        Step("prepare", prepare, undo=unprepare),
        Step("bind", bind, undo=unbind),
        Step("receive", receive),
        Step("send", send, undo=unsend),
        Step("settle", settle),
    ),
    finished=finished,
    failed=failed,
    deadline=6 * 3600.0,
)
