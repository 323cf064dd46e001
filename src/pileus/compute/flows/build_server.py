"""Building a server: claim a host, make its ports, make the guest paused, let it run once the network is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import sqlalchemy as sa

from pileus.clients.base import PeerError
from pileus.compute.flows import common
from pileus.compute.flows.common import HostFailed, Row
from pileus.compute.logic import actions, documents, networks, placement, placing, states
from pileus.compute.store import servers as store
from pileus.kernel import clock
from pileus.kernel.flows import Abort, Flow, LostLease, Retry, Run, Step

EVENT = "compute__do_build_and_run_instance"
_OVERTAKEN = "The server is being deleted, or its build was given up elsewhere."
_IN_WORK = (states.SCHEDULING, states.NETWORKING, states.SPAWNING)


def claim(run: Run) -> dict[str, Any]:
    """Choose a host and claim it in placement."""
    server = common.server_of(run)
    if server["host"] and server["task_state"] != states.SCHEDULING:
        return {"host": server["host"]}
    return _place(run, server)


def _place(run: Run, server: Row) -> dict[str, Any]:
    try:
        found = placing.place(run.service, run.context, server)
    except LostLease:
        if not _in_use(run):
            placement.release(run.service, run.context, server["id"])
        raise
    except placing.Overtaken:
        raise Abort(_OVERTAKEN) from None
    except placing.NoValidHost as error:
        _remember(run, server, error.reasons)
        if (server["placement"] or {}).get("tried"):
            raise Abort(_exhausted(server)) from None
        raise Abort(str(error)) from None
    return {"host": found["host"]}


def _in_use(run: Run) -> bool:
    """Whether the server is being built, or was built, by whoever took the flow over; otherwise what was just made is nobody's."""
    with run.service.db.read() as conn:
        server = store.get(conn, run.resource_id)
    if server is None or server["task_state"] == states.DELETING:
        return False
    return server["task_state"] in _IN_WORK or server["launched_at"] is not None


def _exhausted(server: Row) -> str:
    return (
        "Exceeded maximum number of retries. Exhausted all hosts available for retrying build failures for instance "
        f"{server['id']}."
    )


def _remember(run: Run, server: Row, reasons: Mapping[str, str]) -> None:
    """Keep why hosts were passed over, for the fault and for the operator."""
    asked = dict(server["placement"] or {})
    asked["reasons"] = {**reasons, **asked.get("reasons", {})}
    with run.service.db.write(durable=False) as conn:
        store.update(conn, server["id"], placement=asked)


def unclaim(run: Run) -> None:
    placement.release(run.service, run.context, run.resource_id)
    with run.service.db.write(durable=False) as conn:
        store.update(conn, run.resource_id, host=None, node=None)


def ports(run: Run) -> dict[str, Any]:
    """Make or take the server's ports, bound to its host, and learn their addresses."""
    server = common.server_of(run)
    wanted = server["requested_networks"] or {}
    nics = wanted.get("nics", [])
    bound = _bind_all(run, server, nics, wanted.get("security_groups", [])) if nics else []
    info = networks.network_info(run.service, run.context, bound)
    try:
        _record_ports(run, server, nics, bound, [info[port["id"]] for port in bound])
    except LostLease:
        if not _in_use(run):
            common.give_back_ports(run, server)
        raise
    return {"ports": [port["id"] for port in bound]}


def _record_ports(run: Run, server: Row, nics: list[Row], bound: list[Row], info: list[Row]) -> None:
    with run.service.db.write(durable=False) as conn:
        going_on = store.swap_task(
            conn, server["id"], _IN_WORK, task_state=states.SPAWNING, epoch=common.keep_epoch(run)
        )
        if not going_on:
            raise Abort(_OVERTAKEN)
        for place, (nic, port) in enumerate(zip(nics, bound, strict=True)):
            mine = nic["port_id"] is None
            store.add_port(conn, server["id"], port["id"], mine=mine, position=place, tag=nic["tag"])
        store.set_network_info(conn, server["id"], info)
        common.touch(run.service, conn, server["host"], server["id"])


def _bind_all(run: Run, server: Row, nics: list[Row], groups: list[str]) -> list[Row]:
    """The ports in the order of the cards. What an earlier attempt made or took is found by its marker, the device id."""
    with run.service.db.read() as conn:
        recorded = bool(store.ports_of(conn, server["id"]))
    again = recorded or run.epoch > 1 or run.attempt > 0
    there = networks.ports_of(run.service, run.context, [server["id"]]) if again else []
    known = {port["id"]: port for port in there}
    found = []
    for place, nic in enumerate(nics):
        port_id = nic["port_id"] or networks.id_of_port(server["id"], place)
        port = known.get(port_id)
        if port is None or port.get("binding:host_id") != server["host"]:
            port = _bind(run, server, nic, groups, port_id, there=port is not None)
        if port.get("binding:vif_type") == "binding_failed":
            raise Abort(f"Binding failed for port {port['id']}, please check the network agent of {server['host']}.")
        found.append(port)
    return found


def _bind(run: Run, server: Row, nic: Row, groups: list[str], port_id: str, *, there: bool) -> Row:
    """One port on the server's host: taken or made."""
    marks: Row = {
        "device_id": server["id"],
        "device_owner": networks.zone_owner(server["availability_zone"]),
        "binding:host_id": server["host"],
    }
    try:
        if there or nic["port_id"]:
            return networks.take_port(run.service, run.context, port_id, marks)
        body = {
            **marks,
            "id": port_id,
            "network_id": nic["network_id"],
            "tenant_id": server["project_id"],
            "admin_state_up": True,
        }
        if groups:
            body["security_groups"] = groups
        if nic["fixed_ip"]:
            body["fixed_ips"] = [{"ip_address": nic["fixed_ip"]}]
        return networks.create_port(run.service, run.context, body)
    except networks.PortExists:
        raise Retry(0.0, f"port {port_id} has just been made by somebody else") from None
    except PeerError as error:
        raise common.network_call(error) from error


def unports(run: Run) -> None:
    with run.service.db.read() as conn:
        server = store.get(conn, run.resource_id)
    if server is None:
        return
    if not (server["requested_networks"] or {}).get("nics"):
        return
    common.give_back_ports(run, server)
    with run.service.db.write(durable=False) as conn:
        store.remove_ports(conn, server["id"])
        store.set_network_info(conn, server["id"], [])


def spawn(run: Run) -> dict[str, Any]:
    """Make the guest on the host, paused. A host that fails is left for another one."""
    server = common.server_of(run)
    if server["task_state"] != states.SPAWNING:
        _go_on(run, server)
    if not server["host"]:
        raise Abort("The server has lost its host.")
    with run.service.db.read() as conn:
        doc = documents.load_doc(run.service.options, conn, server, epoch=common.epoch_of(run), power="running")
    try:
        with common.asking(run, server["host"]):
            common.make_on(run, server["host"], doc.to_dict())
    except HostFailed as error:
        _leave(run, server, str(error))
        _go_on(run, common.server_of(run))
    return {"host": server["host"], "at": clock.time()}


def _leave(run: Run, server: Row, reason: str) -> None:
    """The host is not wanted any more. That it is being left shows in the task, so that whoever comes next goes on with it."""
    asked = dict(server["placement"] or {})
    asked["tried"] = [*asked.get("tried", []), server["host"]]
    asked["reasons"] = {**asked.get("reasons", {}), server["host"]: reason}
    with run.service.db.write(durable=False) as conn:
        if not store.swap_task(conn, server["id"], _IN_WORK, task_state=states.SCHEDULING, placement=asked):
            raise Abort(_OVERTAKEN)
        common.drop(run.service, conn, server["host"], server["id"])
        store.forget_plugged(conn, server["id"])


def _go_on(run: Run, server: Row) -> NoReturn:
    """From a host that failed to the next one, from where that was broken off: claim it, take the ports there, and spawn again."""
    asked = server["placement"] or {}
    failed_host = asked["tried"][-1]
    reason = asked["reasons"][failed_host]
    if server["task_state"] == states.SCHEDULING:
        common.destroy_on(run, failed_host)
        if asked.get("host"):
            raise Abort(f"Build of instance {server['id']} aborted: {reason}")
        if len(asked["tried"]) >= run.service.options.max_attempts:
            raise Abort(_exhausted(server))
        server = {**server, **_place(run, server)}
    _take_ports_along(run, server)
    with run.service.db.write(durable=False) as conn:
        epoch = common.keep_epoch(run)
        if not store.swap_task(conn, server["id"], _IN_WORK, task_state=states.SPAWNING, epoch=epoch):
            raise Abort(_OVERTAKEN)  # the host has nothing of it yet, and is not told that it shall
        common.touch(run.service, conn, server["host"], server["id"])
    raise Retry(0.0, f"{failed_host} failed: {reason}")


def _take_ports_along(run: Run, server: Row) -> None:
    with run.service.db.read() as conn:
        known = [port["port_id"] for port in store.ports_of(conn, server["id"])]
    for port_id in known:
        try:
            networks.update_port(run.service, run.context, port_id, {"binding:host_id": server["host"]})
        except PeerError as error:
            raise common.network_call(error) from error


def unspawn(run: Run) -> None:
    with run.service.db.write(durable=False) as conn:
        server = store.get(conn, run.resource_id)
        if server is None or not server["host"]:
            return
        common.drop(run.service, conn, server["host"], server["id"])
        store.forget_plugged(conn, server["id"])
    common.destroy_on(run, server["host"])


def activate(run: Run) -> dict[str, Any]:
    """Wait until the network has plugged every port, then let the guest run."""
    server = common.server_of(run)
    wanted = set((run.results.get("ports") or {}).get("ports", ()))
    common.wait_for_ports(run, server["id"], wanted, run.results["spawn"]["at"])
    try:
        common.call_host(run, server["host"], "resume")
    except HostFailed as error:
        raise Abort(f"Build of instance {server['id']} aborted: {error}") from error
    return {}


def finished(run: Run, conn: sa.Connection) -> None:
    """The server is there."""
    now = clock.utcnow()
    server = store.get(conn, run.resource_id)
    if server is None:
        return
    info = [{**vif, "active": True} for vif in server["network_info"] or []]
    store.swap_task(
        conn,
        run.resource_id,
        _IN_WORK,
        vm_state=states.ACTIVE,
        task_state=None,
        power_state=states.RUNNING,
        launched_at=now,
        progress=0,
        fault=None,
        network_info=info,
    )
    actions.finish(conn, run.input.get("action"), EVENT, host=server["host"])


def failed(run: Run, conn: sa.Connection, message: str) -> None:
    """The server is in error, with what it had given back; one that is being deleted goes on to be."""
    server = store.get(conn, run.resource_id)
    if server is None:
        return
    reasons = (server["placement"] or {}).get("reasons", {})
    store.swap_task(
        conn,
        run.resource_id,
        _IN_WORK,
        vm_state=states.ERROR,
        task_state=None,
        power_state=states.NOSTATE,
        fault=common.fault(message, reasons),
    )
    actions.finish(conn, run.input.get("action"), EVENT, host=None, error=message)


BUILD_SERVER = Flow(
    "build_server",
    steps=(
        Step("claim", claim, undo=unclaim),
        Step("ports", ports, undo=unports),
        Step("spawn", spawn, undo=unspawn),
        Step("activate", activate),
    ),
    finished=finished,
    failed=failed,
    deadline=3600.0,
)
