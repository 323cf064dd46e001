"""Rebuilding servers: a fresh disk, and what the caller wants to be different."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pileus.compute.errors import BadRequest, KeypairNotFound, TooMany, WrongState
from pileus.compute.logic import actions, images, keypairs, power, quotas, servers, states
from pileus.compute.store import servers as store
from pileus.kernel import ids
from pileus.kernel.context import Context
from pileus.kernel.service import Service


@dataclass(frozen=True)
class Rebuilt:
    """What the answer shows beside the server."""

    admin_pass: str | None
    user_data: str | None
    key_name: str | None


def rebuild_server(
    service: Service, context: Context, server_id: str, given: Mapping[str, Any], *, unlocked: bool
) -> Rebuilt:
    """Begin to rebuild. Raises `BadRequest` for an image that does not fit, `WrongState`, `ServerLocked`."""
    image = images.get_image(service, context, given["imageRef"])
    with service.db.write() as conn:
        server = servers.locked_row(conn, server_id)
        needed = states.check("rebuild", server, ignore_lock=unlocked)
        if not server["host"]:
            raise WrongState("rebuild", server_id, "vm_state", server["vm_state"])
        images.check_fits(image, server["flavor"])
        changes = _changes(given, image)
        changes.update(_key(conn, server, given))
        password = given.get("adminPass") or (ids.password(12) if service.options.enable_instance_password else None)
        epoch = power.next_epoch(server)
        changes |= {"admin_pass": password, "task_state": needed.task, "epoch": epoch, "power_state": states.NOSTATE}
        if given.get("metadata") is not None:
            limit = quotas.limits(service, conn, server["project_id"])["metadata_items"]
            if 0 <= limit < len(given["metadata"]):
                raise TooMany(f"Maximum number of metadata items exceeds {limit}")
            store.set_metadata(conn, server_id, given["metadata"])
        if not store.swap(conn, server, **changes):
            raise WrongState("rebuild", server_id, "task_state", "changing")
        number = actions.start(conn, context, server_id, "rebuild")
        asked = {"epoch": epoch, "action": number, "stopped": server["vm_state"] == states.STOPPED}
        service.flows.start(conn, "rebuild_server", resource_id=server_id, input=asked, context=context)
    after = {**server, **changes}
    return Rebuilt(password, after["user_data"], after["key_name"])


def _changes(given: Mapping[str, Any], image: Mapping[str, Any]) -> dict[str, Any]:
    columns = {
        "name": "name",
        "description": "description",
        "OS-DCF:diskConfig": "disk_config",
        "accessIPv4": "access_ip_v4",
        "accessIPv6": "access_ip_v6",
        "user_data": "user_data",
        "hostname": "hostname",
    }
    found = {column: given[name] for name, column in columns.items() if name in given}
    for column in ("access_ip_v4", "access_ip_v6"):
        if found.get(column):
            found[column] = str(ipaddress.ip_address(found[column]))
    return {**found, "image": dict(image), "image_ref": image["id"]}


def _key(conn: Any, server: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The key of the server's owner that was named; null takes the key away."""
    if "key_name" not in given:
        return {}
    name = given["key_name"]
    if name is None:
        return {"key_name": None, "key_data": None}
    try:
        key = keypairs.get_keypair(conn, server["user_id"], name)
    except KeypairNotFound:
        raise BadRequest("Invalid key_name provided.") from None
    return {"key_name": key["name"], "key_data": key["public_key"]}
