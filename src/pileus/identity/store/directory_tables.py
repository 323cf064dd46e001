"""The tables of configured domains and of directories."""

from __future__ import annotations

import sqlalchemy as sa

from pileus.kernel.db import Timestamp

from .metadata import METADATA
from .metadata import identifier as _id

# Options of domains by upstream's groups and names: values in JSON, or that encrypted. The id is made of the three that name one.
domain_options = sa.Table(
    "domain_options",
    METADATA,
    sa.Column("id", sa.String(200), primary_key=True),
    _id("domain_id", nullable=False),
    sa.Column("section", sa.String(64), nullable=False),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("value", sa.Text),
    sa.Column("sealed", sa.Text),
    sa.Index(None, "domain_id"),
    sa.Index(None, "section", "name"),
    sa.ForeignKeyConstraint(["domain_id"], ["projects.id"], ondelete="CASCADE"),
)

# What the users and groups of directories that identity has met are called there; each has a row of users or groups.
# The id is made from the rest. One that the directory no longer has keeps its row, so that it may come back.
directory_entries = sa.Table(
    "directory_entries",
    METADATA,
    _id("public_id", primary_key=True),
    _id("domain_id", nullable=False),
    sa.Column("kind", sa.String(1), nullable=False),
    sa.Column("local_id", sa.String(255), nullable=False),
    sa.Column("gone_at", Timestamp),
    sa.Index(None, "domain_id"),
    sa.ForeignKeyConstraint(["domain_id"], ["projects.id"], ondelete="CASCADE"),
)
