"""SQL of resource providers and what hangs on them. Every change of a provider begins with `touch`, which locks its row."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.kernel import clock
from pileus.kernel.db import insert_ignore
from pileus.placement.errors import ConcurrentUpdate, ProviderNotFound
from pileus.placement.store import standard
from pileus.placement.store.tables import (
    allocations,
    custom_resource_classes,
    custom_traits,
    inventories,
    provider_aggregates,
    provider_traits,
    resource_providers,
)

_P = resource_providers.c
INVENTORY_FIELDS = ("total", "reserved", "min_unit", "max_unit", "step_size", "allocation_ratio")

Row = sa.RowMapping

_parent = resource_providers.alias("parent")
_root = resource_providers.alias("root")
_FULL = (
    sa.select(
        resource_providers,
        _parent.c.uuid.label("parent_uuid"),
        _root.c.uuid.label("root_uuid"),
    )
    .select_from(resource_providers)
    .outerjoin(_parent, _parent.c.id == _P.parent_id)
    .outerjoin(_root, _root.c.id == _P.root_id)
)
_BY_UUID = _FULL.where(_P.uuid == sa.bindparam("uuid"))


def find(conn: sa.Connection, uuid: str) -> Row | None:
    return conn.execute(_BY_UUID, {"uuid": uuid}).mappings().first()


def get(conn: sa.Connection, uuid: str, purpose: str = "") -> Row:
    """The provider with its parent's and root's UUIDs. Raises ProviderNotFound."""
    row = find(conn, uuid)
    if row is None:
        raise ProviderNotFound(uuid, purpose)
    return row


def touch(conn: sa.Connection, provider_id: int, generation: int) -> int:
    """Lock a provider for a change of what it has, if nobody else has changed it since `generation`; its new generation.

    Raises ConcurrentUpdate.
    """
    change = (
        sa.update(resource_providers)
        .where(_P.id == provider_id, _P.generation == generation)
        .values(generation=_P.generation + 1, revision=_P.revision + 1, updated_at=clock.utcnow())
    )
    if conn.execute(change).rowcount != 1:
        raise ConcurrentUpdate("resource provider generation conflict: the provider was changed by another request")
    return generation + 1


def touch_many(conn: sa.Connection, raised: Collection[int], seen: Collection[int] = ()) -> None:
    """Lock providers, always in the same order. The generations of `raised` rise, whatever they are; those of `seen` stay,
    though readers are told that they look different.
    """
    everyone = sorted({*raised, *seen})
    if len(everyone) > 1 and conn.dialect.name != "sqlite":
        conn.execute(sa.select(_P.id).where(_P.id.in_(everyone)).order_by(_P.id).with_for_update()).all()
    now = clock.utcnow()
    if raised:
        conn.execute(
            sa.update(resource_providers)
            .where(_P.id.in_(sorted(raised)))
            .values(generation=_P.generation + 1, revision=_P.revision + 1, updated_at=now)
        )
    revise(conn, set(seen) - set(raised))


def revise(conn: sa.Connection, provider_ids: Collection[int]) -> None:
    """Lock providers and tell readers that they look different, without a new generation."""
    if provider_ids:
        conn.execute(
            sa.update(resource_providers)
            .where(_P.id.in_(sorted(provider_ids)))
            .values(revision=_P.revision + 1, updated_at=clock.utcnow())
        )


def lock(conn: sa.Connection, provider_ids: Collection[int]) -> dict[int, Row]:
    """Hold the rows of providers until the transaction ends; those that exist, by id."""
    query = sa.select(resource_providers).where(_P.id.in_(sorted(provider_ids))).order_by(_P.id).with_for_update()
    return {row["id"]: row for row in conn.execute(query).mappings()}


def insert(conn: sa.Connection, uuid: str, name: str, parent: Row | None) -> int:
    now = clock.utcnow()
    result = conn.execute(
        sa.insert(resource_providers).values(
            uuid=uuid,
            name=name,
            generation=0,
            revision=0,
            root_id=parent["root_id"] if parent else None,
            parent_id=parent["id"] if parent else None,
            created_at=now,
            updated_at=now,
        )
    )
    assert result.inserted_primary_key is not None
    key: int = result.inserted_primary_key[0]
    if parent is None:
        conn.execute(sa.update(resource_providers).where(_P.id == key).values(root_id=key))
    return key


def rename(conn: sa.Connection, provider_id: int, name: str) -> None:
    conn.execute(sa.update(resource_providers).where(_P.id == provider_id).values(name=name))


def tree_links(conn: sa.Connection, root_id: int) -> dict[int, int | None]:
    """Parent id by id, of every provider in a tree."""
    return dict(conn.execute(sa.select(_P.id, _P.parent_id).where(_P.root_id == root_id)).all())


def move_subtree(
    conn: sa.Connection, provider_id: int, members: Collection[int], parent_id: int | None, root_id: int
) -> None:
    """Hang a provider (and `members`, all below it and itself) under another parent."""
    conn.execute(sa.update(resource_providers).where(_P.id == provider_id).values(parent_id=parent_id))
    conn.execute(
        sa.update(resource_providers)
        .where(_P.id.in_(sorted(members)))
        .values(root_id=root_id, revision=_P.revision + 1, updated_at=clock.utcnow())
    )


def has_children(conn: sa.Connection, provider_id: int) -> bool:
    return conn.execute(sa.select(_P.id).where(_P.parent_id == provider_id).limit(1)).first() is not None


def has_allocations(conn: sa.Connection, provider_id: int) -> bool:
    query = sa.select(allocations.c.consumer_id).where(allocations.c.provider_id == provider_id).limit(1)
    return conn.execute(query).first() is not None


def delete(conn: sa.Connection, provider_id: int) -> None:
    """Remove a provider; inventories, traits and aggregates go with it."""
    for table in (inventories, provider_traits, provider_aggregates):
        conn.execute(sa.delete(table).where(table.c.provider_id == provider_id))
    conn.execute(sa.delete(resource_providers).where(_P.id == provider_id))


# ---------------------------------------------------------------------------------------------------- inventories


def inventory_rows(conn: sa.Connection, provider_id: int) -> Sequence[Row]:
    query = sa.select(inventories).where(inventories.c.provider_id == provider_id)
    return conn.execute(query.order_by(inventories.c.created_at, inventories.c.resource_class)).mappings().all()


def inventory_row(conn: sa.Connection, provider_id: int, resource_class: str) -> Row | None:
    query = sa.select(inventories).where(
        inventories.c.provider_id == provider_id, inventories.c.resource_class == resource_class
    )
    return conn.execute(query).mappings().first()


def put_inventories(conn: sa.Connection, provider_id: int, wanted: Mapping[str, Mapping[str, Any]]) -> None:
    """Add or change inventories; `used` stays as it is. The provider is locked."""
    query = sa.select(inventories.c.resource_class).where(inventories.c.provider_id == provider_id)
    present = set(conn.execute(query).scalars())
    now = clock.utcnow()
    added = [
        {
            **wanted[name],
            "provider_id": provider_id,
            "resource_class": name,
            "used": 0,
            "created_at": now,
            "updated_at": now,
        }
        for name in wanted
        if name not in present
    ]
    if added:
        conn.execute(sa.insert(inventories), added)
    changed = [{**wanted[name], "b_class": name, "b_now": now} for name in wanted if name in present]
    if changed:
        change = (
            sa.update(inventories)
            .where(inventories.c.provider_id == provider_id, inventories.c.resource_class == sa.bindparam("b_class"))
            .values(updated_at=sa.bindparam("b_now"), **{name: sa.bindparam(name) for name in INVENTORY_FIELDS})
        )
        conn.execute(change, changed)


def delete_inventories(conn: sa.Connection, provider_id: int, names: Iterable[str]) -> list[str]:
    """Remove inventories that nothing is allocated from; the names of those that had to stay. The provider is locked."""
    chosen = list(names)
    if not chosen:
        return []
    mine = sa.and_(inventories.c.provider_id == provider_id, inventories.c.resource_class.in_(chosen))
    busy = conn.execute(sa.select(inventories.c.resource_class).where(mine, inventories.c.used > 0)).scalars().all()
    if not busy:
        conn.execute(sa.delete(inventories).where(mine))
    return list(busy)


# ------------------------------------------------------------------------------------------------ traits, aggregates


def traits_of(conn: sa.Connection, provider_id: int) -> list[str]:
    query = sa.select(provider_traits.c.trait).where(provider_traits.c.provider_id == provider_id)
    return standard.in_order(conn.execute(query).scalars())


def set_traits(conn: sa.Connection, provider_id: int, names: Collection[str]) -> None:
    _replace(conn, provider_traits, "trait", provider_id, names)


def aggregates_of(conn: sa.Connection, provider_id: int) -> list[str]:
    query = sa.select(provider_aggregates.c.aggregate).where(provider_aggregates.c.provider_id == provider_id)
    return sorted(conn.execute(query).scalars())


def set_aggregates(conn: sa.Connection, provider_id: int, uuids: Collection[str]) -> None:
    _replace(conn, provider_aggregates, "aggregate", provider_id, uuids)


def _replace(conn: sa.Connection, table: sa.Table, column: str, provider_id: int, values: Collection[str]) -> None:
    """Make a provider have exactly these values; only what differs is written."""
    value = table.c[column]
    mine = table.c.provider_id == provider_id
    present = set(conn.execute(sa.select(value).where(mine)).scalars())
    wanted = set(values)
    if gone := present - wanted:
        conn.execute(sa.delete(table).where(mine, value.in_(sorted(gone))))
    if added := sorted(wanted - present):
        conn.execute(sa.insert(table), [{"provider_id": provider_id, column: text} for text in added])


# ------------------------------------------------------------------------------------------ custom traits and classes


def custom_among(classes: Collection[str], traits: Collection[str]) -> bool:
    """Whether any of the names is not a standard one."""
    return not (standard.RESOURCE_CLASS_SET.issuperset(classes) and standard.TRAIT_SET.issuperset(traits))


def unknown_traits(conn: sa.Connection, names: Collection[str], *, hold: bool = True) -> list[str]:
    """Those of `names` that are neither standard nor custom. With `hold` the rows of the custom ones stay locked until
    the transaction ends, so that none is deleted while it is being put to use.
    """
    return _unknown(conn, custom_traits, standard.TRAIT_SET, names, hold=hold)


def unknown_resource_classes(conn: sa.Connection, names: Collection[str], *, hold: bool = True) -> list[str]:
    """As `unknown_traits`, of resource classes."""
    return _unknown(conn, custom_resource_classes, standard.RESOURCE_CLASS_SET, names, hold=hold)


def _unknown(
    conn: sa.Connection, table: sa.Table, known: frozenset[str], names: Collection[str], *, hold: bool
) -> list[str]:
    asked = [name for name in names if name not in known]
    if not asked:
        return []
    query = sa.select(table.c.name).where(table.c.name.in_(asked))
    found = set(conn.execute(query.with_for_update(read=True) if hold else query).scalars())
    return sorted(name for name in asked if name not in found)


def add_custom(conn: sa.Connection, table: sa.Table, name: str) -> bool:
    """Add a custom trait or class; False when it is there already."""
    now = clock.utcnow()
    return insert_ignore(conn, table, [{"name": name, "created_at": now, "updated_at": now}]) == 1


def custom_rows(conn: sa.Connection, table: sa.Table) -> Sequence[Row]:
    return conn.execute(sa.select(table).order_by(table.c.created_at, table.c.name)).mappings().all()


def custom_row(conn: sa.Connection, table: sa.Table, name: str, *, hold: bool = False) -> Row | None:
    query = sa.select(table).where(table.c.name == name)
    return conn.execute(query.with_for_update() if hold else query).mappings().first()


def delete_custom(conn: sa.Connection, table: sa.Table, name: str) -> None:
    conn.execute(sa.delete(table).where(table.c.name == name))


def trait_in_use(conn: sa.Connection, name: str) -> bool:
    return (
        conn.execute(sa.select(provider_traits.c.trait).where(provider_traits.c.trait == name).limit(1)).first()
        is not None
    )


def traits_in_use(conn: sa.Connection) -> set[str]:
    return set(conn.execute(sa.select(provider_traits.c.trait).distinct()).scalars())


def class_in_use(conn: sa.Connection, name: str) -> bool:
    query = sa.select(inventories.c.resource_class).where(inventories.c.resource_class == name).limit(1)
    return conn.execute(query).first() is not None


def rename_class(conn: sa.Connection, old: str, new: str) -> None:
    """Give a custom class another name wherever it stands; allocations follow by their foreign key."""
    holders = (
        conn.execute(sa.select(inventories.c.provider_id).where(inventories.c.resource_class == old)).scalars().all()
    )
    revise(conn, holders)
    now = clock.utcnow()
    table = custom_resource_classes
    conn.execute(sa.update(table).where(table.c.name == old).values(name=new, updated_at=now))
    conn.execute(sa.update(inventories).where(inventories.c.resource_class == old).values(resource_class=new))
