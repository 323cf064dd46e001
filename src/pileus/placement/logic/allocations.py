"""Who uses what: replacing, reading and removing the allocations of consumers.

A change of allocations is one transaction: the consumer's generation moves by compare-and-swap, the providers' rows are locked in order of id, and
every usage sum that rises does so by an update that asks for room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from pileus.kernel import clock, ids
from pileus.kernel.db import is_unique_violation
from pileus.kernel.service import Service
from pileus.placement.errors import PROVIDER_NOT_FOUND, BadRequest, ConcurrentUpdate, InventoryInUse, Missing, Refused
from pileus.placement.logic.providers import dashed
from pileus.placement.store import allocations as store
from pileus.placement.store import providers
from pileus.placement.store.allocations import Place

ANY: Any = object()
"""Generation of a caller who does not know of consumer generations (below 1.28)."""
_ATTEMPTS = 10


@dataclass(frozen=True)
class Change:
    """What one consumer shall hold: amounts by class by provider UUID; nothing at all removes the consumer.

    `project_id` and `user_id` None: keep those it has; `consumer_type` None: keep, or unknown for a new one. `generation`: the consumer's as the
    caller knows it, None for "there is none yet", or ANY.
    """

    consumer: str
    allocations: Mapping[str, Mapping[str, int]]
    project_id: str | None
    user_id: str | None
    consumer_type: str | None
    generation: int | None


@dataclass(frozen=True)
class NewStock:
    """The inventories a provider shall have, if its generation still is the one the caller knows."""

    provider: str
    generation: int
    inventories: Mapping[str, Mapping[str, Any]]


def set_allocations(service: Service, changes: Sequence[Change]) -> None:
    """Make consumers hold exactly what is asked, all of them or none. Raises ConcurrentUpdate, Refused, BadRequest."""
    retry = all(change.generation is ANY for change in changes)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with service.db.write() as conn:
                _apply(service, conn, changes)
        except ConcurrentUpdate:
            # Who compares no generation cannot have lost against one: look again and do it.
            if not retry or attempt == _ATTEMPTS:
                raise
            clock.sleep(0.005 * attempt)
        else:
            return


def reshape(service: Service, stocks: Sequence[NewStock], changes: Sequence[Change]) -> None:
    """Move inventories between providers together with what is allocated from them."""
    with service.db.write() as conn:
        ids = store.provider_ids(conn, [stock.provider for stock in stocks])
        for stock in stocks:
            if stock.provider not in ids:
                raise BadRequest(
                    f"Resource provider {stock.provider} in inventories: No resource provider with that uuid found",
                    code=PROVIDER_NOT_FOUND,
                )
        unknown = providers.unknown_resource_classes(conn, {name for stock in stocks for name in stock.inventories})
        if unknown:
            raise BadRequest(f"No such resource class {', '.join(unknown)}.")
        rows = providers.lock(conn, ids.values())
        for stock in sorted(stocks, key=lambda item: ids[item.provider]):
            if rows[ids[stock.provider]]["generation"] != stock.generation:
                raise ConcurrentUpdate("resource provider generation conflict")
            providers.touch(conn, ids[stock.provider], stock.generation)
            providers.put_inventories(conn, ids[stock.provider], stock.inventories)
        _apply(service, conn, changes, reshaping=True)
        # Callers count on the generation moving for the growing and again for the shrinking of a provider's inventories.
        providers.touch_many(conn, set(ids.values()))
        for stock in stocks:
            key = ids[stock.provider]
            present = [row["resource_class"] for row in providers.inventory_rows(conn, key)]
            busy = providers.delete_inventories(conn, key, [name for name in present if name not in stock.inventories])
            if busy:
                raise InventoryInUse(
                    f"update conflict: Inventory for '{', '.join(busy)}' on resource provider '{stock.provider}' in use."
                )


def _apply(service: Service, conn: sa.Connection, changes: Sequence[Change], *, reshaping: bool = False) -> None:
    """Write the changes. Generations rise of the providers that are given something and, unless `reshaping`, of those
    that a consumer leaves who keeps nothing.
    """
    known = store.consumers_by_uuid(conn, [change.consumer for change in changes])
    held = store.held_by(conn, [row["id"] for row in known.values()])
    ids = _provider_ids(conn, changes)
    deltas: dict[Place, int] = {}
    raised: set[int] = set()
    writes: list[tuple[int, dict[Place, int], dict[Place, int]]] = []
    gone: list[int] = []
    asked: dict[Place, int] = {}
    for change in sorted(changes, key=lambda item: item.consumer):
        row = known.get(change.consumer)
        _check_generation(change, row)
        wanted = _places(change, ids)
        old = held.get(row["id"], {}) if row else {}
        if not wanted and row is None:
            continue
        consumer_id = _save_consumer(service, conn, change, row)
        for place in {*old, *wanted}:
            deltas[place] = deltas.get(place, 0) + wanted.get(place, 0) - old.get(place, 0)
        raised |= {place[0] for place in (wanted or ({} if reshaping else old))}
        for place, amount in wanted.items():
            asked[place] = max(asked.get(place, 0), amount)
        if wanted:
            writes.append((consumer_id, old, wanted))
        else:
            gone.append(consumer_id)
    concerned = {place[0] for place in deltas}
    providers.touch_many(conn, raised, concerned)
    _check_amounts(conn, changes, asked, deltas, {key: uuid for uuid, key in ids.items()})
    _move_sums(conn, deltas)
    if gone:
        store.delete_consumers(conn, gone)
    for consumer_id, old, wanted in writes:
        store.replace(conn, consumer_id, old, wanted)


def _provider_ids(conn: sa.Connection, changes: Sequence[Change]) -> dict[str, int]:
    uuids = {uuid for change in changes for uuid in change.allocations}
    ids = store.provider_ids(conn, uuids) if uuids else {}
    for uuid in uuids:
        if uuid not in ids:
            raise BadRequest(f"Allocation for resource provider '{uuid}' that does not exist.")
    return ids


def _places(change: Change, ids: Mapping[str, int]) -> dict[Place, int]:
    return {
        (ids[uuid], name): amount
        for uuid, resources in change.allocations.items()
        for name, amount in resources.items()
    }


def _check_generation(change: Change, row: sa.RowMapping | None) -> None:
    if change.generation is ANY:
        return
    expected = row["generation"] if row is not None else None
    if change.generation != expected:
        shown = "null" if expected is None else expected
        raise ConcurrentUpdate(f"consumer generation conflict - expected {shown} but got {change.generation}")


def _save_consumer(service: Service, conn: sa.Connection, change: Change, row: sa.RowMapping | None) -> int:
    """Insert or advance the consumer; its id."""
    if row is None:
        try:
            return store.insert_consumer(
                conn,
                change.consumer,
                change.project_id or service.options.incomplete_consumer_project_id,
                change.user_id or service.options.incomplete_consumer_user_id,
                change.consumer_type,
                1,
            )
        except sa.exc.IntegrityError as error:
            if is_unique_violation(error):
                raise ConcurrentUpdate(
                    "consumer generation conflict - another request has just made the consumer"
                ) from None
            raise
    given = {"project_id": change.project_id, "user_id": change.user_id, "consumer_type": change.consumer_type}
    values = {name: value for name, value in given.items() if value is not None}
    if not store.advance_consumer(conn, row["id"], row["generation"], **values):
        raise ConcurrentUpdate("consumer generation conflict - another request has just changed the consumer")
    key: int = row["id"]
    return key


def _check_amounts(
    conn: sa.Connection,
    changes: Sequence[Change],
    asked: Mapping[Place, int],
    deltas: Mapping[Place, int],
    uuids: Mapping[int, str],
) -> None:
    """Refuse amounts that no inventory offers, whose units do not fit, or for which there is no room; the providers are locked.

    Only a sum that rises needs room: whoever gives back may stay above a capacity that has shrunk.
    """
    if not asked:
        return
    stock = store.stock(conn, {place[0] for place in asked})
    missing = sorted({place[1] for place in asked if place not in stock})
    if missing and (unknown := providers.unknown_resource_classes(conn, missing, hold=False)):
        raise BadRequest(
            f"Unable to allocate inventory for consumer {', '.join(change.consumer for change in changes)}: "
            f"No such resource class {', '.join(unknown)}."
        )
    for place, amount in asked.items():
        uuid, name = uuids[place[0]], place[1]
        row = stock.get(place)
        if row is None:
            raise Refused(
                f"Unable to allocate inventory: Inventory for '{name}' on resource provider '{uuid}' invalid."
            )
        refused = (
            f"Unable to allocate inventory: Unable to create allocation for '{name}' on resource provider '{uuid}'. "
        )
        if not row.min_unit <= amount <= row.max_unit or amount % row.step_size:
            raise Refused(refused + "The requested amount would violate inventory constraints.")
        if deltas[place] > 0 and row.used + deltas[place] > (row.total - row.reserved) * row.allocation_ratio:
            raise Refused(refused + "The requested amount would exceed the capacity.")


def _move_sums(conn: sa.Connection, deltas: Mapping[Place, int]) -> None:
    """Let usage sums follow. The update asks for room once more, so that no sum passes a capacity whatever was read before."""
    store.release(conn, {place: delta for place, delta in deltas.items() if delta < 0})
    if not store.claim(conn, {place: delta for place, delta in deltas.items() if delta > 0}):
        raise ConcurrentUpdate("Unable to allocate inventory: it was changed by another request")


def delete_allocations(service: Service, consumer: str) -> None:
    """Give back all a consumer holds, whatever its generation."""
    with service.db.write() as conn:
        row = store.lock_consumer(conn, _canonical(consumer))
        if row is None:
            raise Missing(f"No allocations for consumer '{consumer}'")
        held = store.held_by(conn, [row["id"]]).get(row["id"], {})
        providers.touch_many(conn, (), {place[0] for place in held})
        store.release(conn, {place: -amount for place, amount in held.items()})
        store.delete_consumers(conn, [row["id"]])


def _canonical(consumer: str) -> str:
    return dashed(consumer) if ids.is_uuid_like(consumer) else consumer


def of_consumer(service: Service, consumer: str) -> Sequence[Any]:
    """Rows as `store.allocations.for_consumer` has them."""
    with service.db.read() as conn:
        return store.for_consumer(conn, _canonical(consumer))


def of_provider(service: Service, uuid: str) -> tuple[int, Sequence[Any]]:
    """(provider generation, rows as `store.allocations.of_provider` has them)."""
    with service.db.read() as conn:
        provider = providers.get(conn, uuid)
        return provider["generation"], store.of_provider(conn, provider["id"])


def usages_of_provider(service: Service, uuid: str) -> tuple[int, dict[str, int]]:
    """(provider generation, use by class)."""
    with service.db.read() as conn:
        provider = providers.get(conn, uuid)
        rows = providers.inventory_rows(conn, provider["id"])
    return provider["generation"], {row["resource_class"]: row["used"] for row in rows}


def total_usages(service: Service, project_id: str, user_id: str | None) -> dict[str, int]:
    """Use by class of a project, or of one user in it."""
    with service.db.read() as conn:
        rows = store.usages_by_type(conn, project_id, user_id)
    sums: dict[str, int] = {}
    for _, name, used in rows:
        sums[name] = sums.get(name, 0) + int(used)
    return sums


def usages_by_type(
    service: Service, project_id: str, user_id: str | None, consumer_type: str | None
) -> dict[str, dict[str, int]]:
    """Use by class and `consumer_count`, by consumer type; of one type, or of `all` in one sum."""
    with service.db.read() as conn:
        rows = store.usages_by_type(conn, project_id, user_id)
        counts = store.consumers_by_type(conn, project_id, user_id)
    groups: dict[str, dict[str, int]] = {}

    def group_of(kind: str | None) -> dict[str, int] | None:
        name = kind or "unknown"
        if consumer_type == "all":
            name = "all"
        elif consumer_type is not None and name != consumer_type:
            return None
        return groups.setdefault(name, {})

    for kind, name, used in rows:
        if (group := group_of(kind)) is not None:
            group[name] = group.get(name, 0) + int(used)
    for kind, count in counts.items():
        if (group := group_of(kind)) is not None:
            group["consumer_count"] = group.get("consumer_count", 0) + count
    return groups
