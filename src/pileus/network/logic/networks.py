"""Networks: created with their segment, changed, deleted with their subnets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.kernel import ids
from pileus.kernel.context import Context
from pileus.kernel.db import retried
from pileus.kernel.service import Service
from pileus.network import errors
from pileus.network.logic import agents, concerns, floatingips, ports, rbac, segments
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
_COLUMNS = {"router:external": "external"}
_PROVIDER = ("provider:network_type", "provider:physical_network", "provider:segmentation_id")


@retried
def create_networks(service: Service, context: Context, items: Sequence[Values]) -> list[dict[str, Any]]:
    """Create networks, all or none. Raises OverQuota, InvalidInput, FlatNetworkInUse, TunnelIdInUse, NoNetworkAvailable."""
    with changing(service) as change:
        made = [_create(change, values) for values in items]
        return show(change.conn, made, context.project_id)


def show(conn: sa.Connection, network_ids: Sequence[str], viewer: str | None) -> list[dict[str, Any]]:
    """The dictionaries of networks, in this order."""
    rows = {row.id: row for row in conn.execute(sa.select(t.networks).where(t.networks.c.id.in_(network_ids)))}
    return render.networks(conn, [rows[id] for id in network_ids], viewer)


def _create(change: Change, values: Values) -> str:
    options = change.service.options
    network_type = values.get("provider:network_type") or options.tenant_network_type
    physical, segment = values.get("provider:physical_network"), values.get("provider:segmentation_id")
    if not values.get("provider:network_type") and (physical is not None or segment is not None):
        raise errors.InvalidInput("provider:network_type required")
    segments.check(options, network_type, physical, segment)
    agents.check_zones(change, "network", values["availability_zone_hints"])
    reserve(change, values["project_id"], "network")
    network_id = ids.new_uuid()
    row = {
        "id": network_id,
        "project_id": values["project_id"],
        "name": values["name"],
        "description": values["description"],
        "admin_state_up": values["admin_state_up"],
        "status": "ACTIVE",
        "shared": values["shared"],
        "external": values["router:external"],
        "is_default": values["is_default"],
        "mtu": _mtu(options, network_type, values.get("mtu")),
        "port_security_enabled": values["port_security_enabled"],
        "network_type": network_type,
        "physical_network": physical,
        "segmentation_id": None,
        "availability_zone_hints": values["availability_zone_hints"],
        **standard(),
    }
    change.conn.execute(sa.insert(t.networks), row)
    taken = segments.take(change.conn, options, network_id, network_type, physical, segment)
    if taken is not None:
        change.conn.execute(sa.update(t.networks).where(t.networks.c.id == network_id).values(segmentation_id=taken))
    _only_default(change, network_id, values)
    rbac.follow_flags(change, network_id, values["project_id"], shared=values["shared"], external=values["router:external"])
    return network_id


def _mtu(options: Any, network_type: str, wanted: int | None) -> int:
    highest = segments.highest_mtu(options, network_type)
    if not wanted:
        return highest
    if wanted > highest:
        raise errors.InvalidInput(f"Requested MTU is too big, maximum is {highest}")
    return wanted


def _only_default(change: Change, network_id: str, values: Values) -> None:
    """At most one external network is the default one."""
    if not values.get("is_default"):
        return
    query = sa.select(t.networks.c.id).where(t.networks.c.is_default, t.networks.c.external, t.networks.c.id != network_id)
    other = change.conn.execute(query).scalar()
    if other:
        raise errors.DefaultExternalNetworkExists(f"A default external network already exists: {other}.")


@retried
def update_network(
    service: Service, context: Context, network_id: str, values: Values, revision: int | None = None
) -> dict[str, Any]:
    """Change a network. Raises NetworkNotFound, InvalidInput, InvalidSharedSetting, ExternalNetworkInUse, RevisionNumberConstraintFailed."""
    with changing(service) as change:
        row = fetch(change.conn, t.networks, network_id, errors.NetworkNotFound, lock=True)
        check_revision(row, revision)
        if any(name in values and values[name] != getattr(row, name.partition(":")[2]) for name in _PROVIDER):
            raise errors.InvalidInput("Plugin does not support updating provider attributes")
        columns = {_COLUMNS.get(name, name): value for name, value in values.items() if name not in _PROVIDER}
        if "mtu" in columns:
            columns["mtu"] = _mtu(service.options, row.network_type, columns["mtu"])
        if row.shared and columns.get("shared") is False:
            rbac.check_unused(change, row)
        if row.external and columns.get("external") is False:
            _check_no_gateways(change, network_id)
        _only_default(change, network_id, values)
        update(change.conn, t.networks, network_id, columns)
        shared, external = columns.get("shared", row.shared), columns.get("external", row.external)
        rbac.follow_flags(change, network_id, row.project_id, shared=shared, external=external)
        concerns.network_changed(change, network_id)
        if columns.get("mtu", row.mtu) != row.mtu:
            concerns.routers_of_network_changed(change, network_id)
        if columns.get("admin_state_up", row.admin_state_up) != row.admin_state_up:
            _switch(change, network_id, up=not row.admin_state_up)
        return show(change.conn, [network_id], context.project_id)[0]


def _switch(change: Change, network_id: str, *, up: bool) -> None:
    """Let a network carry traffic, or none: taps follow as those of ports that are down, DHCP and legs of routers come and go."""
    concerns.ports_of_network_changed(change, network_id)
    concerns.routers_of_network_changed(change, network_id)
    if not up:
        # Nobody reports on what no host has any longer.
        served = sa.and_(t.ports.c.network_id == network_id, t.ports.c.device_owner.in_(_SERVED))
        change.conn.execute(sa.update(t.ports).where(served).values(status="DOWN"))
        change.conn.execute(sa.update(t.floatingips).where(t.floatingips.c.floating_network_id == network_id).values(status="DOWN"))


_SERVED = ("network:dhcp", "network:router_interface", "network:router_gateway")


def _check_no_gateways(change: Change, network_id: str) -> None:
    query = sa.select(t.ports.c.id).where(
        t.ports.c.network_id == network_id, t.ports.c.device_owner.in_(["network:router_gateway", "network:floatingip"])
    )
    if change.conn.execute(query.limit(1)).first():
        raise errors.ExternalNetworkInUse(
            f"External network {network_id} cannot be updated to be made non-external, since it has existing gateway ports."
        )


@retried
def delete_network(service: Service, network_id: str, revision: int | None = None) -> None:
    """Delete a network with its subnets and the ports of DHCP. Raises NetworkNotFound, NetworkInUse."""
    with changing(service) as change:
        row = fetch(change.conn, t.networks, network_id, errors.NetworkNotFound, lock=True)
        check_revision(row, revision)
        floatingips.delete_unused(change, network_id)
        ports.delete_own(change, network_id)
        if change.conn.execute(sa.select(t.ports.c.id).where(t.ports.c.network_id == network_id).limit(1)).first():
            raise errors.NetworkInUse(
                f"Unable to complete operation on network {network_id}. There are one or more ports still in use on the network."
            )
        subnets = change.conn.execute(sa.select(t.subnets.c.id, t.subnets.c.project_id).where(t.subnets.c.network_id == network_id)).all()
        change.conn.execute(sa.delete(t.subnets).where(t.subnets.c.network_id == network_id))
        for subnet in subnets:
            release(change, subnet.project_id, "subnet")
        forget_tags(change.conn, [network_id, *[subnet.id for subnet in subnets]])
        rbac.forget(change, network_id)
        change.conn.execute(sa.delete(t.networks).where(t.networks.c.id == network_id))
        release(change, row.project_id, "network")
