"""Identity's tables.

A domain is a project with `is_domain`, as upstream has it: its id is also the id of a project, its `domain_id` is
empty. `''` stands for "no domain" where a column is part of a unique constraint.
"""

from __future__ import annotations

import sqlalchemy as sa

from pileus.kernel import installation
from pileus.kernel.db import Json, Timestamp

from . import directory_tables, federation_tables  # noqa: F401 - they belong to METADATA
from .metadata import METADATA
from .metadata import identifier as _id

NO_DOMAIN = ""
SYSTEM = "system"
"""Target id of assignments on the whole system."""

USER, GROUP = "U", "G"
PROJECT, DOMAIN, SYSTEM_KIND = "P", "D", "S"

# One row. `value` is raised with any change that can take a right away or shows in a token; the two others tell
# which of the small in-memory maps is out of date.
revision = sa.Table(
    "revision",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("value", sa.BigInteger, nullable=False),
    sa.Column("roles", sa.BigInteger, nullable=False),
    sa.Column("catalog", sa.BigInteger, nullable=False),
)

projects = sa.Table(
    "projects",
    METADATA,
    _id(primary_key=True),
    sa.Column("name", sa.String(64), nullable=False),
    _id("domain_id", nullable=False),
    _id("parent_id", nullable=True),
    sa.Column("description", sa.Text, nullable=False, default=""),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("is_domain", sa.Boolean, nullable=False),
    sa.Column("options", Json, nullable=False),
    sa.Column("extra", Json, nullable=False),
    sa.Column("tokens_valid_after", Timestamp),  # older tokens for it ended when it was disabled
    sa.UniqueConstraint("domain_id", "name"),
    sa.Index(None, "parent_id"),
    sa.Index(None, "name"),
)

project_tags = sa.Table(
    "project_tags",
    METADATA,
    _id("project_id", primary_key=True),
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Index(None, "name"),
    sa.ForeignKeyConstraint(["project_id"], ["projects.id"], ondelete="CASCADE"),
)

users = sa.Table(
    "users",
    METADATA,
    _id(primary_key=True),
    _id("domain_id", nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    _id("default_project_id", nullable=True),
    sa.Column("options", Json, nullable=False),
    sa.Column("extra", Json, nullable=False),
    sa.Column("password_hash", sa.String(255)),
    sa.Column("password_changed_at", Timestamp),
    sa.Column("password_expires_at", Timestamp),
    sa.Column("tokens_valid_after", Timestamp),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("password_self_service", sa.Boolean, nullable=False, server_default=sa.false()),  # who set it: its user
    sa.Column("failed_auth_count", sa.Integer, nullable=False, server_default="0"),
    sa.Column("failed_auth_at", Timestamp),
    sa.Column("last_active_at", sa.Date),  # no day: never taken for inactive
    sa.UniqueConstraint("domain_id", "name"),
    sa.Index(None, "name"),
    sa.Index(None, "default_project_id"),
    sa.Index(None, "password_expires_at"),
    sa.Index(None, "last_active_at"),
)

# Passwords that users had before, as far back as one must not be used again.
old_passwords = sa.Table(
    "old_passwords",
    METADATA,
    _id(primary_key=True),
    _id("user_id", nullable=False),
    sa.Column("password_hash", sa.String(255), nullable=False),
    sa.Column("replaced_at", Timestamp, nullable=False),
    sa.Index(None, "user_id", "replaced_at"),
    sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
)

groups = sa.Table(
    "groups",
    METADATA,
    _id(primary_key=True),
    _id("domain_id", nullable=False),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("description", sa.Text, nullable=False, default=""),
    sa.Column("extra", Json, nullable=False),
    sa.UniqueConstraint("domain_id", "name"),
    sa.Index(None, "name"),
)

memberships = sa.Table(
    "memberships",
    METADATA,
    _id("user_id", primary_key=True),
    _id("group_id", primary_key=True),
    sa.Index(None, "group_id"),
    sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
    sa.ForeignKeyConstraint(["group_id"], ["groups.id"], ondelete="CASCADE"),
)

roles = sa.Table(
    "roles",
    METADATA,
    _id(primary_key=True),
    sa.Column("name", sa.String(255), nullable=False),
    _id("domain_id", nullable=False),
    sa.Column("description", sa.Text),
    sa.Column("options", Json, nullable=False),
    sa.Column("extra", Json, nullable=False),
    sa.UniqueConstraint("domain_id", "name"),
    sa.Index(None, "name"),
)

implied_roles = sa.Table(
    "implied_roles",
    METADATA,
    _id("prior_role_id", primary_key=True),
    _id("implied_role_id", primary_key=True),
    sa.Index(None, "implied_role_id"),
    sa.ForeignKeyConstraint(["prior_role_id"], ["roles.id"], ondelete="CASCADE"),
    sa.ForeignKeyConstraint(["implied_role_id"], ["roles.id"], ondelete="CASCADE"),
)

# Actors are users and groups, targets projects, domains and the system.
assignments = sa.Table(
    "assignments",
    METADATA,
    _id("actor_id", primary_key=True),
    _id("target_id", primary_key=True),
    _id("role_id", primary_key=True),
    sa.Column("inherited", sa.Boolean, primary_key=True),
    sa.Column("actor_kind", sa.String(1), nullable=False),
    sa.Column("target_kind", sa.String(1), primary_key=True),
    sa.Index(None, "target_id"),
    sa.Index(None, "role_id"),
    sa.ForeignKeyConstraint(["role_id"], ["roles.id"], ondelete="CASCADE"),
)

# Tokens that ended before their time. With `chain` all tokens made from this one ended too.
revocations = sa.Table(
    "revocations",
    METADATA,
    sa.Column("audit_id", sa.String(32), primary_key=True),
    sa.Column("chain", sa.Boolean, primary_key=True),
    sa.Column("revoked_at", Timestamp, nullable=False),
    sa.Column("expires_at", Timestamp, nullable=False),  # the token's own end: then the row can go
    sa.Index(None, "expires_at"),
)

regions = sa.Table(
    "regions",
    METADATA,
    sa.Column("id", sa.String(255), primary_key=True),
    sa.Column("description", sa.String(255), nullable=False),
    sa.Column("parent_region_id", sa.String(255)),
    sa.Column("extra", Json, nullable=False),
    sa.Index(None, "parent_region_id"),
)

services = sa.Table(
    "services",
    METADATA,
    _id(primary_key=True),
    sa.Column("type", sa.String(255), nullable=False),
    sa.Column("name", sa.String(255)),
    sa.Column("description", sa.Text),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("extra", Json, nullable=False),
    sa.Index(None, "type"),
    sa.Index(None, "name"),
)

endpoints = sa.Table(
    "endpoints",
    METADATA,
    _id(primary_key=True),
    _id("service_id", nullable=False),
    sa.Column("interface", sa.String(8), nullable=False),
    sa.Column("region_id", sa.String(255)),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("extra", Json, nullable=False),
    sa.Index(None, "service_id"),
    sa.Index(None, "region_id"),
    sa.ForeignKeyConstraint(["service_id"], ["services.id"], ondelete="CASCADE"),
)

# Endpoints by what they have in common: filters on service_id, region_id and interface, all of which have to fit.
endpoint_groups = sa.Table(
    "endpoint_groups",
    METADATA,
    _id(primary_key=True),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("description", sa.Text),
    sa.Column("filters", Json, nullable=False),
)

# The catalog of a project that is in one of these two shows what it is given there, that of another one everything.
project_endpoints = sa.Table(
    "project_endpoints",
    METADATA,
    _id("endpoint_id", primary_key=True),
    _id("project_id", primary_key=True),
    sa.Index(None, "project_id"),
    sa.ForeignKeyConstraint(["endpoint_id"], ["endpoints.id"], ondelete="CASCADE"),
    sa.ForeignKeyConstraint(["project_id"], ["projects.id"], ondelete="CASCADE"),
)

project_endpoint_groups = sa.Table(
    "project_endpoint_groups",
    METADATA,
    _id("endpoint_group_id", primary_key=True),
    _id("project_id", primary_key=True),
    sa.Index(None, "project_id"),
    sa.ForeignKeyConstraint(["endpoint_group_id"], ["endpoint_groups.id"], ondelete="CASCADE"),
    sa.ForeignKeyConstraint(["project_id"], ["projects.id"], ondelete="CASCADE"),
)

credentials = sa.Table(
    "credentials",
    METADATA,
    _id(primary_key=True),
    _id("user_id", nullable=False),
    _id("project_id", nullable=True),
    sa.Column("type", sa.String(255), nullable=False),
    sa.Column("blob", sa.Text, nullable=False),  # encrypted
    sa.Column("extra", Json, nullable=False),
    sa.Index(None, "user_id"),
    sa.Index(None, "project_id"),
    sa.Index(None, "type"),
)

# The newest time step (of 30 s) whose passcode was used: each is good once.
totp_uses = sa.Table(
    "totp_uses",
    METADATA,
    _id("credential_id", primary_key=True),
    sa.Column("step", sa.BigInteger, nullable=False),
    sa.ForeignKeyConstraint(["credential_id"], ["credentials.id"], ondelete="CASCADE"),
)

application_credentials = sa.Table(
    "application_credentials",
    METADATA,
    _id(primary_key=True),
    _id("user_id", nullable=False),
    _id("project_id", nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("description", sa.Text),
    sa.Column("secret_hash", sa.String(255), nullable=False),
    sa.Column("expires_at", Timestamp),
    sa.Column("unrestricted", sa.Boolean, nullable=False),
    sa.Column("role_ids", Json, nullable=False),
    sa.UniqueConstraint("user_id", "name"),
    sa.Index(None, "project_id"),
)

# What tokens of application credentials may be used for: rules belong to a user, any number of credentials share one.
access_rules = sa.Table(
    "access_rules",
    METADATA,
    _id(primary_key=True),
    _id("user_id", nullable=False),
    sa.Column("service", sa.String(64), nullable=False),
    sa.Column("path", sa.String(128), nullable=False),
    sa.Column("method", sa.String(16), nullable=False),
    sa.UniqueConstraint("user_id", "service", "path", "method"),
)

application_credential_rules = sa.Table(
    "application_credential_rules",
    METADATA,
    _id("application_credential_id", primary_key=True),
    _id("access_rule_id", primary_key=True),
    sa.Index(None, "access_rule_id"),
    sa.ForeignKeyConstraint(["application_credential_id"], ["application_credentials.id"], ondelete="CASCADE"),
    sa.ForeignKeyConstraint(["access_rule_id"], ["access_rules.id"]),
)

# What one user (trustor) lets another (trustee) do on a project. The trustee may pass it on as often as `redelegation_count`
# says: then the next one is made from it, and holds as long as all before it do.
trusts = sa.Table(
    "trusts",
    METADATA,
    _id(primary_key=True),
    _id("trustor_user_id", nullable=False),
    _id("trustee_user_id", nullable=False),
    _id("project_id", nullable=True),
    sa.Column("impersonation", sa.Boolean, nullable=False),
    sa.Column("role_ids", Json, nullable=False),
    sa.Column("expires_at", Timestamp),
    sa.Column("remaining_uses", sa.Integer),
    sa.Column("extra", Json, nullable=False),
    _id("redelegated_trust_id", nullable=True),
    sa.Column("redelegation_count", sa.Integer, nullable=False, server_default="0"),
    sa.Index(None, "redelegated_trust_id"),
    sa.Index(None, "trustor_user_id"),
    sa.Index(None, "trustee_user_id"),
    sa.Index(None, "project_id"),
)

policies = sa.Table(
    "policies",
    METADATA,
    _id(primary_key=True),
    sa.Column("type", sa.String(255), nullable=False),
    sa.Column("blob", Json, nullable=False),
    sa.Column("extra", Json, nullable=False),
)

# Each subject (store.endpoint_policy.Subject) has one policy at most.
policy_associations = sa.Table(
    "policy_associations",
    METADATA,
    sa.Column("subject", sa.String(384), primary_key=True),
    _id("policy_id", nullable=False),
    _id("endpoint_id", nullable=True),
    _id("service_id", nullable=True),
    sa.Column("region_id", sa.String(255), nullable=True),
    sa.Index(None, "policy_id"),
    sa.Index(None, "endpoint_id"),
    sa.Index(None, "service_id"),
    sa.Index(None, "region_id"),
    sa.ForeignKeyConstraint(["policy_id"], ["policies.id"], ondelete="CASCADE"),
    sa.ForeignKeyConstraint(["endpoint_id"], ["endpoints.id"], ondelete="CASCADE"),
    sa.ForeignKeyConstraint(["service_id"], ["services.id"], ondelete="CASCADE"),
    sa.ForeignKeyConstraint(["region_id"], ["regions.id"], ondelete="CASCADE"),
)

# They outlive their service, as upstream's do: no foreign key.
registered_limits = sa.Table(
    "registered_limits",
    METADATA,
    _id(primary_key=True),
    _id("service_id", nullable=False),
    sa.Column("region_id", sa.String(255), nullable=False),  # "" for all regions
    sa.Column("resource_name", sa.String(255), nullable=False),
    sa.Column("default_limit", sa.Integer, nullable=False),
    sa.Column("description", sa.Text),
    sa.UniqueConstraint("service_id", "region_id", "resource_name"),
)

limits = sa.Table(
    "limits",
    METADATA,
    _id(primary_key=True),
    _id("registered_limit_id", nullable=False),
    _id("project_id", nullable=False),  # "" for the limit of a domain
    _id("domain_id", nullable=False),  # "" for the limit of a project
    sa.Column("resource_limit", sa.Integer, nullable=False),
    sa.Column("description", sa.Text),
    sa.UniqueConstraint("registered_limit_id", "project_id", "domain_id"),
    sa.Index(None, "project_id"),
    sa.Index(None, "domain_id"),
    sa.ForeignKeyConstraint(["registered_limit_id"], ["registered_limits.id"], ondelete="CASCADE"),
)

# Machines of the cloud that are no controllers of it. `principal` is the name of its users, at the broker and here: one that
# was removed and joins again is another. A removed one stays as long as nobody takes its name.
nodes = sa.Table(
    "nodes",
    METADATA,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("principal", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("roles", Json, nullable=False),
    _id("user_id", nullable=True),
    sa.Column("serial", sa.String(64), nullable=False),
    sa.Column("certificate_ends_at", Timestamp, nullable=False),
    sa.Column("joined_at", Timestamp, nullable=False),
    sa.Column("seen_at", Timestamp),
    sa.UniqueConstraint("principal"),
    sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="SET NULL"),
)

# Invitations: whoever has the secret may join once, under this name if there is one.
node_tokens = sa.Table(
    "node_tokens",
    METADATA,
    sa.Column("secret_hash", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(64), nullable=True),
    sa.Column("roles", Json, nullable=False),
    sa.Column("expires_at", Timestamp, nullable=False),
    sa.Index(None, "expires_at"),
)

# OAuth 1.0: programs of others that users let act for them. Secrets are encrypted: a signature cannot be checked with a digest.
oauth_consumers = sa.Table(
    "oauth_consumers",
    METADATA,
    _id(primary_key=True),
    sa.Column("description", sa.Text),
    sa.Column("secret", sa.Text, nullable=False),
    sa.Column("extra", Json, nullable=False),
)

# What a consumer asks for, and from the authorization on who granted which roles.
oauth_request_tokens = sa.Table(
    "oauth_request_tokens",
    METADATA,
    _id(primary_key=True),
    _id("consumer_id", nullable=False),
    _id("project_id", nullable=False),
    sa.Column("secret", sa.Text, nullable=False),
    _id("user_id", nullable=True),
    sa.Column("role_ids", Json, nullable=False),
    sa.Column("verifier", sa.String(64), nullable=True),
    sa.Column("expires_at", Timestamp),
    sa.Index(None, "consumer_id"),
    sa.Index(None, "project_id"),
    sa.Index(None, "user_id"),
    sa.Index(None, "expires_at"),
    sa.ForeignKeyConstraint(["consumer_id"], ["oauth_consumers.id"], ondelete="CASCADE"),
    sa.ForeignKeyConstraint(["project_id"], ["projects.id"], ondelete="CASCADE"),
    sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
)

oauth_access_tokens = sa.Table(
    "oauth_access_tokens",
    METADATA,
    _id(primary_key=True),
    _id("consumer_id", nullable=False),
    _id("project_id", nullable=False),
    _id("user_id", nullable=False),
    sa.Column("secret", sa.Text, nullable=False),
    sa.Column("role_ids", Json, nullable=False),
    sa.Column("expires_at", Timestamp),
    sa.Index(None, "consumer_id"),
    sa.Index(None, "project_id"),
    sa.Index(None, "user_id"),
    sa.ForeignKeyConstraint(["consumer_id"], ["oauth_consumers.id"], ondelete="CASCADE"),
    sa.ForeignKeyConstraint(["project_id"], ["projects.id"], ondelete="CASCADE"),
    sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
)

# Signatures that were used: the digest of consumer, token, time and nonce, until its time is too old to be accepted.
oauth_nonces = sa.Table(
    "oauth_nonces",
    METADATA,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("expires_at", Timestamp, nullable=False),
    sa.Index(None, "expires_at"),
)

installation.tables(METADATA)
