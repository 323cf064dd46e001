"""Changes of servers that need no host: names, locks, metadata, tags, security groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.clients.base import PeerError, PeerNotFound
from pileus.compute.errors import ServerNotFound, TooMany
from pileus.compute.logic import actions, networks, quotas, states
from pileus.compute.store import servers as store
from pileus.kernel.context import Context, service_context
from pileus.kernel.errors import Invalid, NotFound
from pileus.kernel.service import Service

Row = dict[str, Any]
MAX_TAGS = 50


def locked_row(conn: sa.Connection, server_id: str) -> Row:
    """The server's row, held until the transaction ends."""
    row = store.get(conn, server_id, for_update=True)
    if row is None:
        raise ServerNotFound(server_id)
    return row


def update_server(service: Service, server_id: str, changes: Mapping[str, Any]) -> None:
    with service.db.write() as conn:
        if not store.update(conn, server_id, **changes):
            raise ServerNotFound(server_id)


def lock(service: Service, context: Context, server_id: str, reason: str | None) -> None:
    """Keep everybody but administrators from changing the server."""
    with service.db.write() as conn:
        row = locked_row(conn, server_id)
        owner = row["project_id"] == context.project_id
        store.update(
            conn,
            server_id,
            locked=True,
            locked_by="owner" if owner else "admin",
            locked_reason=reason,
        )
        actions.done(conn, context, server_id, "lock")


def unlock(service: Service, context: Context, server_id: str) -> None:
    with service.db.write() as conn:
        locked_row(conn, server_id)
        store.update(conn, server_id, locked=False, locked_by=None, locked_reason=None)
        actions.done(conn, context, server_id, "unlock")


def change_metadata(
    service: Service,
    server_id: str,
    items: Mapping[str, str],
    *,
    replace: bool,
    unlocked: bool,
) -> dict[str, str]:
    """Add items, or set exactly these; what the server has then. Raises `TooMany` beyond the quota, `WrongState`, `ServerLocked`."""
    with service.db.write() as conn:
        row = locked_row(conn, server_id)
        states.check("update_server_metadata", row, ignore_lock=unlocked)
        wanted = dict(items) if replace else {**store.metadata_of(conn, server_id), **items}
        limit = quotas.limits(service, conn, row["project_id"])["metadata_items"]
        if 0 <= limit < len(wanted):
            raise TooMany(f"Maximum number of metadata items exceeds {limit}")
        store.set_metadata(conn, server_id, wanted)
        store.update(conn, server_id)
    return dict(sorted(wanted.items()))


def remove_metadata(service: Service, server_id: str, key: str, *, unlocked: bool) -> None:
    with service.db.write() as conn:
        row = locked_row(conn, server_id)
        wanted = store.metadata_of(conn, server_id)
        if key not in wanted:
            raise NotFound("Metadata item was not found")
        states.check("delete_server_metadata", row, ignore_lock=unlocked)
        del wanted[key]
        store.set_metadata(conn, server_id, wanted)
        store.update(conn, server_id)


def _tags_row(conn: sa.Connection, server_id: str) -> Row:
    row = locked_row(conn, server_id)
    states.check("update_server_tags", row)
    return row


def set_tags(service: Service, server_id: str, tags: Sequence[str]) -> list[str]:
    """Exactly these tags. Raises `Invalid` for more than are allowed."""
    if len(set(tags)) > MAX_TAGS:
        raise Invalid(f"The number of tags exceeded the per-server limit {MAX_TAGS}")
    with service.db.write() as conn:
        _tags_row(conn, server_id)
        store.clear_tags(conn, server_id)
        store.add_tags(conn, server_id, dict.fromkeys(tags))
        store.update(conn, server_id)
        return store.tags_of(conn, server_id)


def add_tag(service: Service, server_id: str, tag: str) -> bool:
    """One more tag; False when it was there already."""
    with service.db.write() as conn:
        _tags_row(conn, server_id)
        present = store.tags_of(conn, server_id)
        if tag in present:
            return False
        if len(present) >= MAX_TAGS:
            raise Invalid(f"The number of tags exceeded the per-server limit {MAX_TAGS}")
        store.add_tags(conn, server_id, [tag])
        store.update(conn, server_id)
    return True


def remove_tag(service: Service, server_id: str, tag: str) -> None:
    with service.db.write() as conn:
        _tags_row(conn, server_id)
        if not store.remove_tag(conn, server_id, tag):
            raise NotFound(f"Server {server_id} has no tag '{tag}'")
        store.update(conn, server_id)


def clear_tags(service: Service, server_id: str) -> None:
    with service.db.write() as conn:
        _tags_row(conn, server_id)
        store.clear_tags(conn, server_id)
        store.update(conn, server_id)


def change_security_group(service: Service, context: Context, server: Row, name: str, *, add: bool) -> None:
    """Put a security group on all ports of a server, or take it off. Raises `NotFound` for a group or membership that is not there."""
    states.check("addSecurityGroup" if add else "removeSecurityGroup", server)
    group_id = _group_id(service, context, name)
    own = service_context("compute", context.request_id)
    ports = networks.ports_of(service, own, [server["id"]])
    if add and not ports:
        raise Invalid(f"instance {server['id']} has no ports to put security group {name} on.")
    changed = 0
    for port in ports:
        present = list(port["security_groups"])
        if add == (group_id in present):
            continue
        wanted = [*present, group_id] if add else [g for g in present if g != group_id]
        try:
            networks.update_port(service, own, port["id"], {"security_groups": wanted})
        except PeerNotFound:
            continue
        except PeerError as error:
            raise Invalid(networks.sentence(error)) from error
        changed += 1
    if not add and not changed:
        raise NotFound(f"Security group {name} not associated with the instance {server['id']}")
    refresh_network_info(service, server["id"])


def _group_id(service: Service, context: Context, name: str) -> str:
    fields = ["id", "name"]
    known = networks.list_all(service, context, "security_groups", tenant_id=context.project_id, fields=fields)
    found = [g["id"] for g in known if g["id"] == name] or [g["id"] for g in known if g["name"] == name]
    if not found:
        raise NotFound(f"Security group {name} not found.")
    if len(found) > 1:
        raise Invalid(f"Multiple security groups found matching '{name}'. Use an ID to be more specific.")
    return str(found[0])


def refresh_network_info(service: Service, server_id: str) -> list[Row]:
    """Ask the network service about the ports of a server, and store what it says."""
    context = service_context("compute")
    with service.db.read() as conn:
        order = [port["port_id"] for port in store.ports_of(conn, server_id)]
    ports = networks.ports_of(service, context, [server_id]) if order else []
    info = networks.network_info(service, context, ports)
    found = [info[port_id] for port_id in order if port_id in info]
    with service.db.write(durable=False) as conn:
        store.set_network_info(conn, server_id, found)
    return found
