"""Ports: created with their addresses and groups, changed, bound, deleted."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.kernel import ids
from pileus.kernel.db import insert_ignore, retried
from pileus.kernel.service import Service
from pileus.network import errors
from pileus.network.logic import addresses, concerns, floating, groups, interfaces
from pileus.network.logic.binding import TAP, bind
from pileus.network.logic.change import (
    Change,
    changing,
    check_revision,
    fetch,
    forget_tags,
    release,
    reserve,
    standard,
    update,
)
from pileus.network.store import render
from pileus.network.store import tables as t

Values = Mapping[str, Any]
OWN = ("network:dhcp",)
"""Owners of ports that go with their network by themselves."""
SERVICE_OWNERS = (
    "network:router_interface",
    "network:router_gateway",
    "network:floatingip",
)
"""Owners of ports that cannot be deleted as ports."""
_COLUMNS = {
    "name": "name",
    "description": "description",
    "admin_state_up": "admin_state_up",
    "device_id": "device_id",
    "device_owner": "device_owner",
    "mac_address": "mac_address",
    "extra_dhcp_opts": "extra_dhcp_opts",
    "binding:vnic_type": "vnic_type",
    "binding:profile": "profile",
}
_MAC_TRIES = 16


@retried
def create_ports(service: Service, items: Sequence[Values]) -> list[dict[str, Any]]:
    """Create ports, all or none. Raises what `_create` and the allocation of addresses raise, OverQuota, and PortExists for an id that was chosen."""
    with changing(service) as change:
        return [_create(change, values) for values in items]


def _create(change: Change, values: Values) -> dict[str, Any]:
    network = _network(change, values["network_id"])
    if "id" in values and _exists(change, values["id"]):
        raise errors.PortExists(f"Port {values['id']} already exists.")
    reserve(change, values["project_id"], "port")
    security = values.get("port_security_enabled", network.port_security_enabled)
    wanted = values.get("security_groups")
    members = _groups_for(change, values["project_id"], wanted, values["device_owner"], security=security)
    if values["allowed_address_pairs"] and not security:
        raise errors.AddressPairAndPortSecurityRequired(
            "Port Security must be enabled in order to have allowed address pairs on a port."
        )
    return insert_port(
        change,
        network,
        project_id=values["project_id"],
        device_owner=values["device_owner"],
        device_id=values["device_id"],
        host=values.get("binding:host_id", ""),
        fixed_ips=values.get("fixed_ips"),
        groups=members,
        mac=values.get("mac_address"),
        columns={
            **({"id": values["id"]} if "id" in values else {}),
            "name": values["name"],
            "description": values["description"],
            "admin_state_up": values["admin_state_up"],
            "port_security_enabled": security,
            "vnic_type": values["binding:vnic_type"],
            "profile": values["binding:profile"],
            "allowed_address_pairs": values["allowed_address_pairs"],
            "extra_dhcp_opts": values["extra_dhcp_opts"],
        },
    )


def _exists(change: Change, port_id: str) -> bool:
    return change.conn.execute(sa.select(t.ports.c.id).where(t.ports.c.id == port_id)).first() is not None


def _network(change: Change, network_id: str) -> Any:
    return fetch(change.conn, t.networks, network_id, errors.NetworkNotFound, share=True)


def _groups_for(change: Change, project_id: str, wanted: list[str] | None, device_owner: str, *, security: bool) -> list[str]:
    """The groups of a new port: those named, else the project's default one; none without port security and on the service's own ports."""
    if not security:
        if wanted:
            raise errors.PortSecurityAndIPRequiredForSecurityGroups(
                "Port security must be enabled and port must have an IP address in order to use security groups."
            )
        return []
    if wanted is not None:
        return groups.check(change, project_id, wanted)
    if device_owner.startswith("network:") or not project_id:
        return []
    return [groups.default_group(change, project_id)]


def insert_port(
    change: Change,
    network: Any,
    *,
    project_id: str,
    device_owner: str,
    device_id: str,
    host: str = "",
    fixed_ips: Sequence[Mapping[str, str]] | None,
    groups: Iterable[str] = (),
    mac: str | None = None,
    status: str = "DOWN",
    columns: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a port with what belongs to it, and note whom it concerns; its dictionary. Quota is the caller's business."""
    row: dict[str, Any] = {
        "id": ids.new_uuid(),
        "project_id": project_id,
        "name": "",
        "description": "",
        "network_id": network.id,
        "admin_state_up": True,
        "status": status,
        "device_id": device_id,
        "device_owner": device_owner,
        "port_security_enabled": not device_owner.startswith("network:"),
        "vnic_type": "normal",
        "profile": {},
        "allowed_address_pairs": [],
        "extra_dhcp_opts": [],
        **standard(),
        **(columns or {}),
    }
    row.update(_bind(change, network.id, host, row["vnic_type"], device_owner))
    _insert_with_mac(change, row, mac)
    row["allowed_address_pairs"] = _complete_pairs(change, row)
    subnets = addresses.subnets_of(change.conn, network.id) if fixed_ips is None or fixed_ips else []
    taken = addresses.allocate(change.conn, subnets, network.id, row["id"], device_owner, fixed_ips)
    members = sorted(set(groups))
    _join(change, row["id"], members)
    concerns.port_changed(change, None, concerns.state_of(types.SimpleNamespace(**row), taken, members))
    values = [row[name] for name in render.PORT_COLUMNS]
    return render.port(values, [{"subnet_id": subnet, "ip_address": ip} for subnet, ip in taken], members, [])


def _bind(change: Change, network_id: str, host: str, vnic_type: str, device_owner: str) -> dict[str, Any]:
    if device_owner in {*OWN, *SERVICE_OWNERS} and host:
        # The agent that serves it makes it: there is no tap to be attached.
        return {"host_id": host, "vif_type": "tap", "vif_details": {"connectivity": "l2"}}
    return bind(change.conn, change.service.options, network_id, host, vnic_type)


def _insert_with_mac(change: Change, row: dict[str, Any], mac: str | None) -> None:
    """Insert with the wanted MAC, or with a random one of upstream's prefix that the network does not have yet."""
    try:
        for _ in range(_MAC_TRIES):
            row["mac_address"] = mac or "fa:16:3e:" + ids.token_bytes(3).hex(":")
            if insert_ignore(change.conn, t.ports, [row]):
                return
            if mac:
                break
    except sa.exc.IntegrityError as error:  # not a duplicate: the network has just been deleted
        raise errors.NetworkNotFound(row["network_id"]) from error
    if _exists(change, row["id"]):
        raise errors.PortExists(f"Port {row['id']} already exists.")
    raise errors.MacAddressInUse(
        f"Unable to complete operation for network {row['network_id']}. The mac address {row['mac_address']} is in use."
    )


def _complete_pairs(change: Change, row: dict[str, Any]) -> list[dict[str, str]]:
    """Pairs without a MAC have the port's own."""
    pairs = [{"ip_address": pair["ip_address"], "mac_address": pair.get("mac_address") or row["mac_address"]} for pair in row["allowed_address_pairs"]]
    if pairs != row["allowed_address_pairs"]:
        change.conn.execute(sa.update(t.ports).where(t.ports.c.id == row["id"]).values(allowed_address_pairs=pairs))
    return pairs


def _join(change: Change, port_id: str, members: Sequence[str]) -> None:
    if not members:
        return
    try:
        change.conn.execute(sa.insert(t.port_groups), [{"port_id": port_id, "security_group_id": id} for id in members])
    except sa.exc.IntegrityError as error:  # a group has just been deleted
        raise errors.SecurityGroupNotFound(members[0]) from error


_MEMBERS = sa.select(t.port_groups.c.security_group_id).where(t.port_groups.c.port_id == sa.bindparam("port"))
_PREPARED = sa.select(t.port_bindings.c.host).where(t.port_bindings.c.port_id == sa.bindparam("port"), t.port_bindings.c.vif_type == TAP)


def state(change: Change, port_id: str, *, lock: bool = False) -> tuple[Any, concerns.PortState]:
    """A port's row and how hosts see it. Raises PortNotFound."""
    row = fetch(change.conn, t.ports, port_id, errors.PortNotFound, lock=lock)
    members = change.conn.execute(_MEMBERS, {"port": port_id}).scalars()
    prepared = change.conn.execute(_PREPARED, {"port": port_id}).scalars()
    return row, concerns.state_of(row, addresses.held(change.conn, port_id), members, prepared)


# -- change ----------------------------------------------------------------------------------------------------------


@retried
def update_port(service: Service, port_id: str, values: Values, revision: int | None = None) -> dict[str, Any]:
    """Change a port. Raises PortNotFound, PortBound, MacAddressInUse, and what addresses and groups raise."""
    with changing(service) as change:
        row, before = state(change, port_id, lock=True)
        check_revision(row, revision)
        columns = {_COLUMNS[name]: value for name, value in values.items() if name in _COLUMNS}
        _check_mac(row, columns)
        members = _change_security(change, row, before.groups, values, columns)
        _change_binding(change, row, values, columns)
        if "fixed_ips" in values:
            _change_addresses(change, row, values)
        _write(change, row, columns)
        held = addresses.held(change.conn, port_id) if "fixed_ips" in values else before.ips
        row = fetch(change.conn, t.ports, port_id, errors.PortNotFound)
        after = concerns.state_of(row, held, members, before.prepared - {row.host_id})
        concerns.port_changed(change, before, after)
        if before.ips != after.ips and row.device_owner == "network:router_interface":
            interfaces.follow_addresses(change, row, {subnet for subnet, _ in after.ips})
        if before.ips != after.ips:
            floating.addresses_changed(change, port_id, {address for _, address in after.ips})
            if row.device_owner.startswith("compute:") and ids.is_uuid_like(row.device_id):
                change.tell_compute("network-changed", row.device_id, port_id)
        ips = [{"subnet_id": subnet, "ip_address": ip} for subnet, ip in sorted(held)]
        return render.port(row, ips, sorted(members), render.tags_of(change.conn, [port_id]).get(port_id, []))


def _write(change: Change, row: Any, columns: dict[str, Any]) -> None:
    mac = columns.get("mac_address", row.mac_address)
    if mac == row.mac_address:
        update(change.conn, t.ports, row.id, columns)
        return
    try:
        with change.conn.begin_nested():
            update(change.conn, t.ports, row.id, columns)
    except sa.exc.IntegrityError:
        raise errors.MacAddressInUse(
            f"Unable to complete operation for network {row.network_id}. The mac address {mac} is in use."
        ) from None


def _check_mac(row: Any, columns: dict[str, Any]) -> None:
    mac = columns.get("mac_address")
    if mac is None:
        columns.pop("mac_address", None)
    elif mac != row.mac_address and row.host_id and row.vif_type not in {"unbound", "binding_failed"}:
        raise errors.PortBound(
            f"Unable to complete operation on port {row.id}, port is already bound, port type: {row.vif_type},"
            f" old_mac {row.mac_address}, new_mac {mac}."
        )


def _change_security(
    change: Change, row: Any, now: frozenset[str], values: Values, columns: dict[str, Any]
) -> frozenset[str]:
    """Groups, port security and address pairs depend on each other; the groups the port then has."""
    security = values.get("port_security_enabled", row.port_security_enabled)
    wanted = values.get("security_groups")
    if not security and (wanted or (wanted is None and now)):
        raise errors.PortSecurityPortHasSecurityGroup(
            "Port has security group associated. Cannot disable port security or IP address until security group is removed."
        )
    if wanted is None and security and not row.port_security_enabled and not now:
        wanted = _groups_for(change, row.project_id, None, row.device_owner, security=True)
    if wanted is not None and set(wanted) != now:
        wanted = groups.check(change, row.project_id, wanted) if values.get("security_groups") else wanted
        change.conn.execute(sa.delete(t.port_groups).where(t.port_groups.c.port_id == row.id))
        _join(change, row.id, sorted(set(wanted)))
    columns["port_security_enabled"] = security
    pairs = values.get("allowed_address_pairs")
    if not security and (pairs or (pairs is None and row.allowed_address_pairs)):
        raise errors.AddressPairAndPortSecurityRequired(
            "Port Security must be enabled in order to have allowed address pairs on a port."
        )
    if pairs is not None:
        mac = columns.get("mac_address", row.mac_address)
        columns["allowed_address_pairs"] = [{"ip_address": p["ip_address"], "mac_address": p.get("mac_address") or mac} for p in pairs]
    return now if wanted is None else frozenset(wanted)


def _change_binding(change: Change, row: Any, values: Values, columns: dict[str, Any]) -> None:
    """Bind anew where the host or the kind of interface changes, and where binding had failed."""
    host, kind = values.get("binding:host_id", row.host_id), columns.get("vnic_type", row.vnic_type)
    owner = columns.get("device_owner", row.device_owner)
    retry = "binding:host_id" in values and row.vif_type == "binding_failed"
    if (host, kind) == (row.host_id, row.vnic_type) and not retry:
        return
    columns.update(_bind(change, row.network_id, host, kind, owner))
    columns["status"] = "DOWN"
    # The host had been prepared, perhaps: one binding to a host is enough.
    change.conn.execute(sa.delete(t.port_bindings).where(t.port_bindings.c.port_id == row.id, t.port_bindings.c.host == host))


def _change_addresses(change: Change, row: Any, values: Values) -> None:
    if row.device_owner in SERVICE_OWNERS and row.device_owner != "network:router_interface":
        raise errors.InvalidInput(f"the addresses of a port of {row.device_owner} are changed through its owner")
    subnets = addresses.subnets_of(change.conn, row.network_id)
    addresses.change(change.conn, subnets, row, values["fixed_ips"] or [], values.get("device_owner", row.device_owner))


# -- removal ---------------------------------------------------------------------------------------------------------


@retried
def delete_port(service: Service, port_id: str, revision: int | None = None) -> None:
    """Delete a port; a floating IP on it is set free. Raises PortNotFound, ServicePortInUse."""
    with changing(service) as change:
        row, _ = state(change, port_id, lock=True)
        check_revision(row, revision)
        if row.device_owner in SERVICE_OWNERS and _owner_exists(change, row):
            raise errors.ServicePortInUse(
                f"Port {port_id} cannot be deleted directly via the port API: has device owner {row.device_owner}."
            )
        remove_port(change, port_id)


def _owner_exists(change: Change, row: Any) -> bool:
    table = t.floatingips if row.device_owner == "network:floatingip" else t.routers
    return change.conn.execute(sa.select(table.c.id).where(table.c.id == row.device_id)).first() is not None


def remove_port(change: Change, port_id: str, *, counted: bool = True) -> None:
    """Remove a port and what belongs to it, and note whom that concerns. Raises PortNotFound."""
    row, before = state(change, port_id, lock=True)
    floating.port_removed(change, port_id)
    change.conn.execute(sa.delete(t.allocations).where(t.allocations.c.port_id == port_id))
    change.conn.execute(sa.delete(t.port_groups).where(t.port_groups.c.port_id == port_id))
    change.conn.execute(sa.delete(t.port_bindings).where(t.port_bindings.c.port_id == port_id))
    forget_tags(change.conn, [port_id])
    change.conn.execute(sa.delete(t.ports).where(t.ports.c.id == port_id))
    if counted:
        release(change, row.project_id, "port")
    concerns.port_changed(change, before, None)
    if row.host_id and row.device_owner.startswith("compute:") and ids.is_uuid_like(row.device_id):
        change.tell_compute("network-vif-deleted", row.device_id, port_id)


def delete_own(change: Change, network_id: str) -> None:
    """Remove the ports that go with their network by themselves."""
    query = sa.select(t.ports.c.id).where(t.ports.c.network_id == network_id, t.ports.c.device_owner.in_(OWN))
    for port_id in change.conn.execute(query).scalars().all():
        remove_port(change, port_id)
    change.conn.execute(sa.delete(t.dhcp_bindings).where(t.dhcp_bindings.c.network_id == network_id))


__all__ = ["create_ports", "delete_own", "delete_port", "insert_port", "remove_port", "state", "update_port"]
