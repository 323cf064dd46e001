"""What the flows share that bring a server to another host: its migration, the claim of the destination, its ports, its guest there.

Two documents of one server exist meanwhile: one for the source, one for the destination. The server's row names the source until the flow ends; both
hosts have the server in their desired state as `kept`, so that neither starts a guest by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NoReturn

import sqlalchemy as sa

from pileus.clients.base import PeerError, PeerNotFound
from pileus.compute.flows import common
from pileus.compute.flows.common import HostFailed, Row
from pileus.compute.logic import documents, hosts, networks, placement, placing, scheduler, states
from pileus.compute.store import hosts as host_store
from pileus.compute.store import moves
from pileus.compute.store import servers as store
from pileus.compute.wire import ServerDoc
from pileus.kernel import clock
from pileus.kernel.bus import BusTimeout, BusUnavailable
from pileus.kernel.flows import Abort, Retry, Run


def move_of(run: Run) -> Row:
    """The migration of the flow. Raises `Abort` when it is gone."""
    with run.service.db.read() as conn:
        row = moves.get(conn, int(run.input["migration"]))
    if row is None:
        raise Abort("The migration does not exist any more.")
    return row


def still_mine(run: Run) -> None:
    """Raises `LostLease` when another worker has the flow: what lies outside the database is not touched for it any more."""
    with run.service.db.write(durable=False):
        pass


def moved(server: Row, move: Row, flavor: Mapping[str, Any] | None = None) -> Row:
    """The server's row as its destination shall see it."""
    zone = move["details"].get("zone", server["availability_zone"])
    changed = {"host": move["dest_compute"], "node": move["dest_node"], "availability_zone": zone}
    return {**server, **changed, "flavor": dict(flavor or server["flavor"])}


def document(run: Run, server: Row) -> ServerDoc:
    """The document of a server as it shall be on the host that its row names."""
    with run.service.db.read() as conn:
        return documents.load_doc(run.service.options, conn, server, epoch=common.epoch_of(run), power="running")


# -- the claim -------------------------------------------------------------------------------------------------------


def destination(run: Run, *, may_stay: bool = False) -> Row:
    """The migration with a claimed destination that has not failed: the first one, or the next. Raises `Abort` when there is none."""
    still_mine(run)
    move = move_of(run)
    if move["dest_compute"] in move["details"].get("tried", ()):
        _leave(run, move)
        move = move_of(run)
    if not move["dest_compute"]:
        ignored = frozenset() if may_stay else frozenset((move["source_compute"],))
        _claim(run, common.server_of(run), move, ignored=ignored)
        move = move_of(run)
    return move


def not_there(run: Run, move: Row, reason: str) -> NoReturn:
    """The destination cannot take the server: the step is done again with the next one.

    Raises `Abort` instead when the destination was asked for by name, enough have been tried, or it is the source that is gone.
    """
    host, details = move["dest_compute"], move["details"]
    tried = [*(each for each in details.get("tried", ()) if each != host), host]
    details = {**details, "tried": tried, "reasons": {**details.get("reasons", {}), host: reason}, "cleared": False}
    with run.service.db.write(durable=False) as conn:
        moves.update(conn, move["id"], details=details)
        lost = move["migration_type"] != moves.EVACUATION and not hosts.host_is_up(
            run.service.options, conn, move["source_compute"]
        )
    if lost:
        raise Abort(f"{move['source_compute']} is down.")
    if details.get("host") or host == move["source_compute"] or len(tried) >= _most(run, move):
        raise Abort(f"{host}: {reason}")
    raise Retry(0.0, f"{host}: {reason}")


def _most(run: Run, move: Row) -> float:
    """On how many hosts a move is tried."""
    options = run.service.options
    if move["migration_type"] != moves.LIVE:
        return float(options.max_attempts)
    return options.migrate_max_retries + 1 if options.migrate_max_retries >= 0 else math.inf


def _leave(run: Run, move: Row) -> None:
    """Nothing is left at a destination that failed. Its claim is the server's own and goes when the next one is made."""
    remove_there(run)
    with run.service.db.write(durable=False) as conn:
        moves.update(conn, move["id"], dest_compute=None, dest_node=None, dest_host=None)


def _claim(run: Run, server: Row, move: Row, *, ignored: frozenset[str]) -> None:
    """Hold the source's claim under the migration's id and claim a destination for the server."""
    placement.hold(run.service, run.context, server["id"], move["uuid"])
    wanted = {**server, "flavor": move["new_flavor"]}
    details = move["details"]

    def record(state: scheduler.HostState) -> None:
        with run.service.db.write(durable=False) as conn:
            node = host_store.node_of(conn, state.host)
            moves.update(
                conn,
                move["id"],
                dest_compute=state.host,
                dest_node=state.node,
                dest_host=node["host_ip"] if node else None,
                details={**details, "zone": state.zone},
            )
            common.touch(run.service, conn, state.host, server["id"])
            common.touch(run.service, conn, server["host"], server["id"])

    try:
        placing.place_move(
            run.service,
            run.context,
            wanted,
            target=details.get("host"),
            ignored=ignored.union(details.get("tried", ())),
            forced=bool(details.get("forced")),
            record=record,
        )
    except placing.NoValidHost as error:
        with run.service.db.write(durable=False) as conn:
            moves.update(conn, move["id"], details={**details, "reasons": {**error.reasons, **details.get("reasons", {})}})
        raise Abort(str(error)) from None


def clear_destination(run: Run, move: Row) -> None:
    """Once, before anything is made there: what an earlier stay of the server may have left on the destination goes."""
    if move["details"].get("cleared") or move["dest_compute"] == move["source_compute"]:
        return
    common.destroy_on(run, move["dest_compute"])
    with run.service.db.write(durable=False) as conn:
        moves.update(conn, move["id"], details={**move["details"], "cleared": True})


def unclaim(run: Run) -> None:
    """The server has its source's claim again and nothing at the destination."""
    move = move_of(run)
    placement.give_back(run.service, run.context, run.resource_id, move["uuid"])
    with run.service.db.write(durable=False) as conn:
        if move["dest_compute"] and move["dest_compute"] != move["source_compute"]:
            common.drop(run.service, conn, move["dest_compute"], run.resource_id)


# -- ports -----------------------------------------------------------------------------------------------------------


def bind_ports(run: Run, server_id: str, host: str) -> list[str]:
    """Bind the server's ports to a host; their ids. Those that are bound there already are left alone."""
    with run.service.db.read() as conn:
        known = [port["port_id"] for port in store.ports_of(conn, server_id)]
    if not known:
        return []
    found = {port["id"]: port for port in networks.list_all(run.service, run.context, "ports", id=known)}
    elsewhere = [port_id for port_id in known if port_id in found and found[port_id].get("binding:host_id") != host]
    if elsewhere:
        with run.service.db.write(durable=False) as conn:
            for port_id in elsewhere:
                store.set_plugged(conn, server_id, port_id, plugged=False)
    for port_id in elsewhere:
        _bind(run, port_id, host)
    return [port_id for port_id in known if port_id in found]


def _bind(run: Run, port_id: str, host: str) -> None:
    try:
        port = networks.update_port(run.service, run.context, port_id, {"binding:host_id": host})
    except PeerNotFound:
        return  # somebody deleted it; the guest keeps a card without a wire
    except PeerError as error:
        raise common.network_call(error) from error
    if port.get("binding:vif_type") == "binding_failed":
        raise Abort(f"Binding failed for port {port_id}, please check the network agent of {host}.")


def ports_back(run: Run) -> None:
    """Undo: the ports belong to the source again."""
    with run.service.db.read() as conn:
        server = store.get(conn, run.resource_id)
    if server is not None and server["task_state"] != states.DELETING:
        try:
            bind_ports(run, server["id"], move_of(run)["source_compute"])
        except Abort as refusal:
            raise Retry(5.0, str(refusal)) from refusal


# -- guests ----------------------------------------------------------------------------------------------------------


def make_there(run: Run, server: Row) -> dict[str, Any]:
    """Make the guest on the host that the row names, paused; when that was. Raises `HostFailed`."""
    with common.asking(run, server["host"]):
        common.make_on(run, server["host"], document(run, server).to_dict())
    return {"at": clock.time()}


def let_go_on(run: Run, server: Row, *, stopped: bool, ports: list[str], began: float) -> None:
    """Let the guest run once its ports are plugged, or switch it off again if it was off. A host that fails ends the move."""
    try:
        with common.asking(run, server["host"]):
            if stopped:
                doc = document(run, server).to_dict()
                common.call_host(run, server["host"], "power", action="stop", doc=doc, timeout=0)
                return
            common.wait_for_ports(run, server["id"], set(ports), began)
            common.call_host(run, server["host"], "resume")
    except HostFailed as error:
        raise Abort(f"{server['host']}: {error}") from error


def remove_there(run: Run) -> None:
    """Undo: nothing of the server is left at the destination."""
    move = move_of(run)
    if not move["dest_compute"] or move["dest_compute"] == move["source_compute"]:
        return
    with run.service.db.write(durable=False) as conn:
        common.drop(run.service, conn, move["dest_compute"], run.resource_id)
    common.destroy_on(run, move["dest_compute"])


def bring_back(run: Run, *, restore: bool = False) -> None:
    """Undo: the guest is at its source as it was before. A host that is down, and a server that is being deleted, are left as they are."""
    move = move_of(run)
    with run.service.db.read() as conn:
        server = store.get(conn, run.resource_id)
        up = hosts.host_is_up(run.service.options, conn, move["source_compute"])
    if server is None or server["task_state"] == states.DELETING or not up:
        return
    doc = document(run, {**server, "flavor": move["old_flavor"]}).to_dict()
    host, stopped = move["source_compute"], move["details"]["vm_state"] == states.STOPPED
    try:
        if restore:
            common.call_host(run, host, "restore_copy")
        there = common.call_host(run, host, "state")["power_state"]
        if there == "missing" or (there != "running" and not stopped):
            common.make_on(run, host, doc)
            if stopped:
                common.call_host(run, host, "power", action="stop", doc=doc, timeout=0)
            else:
                common.call_host(run, host, "resume")
    except (HostFailed, Abort) as error:
        if isinstance(error, HostFailed):
            raise Retry(5.0, f"{host} could not bring the server back: {error}") from error
    except (BusTimeout, BusUnavailable) as error:
        raise Retry(5.0, f"{host} does not answer") from error


# -- the end ---------------------------------------------------------------------------------------------------------


def arrive(run: Run, conn: sa.Connection, server: Row, move: Row, **changes: Any) -> None:
    """Write the destination to the server's row, in the flow's last transaction."""
    there = moved(server, move, move["new_flavor"])
    flavor = there["flavor"]
    values = {
        "host": there["host"],
        "node": there["node"],
        "availability_zone": there["availability_zone"],
        "flavor": flavor,
        "flavorid": flavor["flavorid"],
        "vcpus": flavor["vcpus"],
        "memory_mb": flavor["memory_mb"],
        "disk_gb": flavor["root_gb"] + flavor["ephemeral_gb"],
        "progress": 0,
        "epoch": common.keep_epoch(run),
        **changes,
    }
    store.update(conn, server["id"], **values)
    common.touch(run.service, conn, there["host"], server["id"])


def give_up(run: Run, conn: sa.Connection, message: str, tasks: tuple[str, ...], status: str) -> Row | None:
    """After a move was undone: the server's task ends and its fault says why. The server's row as it was, None when it is gone."""
    number = int(run.input["migration"])
    move = moves.get(conn, number)
    moves.update(conn, number, status=status)
    server = store.get(conn, run.resource_id)
    if server is None:
        return None
    reasons = (move or {}).get("details", {}).get("reasons", {})
    store.swap_task(conn, server["id"], tasks, task_state=None, fault=common.fault(message, reasons))
    common.touch(run.service, conn, server["host"], server["id"])
    return server
