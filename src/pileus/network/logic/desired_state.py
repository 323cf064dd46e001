"""What a host shall have: the items of its desired state, rendered from the tables with a constant number of queries."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.kernel import desired
from pileus.kernel.service import Service
from pileus.network import wire
from pileus.network.logic import dhcp
from pileus.network.logic.desired_routers import routers
from pileus.network.store import tables as t
from pileus.network.store.render import grouped

_NETWORK_PORT = "network:"


def render(service: Service, host: str, since: int) -> wire.Desired:
    """What changed for the host since a version, or all it shall have."""
    with service.db.read() as conn:
        changes = desired.changes(conn, host, since)
        wanted = {kind: changes.ids(kind) for kind in ("network", "port", "router", "group")}
        found_networks = networks(conn, host, wanted["network"], service.options.dns_domain)
        found_ports = ports(conn, wanted["port"])
        found_routers = routers(conn, wanted["router"])
        found_groups = groups(conn, wanted["group"])
    return wire.Desired(
        version=changes.version,
        full=changes.full,
        networks=tuple(found_networks),
        ports=tuple(found_ports),
        routers=tuple(found_routers),
        groups=tuple(found_groups),
        gone=wire.Gone(
            networks=_gone(changes, "network", wanted, found_networks),
            ports=_gone(changes, "port", wanted, found_ports),
            routers=_gone(changes, "router", wanted, found_routers),
            groups=_gone(changes, "group", wanted, found_groups),
        ),
    )


def _gone(changes: desired.Changes, kind: str, wanted: Mapping[str, list[str]], found: Sequence[Any]) -> tuple[str, ...]:
    """What left the host, and what is wanted but no longer there."""
    there = {item.id for item in found}
    return tuple(changes.ids(kind, gone=True)) + tuple(id for id in wanted[kind] if id not in there)


# -- networks --------------------------------------------------------------------------------------------------------


def networks(conn: sa.Connection, host: str, ids: Sequence[str], dns_domain: str = "") -> list[wire.NetworkItem]:
    """Networks as the host sees them."""
    if not ids:
        return []
    rows = conn.execute(sa.select(t.networks).where(t.networks.c.id.in_(ids))).all()
    everything: Any = t.subnets
    subnets = grouped(conn, sa.select(t.subnets.c.network_id, everything).order_by(t.subnets.c.id), t.subnets.c.network_id, ids)
    table = t.ports
    query = sa.select(
        table.c.network_id,
        table.c.id,
        table.c.host_id,
        table.c.mac_address,
        table.c.device_id,
        table.c.device_owner,
        table.c.project_id,
        table.c.extra_dhcp_opts,
    ).where(table.c.host_id != "")
    bound = grouped(conn, query, table.c.network_id, ids)
    taken = t.allocations
    query_taken: sa.Select[Any] = (
        sa.select(table.c.network_id, taken.c.port_id, taken.c.subnet_id, taken.c.ip_address)
        .join(taken, taken.c.port_id == table.c.id)
        .where(table.c.host_id != "")
    )
    addresses: dict[str, list[Any]] = {}
    for found in grouped(conn, query_taken, table.c.network_id, ids).values():
        for row in found:
            addresses.setdefault(row.port_id, []).append(row)
    vteps = _vteps(conn, {port.host_id for ports in bound.values() for port in ports})
    return [_network(row, host, subnets.get(row.id, []), bound.get(row.id, []), addresses, vteps, dns_domain) for row in rows]


def _vteps(conn: sa.Connection, hosts: Collection[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    known = t.agents.c
    names = sorted(hosts)
    for start in range(0, len(names), 500):
        query = sa.select(known.host, known.vtep).where(known.host.in_(names[start : start + 500]), known.vtep != "").distinct()
        found.update((host, vtep) for host, vtep in conn.execute(query))
    return found


def _network(
    row: Any,
    host: str,
    subnets: Sequence[Any],
    bound: Sequence[Any],
    addresses: Mapping[str, list[Any]],
    vteps: Mapping[str, str],
    dns_domain: str,
) -> wire.NetworkItem:
    guests = [port for port in bound if not port.device_owner.startswith(_NETWORK_PORT)]
    legs = [port for port in bound if port.device_owner == "network:router_interface"]
    servers = (port for port in bound if port.host_id == host and port.device_owner == dhcp.OWNER)
    server = next(servers, None) if row.admin_state_up else None
    routed_here = any(leg.host_id == host for leg in legs)
    return wire.NetworkItem(
        id=row.id,
        type=row.network_type,
        segmentation_id=row.segmentation_id,
        physical_network=row.physical_network,
        mtu=row.mtu,
        external=row.external,
        subnets=tuple(_subnet(subnet) for subnet in subnets),
        dhcp=_dhcp(server, addresses) if server else None,
        leases=_leases(guests, addresses, subnets) if server else (),
        metadata=_owners(guests, addresses) if server or routed_here else (),
        isolated=not legs,
        peers=_peers([port for port in bound if port.host_id != host], addresses, vteps),
        dns_domain=dns_domain,
    )


def _subnet(row: Any) -> wire.Subnet:
    return wire.Subnet(
        id=row.id,
        cidr=row.cidr,
        ip_version=row.ip_version,
        gateway_ip=row.gateway_ip,
        dns_nameservers=tuple(row.dns_nameservers),
        host_routes=tuple(wire.HostRoute(destination=route["destination"], nexthop=route["nexthop"]) for route in row.host_routes),
        enable_dhcp=row.enable_dhcp,
        ipv6_ra_mode=row.ipv6_ra_mode,
        ipv6_address_mode=row.ipv6_address_mode,
    )


def _dhcp(port: Any, addresses: Mapping[str, list[Any]]) -> wire.DhcpPort:
    ips = tuple(wire.SubnetAddress(subnet_id=a.subnet_id, ip=a.ip_address) for a in addresses.get(port.id, ()))
    return wire.DhcpPort(port_id=port.id, mac=port.mac_address, ips=ips)


def _leases(guests: Sequence[Any], addresses: Mapping[str, list[Any]], subnets: Sequence[Any]) -> tuple[wire.Lease, ...]:
    served = {subnet.id for subnet in subnets if subnet.enable_dhcp and subnet.ip_version == 4}
    return tuple(
        wire.Lease(
            port_id=port.id,
            mac=port.mac_address,
            ip=address.ip_address,
            subnet_id=address.subnet_id,
            hostname="host-" + address.ip_address.replace(".", "-"),
            extra_dhcp_opts=tuple(
                wire.DhcpOption(opt_name=option["opt_name"], opt_value=option["opt_value"], ip_version=option["ip_version"])
                for option in port.extra_dhcp_opts
            ),
        )
        for port in guests
        for address in addresses.get(port.id, ())
        if address.subnet_id in served
    )


def _owners(guests: Sequence[Any], addresses: Mapping[str, list[Any]]) -> tuple[wire.MetadataOwner, ...]:
    return tuple(
        wire.MetadataOwner(ip=address.ip_address, port_id=port.id, device_id=port.device_id, project_id=port.project_id)
        for port in guests
        for address in addresses.get(port.id, ())
    )


def _peers(others: Sequence[Any], addresses: Mapping[str, list[Any]], vteps: Mapping[str, str]) -> tuple[wire.Peer, ...]:
    by_host: dict[str, list[wire.PeerEntry]] = {}
    for port in others:
        if port.host_id in vteps:
            ips = tuple(address.ip_address for address in addresses.get(port.id, ()))
            by_host.setdefault(port.host_id, []).append(wire.PeerEntry(mac=port.mac_address, ips=ips))
    return tuple(wire.Peer(vtep=vteps[host], entries=tuple(entries)) for host, entries in sorted(by_host.items()))


# -- ports -----------------------------------------------------------------------------------------------------------


def ports(conn: sa.Connection, ids: Sequence[str]) -> list[wire.PortItem]:
    """Ports whose taps compute makes; they are down in a network that is down."""
    if not ids:
        return []
    everything = sa.select(t.ports.c.id, t.ports, t.networks.c.admin_state_up.label("network_up")).join(
        t.networks, t.networks.c.id == t.ports.c.network_id
    )
    rows = [row for found in grouped(conn, everything, t.ports.c.id, ids).values() for row in found]
    taken = t.allocations
    query = sa.select(taken.c.port_id, taken.c.subnet_id, taken.c.ip_address, t.subnets.c.cidr).join(
        t.subnets, t.subnets.c.id == taken.c.subnet_id
    )
    addresses = grouped(conn, query, taken.c.port_id, ids)
    members = grouped(conn, sa.select(t.port_groups.c.port_id, t.port_groups.c.security_group_id), t.port_groups.c.port_id, ids)
    return [
        wire.PortItem(
            id=row.id,
            network_id=row.network_id,
            tap="tap" + row.id[:11],
            mac=row.mac_address,
            fixed_ips=tuple(
                wire.FixedIp(ip=a.ip_address, subnet_id=a.subnet_id, prefix=int(a.cidr.rpartition("/")[2]))
                for a in addresses.get(row.id, ())
            ),
            allowed_address_pairs=tuple(
                wire.AddressPair(ip=pair["ip_address"], mac=pair.get("mac_address", "")) for pair in row.allowed_address_pairs
            ),
            port_security=row.port_security_enabled,
            admin_state_up=row.admin_state_up and row.network_up,
            groups=tuple(member.security_group_id for member in members.get(row.id, ())),
            device_id=row.device_id,
            device_owner=row.device_owner,
        )
        for row in rows
    ]


# -- security groups -------------------------------------------------------------------------------------------------


def groups(conn: sa.Connection, ids: Sequence[str]) -> list[wire.GroupItem]:
    """Security groups; members only where some rule refers to the group."""
    if not ids:
        return []
    rules = t.security_group_rules
    rows = conn.execute(sa.select(t.security_groups.c.id, t.security_groups.c.stateful).where(t.security_groups.c.id.in_(ids))).all()
    by_group = grouped(conn, sa.select(rules.c.security_group_id, rules).order_by(rules.c.id), rules.c.security_group_id, ids)
    referred = set(conn.execute(sa.select(rules.c.remote_group_id).where(rules.c.remote_group_id.in_(ids)).distinct()).scalars())
    members = _members(conn, sorted(id for id in referred if id))
    return [
        wire.GroupItem(
            id=row.id,
            rules=tuple(_rule(rule) for rule in by_group.get(row.id, ())),
            members=tuple(sorted(members.get(row.id, ()))),
            stateful=row.stateful,
        )
        for row in rows
    ]


def _rule(row: Any) -> wire.RuleItem:
    prefix = row.remote_ip_prefix
    return wire.RuleItem(
        id=row.id,
        direction=row.direction,
        ethertype=row.ethertype,
        protocol=row.protocol,
        port_min=row.port_range_min,
        port_max=row.port_range_max,
        remote_cidr=str(ipaddress.ip_network(prefix, strict=False)) if prefix else None,
        remote_group=row.remote_group_id,
    )


def _members(conn: sa.Connection, ids: Sequence[str]) -> dict[str, set[str]]:
    """Fixed addresses and allowed pairs of the groups' ports, bound or not."""
    if not ids:
        return {}
    member, taken = t.port_groups, t.allocations
    query = sa.select(member.c.security_group_id, taken.c.ip_address).join(taken, taken.c.port_id == member.c.port_id)
    found = {id: {row[1] for row in rows} for id, rows in grouped(conn, query, member.c.security_group_id, ids).items()}
    query = (
        sa.select(member.c.security_group_id, t.ports.c.allowed_address_pairs)
        .join(t.ports, t.ports.c.id == member.c.port_id)
        .where(sa.cast(t.ports.c.allowed_address_pairs, sa.String) != "[]")
    )
    for id, rows in grouped(conn, query, member.c.security_group_id, ids).items():
        found.setdefault(id, set()).update(pair["ip_address"] for row in rows for pair in row[1])
    return found
