"""The tables of federation."""

from __future__ import annotations

import sqlalchemy as sa

from pileus.kernel.db import Json, Timestamp

from .metadata import METADATA
from .metadata import identifier as _id

# Federation: somebody else says who the users of a domain are. A protocol is a way to ask, and names the mapping of what is said.
identity_providers = sa.Table(
    "identity_providers",
    METADATA,
    _id(primary_key=True),
    _id("domain_id", nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("description", sa.Text),
    sa.Column("authorization_ttl", sa.Integer),  # minutes
    sa.Index(None, "domain_id"),
    sa.ForeignKeyConstraint(["domain_id"], ["projects.id"], ondelete="CASCADE"),
)

remote_ids = sa.Table(
    "remote_ids",
    METADATA,
    sa.Column("remote_id", sa.String(255), primary_key=True),
    _id("identity_provider_id", nullable=False),
    sa.Index(None, "identity_provider_id"),
    sa.ForeignKeyConstraint(["identity_provider_id"], ["identity_providers.id"], ondelete="CASCADE"),
)

mappings = sa.Table(
    "mappings",
    METADATA,
    _id(primary_key=True),
    sa.Column("rules", Json, nullable=False),
    sa.Column("schema_version", sa.String(8), nullable=False),
)

federation_protocols = sa.Table(
    "federation_protocols",
    METADATA,
    _id("identity_provider_id", primary_key=True),
    _id(primary_key=True),
    _id("mapping_id", nullable=False),  # which may be gone
    sa.Column("remote_id_attribute", sa.String(255)),
    sa.Index(None, "mapping_id"),
    sa.ForeignKeyConstraint(["identity_provider_id"], ["identity_providers.id"], ondelete="CASCADE"),
)

# By what name an identity provider knows a user.
federated_users = sa.Table(
    "federated_users",
    METADATA,
    _id("identity_provider_id", primary_key=True),
    _id("protocol_id", primary_key=True),
    sa.Column("unique_id", sa.String(255), primary_key=True),
    _id("user_id", nullable=False),
    sa.Column("display_name", sa.String(255)),
    sa.Index(None, "user_id"),
    sa.Index(None, "unique_id"),
    sa.ForeignKeyConstraint(
        ["identity_provider_id", "protocol_id"],
        ["federation_protocols.identity_provider_id", "federation_protocols.id"],
        name="fk_federated_users_protocol",
        ondelete="CASCADE",
    ),
    sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
)

# Groups in which an identity provider put a user at the last login, until when that counts.
federated_memberships = sa.Table(
    "federated_memberships",
    METADATA,
    _id("user_id", primary_key=True),
    _id("group_id", primary_key=True),
    _id("identity_provider_id", primary_key=True),
    sa.Column("expires_at", Timestamp, nullable=False),
    sa.Index(None, "group_id"),
    sa.Index(None, "identity_provider_id"),
    sa.Index(None, "expires_at"),
    sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
    sa.ForeignKeyConstraint(["group_id"], ["groups.id"], ondelete="CASCADE"),
    sa.ForeignKeyConstraint(["identity_provider_id"], ["identity_providers.id"], ondelete="CASCADE"),
)

# Other clouds whose users come from here (keystone-to-keystone).
service_providers = sa.Table(
    "service_providers",
    METADATA,
    _id(primary_key=True),
    sa.Column("auth_url", sa.String(256), nullable=False),
    sa.Column("sp_url", sa.String(256), nullable=False),
    sa.Column("relay_state_prefix", sa.String(256), nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("description", sa.Text),
    sa.Index(None, "enabled"),
)
