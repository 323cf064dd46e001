"""Servers: /servers and /servers/{id}."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pileus.compute.api import schemas as s
from pileus.compute.api import server_filters
from pileus.compute.api.common import check_visible, passes_lock, server_of, target
from pileus.compute.api.server_schemas import CREATE, LIST_QUERY, UPDATE
from pileus.compute.api.server_view import View
from pileus.compute.errors import BadRequest
from pileus.compute.logic import create as logic
from pileus.compute.logic import power, servers
from pileus.compute.logic.networks import NicRequest
from pileus.compute.store import servers as store
from pileus.compute.store.tables import SERVERS
from pileus.kernel.errors import Forbidden
from pileus.kernel.pagination import page
from pileus.kernel.web import Call, Operations, Reply

operations = Operations()

_PREFIX = "os_compute_api:servers"


def _rows(call: Call, columns: list[sa.Column[Any]], conn: sa.Connection, limit: int) -> list[dict[str, Any]]:
    """One page of servers. Raises `server_filters.Nothing` when the filters exclude all."""
    filters = server_filters.parse(call)
    order = server_filters.sort(call)
    marker = None
    if (given := call.query.one("marker")) is not None:
        marker = store.get_even_deleted(conn, given)
        if marker is None or (marker["project_id"] != call.context.project_id and not call.context.is_admin):
            raise BadRequest(f"marker [{given}] not found")
    query = sa.select(*columns).where(*store.conditions(filters))
    return [dict(row) for row in conn.execute(page(query, SERVERS, sort=order, marker=marker, limit=limit)).mappings()]


def _listing(call: Call, *, detail: bool) -> dict[str, Any]:
    limit = s.limit_of(call)
    view = View(call)
    if detail:
        view.prepare()
    columns = view.columns() if detail else [SERVERS.c.id, SERVERS.c.name]
    try:
        with call.service.db.read() as conn:
            rows = _rows(call, columns, conn, limit) if limit else []
            shown = view.many(conn, rows) if detail else [view.brief(row["id"], row["name"]) for row in rows]
    except server_filters.Nothing:
        rows, shown = [], []
    answer: dict[str, Any] = {"servers": shown}
    if rows and len(rows) == limit:
        answer["servers_links"] = s.next_link(call, call.link(call.operation.path), rows[-1]["id"])
    return answer


@operations("GET", "/servers", rule=f"{_PREFIX}:index", query=LIST_QUERY)
def list_servers(call: Call) -> dict[str, Any]:
    """List servers"""
    return _listing(call, detail=False)


@operations("GET", "/servers/detail", rule=f"{_PREFIX}:detail", query=LIST_QUERY)
def list_servers_detail(call: Call) -> dict[str, Any]:
    """List servers with details"""
    return _listing(call, detail=True)


@operations("GET", "/servers/{server_id}", rule=f"{_PREFIX}:show", late=True)
def show_server(call: Call) -> dict[str, Any]:
    """Show a server"""
    server_id = call.params["server_id"]
    with call.service.db.read() as conn:
        row = check_visible(call, store.get(conn, server_id), server_id)
        call.authorize(target(row))
        view = View(call)
        view.prepare()
        return {"server": view.one(conn, row)}


@operations("DELETE", "/servers/{server_id}", rule=f"{_PREFIX}:delete", late=True, status=204)
def delete_server(call: Call) -> None:
    """Delete a server"""
    row = server_of(call)
    power.delete_server(call.service, call.context, row["id"], unlocked=passes_lock(call, row))


@operations("PUT", "/servers/{server_id}", rule=f"{_PREFIX}:update", late=True, body=UPDATE)
def update_server(call: Call) -> dict[str, Any]:
    """Change a server's name, description, host name or access addresses"""
    row = server_of(call)
    given = call.body["server"]
    columns = {
        "name": "name",
        "description": "description",
        "hostname": "hostname",
        "OS-DCF:diskConfig": "disk_config",
        "accessIPv4": "access_ip_v4",
        "accessIPv6": "access_ip_v6",
    }
    changes = {
        columns[name]: s.address(value) if name.startswith("accessIP") else value for name, value in given.items()
    }
    servers.update_server(call.service, row["id"], changes)
    with call.service.db.read() as conn:
        view = View(call, complete=False)
        view.prepare()
        return {"server": view.one(conn, store.get(conn, row["id"]) or row)}


@operations("POST", "/servers", rule=f"{_PREFIX}:create", status=202, body=CREATE)
def create_server(call: Call) -> Reply:
    """Create one or several servers"""
    order = _order(call)
    made = logic.create_servers(call.service, call.context, order)
    given = call.body["server"]
    if s.boolean(given.get("return_reservation_id", False)):
        return Reply({"reservation_id": made.reservation_id})
    view = View(call)
    server_id = made.server["id"]
    body: dict[str, Any] = {
        "id": server_id,
        "links": view.links(server_id),
        "OS-DCF:diskConfig": made.server["disk_config"],
        "security_groups": [{"name": name} for name in order.security_groups or ("default",)],
    }
    if call.service.options.enable_instance_password or given.get("adminPass"):
        body["adminPass"] = made.admin_pass
    return Reply({"server": body}, headers={"Location": call.link(f"/servers/{server_id}")})


def _order(call: Call) -> logic.Order:
    """The body in the words of the logic. Raises `BadRequest` for what is refused whatever the rights."""
    given = call.body["server"]
    low, high = _counts(given)
    _refuse(given)
    zone, host, node, forced = _place(call, given)
    image_ref = given.get("imageRef") or _image_of_mapping(given.get("block_device_mapping_v2"))
    hints = call.body.get("os:scheduler_hints") or call.body.get("OS-SCH-HNT:scheduler_hints") or {}
    groups = tuple(dict.fromkeys(g["name"] for g in given.get("security_groups", ()) if g.get("name")))
    rights = {
        logic.EXTERNAL: "network:attach_external_network",
        logic.ZERO_DISK: f"{_PREFIX}:create:zero_disk_flavor",
    }
    return logic.Order(
        name=given["name"].strip(),
        description=given.get("description", None if call.at_least(2, 19) else given["name"].strip()),
        flavor_ref=str(given["flavorRef"]),
        image_ref=image_ref,
        hostname=given.get("hostname"),
        key_name=given.get("key_name"),
        metadata=given.get("metadata") or {},
        tags=tuple(dict.fromkeys(given.get("tags", ()))),
        user_data=given.get("user_data"),
        config_drive=s.boolean(given.get("config_drive", False)),
        disk_config=given.get("OS-DCF:diskConfig", "MANUAL"),
        admin_pass=given.get("adminPass"),
        access_ip_v4=s.address(given.get("accessIPv4")),
        access_ip_v6=s.address(given.get("accessIPv6")),
        zone=zone,
        host=host,
        node=node,
        forced=forced,
        networks=_networks(given.get("networks")),
        security_groups=groups,
        hints=hints,
        min_count=low,
        max_count=high,
        may=frozenset(name for name, rule in rights.items() if call.allows(rule)),
    )


def _counts(given: dict[str, Any]) -> tuple[int, int]:
    low = s.integer(given.get("min_count", 1), "min_count", 1)
    high = s.integer(given.get("max_count", low), "max_count", 1)
    if low > high:
        raise BadRequest("min_count must be <= max_count")
    if high > 1 and given.get("hostname") is not None and "." in given["hostname"]:
        raise BadRequest("A host name with a domain cannot be given to several servers.")
    return low, high


def _refuse(given: dict[str, Any]) -> None:
    """What the schema lets through and this release does not do."""
    if given.get("personality"):
        raise BadRequest("Injecting files with 'personality' is not supported; use user_data or a config drive.")
    if given.get("block_device_mapping"):
        raise BadRequest("Servers with volumes are not supported; boot from an image.")
    if given.get("trusted_image_certificates"):
        raise BadRequest("Checking image signatures with trusted_image_certificates is not supported.")


_LOCAL_IMAGE = {"source_type": "image", "destination_type": "local"}


def _image_of_mapping(mapping: list[dict[str, Any]] | None) -> str | None:
    """The image of a block device mapping that says what an image reference says: one image on the local disk."""
    if not mapping:
        return None
    one = mapping[0]
    local = all(one.get(name) == value for name, value in _LOCAL_IMAGE.items())
    if len(mapping) > 1 or not local or str(one.get("boot_index")) != "0" or not one.get("uuid"):
        raise BadRequest("Block device mappings other than one image on the local disk are not supported.")
    return str(one["uuid"])


def _place(call: Call, given: dict[str, Any]) -> tuple[str | None, str | None, str | None, bool]:
    """(zone, host, hypervisor, whether scheduling is passed over) from availability_zone and, from 2.74, host and hypervisor_hostname."""
    if given.get("block_device_mapping_v2"):
        _image_of_mapping(given["block_device_mapping_v2"])
    zone, host, node = given.get("availability_zone"), None, None
    if zone and ":" in zone:
        parts = zone.split(":")
        if len(parts) > 3:
            raise BadRequest("Unable to parse availability zone: use zone:host:node, zone::node or zone:host")
        zone, host, node = parts[0] or None, parts[1] or None, (parts[2] or None) if len(parts) == 3 else None
        _need(call, f"{_PREFIX}:create:forced_host")
    asked_host, asked_node = given.get("host"), given.get("hypervisor_hostname")
    if asked_host or asked_node:
        if host or node:
            raise BadRequest("Destination hosts can be given in availability_zone or in host and hypervisor_hostname.")
        _need(call, f"{_PREFIX}:create:requested_destination")
        return zone, asked_host, asked_node, False
    return zone, host, node, bool(host or node)


def _need(call: Call, rule: str) -> None:
    if not call.allows(rule):
        raise Forbidden(f"Policy doesn't allow {rule} to be performed.", code="PolicyNotAuthorized")


def _networks(given: Any) -> tuple[NicRequest, ...] | str | None:
    if given is None or isinstance(given, str):
        return given
    found = []
    for nic in given:
        port, network, address = nic.get("port"), nic.get("uuid"), nic.get("fixed_ip")
        if port and address:
            raise BadRequest("Specified Fixed IP cannot be used with port. Port already has a Fixed IP allocated.")
        if not port and not network:
            raise BadRequest("Missing network information: each network needs 'uuid' or 'port'.")
        found.append(
            NicRequest(port_id=port, network_id=None if port else network, fixed_ip=address, tag=nic.get("tag"))
        )
    ports = [nic.port_id for nic in found if nic.port_id]
    if len(ports) != len(set(ports)):
        raise BadRequest("Duplicate port in the networks of the request.")
    return tuple(found)
