"""Rows as the dictionaries that clients read. One function for each resource, each with a constant number of queries for any number of rows.

Every dictionary has every attribute; what the caller may not see is taken out by the API.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.kernel import clock
from pileus.network.store import tables as t

Row = Any
Body = dict[str, Any]
_CHUNK = 5000


def grouped(conn: sa.Connection, query: sa.Select[Any], column: sa.ColumnElement[Any], ids: Sequence[str]) -> dict[str, list[Row]]:
    """The rows of `query`, whose first column is `column`, for these ids, by id. Ids go in chunks below every database's limit."""
    found: dict[str, list[Row]] = {}
    for start in range(0, len(ids), _CHUNK):
        for row in conn.execute(query.where(column.in_(ids[start : start + _CHUNK]))).fetchall():
            found.setdefault(row[0], []).append(row)
    return found


def tags_of(conn: sa.Connection, ids: Sequence[str]) -> dict[str, list[str]]:
    """Tags by resource id, in order."""
    query = sa.select(t.tags.c.resource_id, t.tags.c.tag).order_by(t.tags.c.tag)
    return {id: [row[1] for row in rows] for id, rows in grouped(conn, query, t.tags.c.resource_id, ids).items()}


def _standard(row: Row, tags: Mapping[str, list[str]]) -> Body:
    return {
        "description": row.description,
        "tags": tags.get(row.id, []),
        "created_at": clock.iso(row.created_at),
        "updated_at": clock.iso(row.updated_at),
        "revision_number": row.revision_number,
        "tenant_id": row.project_id,
        "project_id": row.project_id,
    }


def networks(conn: sa.Connection, rows: Sequence[Row], viewer: str | None) -> list[Body]:
    """Networks; `shared` is also true for one that is shared with the viewer's project alone."""
    ids = [row.id for row in rows]
    tags = tags_of(conn, ids)
    subnets = grouped(conn, sa.select(t.subnets.c.network_id, t.subnets.c.id).order_by(t.subnets.c.id), t.subnets.c.network_id, ids)
    shared = shared_with(conn, ids, viewer)
    zones = zones_of_networks(conn, ids)
    return [_network(row, [pair[1] for pair in subnets.get(row.id, ())], row.id in shared, zones.get(row.id, []), tags) for row in rows]


def _network(row: Row, subnets: list[str], shared: bool, zones: list[str], tags: Mapping[str, list[str]]) -> Body:
    body = {
        "id": row.id,
        "name": row.name,
        "admin_state_up": row.admin_state_up,
        "status": row.status,
        "shared": row.shared or shared,
        "router:external": row.external,
        "mtu": row.mtu,
        "port_security_enabled": row.port_security_enabled,
        "provider:network_type": row.network_type,
        "provider:physical_network": row.physical_network,
        "provider:segmentation_id": row.segmentation_id,
        "availability_zone_hints": row.availability_zone_hints,
        "availability_zones": zones,
        "subnets": subnets,
        **_standard(row, tags),
    }
    if row.external:
        body["is_default"] = row.is_default
    return body


def shared_with(conn: sa.Connection, network_ids: Sequence[str], viewer: str | None) -> set[str]:
    """Which of the networks are shared with exactly this project."""
    if not viewer:
        return set()
    table = t.rbac_policies
    query = sa.select(table.c.object_id).where(table.c.target_project == viewer, table.c.action == "access_as_shared")
    return set(grouped(conn, query, table.c.object_id, network_ids))


def zones_of_networks(conn: sa.Connection, network_ids: Sequence[str]) -> dict[str, list[str]]:
    """Zones of the hosts that serve the networks' DHCP."""
    query = (
        sa.select(t.dhcp_bindings.c.network_id, t.agents.c.availability_zone)
        .join(t.agents, sa.and_(t.agents.c.host == t.dhcp_bindings.c.host, t.agents.c.agent_type == "DHCP agent"))
        .where(t.agents.c.availability_zone.is_not(None))
        .distinct()
    )
    found = grouped(conn, query, t.dhcp_bindings.c.network_id, network_ids)
    return {id: sorted(row[1] for row in rows) for id, rows in found.items()}


def subnets(conn: sa.Connection, rows: Sequence[Row], _viewer: str | None = None) -> list[Body]:
    """Subnets."""
    tags = tags_of(conn, [row.id for row in rows])
    return [
        {
            "id": row.id,
            "name": row.name,
            "network_id": row.network_id,
            "ip_version": row.ip_version,
            "cidr": row.cidr,
            "gateway_ip": row.gateway_ip,
            "enable_dhcp": row.enable_dhcp,
            "ipv6_ra_mode": row.ipv6_ra_mode,
            "ipv6_address_mode": row.ipv6_address_mode,
            "allocation_pools": row.allocation_pools,
            "dns_nameservers": row.dns_nameservers,
            "host_routes": row.host_routes,
            "service_types": row.service_types,
            "subnetpool_id": row.subnetpool_id,
            **_standard(row, tags),
        }
        for row in rows
    ]


def subnetpools(conn: sa.Connection, rows: Sequence[Row], _viewer: str | None = None) -> list[Body]:
    """Subnet pools. Prefix lengths are text, as upstream's own answers have them in the API reference."""
    tags = tags_of(conn, [row.id for row in rows])
    return [
        {
            "id": row.id,
            "name": row.name,
            "prefixes": row.prefixes,
            "ip_version": row.ip_version,
            "min_prefixlen": str(row.min_prefixlen),
            "default_prefixlen": str(row.default_prefixlen),
            "max_prefixlen": str(row.max_prefixlen),
            "default_quota": row.default_quota,
            "shared": row.shared,
            "is_default": row.is_default,
            "address_scope_id": None,
            **_standard(row, tags),
        }
        for row in rows
    ]


def addresses_of(conn: sa.Connection, port_ids: Sequence[str]) -> dict[str, list[Row]]:
    """(port_id, subnet_id, ip_address) by port id."""
    table = t.allocations
    query = sa.select(table.c.port_id, table.c.subnet_id, table.c.ip_address)
    return grouped(conn, query, table.c.port_id, port_ids)


def groups_of(conn: sa.Connection, port_ids: Sequence[str]) -> dict[str, list[Row]]:
    """(port_id, security_group_id) by port id."""
    table = t.port_groups
    return grouped(conn, sa.select(table.c.port_id, table.c.security_group_id), table.c.port_id, port_ids)


def ports(conn: sa.Connection, rows: Sequence[Row], _viewer: str | None = None) -> list[Body]:
    """Ports with their addresses and security groups."""
    ids = [row[0] for row in rows]
    addresses, groups, tags = addresses_of(conn, ids), groups_of(conn, ids), tags_of(conn, ids)
    none: list[Row] = []
    return [
        port(
            row,
            [{"subnet_id": item[1], "ip_address": item[2]} for item in addresses.get(row[0], none)],
            [item[1] for item in groups.get(row[0], none)],
            tags.get(row[0]) or [],
        )
        for row in rows
    ]


PORT_COLUMNS = tuple(column.name for column in t.ports.columns)


def port(row: Sequence[Any], fixed_ips: list[dict[str, str]], groups: list[str], tags: list[str]) -> Body:
    """One port from its row (or its values in the order of PORT_COLUMNS) and what belongs to it."""
    (
        id,
        project_id,
        name,
        network_id,
        mac_address,
        admin_state_up,
        status,
        device_id,
        device_owner,
        port_security_enabled,
        host_id,
        vnic_type,
        vif_type,
        vif_details,
        profile,
        allowed_address_pairs,
        extra_dhcp_opts,
        description,
        revision_number,
        created_at,
        updated_at,
    ) = row
    return {
        "id": id,
        "name": name,
        "network_id": network_id,
        "mac_address": mac_address,
        "admin_state_up": admin_state_up,
        "status": status,
        "device_id": device_id,
        "device_owner": device_owner,
        "fixed_ips": fixed_ips,
        "allowed_address_pairs": allowed_address_pairs,
        "extra_dhcp_opts": extra_dhcp_opts,
        "security_groups": groups,
        "port_security_enabled": port_security_enabled,
        "binding:host_id": host_id,
        "binding:vnic_type": vnic_type,
        "binding:profile": profile,
        "binding:vif_type": vif_type,
        "binding:vif_details": vif_details,
        "description": description,
        "tags": tags,
        "created_at": clock.iso(created_at),
        "updated_at": clock.iso(updated_at),
        "revision_number": revision_number,
        "tenant_id": project_id,
        "project_id": project_id,
    }


def routers(conn: sa.Connection, rows: Sequence[Row], _viewer: str | None = None) -> list[Body]:
    """Routers with their gateways."""
    tags = tags_of(conn, [row.id for row in rows])
    addresses = addresses_of(conn, [row.gateway_port_id for row in rows if row.gateway_port_id])
    zones = zones_of_hosts(conn, sorted({row.host for row in rows if row.host}))
    return [
        {
            "id": row.id,
            "name": row.name,
            "admin_state_up": row.admin_state_up,
            "status": row.status,
            "external_gateway_info": _gateway(row, addresses),
            "routes": row.routes,
            "availability_zone_hints": row.availability_zone_hints,
            "availability_zones": zones.get(row.host, []),
            **_standard(row, tags),
        }
        for row in rows
    ]


def _gateway(row: Row, addresses: Mapping[str, list[Row]]) -> Body | None:
    if not row.gateway_port_id:
        return None
    return {
        "network_id": row.gateway_network_id,
        "enable_snat": row.enable_snat,
        "external_fixed_ips": [{"subnet_id": item[1], "ip_address": item[2]} for item in addresses.get(row.gateway_port_id, ())],
    }


def zones_of_hosts(conn: sa.Connection, hosts: Sequence[str]) -> dict[str, list[str]]:
    """Availability zones of the hosts' L3 agents."""
    table = t.agents
    query = sa.select(table.c.host, table.c.availability_zone).where(
        table.c.agent_type == "L3 agent", table.c.availability_zone.is_not(None)
    )
    return {host: [row[1] for row in rows] for host, rows in grouped(conn, query, table.c.host, hosts).items()}


def floatingips(conn: sa.Connection, rows: Sequence[Row], _viewer: str | None = None) -> list[Body]:
    """Floating IPs with a few facts of the ports behind them."""
    tags = tags_of(conn, [row.id for row in rows])
    table = t.ports
    query = sa.select(
        table.c.id,
        table.c.name,
        table.c.network_id,
        table.c.mac_address,
        table.c.admin_state_up,
        table.c.status,
        table.c.device_id,
        table.c.device_owner,
    )
    ports = grouped(conn, query, table.c.id, [row.port_id for row in rows if row.port_id])
    return [
        {
            "id": row.id,
            "floating_ip_address": row.floating_ip_address,
            "floating_network_id": row.floating_network_id,
            "router_id": row.router_id,
            "port_id": row.port_id,
            "fixed_ip_address": row.fixed_ip_address,
            "status": row.status,
            "port_details": _port_details(ports.get(row.port_id)),
            **_standard(row, tags),
        }
        for row in rows
    ]


def _port_details(rows: list[Row] | None) -> Body | None:
    if not rows:
        return None
    row = rows[0]
    return {
        "name": row.name,
        "network_id": row.network_id,
        "mac_address": row.mac_address,
        "admin_state_up": row.admin_state_up,
        "status": row.status,
        "device_id": row.device_id,
        "device_owner": row.device_owner,
    }


def security_groups(conn: sa.Connection, rows: Sequence[Row], _viewer: str | None = None) -> list[Body]:
    """Security groups with their rules."""
    ids = [row.id for row in rows]
    tags = tags_of(conn, ids)
    table = t.security_group_rules
    query = sa.select(table.c.security_group_id, table).order_by(table.c.created_at, table.c.id)
    rules = grouped(conn, query, table.c.security_group_id, ids)
    return [
        {
            "id": row.id,
            "name": row.name,
            "stateful": row.stateful,
            "security_group_rules": [_rule(rule) for rule in rules.get(row.id, ())],
            **_standard(row, tags),
        }
        for row in rows
    ]


def security_group_rules(_conn: sa.Connection, rows: Iterable[Row], _viewer: str | None = None) -> list[Body]:
    """Rules of security groups."""
    return [_rule(row) for row in rows]


def _rule(row: Row) -> Body:
    return {
        "id": row.id,
        "tenant_id": row.project_id,
        "project_id": row.project_id,
        "security_group_id": row.security_group_id,
        "direction": row.direction,
        "ethertype": row.ethertype,
        "protocol": row.protocol,
        "port_range_min": row.port_range_min,
        "port_range_max": row.port_range_max,
        "remote_ip_prefix": row.remote_ip_prefix,
        "normalized_cidr": _normalized(row.remote_ip_prefix) if row.remote_ip_prefix else None,
        "remote_group_id": row.remote_group_id,
        "description": row.description,
        "created_at": clock.iso(row.created_at),
        "updated_at": clock.iso(row.updated_at),
        "revision_number": row.revision_number,
    }


@functools.lru_cache(maxsize=4096)
def _normalized(prefix: str) -> str:
    return str(ipaddress.ip_network(prefix, strict=False))


def rbac_policies(_conn: sa.Connection, rows: Iterable[Row], _viewer: str | None = None) -> list[Body]:
    """Who may use what of others."""
    return [
        {
            "id": row.id,
            "tenant_id": row.project_id,
            "project_id": row.project_id,
            "object_type": row.object_type,
            "object_id": row.object_id,
            "action": row.action,
            "target_tenant": row.target_project,
        }
        for row in rows
    ]
