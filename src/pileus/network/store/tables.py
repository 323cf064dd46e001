"""Tables of the network service.

Every resource has the standard columns: revision, timestamps, description. A project is '' for what belongs to none (ports of floating IPs).
Uniqueness that must hold under concurrency is a constraint here: an address in a network, a MAC in a network, a segment, a project's default group,
a rule in its group, a subnet in a router, a fixed address behind a floating one.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pileus.kernel import desired, quota
from pileus.kernel.db import NAMING, Json, Timestamp

METADATA = sa.MetaData(naming_convention=NAMING)


def _uuid(name: str, *rest: Any, **options: Any) -> sa.Column[str]:
    return sa.Column(name, sa.String(36), *rest, **options)


def _text(name: str, length: int = 255, **options: Any) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=options.pop("nullable", False), **options)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean, nullable=False)


def _json(name: str) -> sa.Column[Any]:
    return sa.Column(name, Json, nullable=False)


def _standard() -> list[sa.Column[Any]]:
    """What every resource has (API reference: standard attributes)."""
    return [
        _text("description"),
        sa.Column("revision_number", sa.BigInteger, nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("updated_at", Timestamp, nullable=False),
    ]


networks = sa.Table(
    "networks",
    METADATA,
    _uuid("id", primary_key=True),
    _text("project_id"),
    _text("name"),
    _flag("admin_state_up"),
    _text("status", 16),
    _flag("shared"),
    _flag("external"),
    _flag("is_default"),
    sa.Column("mtu", sa.Integer, nullable=False),
    _flag("port_security_enabled"),
    _text("network_type", 32),
    _text("physical_network", 64, nullable=True),
    sa.Column("segmentation_id", sa.BigInteger),
    _json("availability_zone_hints"),
    *_standard(),
    sa.Index(None, "project_id", "name"),
    sa.Index(None, "name"),
    sa.Index(None, "shared"),
    sa.Index(None, "external"),
)

segments = sa.Table(
    "segments",
    METADATA,
    _text("network_type", 32, primary_key=True),
    _text("physical_network", 64, primary_key=True),
    sa.Column("segmentation_id", sa.BigInteger, primary_key=True, autoincrement=False),
    _uuid("network_id", sa.ForeignKey("networks.id", ondelete="CASCADE"), nullable=False),
    sa.Index(None, "network_id"),
)
"""Which network has which segment; `physical_network` is '' for tunnels and `segmentation_id` 0 for flat networks."""

subnetpools = sa.Table(
    "subnetpools",
    METADATA,
    _uuid("id", primary_key=True),
    _text("project_id"),
    _text("name"),
    _json("prefixes"),
    sa.Column("ip_version", sa.Integer, nullable=False),
    sa.Column("min_prefixlen", sa.Integer, nullable=False),
    sa.Column("default_prefixlen", sa.Integer, nullable=False),
    sa.Column("max_prefixlen", sa.Integer, nullable=False),
    sa.Column("default_quota", sa.BigInteger),
    _flag("shared"),
    _flag("is_default"),
    *_standard(),
    sa.Index(None, "project_id", "name"),
    sa.Index(None, "name"),
    sa.Index(None, "shared"),
)

subnets = sa.Table(
    "subnets",
    METADATA,
    _uuid("id", primary_key=True),
    _text("project_id"),
    _text("name"),
    _uuid("network_id", sa.ForeignKey("networks.id"), nullable=False),
    _uuid("subnetpool_id", sa.ForeignKey("subnetpools.id")),
    sa.Column("ip_version", sa.Integer, nullable=False),
    _text("cidr", 64),
    _text("gateway_ip", 64, nullable=True),
    _flag("enable_dhcp"),
    _text("ipv6_ra_mode", 16, nullable=True),
    _text("ipv6_address_mode", 16, nullable=True),
    _json("allocation_pools"),
    _json("dns_nameservers"),
    _json("host_routes"),
    _json("service_types"),
    *_standard(),
    sa.Index(None, "project_id", "name"),
    sa.Index(None, "network_id"),
    sa.Index(None, "name"),
    sa.Index(None, "cidr"),
    sa.Index(None, "subnetpool_id"),
)

ports = sa.Table(
    "ports",
    METADATA,
    _uuid("id", primary_key=True),
    _text("project_id"),
    _text("name"),
    _uuid("network_id", sa.ForeignKey("networks.id"), nullable=False),
    _text("mac_address", 32),
    _flag("admin_state_up"),
    _text("status", 16),
    _text("device_id"),
    _text("device_owner"),
    _flag("port_security_enabled"),
    _text("host_id"),
    _text("vnic_type", 64),
    _text("vif_type", 64),
    _json("vif_details"),
    _json("profile"),
    _json("allowed_address_pairs"),
    _json("extra_dhcp_opts"),
    *_standard(),
    sa.UniqueConstraint("network_id", "mac_address"),
    sa.Index(None, "project_id", "name"),
    sa.Index(None, "device_id", "device_owner"),
    sa.Index(None, "network_id", "host_id"),
    sa.Index(None, "network_id", "device_owner"),
    sa.Index(None, "host_id"),
    sa.Index(None, "name"),
    sa.Index(None, "mac_address"),
    sa.Index(None, "device_owner"),
)

port_bindings = sa.Table(
    "port_bindings",
    METADATA,
    _uuid("port_id", sa.ForeignKey("ports.id", ondelete="CASCADE"), primary_key=True),
    _text("host", primary_key=True),
    _text("vnic_type", 64),
    _text("vif_type", 64),
    _json("vif_details"),
    _json("profile"),
    _text("status", 16),
    sa.Index(None, "host"),
)
"""Inactive bindings; the active one is in the port itself. `status` is the host's report, what the port's would be if this were the active one."""

allocations = sa.Table(
    "ip_allocations",
    METADATA,
    _uuid("network_id", primary_key=True),
    _text("ip_address", 64, primary_key=True),
    _uuid("subnet_id", sa.ForeignKey("subnets.id"), nullable=False),
    _uuid("port_id", sa.ForeignKey("ports.id", ondelete="CASCADE"), nullable=False),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Index(None, "port_id"),
    sa.Index(None, "subnet_id", "number"),
    sa.Index(None, "ip_address"),
)
"""`number` is the distance from the subnet's first address (modulo 2**62), for the search of gaps in the database."""

security_groups = sa.Table(
    "security_groups",
    METADATA,
    _uuid("id", primary_key=True),
    _text("project_id"),
    _text("name"),
    _flag("stateful"),
    _text("default_of", nullable=True),
    *_standard(),
    sa.UniqueConstraint("default_of"),
    sa.Index(None, "project_id", "name"),
    sa.Index(None, "name"),
)

security_group_rules = sa.Table(
    "security_group_rules",
    METADATA,
    _uuid("id", primary_key=True),
    _text("project_id"),
    _uuid("security_group_id", sa.ForeignKey("security_groups.id", ondelete="CASCADE"), nullable=False),
    _text("direction", 16),
    _text("ethertype", 16),
    _text("protocol", 32, nullable=True),
    sa.Column("port_range_min", sa.Integer),
    sa.Column("port_range_max", sa.Integer),
    _text("remote_ip_prefix", 64, nullable=True),
    _uuid("remote_group_id", sa.ForeignKey("security_groups.id", ondelete="CASCADE")),
    _text("signature", 200),
    *_standard(),
    sa.UniqueConstraint("security_group_id", "signature"),
    sa.Index(None, "project_id"),
    sa.Index(None, "remote_group_id"),
)

port_groups = sa.Table(
    "port_security_groups",
    METADATA,
    _uuid("port_id", sa.ForeignKey("ports.id", ondelete="CASCADE"), primary_key=True),
    _uuid("security_group_id", sa.ForeignKey("security_groups.id"), primary_key=True),
    sa.Index(None, "security_group_id"),
)

routers = sa.Table(
    "routers",
    METADATA,
    _uuid("id", primary_key=True),
    _text("project_id"),
    _text("name"),
    _flag("admin_state_up"),
    _text("status", 16),
    _uuid("gateway_port_id", sa.ForeignKey("ports.id")),
    _uuid("gateway_network_id"),
    _flag("enable_snat"),
    _json("routes"),
    _json("availability_zone_hints"),
    _text("host"),
    *_standard(),
    sa.Index(None, "project_id", "name"),
    sa.Index(None, "name"),
    sa.Index(None, "host"),
    sa.Index(None, "gateway_port_id"),
    sa.Index(None, "gateway_network_id"),
)

router_interfaces = sa.Table(
    "router_interfaces",
    METADATA,
    _uuid("router_id", sa.ForeignKey("routers.id"), primary_key=True),
    _uuid("subnet_id", sa.ForeignKey("subnets.id"), primary_key=True),
    _uuid("port_id", sa.ForeignKey("ports.id"), nullable=False),
    sa.Index(None, "port_id"),
    sa.Index(None, "subnet_id"),
)

floatingips = sa.Table(
    "floatingips",
    METADATA,
    _uuid("id", primary_key=True),
    _text("project_id"),
    _text("floating_ip_address", 64),
    _uuid("floating_network_id", nullable=False),
    _uuid("floating_port_id", sa.ForeignKey("ports.id"), nullable=False),
    _uuid("port_id", sa.ForeignKey("ports.id")),
    _text("fixed_ip_address", 64, nullable=True),
    _uuid("router_id", sa.ForeignKey("routers.id")),
    _text("status", 16),
    sa.Column("version", sa.BigInteger, nullable=False),
    *_standard(),
    sa.UniqueConstraint("floating_network_id", "port_id", "fixed_ip_address"),
    sa.Index(None, "project_id"),
    sa.Index(None, "floating_ip_address"),
    sa.Index(None, "floating_port_id"),
    sa.Index(None, "port_id"),
    sa.Index(None, "router_id"),
)
"""`version` is the router's host's desired version from which on a report speaks about this association."""

agents = sa.Table(
    "agents",
    METADATA,
    _uuid("id", primary_key=True),
    _text("agent_type", 64),
    _text("binary", 64),
    _text("host"),
    _text("topic", 64),
    _text("availability_zone", nullable=True),
    _flag("admin_state_up"),
    _text("description"),
    _json("configurations"),
    _text("vtep", 64),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("started_at", Timestamp, nullable=False),
    sa.Column("heartbeat_timestamp", Timestamp, nullable=False),
    sa.UniqueConstraint("agent_type", "host"),
    sa.Index(None, "host"),
)

dhcp_bindings = sa.Table(
    "dhcp_bindings",
    METADATA,
    _uuid("network_id", sa.ForeignKey("networks.id", ondelete="CASCADE"), primary_key=True),
    _text("host", primary_key=True),
    sa.Index(None, "host"),
)

tags = sa.Table(
    "tags",
    METADATA,
    _uuid("resource_id", primary_key=True),
    _text("tag", primary_key=True),
    sa.Index(None, "tag"),
)

rbac_policies = sa.Table(
    "rbac_policies",
    METADATA,
    _uuid("id", primary_key=True),
    _text("project_id"),
    _text("object_type", 64),
    _uuid("object_id", nullable=False),
    _text("action", 64),
    _text("target_project"),
    sa.UniqueConstraint("object_id", "action", "target_project"),
    sa.Index(None, "target_project", "action"),
    sa.Index(None, "project_id"),
)

port_events = sa.Table(
    "port_events",
    METADATA,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    _text("name", 64),
    _text("server_uuid", 64),
    _text("tag", 64, nullable=True),
    _text("status", 16),
    sa.Column("created_at", Timestamp, nullable=False),
)
"""What compute has to be told, until it has taken it."""

desired.tables(METADATA)
quota.tables(METADATA)
