"""What a provider has: its inventories, its traits, its aggregates, each guarded by the provider's generation."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pileus.kernel.service import Service
from pileus.placement.errors import BadRequest, ConcurrentUpdate, InventoryInUse, Missing
from pileus.placement.store import providers as store
from pileus.placement.store import standard

MAX_INT = 2**31 - 1
_DEFAULTS: dict[str, Any] = {
    "total": 0,
    "reserved": 0,
    "min_unit": 1,
    "max_unit": MAX_INT,
    "step_size": 1,
    "allocation_ratio": 1.0,
}


@dataclass(frozen=True)
class Stock:
    """A provider's inventories as they are after what was asked."""

    generation: int
    rows: Mapping[str, Mapping[Any, Any]]


def complete(given: Mapping[str, Any]) -> dict[str, Any]:
    """An inventory with every field, defaults where the caller named none."""
    return {name: given.get(name, default) for name, default in _DEFAULTS.items()}


def check(provider_uuid: str, resource_class: str, row: Mapping[str, Any], *, full_reserve: bool) -> None:
    """Refuse a reserved value above the total, or (callers below 1.26) equal to it."""
    refused = (
        f"Unable to update inventory for resource provider {provider_uuid}: "
        f"Invalid inventory for '{resource_class}' on resource provider '{provider_uuid}'. "
    )
    if full_reserve and row["reserved"] > row["total"]:
        raise BadRequest(refused + "The reserved value is greater than total.")
    if not full_reserve and row["reserved"] >= row["total"]:
        raise BadRequest(refused + "The reserved value is greater than or equal to total.")


def list_inventories(service: Service, uuid: str) -> Stock:
    with service.db.read() as conn:
        provider = store.get(conn, uuid)
        rows: dict[str, Mapping[Any, Any]] = {
            row["resource_class"]: row for row in store.inventory_rows(conn, provider["id"])
        }
    return Stock(provider["generation"], rows)


def get_inventory(service: Service, uuid: str, resource_class: str) -> tuple[int, Mapping[Any, Any]]:
    """(provider generation, inventory)."""
    with service.db.read() as conn:
        provider = store.get(conn, uuid)
        row = store.inventory_row(conn, provider["id"], resource_class)
    if row is None:
        raise Missing(f"No inventory of class {resource_class} for {uuid}")
    return provider["generation"], row


def replace_inventories(service: Service, uuid: str, generation: int, wanted: Mapping[str, Mapping[str, Any]]) -> int:
    """Make the provider have exactly these inventories; its new generation."""
    with service.db.write() as conn:
        provider = store.get(conn, uuid)
        _expect(provider, generation)
        unknown = store.unknown_resource_classes(conn, wanted)
        if unknown:
            raise BadRequest(
                f"Unknown resource class in inventory for resource provider {uuid}: "
                f"No such resource class {', '.join(unknown)}."
            )
        new = store.touch(conn, provider["id"], generation)
        present = [row["resource_class"] for row in store.inventory_rows(conn, provider["id"])]
        _remove(conn, provider, [name for name in present if name not in wanted])
        store.put_inventories(conn, provider["id"], wanted)
    return new


def add_inventory(service: Service, uuid: str, resource_class: str, row: Mapping[str, Any]) -> int:
    """Add one inventory, whatever the generation; the provider's new generation."""
    with service.db.write() as conn:
        provider = store.get(conn, uuid)
        if store.unknown_resource_classes(conn, [resource_class]):
            raise BadRequest(
                f"Unable to create inventory for resource provider {uuid}: No such resource class {resource_class}."
            )
        new = store.touch(conn, provider["id"], provider["generation"])
        if store.inventory_row(conn, provider["id"], resource_class) is not None:
            raise ConcurrentUpdate(f"Update conflict: the provider already has an inventory of {resource_class}")
        store.put_inventories(conn, provider["id"], {resource_class: row})
    return new


def change_inventory(service: Service, uuid: str, generation: int, resource_class: str, row: Mapping[str, Any]) -> int:
    """Change one inventory that exists; the provider's new generation."""
    with service.db.write() as conn:
        provider = store.get(conn, uuid)
        _expect(provider, generation)
        if store.unknown_resource_classes(conn, [resource_class]):
            raise Missing(f"No such resource class {resource_class}.")
        new = store.touch(conn, provider["id"], generation)
        if store.inventory_row(conn, provider["id"], resource_class) is None:
            raise BadRequest(
                f"Unable to update inventory for resource provider {uuid}: "
                f"No inventory record with resource class {resource_class} on this provider."
            )
        store.put_inventories(conn, provider["id"], {resource_class: row})
    return new


def delete_inventory(service: Service, uuid: str, resource_class: str) -> None:
    with service.db.write() as conn:
        provider = store.get(conn, uuid)
        gone = f"No inventory of class {resource_class} found for delete"
        if store.unknown_resource_classes(conn, [resource_class]):
            raise Missing(f"{gone}: No such resource class {resource_class}.")
        store.touch(conn, provider["id"], provider["generation"])
        if store.inventory_row(conn, provider["id"], resource_class) is None:
            raise Missing(f"{gone}: the provider has none.")
        _remove(conn, provider, [resource_class])


def delete_inventories(service: Service, uuid: str) -> None:
    with service.db.write() as conn:
        provider = store.get(conn, uuid)
        store.touch(conn, provider["id"], provider["generation"])
        _remove(conn, provider, [row["resource_class"] for row in store.inventory_rows(conn, provider["id"])])


def _expect(provider: store.Row, generation: int) -> None:
    """Refuse early, so that a stale caller hears of the conflict before anything else; `touch` decides."""
    if provider["generation"] != generation:
        raise ConcurrentUpdate("resource provider generation conflict")


def _remove(conn: Any, provider: store.Row, names: Collection[str]) -> None:
    busy = store.delete_inventories(conn, provider["id"], names)
    if busy:
        raise InventoryInUse(
            f"update conflict: Inventory for '{', '.join(busy)}' on resource provider '{provider['uuid']}' in use."
        )


def get_traits(service: Service, uuid: str) -> tuple[int, list[str]]:
    """(provider generation, traits)."""
    with service.db.read() as conn:
        provider = store.get(conn, uuid)
        return provider["generation"], store.traits_of(conn, provider["id"])


_STALE = "Resource provider's generation already changed. Please update the generation and try again."


def set_traits(service: Service, uuid: str, generation: int | None, names: Collection[str]) -> tuple[int, list[str]]:
    """Make the provider have exactly these traits (None: whatever its generation); (generation, traits).

    The generation stays when nothing changes.
    """
    with service.db.write() as conn:
        provider = store.get(conn, uuid)
        if generation is not None and provider["generation"] != generation:
            raise ConcurrentUpdate(_STALE)
        unknown = store.unknown_traits(conn, names)
        if unknown:
            raise BadRequest(f"No such trait {', '.join(unknown)}")
        if set(store.traits_of(conn, provider["id"])) == set(names):
            return provider["generation"], standard.in_order(names)
        new = store.touch(conn, provider["id"], provider["generation"])
        store.set_traits(conn, provider["id"], names)
    return new, standard.in_order(names)


def get_aggregates(service: Service, uuid: str) -> tuple[int, list[str]]:
    """(provider generation, aggregates)."""
    with service.db.read() as conn:
        provider = store.get(conn, uuid)
        return provider["generation"], store.aggregates_of(conn, provider["id"])


def set_aggregates(
    service: Service, uuid: str, generation: int | None, uuids: Collection[str]
) -> tuple[int, list[str]]:
    """Make the provider a member of exactly these aggregates; without a generation (callers below 1.19) it stays."""
    with service.db.write() as conn:
        provider = store.get(conn, uuid)
        new = provider["generation"]
        if generation is None:
            store.revise(conn, [provider["id"]])
        elif provider["generation"] != generation:
            raise ConcurrentUpdate(_STALE)
        else:
            new = store.touch(conn, provider["id"], generation)
        store.set_aggregates(conn, provider["id"], uuids)
    return new, list(uuids)
