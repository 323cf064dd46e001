"""SQL of consumers and their allocations. Usage sums on the inventories move in the same statements' transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.kernel import clock
from pileus.placement.store.tables import allocations, consumers, inventories, resource_providers

_A = allocations.c
_C = consumers.c
_P = resource_providers.c

Place = tuple[int, str]
"""An inventory: provider id and resource class."""


def consumers_by_uuid(conn: sa.Connection, uuids: Collection[str]) -> dict[str, sa.RowMapping]:
    query = sa.select(consumers).where(_C.uuid.in_(sorted(uuids)))
    return {row["uuid"]: row for row in conn.execute(query).mappings()}


def held_by(conn: sa.Connection, consumer_ids: Collection[int]) -> dict[int, dict[Place, int]]:
    """What consumers hold now: amount by inventory, by consumer id."""
    if not consumer_ids:
        return {}
    query = sa.select(_A.consumer_id, _A.provider_id, _A.resource_class, _A.used).where(
        _A.consumer_id.in_(sorted(consumer_ids))
    )
    held: dict[int, dict[Place, int]] = {}
    for consumer, provider, name, used in conn.execute(query):
        held.setdefault(consumer, {})[provider, name] = used
    return held


def provider_ids(conn: sa.Connection, uuids: Collection[str]) -> dict[str, int]:
    query = sa.select(_P.uuid, _P.id).where(_P.uuid.in_(sorted(uuids)))
    return dict(conn.execute(query).all())


def stock(conn: sa.Connection, chosen: Collection[int]) -> dict[Place, Any]:
    """The inventories of providers."""
    columns = inventories.c
    query = sa.select(
        columns.provider_id,
        columns.resource_class,
        columns.total,
        columns.reserved,
        columns.allocation_ratio,
        columns.used,
        columns.min_unit,
        columns.max_unit,
        columns.step_size,
    ).where(columns.provider_id.in_(sorted(chosen)))
    return {(row[0], row[1]): row for row in conn.execute(query)}


_I = inventories.c
_MINE = sa.and_(_I.provider_id == sa.bindparam("b_provider"), _I.resource_class == sa.bindparam("b_class"))
_CLAIM = (
    sa.update(inventories)
    .where(_MINE, _I.used + sa.bindparam("b_amount") <= (_I.total - _I.reserved) * _I.allocation_ratio)
    .values(used=_I.used + sa.bindparam("b_amount"))
)
_MOVE = sa.update(inventories).where(_MINE).values(used=_I.used + sa.bindparam("b_amount"))


def claim(conn: sa.Connection, changes: Mapping[Place, int]) -> bool:
    """Use more of inventories, if each still has room for its amount; False when one has not (the caller rolls back)."""
    return _apply(conn, _CLAIM, changes) == len(changes)


def release(conn: sa.Connection, changes: Mapping[Place, int]) -> None:
    """Use less of inventories (negative amounts), or move sums without asking for room."""
    _apply(conn, _MOVE, changes)


def _apply(conn: sa.Connection, statement: sa.Update, changes: Mapping[Place, int]) -> int:
    if not changes:
        return 0
    rows = [{"b_provider": key[0], "b_class": key[1], "b_amount": amount} for key, amount in sorted(changes.items())]
    return conn.execute(statement, rows).rowcount


def insert_consumer(
    conn: sa.Connection, uuid: str, project_id: str, user_id: str, consumer_type: str | None, generation: int
) -> int:
    now = clock.utcnow()
    result = conn.execute(
        sa.insert(consumers).values(
            uuid=uuid,
            generation=generation,
            project_id=project_id,
            user_id=user_id,
            consumer_type=consumer_type,
            created_at=now,
            updated_at=now,
        )
    )
    assert result.inserted_primary_key is not None
    return int(result.inserted_primary_key[0])


def advance_consumer(conn: sa.Connection, consumer_id: int, generation: int, **values: Any) -> bool:
    """Raise a consumer's generation if it still is `generation`; False when another request was faster."""
    change = (
        sa.update(consumers)
        .where(_C.id == consumer_id, _C.generation == generation)
        .values(generation=generation + 1, updated_at=clock.utcnow(), **values)
    )
    return conn.execute(change).rowcount == 1


def delete_consumers(conn: sa.Connection, consumer_ids: Collection[int]) -> None:
    """Remove consumers together with whatever they hold."""
    chosen = sorted(consumer_ids)
    conn.execute(sa.delete(allocations).where(_A.consumer_id.in_(chosen)))
    conn.execute(sa.delete(consumers).where(_C.id.in_(chosen)))


def lock_consumer(conn: sa.Connection, uuid: str) -> sa.RowMapping | None:
    return conn.execute(sa.select(consumers).where(_C.uuid == uuid).with_for_update()).mappings().first()


def replace(conn: sa.Connection, consumer_id: int, old: Mapping[Place, int], new: Mapping[Place, int]) -> None:
    """Write what a consumer holds; rows that stay as they are are not touched."""
    now = clock.utcnow()
    mine = [_A.consumer_id == consumer_id]
    gone = [key for key in old if key not in new]
    if gone and not new:
        conn.execute(sa.delete(allocations).where(*mine))
    elif gone:
        conn.execute(
            sa.delete(allocations).where(
                *mine, _A.provider_id == sa.bindparam("b_provider"), _A.resource_class == sa.bindparam("b_class")
            ),
            [{"b_provider": key[0], "b_class": key[1]} for key in gone],
        )
    changed = [(key, amount) for key, amount in new.items() if key in old and old[key] != amount]
    if changed:
        conn.execute(
            sa.update(allocations)
            .where(*mine, _A.provider_id == sa.bindparam("b_provider"), _A.resource_class == sa.bindparam("b_class"))
            .values(used=sa.bindparam("b_used"), updated_at=now),
            [{"b_provider": key[0], "b_class": key[1], "b_used": amount} for key, amount in changed],
        )
    added = [
        {
            "consumer_id": consumer_id,
            "provider_id": key[0],
            "resource_class": key[1],
            "used": amount,
            "created_at": now,
            "updated_at": now,
        }
        for key, amount in new.items()
        if key not in old
    ]
    if added:
        conn.execute(sa.insert(allocations), added)


def for_consumer(conn: sa.Connection, uuid: str) -> Sequence[Any]:
    """(provider uuid, provider generation, class, used, project, user, consumer generation, type, updated) of a consumer."""
    query = (
        sa.select(
            _P.uuid,
            _P.generation,
            _A.resource_class,
            _A.used,
            _C.project_id,
            _C.user_id,
            _C.generation,
            _C.consumer_type,
            _A.updated_at,
        )
        .select_from(allocations)
        .join(consumers, _C.id == _A.consumer_id)
        .join(resource_providers, _P.id == _A.provider_id)
        .where(_C.uuid == uuid)
        .order_by(_A.provider_id, _A.created_at, _A.resource_class)
    )
    return conn.execute(query).all()


def of_provider(conn: sa.Connection, provider_id: int) -> Sequence[Any]:
    """(consumer uuid, consumer generation, class, used, updated) of everything allocated from a provider."""
    query = (
        sa.select(_C.uuid, _C.generation, _A.resource_class, _A.used, _A.updated_at)
        .select_from(allocations)
        .join(consumers, _C.id == _A.consumer_id)
        .where(_A.provider_id == provider_id)
        .order_by(_A.consumer_id, _A.created_at, _A.resource_class)
    )
    return conn.execute(query).all()


def usages_by_type(conn: sa.Connection, project_id: str, user_id: str | None) -> Sequence[Any]:
    """(consumer type, class, used) sums of a project, or of one user in it."""
    query = (
        sa.select(_C.consumer_type, _A.resource_class, sa.func.sum(_A.used))
        .select_from(consumers)
        .join(allocations, _A.consumer_id == _C.id)
        .where(_C.project_id == project_id)
        .group_by(_C.consumer_type, _A.resource_class)
    )
    return conn.execute(query.where(_C.user_id == user_id) if user_id else query).all()


def consumers_by_type(conn: sa.Connection, project_id: str, user_id: str | None) -> dict[str | None, int]:
    """How many consumers of each type hold something."""
    query = (
        sa.select(_C.consumer_type, sa.func.count(sa.distinct(_C.id)))
        .select_from(consumers)
        .join(allocations, _A.consumer_id == _C.id)
        .where(_C.project_id == project_id)
        .group_by(_C.consumer_type)
    )
    return dict(conn.execute(query.where(_C.user_id == user_id) if user_id else query).all())
