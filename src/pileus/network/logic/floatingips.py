"""Floating IPs: an address of an external network that stands for a fixed one behind a router."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.kernel import ids
from pileus.kernel.context import Context
from pileus.kernel.db import is_unique_violation, retried
from pileus.kernel.service import Service
from pileus.network import errors
from pileus.network.logic import concerns, floating, ports
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
OWNER = "network:floatingip"


@retried
def create_floatingips(service: Service, context: Context, items: Sequence[Values]) -> list[dict[str, Any]]:
    """Create floating IPs, all or none. Raises BadRequest, OverQuota, ExternalIpAddressExhausted and what associating raises."""
    with changing(service) as change:
        made = [_create(change, context, values) for values in items]
        rows = {row.id: row for row in change.conn.execute(sa.select(t.floatingips).where(t.floatingips.c.id.in_(made)))}
        return render.floatingips(change.conn, [rows[id] for id in made])


def _create(change: Change, context: Context, values: Values) -> str:
    network = fetch(change.conn, t.networks, values["floating_network_id"], errors.NetworkNotFound)
    if not (network.external or _is_external_for(change, network.id, values["project_id"])):
        raise errors.BadRequest(f"Bad floatingip request: Network {network.id} is not a valid external network.")
    reserve(change, values["project_id"], "floatingip")
    floating_id = ids.new_uuid()
    address = _port(change, network, floating_id, values)
    row = {
        "id": floating_id,
        "project_id": values["project_id"],
        "description": values["description"],
        "floating_ip_address": address["fixed_ips"][0]["ip_address"],
        "floating_network_id": network.id,
        "floating_port_id": address["id"],
        **floating.FREE,
        **standard(),
    }
    change.conn.execute(sa.insert(t.floatingips), row)
    if values.get("port_id"):
        _associate(change, context, floating_id, values["port_id"], values.get("fixed_ip_address"))
        floating.tell_compute(change, values["port_id"])
    elif values.get("fixed_ip_address"):
        raise errors.BadRequest("Bad floatingip request: fixed_ip_address cannot be specified without a port_id.")
    return floating_id


def _is_external_for(change: Change, network_id: str, project_id: str) -> bool:
    table = t.rbac_policies
    query = sa.select(table.c.id).where(
        table.c.object_id == network_id, table.c.action == "access_as_external", table.c.target_project == project_id
    )
    return change.conn.execute(query).first() is not None


def _port(change: Change, network: Any, floating_id: str, values: Values) -> dict[str, Any]:
    """The port that holds the address."""
    query = sa.select(t.subnets.c.id).where(t.subnets.c.network_id == network.id, t.subnets.c.ip_version == 4)
    subnets = list(change.conn.execute(query).scalars())
    wanted, address = values.get("subnet_id"), values.get("floating_ip_address")
    if not subnets:
        raise errors.BadRequest(f"Bad floatingip request: Network {network.id} does not contain any IPv4 subnet.")
    if wanted and wanted not in subnets:
        raise errors.BadRequest(f"Bad floatingip request: Subnet {wanted} is not of network {network.id}.")
    choices = [{"subnet_id": wanted}] if wanted else [{"subnet_id": id} for id in subnets]
    if address:
        choices = [{**({"subnet_id": wanted} if wanted else {}), "ip_address": address}]
    for index, choice in enumerate(choices):
        try:
            return ports.insert_port(
                change, network, project_id="", device_owner=OWNER, device_id=floating_id, fixed_ips=[choice], status="N/A"
            )
        except errors.IpAddressGenerationFailure as error:
            change.conn.execute(sa.delete(t.ports).where(t.ports.c.device_id == floating_id))
            if index == len(choices) - 1:
                raise errors.ExternalIpAddressExhausted(
                    f"Unable to find any IP address on external network {network.id}."
                ) from error
    raise AssertionError("no subnet was tried")


def _associate(change: Change, context: Context, floating_id: str, port_id: str, address: str | None) -> None:
    """Let the floating address stand for an address of a port, through the router that joins both networks."""
    row = fetch(change.conn, t.floatingips, floating_id, errors.FloatingIPNotFound)
    port = fetch(change.conn, t.ports, port_id, errors.PortNotFound)
    if port.project_id != row.project_id and not context.is_admin:
        raise errors.BadRequest(
            f"Bad floatingip request: Port {port_id} is associated with a different tenant than Floating IP {floating_id} and therefore cannot be bound."
        )
    fixed, subnet_id = _fixed_address(change, port_id, address)
    router = _router(change, row, port_id, subnet_id)
    _check_free(change, row, port_id, fixed)
    columns = {"port_id": port_id, "fixed_ip_address": fixed, "router_id": router.id, "status": "DOWN"}
    try:
        with change.conn.begin_nested():
            update(change.conn, t.floatingips, floating_id, columns)
    except sa.exc.IntegrityError as error:
        if not is_unique_violation(error):
            raise errors.PortNotFound(port_id) from None
        raise _taken(row, port_id, fixed) from None
    concerns.router_changed(change, router.id, router.host)
    if row.router_id and row.router_id != router.id:
        concerns.router_changed(change, row.router_id, fetch(change.conn, t.routers, row.router_id, errors.RouterNotFound).host)
    # A report counts for this association only from the version on that carries it to the host.
    change.settle()
    change.conn.execute(
        sa.update(t.floatingips).where(t.floatingips.c.id == floating_id).values(version=change.versions.get(router.host, 0))
    )


def _fixed_address(change: Change, port_id: str, address: str | None) -> tuple[str, str]:
    table = t.allocations
    query = sa.select(table.c.ip_address, table.c.subnet_id).where(table.c.port_id == port_id)
    held = [(ip, subnet) for ip, subnet in change.conn.execute(query) if ":" not in ip]
    if address is not None:
        for pair in held:
            if pair[0] == address:
                return pair
        raise errors.BadRequest(f"Bad floatingip request: Port {port_id} does not have fixed ip {address}.")
    if not held:
        raise errors.BadRequest(f"Bad floatingip request: Cannot add floating IP to port {port_id} that has no fixed IPv4 addresses.")
    if len(held) > 1:
        raise errors.BadRequest(
            f"Bad floatingip request: Port {port_id} has multiple fixed IPv4 addresses. Must provide a specific IPv4 address when assigning a floating IP."
        )
    return held[0]


def _router(change: Change, row: Any, port_id: str, subnet_id: str) -> Any:
    """The router with an interface in the subnet and its gateway in the floating network; the one at the subnet's gateway address first."""
    query = (
        sa.select(t.routers.c.id, t.routers.c.host, (t.allocations.c.ip_address == t.subnets.c.gateway_ip).label("at_gateway"))
        .join(t.router_interfaces, t.router_interfaces.c.router_id == t.routers.c.id)
        .join(t.subnets, t.subnets.c.id == t.router_interfaces.c.subnet_id)
        .join(
            t.allocations,
            sa.and_(
                t.allocations.c.port_id == t.router_interfaces.c.port_id,
                t.allocations.c.subnet_id == t.router_interfaces.c.subnet_id,
            ),
        )
        .where(t.router_interfaces.c.subnet_id == subnet_id, t.routers.c.gateway_network_id == row.floating_network_id)
        .order_by(t.routers.c.id)
    )
    found = change.conn.execute(query).all()
    if not found:
        raise errors.ExternalGatewayForFloatingIPNotFound(
            f"External network {row.floating_network_id} is not reachable from subnet {subnet_id}."
            f" Therefore, cannot associate Port {port_id} with a Floating IP."
        )
    return next((router for router in found if router.at_gateway), found[0])


def _check_free(change: Change, row: Any, port_id: str, fixed: str) -> None:
    table = t.floatingips
    query = sa.select(table.c.id).where(
        table.c.floating_network_id == row.floating_network_id,
        table.c.port_id == port_id,
        table.c.fixed_ip_address == fixed,
        table.c.id != row.id,
    )
    if change.conn.execute(query).first():
        raise _taken(row, port_id, fixed)


def _taken(row: Any, port_id: str, fixed: str) -> errors.FloatingIPPortAlreadyAssociated:
    return errors.FloatingIPPortAlreadyAssociated(
        f"Cannot associate floating IP {row.floating_ip_address} ({row.id}) with port {port_id} using fixed IP {fixed},"
        f" as that fixed IP already has a floating IP on external network {row.floating_network_id}."
    )


@retried
def update_floatingip(
    service: Service, context: Context, floating_id: str, values: Values, revision: int | None = None
) -> dict[str, Any]:
    """Associate (`port_id`), set free (`port_id` null), describe. Raises FloatingIPNotFound and what associating raises."""
    with changing(service) as change:
        row = fetch(change.conn, t.floatingips, floating_id, errors.FloatingIPNotFound, lock=True)
        check_revision(row, revision)
        if "description" in values:
            update(change.conn, t.floatingips, floating_id, {"description": values["description"]})
        if "port_id" in values or "fixed_ip_address" in values:
            _move(change, context, row, values)
        return render.floatingips(change.conn, [fetch(change.conn, t.floatingips, floating_id, errors.FloatingIPNotFound)])[0]


def _move(change: Change, context: Context, row: Any, values: Values) -> None:
    port_id = values.get("port_id") if "port_id" in values else row.port_id
    if port_id is None:
        if values.get("fixed_ip_address"):
            raise errors.BadRequest("Bad floatingip request: fixed_ip_address cannot be specified without a port_id.")
        _set_free(change, row)
    else:
        _associate(change, context, row.id, port_id, values.get("fixed_ip_address"))
    for id in {row.port_id, port_id}:
        floating.tell_compute(change, id)


def _set_free(change: Change, row: Any) -> None:
    update(change.conn, t.floatingips, row.id, floating.FREE)
    if row.router_id:
        concerns.router_changed(change, row.router_id, fetch(change.conn, t.routers, row.router_id, errors.RouterNotFound).host)


@retried
def delete_floatingip(service: Service, floating_id: str, revision: int | None = None) -> None:
    """Give the address back. Raises FloatingIPNotFound."""
    with changing(service) as change:
        row = fetch(change.conn, t.floatingips, floating_id, errors.FloatingIPNotFound, lock=True)
        check_revision(row, revision)
        _delete(change, row)


def delete_unused(change: Change, network_id: str) -> None:
    """Floating IPs that stand for nothing go with their network."""
    query = sa.select(t.floatingips).where(t.floatingips.c.floating_network_id == network_id, t.floatingips.c.port_id.is_(None))
    for row in change.conn.execute(query).all():
        _delete(change, row)


def _delete(change: Change, row: Any) -> None:
    if row.port_id:
        _set_free(change, row)
    floating_id = row.id
    change.conn.execute(sa.delete(t.floatingips).where(t.floatingips.c.id == floating_id))
    ports.remove_port(change, row.floating_port_id, counted=False)
    forget_tags(change.conn, [floating_id])
    release(change, row.project_id, "floatingip")
    floating.tell_compute(change, row.port_id)
