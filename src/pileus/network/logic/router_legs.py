"""The legs of routers: interfaces in networks of projects, the gateway in an external one, and the host they are on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from pileus.kernel.db import retried
from pileus.kernel.service import Service
from pileus.network import errors
from pileus.network.logic import addresses, agents, concerns, interfaces, ports
from pileus.network.logic.change import Change, changing, count, fetch, update
from pileus.network.store import tables as t

INTERFACE, GATEWAY = "network:router_interface", "network:router_gateway"


def reached(conn: sa.Connection, router_id: str) -> list[tuple[str, str]]:
    """(cidr of the subnet, own address there) of every leg."""
    query = (
        sa.select(t.subnets.c.cidr, t.allocations.c.ip_address)
        .join(t.allocations, t.allocations.c.subnet_id == t.subnets.c.id)
        .join(t.ports, t.ports.c.id == t.allocations.c.port_id)
        .where(t.ports.c.device_id == router_id, t.ports.c.device_owner.in_([INTERFACE, GATEWAY]))
    )
    return [(row[0], row[1]) for row in conn.execute(query)]


# -- the host --------------------------------------------------------------------------------------------------------


def place(change: Change, router: Any) -> str:
    """The router's host, chosen when its first leg is made; '' while no L3 agent lives (a loop places it later)."""
    if router.host:
        return str(router.host)
    hosts = agents.place(change.conn, change.service.options, agents.L3, t.routers.c.host, 1, router.availability_zone_hints)
    if not hosts:
        return ""
    move(change, router, hosts[0])
    return hosts[0]


def move(change: Change, router: Any, host: str) -> None:
    """Put the router with all its legs on a host ('' for none)."""
    if router.host:
        change.drop(router.host, "router", [router.id])
    change.conn.execute(sa.update(t.routers).where(t.routers.c.id == router.id).values(host=host))
    query = sa.select(t.ports.c.id).where(t.ports.c.device_id == router.id, t.ports.c.device_owner.in_([INTERFACE, GATEWAY]))
    for port_id in change.conn.execute(query).scalars().all():
        _, before = ports.state(change, port_id, lock=True)
        update(change.conn, t.ports, port_id, {"host_id": host, "status": "DOWN"})
        concerns.port_changed(change, before, ports.state(change, port_id)[1])
    concerns.router_changed(change, router.id, host)


# -- the gateway -----------------------------------------------------------------------------------------------------


def set_gateway(change: Change, router: Any, info: Mapping[str, Any] | None) -> None:
    """Make the router's gateway what `info` says; None or {} takes it away.

    Raises BadRequest (not an external network), RouterExternalGatewayInUseByFloatingIp, and what the allocation of addresses raises.
    """
    if not info:
        _clear_gateway(change, router)
        return
    network = fetch(change.conn, t.networks, info["network_id"], errors.NetworkNotFound)
    if not (network.external or _is_external_for(change, network.id, router.project_id)):
        raise errors.BadRequest(f"Bad router request: Network {network.id} is not an external network.")
    wanted = info.get("external_fixed_ips")
    same = router.gateway_network_id == network.id
    if same and wanted and _has_exactly(change, router.gateway_port_id, wanted):
        wanted = None
    if not same or wanted:
        if router.gateway_port_id and not same:
            _check_no_floating_ips(change, router)
        _replace_gateway(change, router, network, wanted or None)
    snat = info.get("enable_snat")
    change.conn.execute(
        sa.update(t.routers).where(t.routers.c.id == router.id).values(enable_snat=True if snat is None else snat)
    )
    concerns.router_changed(change, router.id, place(change, fetch(change.conn, t.routers, router.id, errors.RouterNotFound)))


def _is_external_for(change: Change, network_id: str, project_id: str) -> bool:
    table = t.rbac_policies
    query = sa.select(table.c.id).where(
        table.c.object_id == network_id, table.c.action == "access_as_external", table.c.target_project == project_id
    )
    return change.conn.execute(query).first() is not None


def _has_exactly(change: Change, port_id: str, wanted: list[Mapping[str, str]]) -> bool:
    held = addresses.held(change.conn, port_id)
    return len(held) == len(wanted) and all(
        any(
            item.get("subnet_id", subnet) == subnet and item.get("ip_address", address) == address for subnet, address in held
        )
        for item in wanted
    )


def _check_no_floating_ips(change: Change, router: Any) -> None:
    table = t.floatingips
    if change.conn.execute(sa.select(table.c.id).where(table.c.router_id == router.id).limit(1)).first():
        raise errors.RouterExternalGatewayInUseByFloatingIp(
            f"Gateway cannot be updated for router {router.id}, since a gateway to external network"
            f" {router.gateway_network_id} is required by one or more floating IPs."
        )


def _replace_gateway(change: Change, router: Any, network: Any, wanted: list[Mapping[str, str]] | None) -> None:
    if router.gateway_port_id:
        _remove_gateway_port(change, router)
    subnets = addresses.subnets_of(change.conn, network.id)
    interfaces.check_overlap(change, router.id, [(subnet.id, subnet.cidr) for subnet in subnets])
    port = ports.insert_port(
        change,
        network,
        project_id="",
        device_owner=GATEWAY,
        device_id=router.id,
        host=router.host,
        fixed_ips=wanted or None,
    )
    change.conn.execute(
        sa.update(t.routers).where(t.routers.c.id == router.id).values(gateway_port_id=port["id"], gateway_network_id=network.id)
    )


def _remove_gateway_port(change: Change, router: Any) -> None:
    change.conn.execute(
        sa.update(t.routers).where(t.routers.c.id == router.id).values(gateway_port_id=None, gateway_network_id=None)
    )
    ports.remove_port(change, router.gateway_port_id, counted=False)


def _clear_gateway(change: Change, router: Any) -> None:
    if not router.gateway_port_id:
        return
    _check_no_floating_ips(change, router)
    _remove_gateway_port(change, router)
    change.conn.execute(sa.update(t.routers).where(t.routers.c.id == router.id).values(enable_snat=True))
    concerns.router_changed(change, router.id, router.host)


# -- interfaces ------------------------------------------------------------------------------------------------------


@retried
def add_interface(service: Service, router_id: str, *, subnet_id: str | None, port_id: str | None) -> dict[str, Any]:
    """Give the router a leg in a subnet (at its gateway address) or at a port. Raises BadRequest, PortInUse, IpAddressAlreadyAllocated."""
    with changing(service) as change:
        router = fetch(change.conn, t.routers, router_id, errors.RouterNotFound, lock=True)
        host = place(change, router)
        made = _add_port(change, router, host, port_id) if port_id else _add_subnet(change, router, host, str(subnet_id))
        update(change.conn, t.routers, router_id, {})
        concerns.router_changed(change, router_id, host)
        # The network is no longer isolated: its metadata comes through the router from now on.
        concerns.network_changed(change, made["network_id"])
        return {"id": router_id, "tenant_id": router.project_id, "project_id": router.project_id, **made}


def _add_subnet(change: Change, router: Any, host: str, subnet_id: str) -> dict[str, Any]:
    subnet = fetch(change.conn, t.subnets, subnet_id, errors.SubnetNotFound)
    if not subnet.gateway_ip:
        raise errors.BadRequest("Bad router request: Subnet for router interface must have a gateway IP.")
    interfaces.check_overlap(change, router.id, [(subnet.id, subnet.cidr)])
    network = fetch(change.conn, t.networks, subnet.network_id, errors.NetworkNotFound)
    port = ports.insert_port(
        change,
        network,
        project_id=router.project_id,
        device_owner=INTERFACE,
        device_id=router.id,
        host=host,
        fixed_ips=[{"subnet_id": subnet.id, "ip_address": subnet.gateway_ip}],
    )
    count(change, router.project_id, "port")
    interfaces.record(change, router.id, subnet.id, port["id"])
    return {"port_id": port["id"], "network_id": network.id, "subnet_id": subnet.id, "subnet_ids": [subnet.id]}


def _add_port(change: Change, router: Any, host: str, port_id: str) -> dict[str, Any]:
    row, before = ports.state(change, port_id, lock=True)
    if row.device_id or row.device_owner:
        raise errors.PortInUse(
            f"Unable to complete operation on port {port_id} for network {row.network_id}. Port already has an attached device {row.device_id}."
        )
    subnet_ids = sorted({subnet for subnet, _ in before.ips})
    subnets = change.conn.execute(sa.select(t.subnets).where(t.subnets.c.id.in_(subnet_ids))).all()
    if not subnets:
        raise errors.BadRequest("Bad router request: Router port must have at least one fixed IP.")
    if sum(1 for subnet in subnets if subnet.ip_version == 4) > 1:
        raise errors.BadRequest("Bad router request: Cannot have multiple IPv4 subnets on router port.")
    interfaces.check_overlap(change, router.id, [(subnet.id, subnet.cidr) for subnet in subnets])
    for subnet in subnets:
        interfaces.record(change, router.id, subnet.id, port_id)
    # Anti-spoofing and groups are for guests: a router forwards what others send.
    change.conn.execute(sa.delete(t.port_groups).where(t.port_groups.c.port_id == port_id))
    columns = {"device_id": router.id, "device_owner": INTERFACE, "host_id": host, "port_security_enabled": False, "status": "DOWN"}
    binding = {"vif_type": "tap", "vif_details": {"connectivity": "l2"}} if host else {}
    update(change.conn, t.ports, port_id, {**columns, **binding})
    concerns.port_changed(change, before, ports.state(change, port_id)[1])
    return {"port_id": port_id, "network_id": row.network_id, "subnet_id": subnet_ids[0], "subnet_ids": subnet_ids}


@retried
def remove_interface(service: Service, router_id: str, *, subnet_id: str | None, port_id: str | None) -> dict[str, Any]:
    """Take a leg away, with its port.

    Raises RouterInterfaceNotFound, RouterInterfaceNotFoundForSubnet, RouterInterfaceInUseByFloatingIP, RouterInterfaceInUseByRoute.
    """
    with changing(service) as change:
        router = fetch(change.conn, t.routers, router_id, errors.RouterNotFound, lock=True)
        legs = _legs(change, router_id, subnet_id, port_id)
        subnet_ids = [leg.subnet_id for leg in legs]
        for id in subnet_ids:
            interfaces.check_unused(change, router, id)
        found = legs[0].port_id
        table = t.router_interfaces
        change.conn.execute(sa.delete(table).where(table.c.router_id == router_id, table.c.port_id == found))
        network_id = fetch(change.conn, t.ports, found, errors.PortNotFound).network_id
        ports.remove_port(change, found)
        update(change.conn, t.routers, router_id, {})
        concerns.router_changed(change, router_id, router.host)
        concerns.network_changed(change, network_id)
        return {
            "id": router_id,
            "tenant_id": router.project_id,
            "project_id": router.project_id,
            "port_id": found,
            "network_id": network_id,
            "subnet_id": subnet_id or subnet_ids[0],
            "subnet_ids": subnet_ids,
        }


def _legs(change: Change, router_id: str, subnet_id: str | None, port_id: str | None) -> list[Any]:
    """All rows of the port that is meant."""
    table = t.router_interfaces
    rows = change.conn.execute(sa.select(table).where(table.c.router_id == router_id)).all()
    if port_id is not None:
        legs = [row for row in rows if row.port_id == port_id]
        if not legs:
            raise errors.RouterInterfaceNotFound(f"Router {router_id} does not have an interface with id {port_id}")
        if subnet_id is not None and subnet_id not in [row.subnet_id for row in legs]:
            raise errors.SubnetMismatchForPort(f"Subnet on port {port_id} does not match the requested subnet {subnet_id}.")
        return legs
    port = next((row.port_id for row in rows if row.subnet_id == subnet_id), None)
    if port is None:
        raise errors.RouterInterfaceNotFoundForSubnet(f"Router {router_id} has no interface on subnet {subnet_id}")
    return [row for row in rows if row.port_id == port]
