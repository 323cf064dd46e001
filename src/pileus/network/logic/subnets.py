"""Subnets: addresses of a network, their pools and gateway, what DHCP hands out."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.kernel import ids
from pileus.kernel.db import retried
from pileus.kernel.service import Service
from pileus.network import errors
from pileus.network.logic import concerns, dhcp, ports, subnetpools
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
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
Pools = list[dict[str, str]]


@retried
def create_subnets(service: Service, items: Sequence[Values]) -> list[dict[str, Any]]:
    """Create subnets, all or none; DHCP is placed at once where an agent lives.

    Raises NetworkNotFound, InvalidInput, OverQuota and what pools and gateways raise.
    """
    with changing(service) as change:
        made = [_create(change, values) for values in items]
        for network_id in {values["network_id"] for values in items}:
            dhcp.ensure(change, fetch(change.conn, t.networks, network_id, errors.NetworkNotFound))
        rows = {row.id: row for row in change.conn.execute(sa.select(t.subnets).where(t.subnets.c.id.in_(made)))}
        return render.subnets(change.conn, [rows[id] for id in made])


def _create(change: Change, values: Values) -> str:
    network = fetch(change.conn, t.networks, values["network_id"], errors.NetworkNotFound, lock=True)
    cidr, pool_id = _cidr(change, values)
    _check_overlap(change, network.id, cidr)
    _check_modes(values)
    gateway = _gateway(cidr, values)
    if values.get("allocation_pools") is None:
        pools = default_pools(cidr, gateway)
    else:
        pools = checked_pools(cidr, values["allocation_pools"], gateway)
    _check_limits(change.service.options, values)
    _check_routes(cidr, values.get("host_routes") or [])
    reserve(change, values["project_id"], "subnet")
    row = {
        "id": ids.new_uuid(),
        "project_id": values["project_id"],
        "name": values["name"],
        "description": values["description"],
        "network_id": network.id,
        "subnetpool_id": pool_id,
        "ip_version": cidr.version,
        "cidr": str(cidr),
        "gateway_ip": gateway,
        "enable_dhcp": values["enable_dhcp"],
        "ipv6_ra_mode": None,
        "ipv6_address_mode": None,
        "allocation_pools": pools,
        "dns_nameservers": values["dns_nameservers"],
        "host_routes": values["host_routes"],
        "service_types": values["service_types"],
        **standard(),
    }
    change.conn.execute(sa.insert(t.subnets), row)
    concerns.network_changed(change, network.id)
    return str(row["id"])


def _cidr(change: Change, values: Values) -> tuple[IpNetwork, str | None]:
    """The prefix, and the pool it is from."""
    if values.get("subnetpool_id") or values["use_default_subnetpool"]:
        prefix, pool_id = subnetpools.allocate(change, values)
        return _checked_cidr(prefix, values), pool_id
    return _checked_cidr(ipaddress.ip_network(values["cidr"]), values), None


def _checked_cidr(network: IpNetwork, values: Values) -> IpNetwork:
    text = str(network)
    wanted = values.get("ip_version")
    if wanted is not None and wanted != network.version:
        raise errors.InvalidInput(f"cidr '{text}' does not match the ip_version '{wanted}'")
    if network.prefixlen == 0:
        raise errors.InvalidInput("0 is not allowed as CIDR prefix length")
    if network.is_multicast or network.is_loopback or (network.version == 6 and network.is_link_local):
        raise errors.InvalidInput(f"'{text}' is not a subnet that hosts can have addresses of")
    if network.version == 6 and values["enable_dhcp"] and network.prefixlen > 126:
        raise errors.InvalidInput(f"'{text}' leaves no address for hosts")
    return network


def _check_modes(values: Values) -> None:
    for name in ("ipv6_ra_mode", "ipv6_address_mode"):
        if values.get(name) is not None:
            raise errors.InvalidInput(
                f"{name} cannot be '{values[name]}': IPv6 addresses are given by their port alone, without router advertisements or DHCPv6"
            )


def _check_overlap(change: Change, network_id: str, cidr: IpNetwork) -> None:
    query = sa.select(t.subnets.c.id, t.subnets.c.cidr).where(t.subnets.c.network_id == network_id, t.subnets.c.ip_version == cidr.version)
    for id, other in change.conn.execute(query):
        if cidr.overlaps(ipaddress.ip_network(other)):
            raise errors.InvalidInput(
                f"Requested subnet with cidr: {cidr} for network: {network_id} overlaps with another subnet. Subnet with CIDR {other} and id {id}"
            )


def _gateway(cidr: IpNetwork, values: Values) -> str | None:
    """The first address unless the body says another, or none (null)."""
    if "gateway_ip" not in values:
        first = int(cidr.network_address) + (0 if cidr.num_addresses <= 2 and cidr.version == 4 else 1)
        return str(ipaddress.ip_address(first)) if cidr.num_addresses > 1 else None
    gateway: str | None = values["gateway_ip"]
    if gateway is not None:
        check_gateway(cidr, gateway)
    return gateway


def check_gateway(cidr: IpNetwork, gateway: str) -> None:
    """Raise InvalidInput for an address that no gateway of the subnet can have."""
    address = ipaddress.ip_address(gateway)
    if address.version != cidr.version:
        raise errors.InvalidInput(f"gateway_ip '{gateway}' does not match the ip_version '{cidr.version}'")
    if address in cidr and cidr.version == 4 and cidr.prefixlen < 31 and address in (cidr.network_address, cidr.broadcast_address):
        raise errors.InvalidInput("Gateway is not valid on subnet")
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        raise errors.InvalidInput("Gateway is not valid on subnet")


def default_pools(cidr: IpNetwork, gateway: str | None) -> Pools:
    """All host addresses but the gateway's."""
    first, last = int(cidr.network_address), int(cidr.broadcast_address)
    if cidr.version == 4 and cidr.prefixlen < 31:
        first, last = first + 1, last - 1
    elif cidr.version == 6 and cidr.prefixlen < 127:
        first += 1
    cut = int(ipaddress.ip_address(gateway)) if gateway and ipaddress.ip_address(gateway) in cidr else None
    spans = [(first, last)] if cut is None or not first <= cut <= last else [(first, cut - 1), (cut + 1, last)]
    kind = ipaddress.IPv4Address if cidr.version == 4 else ipaddress.IPv6Address
    return [{"start": str(kind(low)), "end": str(kind(high))} for low, high in spans if low <= high]


def checked_pools(cidr: IpNetwork, pools: Sequence[Mapping[str, str]], gateway: str | None) -> Pools:
    """The pools in order. Raises InvalidAllocationPool, OutOfBoundsAllocationPool, OverlappingAllocationPools, GatewayConflictWithAllocationPools."""
    spans = []
    for pool in pools:
        start, end = ipaddress.ip_address(pool["start"]), ipaddress.ip_address(pool["end"])
        shown = f"{start}-{end}"
        if start.version != cidr.version or end.version != cidr.version or int(end) < int(start):
            raise errors.InvalidAllocationPool(f"The allocation pool {shown} is not valid.")
        if start not in cidr or end not in cidr or (cidr.version == 4 and cidr.prefixlen < 31 and _at_edge(cidr, start, end)):
            raise errors.OutOfBoundsAllocationPool(f"The allocation pool {shown} spans beyond the subnet cidr {cidr}.")
        spans.append((int(start), int(end), shown))
    spans.sort()
    for one, two in itertools.pairwise(spans):
        if two[0] <= one[1]:
            raise errors.OverlappingAllocationPools(
                f"Found overlapping allocation pools: {one[2]}, {two[2]} for subnet {cidr}."
            )
    if gateway is not None:
        number = int(ipaddress.ip_address(gateway))
        for low, high, shown in spans:
            if low <= number <= high:
                raise errors.GatewayConflictWithAllocationPools(f"Gateway ip {gateway} conflicts with allocation pool {shown}.")
    kind = ipaddress.IPv4Address if cidr.version == 4 else ipaddress.IPv6Address
    return [{"start": str(kind(low)), "end": str(kind(high))} for low, high, _ in spans]


def _at_edge(cidr: IpNetwork, start: Any, end: Any) -> bool:
    return bool(start == cidr.network_address or end == cidr.broadcast_address)


def _check_limits(options: Any, values: Values) -> None:
    if len(values.get("dns_nameservers") or []) > options.max_dns_nameservers:
        raise errors.DNSNameServersExhausted(f"Unable to complete operation: more than {options.max_dns_nameservers} DNS name servers.")
    if len(values.get("host_routes") or []) > options.max_subnet_host_routes:
        raise errors.HostRoutesExhausted(f"Unable to complete operation: more than {options.max_subnet_host_routes} host routes.")


def _check_routes(cidr: IpNetwork, routes: Sequence[Mapping[str, str]]) -> None:
    for route in routes:
        destination = ipaddress.ip_network(route["destination"])
        if destination.version != cidr.version or ipaddress.ip_address(route["nexthop"]).version != cidr.version:
            raise errors.InvalidInput(f"host route {route['destination']} does not match the ip_version '{cidr.version}'")


@retried
def update_subnet(service: Service, subnet_id: str, values: Values, revision: int | None = None) -> dict[str, Any]:
    """Change a subnet. Raises SubnetNotFound, GatewayIpInUse, and what pools and gateways raise."""
    with changing(service) as change:
        row = fetch(change.conn, t.subnets, subnet_id, errors.SubnetNotFound, lock=True)
        check_revision(row, revision)
        cidr = ipaddress.ip_network(row.cidr)
        columns = dict(values)
        gateway = columns.get("gateway_ip", row.gateway_ip)
        if gateway != row.gateway_ip:
            _check_gateway_change(change, row, cidr, gateway)
        if columns.get("allocation_pools") is None:
            columns.pop("allocation_pools", None)
        if "allocation_pools" in columns or gateway != row.gateway_ip:
            columns["allocation_pools"] = checked_pools(cidr, columns.get("allocation_pools", row.allocation_pools), gateway)
        _check_limits(service.options, columns)
        _check_routes(cidr, columns.get("host_routes") or [])
        update(change.conn, t.subnets, subnet_id, columns)
        if columns.get("enable_dhcp", row.enable_dhcp) != row.enable_dhcp:
            dhcp.ensure(change, fetch(change.conn, t.networks, row.network_id, errors.NetworkNotFound))
        concerns.network_changed(change, row.network_id)
        if gateway != row.gateway_ip:
            concerns.routers_of_network_changed(change, row.network_id)
        return render.subnets(change.conn, [fetch(change.conn, t.subnets, subnet_id, errors.SubnetNotFound)])[0]


def _check_gateway_change(change: Change, row: Any, cidr: IpNetwork, gateway: str | None) -> None:
    """A router that answers at the old gateway address keeps it."""
    if gateway is not None:
        check_gateway(cidr, gateway)
    if row.gateway_ip is None:
        return
    query = (
        sa.select(t.ports.c.id)
        .join(t.allocations, t.allocations.c.port_id == t.ports.c.id)
        .where(
            t.allocations.c.subnet_id == row.id,
            t.allocations.c.ip_address == row.gateway_ip,
            t.ports.c.device_owner == "network:router_interface",
        )
    )
    port = change.conn.execute(query).scalar()
    if port:
        raise errors.GatewayIpInUse(f"Current gateway ip {row.gateway_ip} already in use by port {port}. Unable to update.")


@retried
def delete_subnet(service: Service, subnet_id: str, revision: int | None = None) -> None:
    """Delete a subnet; the address of DHCP in it goes along. Raises SubnetNotFound, SubnetInUse."""
    with changing(service) as change:
        network_id = fetch(change.conn, t.subnets, subnet_id, errors.SubnetNotFound).network_id
        network = fetch(change.conn, t.networks, network_id, errors.NetworkNotFound, lock=True)
        row = fetch(change.conn, t.subnets, subnet_id, errors.SubnetNotFound, lock=True)
        check_revision(row, revision)
        _check_unused(change, subnet_id)
        change.conn.execute(sa.update(t.subnets).where(t.subnets.c.id == subnet_id).values(enable_dhcp=False))
        dhcp.ensure(change, network)
        _give_up_reserved(change, row)
        change.conn.execute(sa.delete(t.subnets).where(t.subnets.c.id == subnet_id))
        forget_tags(change.conn, [subnet_id])
        release(change, row.project_id, "subnet")
        concerns.network_changed(change, row.network_id)


def _check_unused(change: Change, subnet_id: str) -> None:
    query = (
        sa.select(t.ports.c.id)
        .join(t.allocations, t.allocations.c.port_id == t.ports.c.id)
        .where(t.allocations.c.subnet_id == subnet_id, t.ports.c.device_owner.not_in(ports.OWN))
        .limit(1)
    )
    if change.conn.execute(query).first():
        raise errors.SubnetInUse(
            f"Unable to complete operation on subnet {subnet_id}: One or more ports have an IP allocation from this subnet."
        )


def _give_up_reserved(change: Change, row: Any) -> None:
    """Addresses that ports of DHCP still have here (their host is dead) go with the subnet."""
    change.conn.execute(sa.delete(t.allocations).where(t.allocations.c.subnet_id == row.id))
