"""Moving servers between hosts: what is checked and recorded when somebody asks for it, and what a move holds of quota meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from pileus.compute.errors import BadRequest, HostNotFound, ServiceDown, WrongState
from pileus.compute.logic import actions, create, flavors, hosts, images, power, quotas, servers, states
from pileus.compute.store import hosts as host_store
from pileus.compute.store import moves as store
from pileus.compute.store import servers as server_store
from pileus.kernel import ids
from pileus.kernel.bus import BusTimeout, BusUnavailable, RemoteError
from pileus.kernel.context import Context
from pileus.kernel.errors import NotFound
from pileus.kernel.service import Service

Row = Mapping[str, Any]


def evacuate(
    service: Service,
    context: Context,
    server_id: str,
    *,
    host: str | None,
    forced: bool,
    password: str | None,
    stopped: bool,
) -> None:
    """Begin to bring a server of a host that is down to life elsewhere, from its image. `stopped`: it is not started there.

    Raises `BadRequest` while the host is up, `WrongState`, `NotReady`.
    """
    with service.db.write() as conn:
        server = servers.locked_row(conn, server_id)
        needed = states.check("evacuate", server)
        if server["task_state"] in {*states.MOVING, states.DELETING}:
            raise WrongState("evacuate", server_id, "task_state", server["task_state"])
        source = host_store.compute_service(conn, server["host"])
        if source is not None and hosts.is_up(service.options, source):
            raise BadRequest(f"Compute service of {server['host']} is still in use.")
        if not server["image"]:
            raise BadRequest(f"Instance {server_id} has no image from which its disk could be made anew.")
        off = stopped or server["vm_state"] == states.STOPPED
        details = {"host": host, "forced": forced, "vm_state": server["vm_state"], "stopped": off}
        changes: dict[str, Any] = {"task_state": needed.task}
        if password is not None:
            changes["admin_pass"] = password
        service.flows.cancel(conn, server_id, ["change_power", "rebuild_server"])
        _begin(service, conn, context, server, store.EVACUATION, "accepted", details, changes)


_FLOWS = {
    store.EVACUATION: ("evacuate_server", "evacuate"),
    store.COLD: ("migrate_server", "migrate"),
    store.RESIZE: ("migrate_server", "resize"),
    store.LIVE: ("live_migrate", "live-migration"),
}
"""Kind of migration -> its flow, and what the server's diary calls it."""


def _begin(
    service: Service,
    conn: sa.Connection,
    context: Context,
    server: Row,
    kind: str,
    status: str,
    details: Row,
    changes: Row,
    flavor: Row | None = None,
) -> None:
    """The migration, the server's task and the flow, in the caller's transaction."""
    flow, diary = _FLOWS[kind]
    epoch = power.next_epoch(server)
    if not server_store.swap(conn, server, epoch=epoch, progress=0, **changes):
        raise WrongState(diary, server["id"], "task_state", "changing")
    old = server["flavor"]
    new = dict(flavor) if flavor else old
    number = store.insert(
        conn,
        {
            "uuid": ids.new_uuid(),
            "server_id": server["id"],
            "migration_type": kind,
            "status": status,
            "source_compute": server["host"],
            "source_node": server["node"],
            "old_flavor": old,
            "new_flavor": new,
            "old_flavor_id": store.flavor_number(conn, old["flavorid"]),
            "new_flavor_id": store.flavor_number(conn, new["flavorid"]),
            "details": {**details, "token": ids.new_id(), "old_zone": server["availability_zone"]},
            "user_id": context.user_id,
            "project_id": context.project_id,
        },
    )
    action = actions.start(conn, context, server["id"], diary)
    service.flows.start(
        conn,
        flow,
        resource_id=server["id"],
        input={"epoch": epoch, "action": action, "migration": number},
        context=context,
    )


def check_target(
    service: Service, host: str | None, server: Row, *, missing: type[NotFound | BadRequest], same: str
) -> None:
    """Whether a host that was named can be a destination: it exists and is another one. `missing` is the kind of error for one that does not exist."""
    if host is None:
        return
    with service.db.read() as conn:
        known = host_store.node_of(conn, host)
    if known is None:
        raise missing(HostNotFound(host).message)
    if host == server["host"]:
        raise BadRequest(same)


# -- cold migration and resize ---------------------------------------------------------------------------------------


def migrate(service: Service, context: Context, server_id: str, *, host: str | None, unlocked: bool) -> None:
    """Begin to move a server to another host, where it waits for confirmation. Raises `WrongState`, `ServerLocked`, `ServiceDown`."""
    with service.db.write() as conn:
        server = servers.locked_row(conn, server_id)
        needed = states.check("migrate", server, ignore_lock=unlocked)
        _check_up(service, conn, server)
        details = {"host": host, "vm_state": server["vm_state"]}
        _begin(service, conn, context, server, store.COLD, "pre-migrating", details, {"task_state": needed.task})


def resize(
    service: Service, context: Context, server_id: str, flavor_ref: str, *, disk_config: str | None, unlocked: bool
) -> None:
    """Begin to give a server another flavor, on its host or another one. Raises `BadRequest`, `TooMany`, `WrongState`, `ServerLocked`."""
    with service.db.read() as conn:
        try:
            flavor = flavors.get_flavor(conn, context, flavor_ref.rstrip("/").rsplit("/", 1)[-1])
        except NotFound as error:
            raise BadRequest(error.message) from None
    new = create.stored_flavor(flavor)
    with service.db.write() as conn:
        server = servers.locked_row(conn, server_id)
        needed = states.check("resize", server, ignore_lock=unlocked)
        _check_up(service, conn, server)
        _check_flavor(server, new, flavor)
        more = {name: max(0, size) for name, size in _difference(server["flavor"], new).items()}
        if any(more.values()):
            quotas.reserve(service, conn, server["project_id"], more)
        details = {"host": None, "vm_state": server["vm_state"], "disk_config": disk_config}
        changes = {"task_state": needed.task}
        _begin(service, conn, context, server, store.RESIZE, "pre-migrating", details, changes, new)


def _check_up(service: Service, conn: sa.Connection, server: Row) -> None:
    if not hosts.host_is_up(service.options, conn, server["host"]):
        raise ServiceDown


def _check_flavor(server: Row, new: Row, flavor: Row) -> None:
    old = server["flavor"]
    if new["flavorid"] == old["flavorid"]:
        raise BadRequest("When resizing, instances must change flavor!")
    if flavor.get("disabled"):
        raise BadRequest(f"Flavor {new['flavorid']} could not be found.")
    if old["root_gb"] and not new["root_gb"]:
        raise BadRequest("Resize to zero disk flavor is not allowed.")
    for part, name in (("root_gb", "root"), ("ephemeral_gb", "ephemeral")):
        if new[part] < old[part]:
            raise BadRequest(f"Resize error: the {name} disk cannot be made smaller ({old[part]} GiB to {new[part]}).")
    if server["image"]:
        images.check_fits(server["image"], new)


def _difference(old: Row, new: Row) -> dict[str, int]:
    """What a project uses more after a resize."""
    return {"cores": new["vcpus"] - old["vcpus"], "ram": new["memory_mb"] - old["memory_mb"]}


def confirm(service: Service, context: Context, server_id: str, *, unlocked: bool) -> None:
    """Begin to take away what a moved server left where it came from. Raises `BadRequest` when it does not wait for that."""
    _answer(service, context, server_id, "confirmResize", "confirming", "confirm_resize", unlocked=unlocked)


def revert(service: Service, context: Context, server_id: str, *, unlocked: bool) -> None:
    """Begin to bring a moved server back to where it was and what it was."""
    _answer(service, context, server_id, "revertResize", "reverting", "revert_resize", unlocked=unlocked)


def _answer(
    service: Service, context: Context, server_id: str, action: str, status: str, flow: str, *, unlocked: bool
) -> None:
    with service.db.write() as conn:
        server = servers.locked_row(conn, server_id)
        needed = states.check(action, server, ignore_lock=unlocked)
        move = store.awaiting(conn, server_id)
        if move is None or not store.swap(conn, move["id"], ["finished"], status):
            raise BadRequest("Instance has not been resized.")
        epoch = power.next_epoch(server)
        if not server_store.swap(conn, server, epoch=epoch, task_state=needed.task):
            raise WrongState(action, server_id, "task_state", "changing")
        number = actions.start(conn, context, server_id, action)
        given = {"epoch": epoch, "action": number, "migration": move["id"]}
        service.flows.start(conn, flow, resource_id=server_id, input=given, context=context)


# -- live migration ---------------------------------------------------------------------------------------------------


def migrate_live(
    service: Service, context: Context, server_id: str, *, host: str | None, forced: bool, unlocked: bool
) -> None:
    """Begin to move a running server to another host. Raises `WrongState`, `ServerLocked`, `ServiceDown`."""
    with service.db.write() as conn:
        server = servers.locked_row(conn, server_id)
        needed = states.check("os-migrateLive", server, ignore_lock=unlocked)
        _check_up(service, conn, server)
        details = {"host": host, "forced": forced, "vm_state": server["vm_state"]}
        _begin(service, conn, context, server, store.LIVE, "queued", details, {"task_state": needed.task})


def force_complete(service: Service, context: Context, server: Row, number: str) -> None:
    """Let a live migration that does not come to its end do so. Raises `NotFound`, `BadRequest` in another status than running."""
    move = _going_on(service, server, number)
    if move["status"] != "running":
        raise BadRequest(
            f"Migration {number} state of instance {server['id']} is {move['status']}. Cannot force_complete while "
            "the migration is in this state."
        )
    try:
        service.bus.call(f"agent.{move['source_compute']}", "compute.hurry_send", {"id": server["id"]}, timeout=10.0)
    except (BusTimeout, BusUnavailable, RemoteError) as error:
        raise ServiceDown from error
    with service.db.write() as conn:
        actions.done(conn, context, server["id"], "live_migration_force_complete")


def abort(service: Service, context: Context, server: Row, number: str, *, early: bool) -> None:
    """Call a live migration off. `early`: also one that has not begun to run. Raises `NotFound`, `BadRequest`."""
    move = _going_on(service, server, number)
    if move["status"] not in (("queued", "preparing", "running") if early else ("running",)):
        raise BadRequest(
            f"Migration {number} state of instance {server['id']} is {move['status']}. Cannot abort while the migration "
            "is in this state."
        )
    with service.db.write() as conn:
        store.update(conn, move["id"], details={**move["details"], "aborted": True})
        service.flows.cancel(conn, server["id"], ["live_migrate"])
        actions.done(conn, context, server["id"], "live_migration_cancel")


def _going_on(service: Service, server: Row, number: str) -> dict[str, Any]:
    """The live migration of this number, if it is one of the server."""
    if server["task_state"] != states.MIGRATING:
        raise WrongState("force_complete or abort", server["id"], "task_state", server["task_state"])
    with service.db.read() as conn:
        move = store.get(conn, int(number)) if number.isdigit() and len(number) < 10 else None
    if move is None or move["server_id"] != server["id"] or move["migration_type"] != store.LIVE:
        raise NotFound(f"Migration {number} not found for server {server['id']}.")
    return move


# -- quota -----------------------------------------------------------------------------------------------------------


def held(conn: sa.Connection, server: Row) -> dict[str, int]:
    """What a server holds of its project's quota: of both flavors the larger one while a resize is not confirmed."""
    amounts = {"cores": server["vcpus"], "ram": server["memory_mb"]}
    for move in store.unended(conn, server["id"]):
        for flavor in (move["old_flavor"], move["new_flavor"]):
            amounts["cores"] = max(amounts["cores"], flavor["vcpus"])
            amounts["ram"] = max(amounts["ram"], flavor["memory_mb"])
    return amounts


def settle_quota(conn: sa.Connection, server: Row, move: Row, *, confirmed: bool) -> None:
    """Give back the difference: of a larger flavor that the server did not get, or of a larger one that it no longer has."""
    sign = -1 if confirmed else 1
    less = {name: sign * size for name, size in _difference(move["old_flavor"], move["new_flavor"]).items()}
    quotas.release(conn, server["project_id"], {name: size for name, size in less.items() if size > 0})


def end_with_server(conn: sa.Connection, server_id: str) -> None:
    """The server is deleted: what waited for confirmation has it, what was under way will not come to its end."""
    for move in store.unended(conn, server_id):
        store.update(conn, move["id"], status="confirmed" if move["status"] in {"finished", "confirming"} else "error")
