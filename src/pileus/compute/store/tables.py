"""Compute's tables. Servers keep a copy of the flavor and image they were made from: later changes of those do not reach them."""

from __future__ import annotations

import sqlalchemy as sa

from pileus.kernel import desired, flows, quota
from pileus.kernel.db import NAMING, Json, Timestamp

METADATA = sa.MetaData(naming_convention=NAMING)

FLAVORS = sa.Table(
    "flavors",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("flavorid", sa.String(255), nullable=False, unique=True),
    sa.Column("name", sa.String(255), nullable=False, unique=True),
    sa.Column("vcpus", sa.Integer, nullable=False),
    sa.Column("memory_mb", sa.Integer, nullable=False),
    sa.Column("root_gb", sa.Integer, nullable=False),
    sa.Column("ephemeral_gb", sa.Integer, nullable=False, default=0),
    sa.Column("swap", sa.Integer, nullable=False, default=0),
    sa.Column("rxtx_factor", sa.Float, nullable=False, default=1.0),
    sa.Column("is_public", sa.Boolean, nullable=False, default=True, index=True),
    sa.Column("disabled", sa.Boolean, nullable=False, default=False),
    sa.Column("description", sa.Text),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("updated_at", Timestamp),
    sqlite_autoincrement=True,
)

FLAVOR_EXTRA_SPECS = sa.Table(
    "flavor_extra_specs",
    METADATA,
    sa.Column("flavor_id", sa.ForeignKey("flavors.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("value", sa.String(255), nullable=False),
)

FLAVOR_PROJECTS = sa.Table(
    "flavor_projects",
    METADATA,
    sa.Column("flavor_id", sa.ForeignKey("flavors.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("project_id", sa.String(255), primary_key=True, index=True),
)

KEY_PAIRS = sa.Table(
    "key_pairs",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("user_id", sa.String(255), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("type", sa.String(8), nullable=False),
    sa.Column("fingerprint", sa.String(255), nullable=False),
    sa.Column("public_key", sa.Text, nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("updated_at", Timestamp),
    sa.UniqueConstraint("user_id", "name"),
    sqlite_autoincrement=True,
)

SERVERS = sa.Table(
    "servers",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("project_id", sa.String(255), nullable=False),
    sa.Column("user_id", sa.String(255), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("description", sa.String(255)),
    sa.Column("hostname", sa.String(255), nullable=False),
    sa.Column("reservation_id", sa.String(255), nullable=False),
    sa.Column("launch_index", sa.Integer, nullable=False, default=0),
    # Copies of what it was made from.
    sa.Column("flavor", Json, nullable=False),
    sa.Column("flavorid", sa.String(255), nullable=False),
    sa.Column("vcpus", sa.Integer, nullable=False),
    sa.Column("memory_mb", sa.Integer, nullable=False),
    sa.Column("disk_gb", sa.Integer, nullable=False),
    sa.Column("image_ref", sa.String(36)),
    sa.Column("image", Json),
    sa.Column("key_name", sa.String(255)),
    sa.Column("key_data", sa.Text),
    sa.Column("user_data", sa.Text),
    sa.Column("config_drive", sa.Boolean, nullable=False, default=False),
    sa.Column("disk_config", sa.String(8), nullable=False, default="MANUAL"),
    sa.Column("admin_pass", sa.String(255)),
    # Where it may be and where it is.
    sa.Column("pinned_zone", sa.String(255)),
    sa.Column("availability_zone", sa.String(255)),
    sa.Column("scheduler_hints", Json),
    sa.Column("host", sa.String(255)),
    sa.Column("node", sa.String(255)),
    sa.Column("placement", Json),
    # What it is doing.
    sa.Column("vm_state", sa.String(32), nullable=False),
    sa.Column("task_state", sa.String(32)),
    sa.Column("power_state", sa.Integer, nullable=False, default=0),
    sa.Column("progress", sa.Integer, nullable=False, default=0),
    # Grows with every flow of the server; hosts refuse a lower one.
    sa.Column("epoch", sa.BigInteger, nullable=False, default=0),
    sa.Column("fault", Json),
    sa.Column("locked", sa.Boolean, nullable=False, default=False),
    sa.Column("locked_by", sa.String(8)),
    sa.Column("locked_reason", sa.String(255)),
    # Addresses: what was asked for, and what the network service says about its ports.
    sa.Column("requested_networks", Json),
    sa.Column("network_info", Json),
    sa.Column("access_ip_v4", sa.String(39)),
    sa.Column("access_ip_v6", sa.String(39)),
    sa.Column("root_device_name", sa.String(255)),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("updated_at", Timestamp),
    sa.Column("launched_at", Timestamp),
    sa.Column("terminated_at", Timestamp),
    sa.Column("deleted_at", Timestamp),
    sa.Column("deleted", sa.Boolean, nullable=False, default=False),
    sa.Index("ix_servers_project", "project_id", "deleted", "created_at", "id"),
    sa.Index("ix_servers_all", "deleted", "created_at", "id"),
    sa.Index("ix_servers_host", "host", "deleted"),
    sa.Index("ix_servers_updated", "updated_at"),
    sa.Index("ix_servers_reservation", "reservation_id"),
    sa.Index("ix_servers_image", "image_ref"),
    sa.Index("ix_servers_flavor", "flavorid"),
    sa.Index("ix_servers_state", "vm_state", "task_state"),
    sa.Index("ix_servers_name", "name"),
    sa.Index("ix_servers_deleted_at", "deleted_at"),
)

SERVER_METADATA = sa.Table(
    "server_metadata",
    METADATA,
    sa.Column("server_id", sa.ForeignKey("servers.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("value", sa.String(255), nullable=False),
)

SERVER_TAGS = sa.Table(
    "server_tags",
    METADATA,
    sa.Column("server_id", sa.ForeignKey("servers.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("tag", sa.String(80), primary_key=True, index=True),
)

SERVER_PORTS = sa.Table(
    "server_ports",
    METADATA,
    sa.Column("port_id", sa.String(36), primary_key=True),
    sa.Column("server_id", sa.ForeignKey("servers.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("mine", sa.Boolean, nullable=False),
    sa.Column("tag", sa.String(60)),
    sa.Column("position", sa.Integer, nullable=False),
    comment="Ports of servers, in the order of the cards; mine = made by compute, deleted with the server.",
)

PLUGGED_PORTS = sa.Table(
    "plugged_ports",
    METADATA,
    sa.Column("server_id", sa.ForeignKey("servers.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("port_id", sa.String(36), primary_key=True),
    comment="Ports that the network service reported as plugged; it may do so before the port is recorded.",
)

SERVER_ADDRESSES = sa.Table(
    "server_addresses",
    METADATA,
    sa.Column("server_id", sa.ForeignKey("servers.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("address", sa.String(39), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Index("ix_server_addresses_address", "address"),
    comment="Addresses of servers as in their network_info, for the ip and ip6 filters.",
)

ACTIONS = sa.Table(
    "server_actions",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("server_id", sa.String(36), nullable=False),
    sa.Column("action", sa.String(255), nullable=False),
    sa.Column("request_id", sa.String(255), nullable=False),
    sa.Column("user_id", sa.String(255)),
    sa.Column("project_id", sa.String(255)),
    sa.Column("start_time", Timestamp, nullable=False),
    sa.Column("finish_time", Timestamp),
    sa.Column("updated_at", Timestamp, nullable=False),
    sa.Column("message", sa.String(255)),
    sa.Index("ix_server_actions_server", "server_id", "start_time", "id"),
    sa.Index("ix_server_actions_request", "server_id", "request_id"),
    sqlite_autoincrement=True,
)

ACTION_EVENTS = sa.Table(
    "server_action_events",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("action_id", sa.ForeignKey("server_actions.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("event", sa.String(255), nullable=False),
    sa.Column("start_time", Timestamp, nullable=False),
    sa.Column("finish_time", Timestamp),
    sa.Column("result", sa.String(255)),
    sa.Column("details", sa.Text),
    sa.Column("traceback", sa.Text),
    sa.Column("host", sa.String(255)),
    sqlite_autoincrement=True,
)

SERVICES = sa.Table(
    "services",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("uuid", sa.String(36), nullable=False, unique=True),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("binary", sa.String(255), nullable=False),
    sa.Column("disabled", sa.Boolean, nullable=False, default=False),
    sa.Column("disabled_reason", sa.String(255)),
    sa.Column("forced_down", sa.Boolean, nullable=False, default=False),
    sa.Column("last_seen_up", Timestamp),
    sa.Column("was_up", sa.Boolean, nullable=False, default=True),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("updated_at", Timestamp),
    sa.UniqueConstraint("host", "binary"),
    sqlite_autoincrement=True,
)

COMPUTE_NODES = sa.Table(
    "compute_nodes",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("uuid", sa.String(36), nullable=False, unique=True),
    sa.Column("host", sa.String(255), nullable=False, unique=True),
    sa.Column("hypervisor_hostname", sa.String(255), nullable=False, index=True),
    sa.Column("hypervisor_type", sa.String(64), nullable=False),
    sa.Column("hypervisor_version", sa.Integer, nullable=False),
    sa.Column("host_ip", sa.String(39)),
    sa.Column("vcpus", sa.Integer, nullable=False),
    sa.Column("memory_mb", sa.Integer, nullable=False),
    sa.Column("local_gb", sa.Integer, nullable=False),
    sa.Column("disk_available_least", sa.Integer),
    sa.Column("cpu_info", Json),
    sa.Column("uptime", sa.String(255)),
    sa.Column("applied_version", sa.BigInteger, nullable=False, default=0),
    # What placement was told last; differs from what the host says until the providers loop has run.
    sa.Column("inventory", Json),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("updated_at", Timestamp),
    sqlite_autoincrement=True,
)

AGGREGATES = sa.Table(
    "aggregates",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("uuid", sa.String(36), nullable=False, unique=True),
    sa.Column("name", sa.String(255), nullable=False, unique=True),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("updated_at", Timestamp),
    sqlite_autoincrement=True,
)

AGGREGATE_HOSTS = sa.Table(
    "aggregate_hosts",
    METADATA,
    sa.Column("aggregate_id", sa.ForeignKey("aggregates.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("host", sa.String(255), primary_key=True, index=True),
)

AGGREGATE_METADATA = sa.Table(
    "aggregate_metadata",
    METADATA,
    sa.Column("aggregate_id", sa.ForeignKey("aggregates.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("value", sa.String(255), nullable=False),
)

SERVER_GROUPS = sa.Table(
    "server_groups",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("uuid", sa.String(36), nullable=False, unique=True),
    sa.Column("project_id", sa.String(255), nullable=False, index=True),
    sa.Column("user_id", sa.String(255), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("policy", sa.String(255), nullable=False),
    sa.Column("rules", Json, nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sqlite_autoincrement=True,
)

SERVER_GROUP_MEMBERS = sa.Table(
    "server_group_members",
    METADATA,
    sa.Column("server_id", sa.ForeignKey("servers.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("group_uuid", sa.ForeignKey("server_groups.uuid", ondelete="CASCADE"), nullable=False, index=True),
)

MIGRATIONS = sa.Table(
    "migrations",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("uuid", sa.String(36), nullable=False, unique=True),
    sa.Column("server_id", sa.String(36), nullable=False),
    sa.Column("migration_type", sa.String(32), nullable=False),
    sa.Column("status", sa.String(32), nullable=False),
    sa.Column("source_compute", sa.String(255), nullable=False),
    sa.Column("source_node", sa.String(255)),
    sa.Column("dest_compute", sa.String(255)),
    sa.Column("dest_node", sa.String(255)),
    sa.Column("dest_host", sa.String(255)),
    # Copies of the flavors before and after, and their numbers in the flavors table.
    sa.Column("old_flavor", Json),
    sa.Column("new_flavor", Json),
    sa.Column("old_flavor_id", sa.Integer),
    sa.Column("new_flavor_id", sa.Integer),
    # What was asked for and what was found on the way: the target host, the vm_state before, the zone of the destination.
    sa.Column("details", Json, nullable=False),
    # Bytes of memory and disk of a live migration, as the source host told last.
    sa.Column("progress", Json),
    sa.Column("user_id", sa.String(255)),
    sa.Column("project_id", sa.String(255)),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("updated_at", Timestamp),
    sa.Index("ix_migrations_server", "server_id", "status"),
    sa.Index("ix_migrations_created", "created_at", "id"),
    sa.Index("ix_migrations_updated", "updated_at"),
    sa.Index("ix_migrations_status", "status", "migration_type"),
    sa.Index("ix_migrations_type", "migration_type"),
    sa.Index("ix_migrations_source", "source_compute"),
    sa.Index("ix_migrations_dest", "dest_compute"),
    sa.Index("ix_migrations_project", "project_id", "created_at"),
    sa.Index("ix_migrations_user", "user_id"),
    sqlite_autoincrement=True,
)

QUOTA_CLASSES = sa.Table(
    "quota_classes",
    METADATA,
    sa.Column("class_name", sa.String(255), primary_key=True),
    sa.Column("resource", sa.String(255), primary_key=True),
    sa.Column("hard_limit", sa.Integer, nullable=False),
)

flows.tables(METADATA)
quota.tables(METADATA)
desired.tables(METADATA)
