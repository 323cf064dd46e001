"""Making servers: everything is checked and counted, then rows and flows are written in one transaction."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from pileus.compute.errors import BadRequest, FlavorNotFound, KeypairNotFound, ServerGroupNotFound
from pileus.compute.logic import actions, flavors, hosts, images, keypairs, networks, quotas, server_groups, states
from pileus.compute.store import hosts as host_store
from pileus.compute.store import servers as store
from pileus.compute.store.tables import COMPUTE_NODES
from pileus.kernel import clock, ids
from pileus.kernel.context import Context
from pileus.kernel.errors import Conflict, Forbidden
from pileus.kernel.service import Service

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a caller wants, with the words of the API already understood. `may` holds the special rights that policy gave."""

    name: str
    flavor_ref: str
    image_ref: str | None
    description: str | None = None
    hostname: str | None = None
    key_name: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    user_data: str | None = None
    config_drive: bool = False
    disk_config: str = "MANUAL"
    admin_pass: str | None = None
    access_ip_v4: str | None = None
    access_ip_v6: str | None = None
    zone: str | None = None
    host: str | None = None
    node: str | None = None
    forced: bool = False
    networks: tuple[networks.NicRequest, ...] | str | None = None
    security_groups: tuple[str, ...] = ()
    hints: Mapping[str, Any] = field(default_factory=dict)
    min_count: int = 1
    max_count: int = 1
    may: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Created:
    """The first of the new servers (its row), and the reservation that joins them."""

    server: Row
    reservation_id: str
    admin_pass: str


EXTERNAL, ZERO_DISK = "external networks", "flavors without disk"


def create_servers(service: Service, context: Context, order: Order) -> Created:
    """Record the servers and start to build them. Raises the room's errors; nothing is left behind then."""
    with service.db.read() as conn:
        flavor = _flavor(conn, context, order.flavor_ref)
        key = _key(conn, context, order.key_name)
        _check_place(service, conn, order)
        group = _check_hints(conn, context, order.hints)
        _check_metadata(service, conn, context, order.metadata)
    image = images.get_image(service, context, order.image_ref) if order.image_ref else None
    if image is None:
        raise BadRequest("Invalid imageRef provided.")
    images.check_fits(image, flavor)
    if not flavor["root_gb"] and ZERO_DISK not in order.may:
        raise Forbidden("Only volume-backed servers are allowed for flavors with zero disk.")
    nics = networks.resolve(service, context, order.networks, external=EXTERNAL in order.may)
    if any(nic.port_id or nic.fixed_ip for nic in nics) and order.max_count > 1:
        raise BadRequest("Unable to launch multiple instances with a single configured port ID or fixed IP address.")
    security_groups = networks.resolve_groups(service, context, order.security_groups)
    shared = _shared_columns(service, context, order, flavor, image, key)
    shared["requested_networks"] = {"nics": [nic.stored() for nic in nics], "security_groups": security_groups}
    rows = _record(service, context, order, shared, group)
    return Created(rows[0], shared["reservation_id"], shared["admin_pass"] or "")


def _flavor(conn: sa.Connection, context: Context, ref: str) -> Row:
    flavorid = ref.rstrip("/").rsplit("/", 1)[-1]
    try:
        return flavors.get_flavor(conn, context, flavorid)
    except FlavorNotFound as error:
        raise BadRequest(error.message) from None


def _key(conn: sa.Connection, context: Context, name: str | None) -> Row | None:
    if not name:
        return None
    try:
        return keypairs.get_keypair(conn, context.user_id or "", name)
    except KeypairNotFound:
        raise BadRequest("Invalid key_name provided.") from None


def _check_place(service: Service, conn: sa.Connection, order: Order) -> None:
    """Zone, host and hypervisor must exist."""
    if order.host is not None and host_store.node_of(conn, order.host) is None:
        raise BadRequest(f"Compute host {order.host} could not be found.")
    if order.node is not None and not host_store.nodes(conn, COMPUTE_NODES.c.hypervisor_hostname == order.node):
        raise BadRequest(f"Compute host {order.node} could not be found.")
    if order.forced or order.zone is None:
        return
    if order.zone not in hosts.available_zones(service.options, conn):
        raise BadRequest("The requested availability zone is not available")


def _check_hints(conn: sa.Connection, context: Context, hints: Mapping[str, Any]) -> str | None:
    """The server group that the servers shall join."""
    group = hints.get("group")
    if group is None:
        return None
    try:
        return str(server_groups.get_group(conn, context, str(group))["uuid"])
    except ServerGroupNotFound as error:
        raise BadRequest(error.message) from None


def _check_metadata(service: Service, conn: sa.Connection, context: Context, metadata: Mapping[str, str]) -> None:
    limit = quotas.limits(service, conn, context.project_id or "")["metadata_items"]
    if limit >= 0 and len(metadata) > limit:
        raise Forbidden(f"Maximum number of metadata items exceeds {limit}")


_BAD_HOSTNAME = re.compile(r"[^a-zA-Z0-9-_.]+")


def hostname_of(name: str, server_id: str) -> str:
    """A host name made of a server's name; of its id when no character is left."""
    text = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    text = _BAD_HOSTNAME.sub("", re.sub(r"[ _.]", "-", text)).lower()[:63].strip("-.")
    return text or f"server-{server_id}"


def stored_flavor(flavor: Mapping[str, Any]) -> Row:
    """The copy of a flavor that a server keeps."""
    names = ["flavorid", "name", "vcpus", "memory_mb", "root_gb", "ephemeral_gb", "swap", "rxtx_factor", "extra_specs"]
    return {name: flavor[name] for name in names}


def _shared_columns(service: Service, context: Context, order: Order, flavor: Row, image: Row, key: Row | None) -> Row:
    """The columns in which all servers of one request are the same."""
    password = order.admin_pass
    if password is None and service.options.enable_instance_password:
        password = ids.password(12)
    return {
        "project_id": context.project_id,
        "user_id": context.user_id,
        "description": order.description,
        "reservation_id": f"r-{ids.new_id()[:8]}",
        "flavor": stored_flavor(flavor),
        "flavorid": flavor["flavorid"],
        "vcpus": flavor["vcpus"],
        "memory_mb": flavor["memory_mb"],
        "disk_gb": flavor["root_gb"] + flavor["ephemeral_gb"],
        "image_ref": image["id"],
        "image": image,
        "key_name": key["name"] if key else None,
        "key_data": key["public_key"] if key else None,
        "user_data": order.user_data,
        "config_drive": order.config_drive or image["properties"].get("img_config_drive") == "mandatory",
        "disk_config": order.disk_config,
        "admin_pass": password,
        "pinned_zone": order.zone,
        "scheduler_hints": dict(order.hints),
        "placement": {"host": order.host, "node": order.node, "forced": order.forced, "tried": [], "reasons": {}},
        "vm_state": states.BUILDING,
        "task_state": states.SCHEDULING,
        "power_state": states.NOSTATE,
        "progress": 0,
        "locked": False,
        "access_ip_v4": order.access_ip_v4,
        "access_ip_v6": order.access_ip_v6,
        "root_device_name": image["properties"].get("root_device_name") or "/dev/vda",
        "network_info": [],
        "created_at": clock.utcnow(),
        "deleted": False,
        "epoch": 1000,
    }


def _record(service: Service, context: Context, order: Order, shared: Row, group: str | None) -> list[Row]:
    """Quota, rows and flows in one transaction; as many servers as fit between min_count and max_count."""
    one = {"instances": 1, "cores": shared["vcpus"], "ram": shared["memory_mb"]}
    project_id = context.project_id or ""
    rows: list[Row] = []
    with service.db.write() as conn:
        count = order.max_count
        if order.min_count < order.max_count:
            count = min(count, max(order.min_count, quotas.headroom(service, conn, project_id, one)))
        quotas.reserve(service, conn, project_id, {name: size * count for name, size in one.items()})
        rows += [_insert(conn, order, shared, index) for index in range(count)]
        if group:
            server_groups.join(service, conn, context, group, [row["id"] for row in rows])
        for row in rows:
            action = actions.start(conn, context, row["id"], actions.CREATE)
            service.flows.start(
                conn,
                "build_server",
                resource_id=row["id"],
                input={"epoch": row["epoch"], "action": action},
                context=context,
            )
    return rows


def _insert(conn: sa.Connection, order: Order, shared: Row, index: int) -> Row:
    server_id = ids.new_uuid()
    name, hostname = order.name, order.hostname
    if order.max_count > 1:
        name = f"{order.name}-{index + 1}"
        hostname = f"{hostname}-{index + 1}" if hostname else None
    row = {
        **shared,
        "id": server_id,
        "name": name,
        "hostname": hostname or hostname_of(name, server_id),
        "launch_index": index,
    }
    try:
        store.insert(conn, row)
    except sa.exc.IntegrityError as error:
        raise Conflict("The server could not be recorded; please try again.", inside=str(error)) from error
    store.add_metadata(conn, server_id, order.metadata)
    store.add_tags(conn, server_id, order.tags)
    return row
