"""Placement's tables.

Resource classes and traits are kept by name where they are used: standard names need no row anywhere, and no reading needs a join to show a name.
`inventories.used` is the sum of the allocations against that inventory, kept in the transaction that changes them, so that a claim is one
conditional update. `resource_providers.revision` rises with every change that can be seen on a provider (its generation, which callers compare,
rises with fewer): it tells a reader whether what it remembers of a provider still holds.
"""

from __future__ import annotations

import sqlalchemy as sa

from pileus.kernel.db import NAMING, Timestamp

METADATA = sa.MetaData(naming_convention=NAMING)

_BigId = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _times() -> tuple[sa.Column[object], sa.Column[object]]:
    return sa.Column("created_at", Timestamp, nullable=False), sa.Column("updated_at", Timestamp, nullable=False)


resource_providers = sa.Table(
    "resource_providers",
    METADATA,
    sa.Column("id", _BigId, primary_key=True, autoincrement=True),
    sa.Column("uuid", sa.String(36), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    # Of the tree's top; equal to id for a provider without parent. NULL only inside the transaction that inserts one.
    sa.Column("root_id", sa.BigInteger, nullable=True, index=True),
    sa.Column("parent_id", sa.BigInteger, nullable=True, index=True),
    *_times(),
    sa.UniqueConstraint("uuid", name="uq_resource_providers_uuid"),
    sa.UniqueConstraint("name", name="uq_resource_providers_name"),
    # An id is never used again: readers remember providers by it.
    sqlite_autoincrement=True,
)


def _provider(*, primary_key: bool = False) -> sa.Column[int]:
    owner = sa.ForeignKey("resource_providers.id", ondelete="CASCADE")
    return sa.Column("provider_id", sa.BigInteger, owner, primary_key=primary_key, nullable=False, autoincrement=False)


inventories = sa.Table(
    "inventories",
    METADATA,
    _provider(primary_key=True),
    sa.Column("resource_class", sa.String(255), primary_key=True),
    sa.Column("total", sa.BigInteger, nullable=False),
    sa.Column("reserved", sa.BigInteger, nullable=False),
    sa.Column("min_unit", sa.BigInteger, nullable=False),
    sa.Column("max_unit", sa.BigInteger, nullable=False),
    sa.Column("step_size", sa.BigInteger, nullable=False),
    sa.Column("allocation_ratio", sa.Double, nullable=False),
    sa.Column("used", sa.BigInteger, nullable=False, server_default="0"),
    *_times(),
    sa.Index("ix_inventories_resource_class", "resource_class"),
)

provider_traits = sa.Table(
    "provider_traits",
    METADATA,
    _provider(primary_key=True),
    sa.Column("trait", sa.String(255), primary_key=True),
    sa.Index("ix_provider_traits_trait", "trait"),
)

provider_aggregates = sa.Table(
    "provider_aggregates",
    METADATA,
    _provider(primary_key=True),
    sa.Column("aggregate", sa.String(36), primary_key=True),
    sa.Index("ix_provider_aggregates_aggregate", "aggregate"),
)

custom_traits = sa.Table("custom_traits", METADATA, sa.Column("name", sa.String(255), primary_key=True), *_times())

custom_resource_classes = sa.Table(
    "custom_resource_classes", METADATA, sa.Column("name", sa.String(255), primary_key=True), *_times()
)

consumers = sa.Table(
    "consumers",
    METADATA,
    sa.Column("id", _BigId, primary_key=True, autoincrement=True),
    sa.Column("uuid", sa.String(36), nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("project_id", sa.String(255), nullable=False),
    sa.Column("user_id", sa.String(255), nullable=False),
    # NULL: written by a caller below microversion 1.38, shown as "unknown".
    sa.Column("consumer_type", sa.String(255), nullable=True),
    *_times(),
    sa.UniqueConstraint("uuid", name="uq_consumers_uuid"),
    sa.Index("ix_consumers_project_id_user_id", "project_id", "user_id"),
    sqlite_autoincrement=True,
)

allocations = sa.Table(
    "allocations",
    METADATA,
    sa.Column(
        "consumer_id",
        sa.BigInteger,
        sa.ForeignKey("consumers.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    sa.Column("provider_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("resource_class", sa.String(255), primary_key=True),
    sa.Column("used", sa.BigInteger, nullable=False),
    *_times(),
    # No allocation outlives its inventory: the database refuses what a check has missed.
    sa.ForeignKeyConstraint(
        ["provider_id", "resource_class"],
        ["inventories.provider_id", "inventories.resource_class"],
        name="fk_allocations_inventory",
        onupdate="CASCADE",
    ),
    sa.Index("ix_allocations_provider_id_resource_class", "provider_id", "resource_class"),
)
