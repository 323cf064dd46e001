"""All providers as they are now, remembered between requests.

Choosing among providers needs everything about all of them: trees, inventories with usage, traits, aggregates. Reading that from the database each
time costs more than the choice. So each process remembers every provider under its revision and asks, per request, for the revisions alone (one
statement of two integers per provider); only providers whose revision has moved are read again. A remembered provider is never older than the
revision it is filed under, because the revision is read first.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from pileus.kernel.db import Database
from pileus.placement.store import standard
from pileus.placement.store.tables import inventories, provider_aggregates, provider_traits, resource_providers

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a provider has of one class. `limit` is the most that may be used: (total - reserved) * allocation_ratio."""

    limit: float
    used: int
    min_unit: int
    max_unit: int
    step_size: int

    def fits(self, amount: int) -> bool:
        """Whether so much more may be claimed at once."""
        return (
            self.used + amount <= self.limit
            and self.min_unit <= amount <= self.max_unit
            and amount % self.step_size == 0
        )


class Provider:
    """One provider, not to be changed by whoever reads it."""

    __slots__ = (
        "aggregates",
        "created_at",
        "generation",
        "id",
        "inventories",
        "name",
        "parent_id",
        "root_id",
        "summary_cache",
        "traits",
        "updated_at",
        "uuid",
    )

    def __init__(self, row: Sequence[Any]) -> None:
        self.id: int = row[0]
        self.uuid: str = row[1]
        self.name: str = row[2]
        self.generation: int = row[3]
        self.root_id: int = row[5]
        self.parent_id: int | None = row[6]
        self.created_at = row[7]
        self.updated_at = row[8]
        self.inventories: dict[str, Inventory] = {}
        self.traits: frozenset[str] = frozenset()
        self.aggregates: frozenset[str] = frozenset()
        self.summary_cache: dict[str, Any] = {}

    @property
    def shares(self) -> bool:
        return standard.SHARING in self.traits

    def resources(self) -> dict[str, dict[str, int]]:
        """Capacity and use of every class, as `provider_summaries` shows them."""
        shown = self.summary_cache.get("resources")
        if shown is None:
            shown = {name: {"capacity": int(inv.limit), "used": inv.used} for name, inv in self.inventories.items()}
            self.summary_cache["resources"] = shown
        return shown

    def trait_list(self) -> list[str]:
        listed = self.summary_cache.get("traits")
        if listed is None:
            listed = self.summary_cache["traits"] = standard.in_order(self.traits)
        return listed


class Snapshot:
    """Every provider at one moment: by id, in order of id, with the trees they form."""

    def __init__(self, providers: dict[int, Provider]) -> None:
        self.by_id = providers
        self.trees: dict[int, list[Provider]] = {}
        self.sharing: list[Provider] = []
        for provider in providers.values():
            tree = self.trees.get(provider.root_id)
            if tree is None:
                self.trees[provider.root_id] = [provider]
            else:
                tree.append(provider)
            if provider.traits and provider.shares:
                self.sharing.append(provider)
        self._by_uuid: dict[str, Provider] | None = None

    def by_uuid(self, uuid: str) -> Provider | None:
        if self._by_uuid is None:
            self._by_uuid = {provider.uuid: provider for provider in self.by_id.values()}
        return self._by_uuid.get(uuid)

    def root_of(self, provider: Provider) -> Provider:
        return self.by_id.get(provider.root_id, provider)

    def parent_uuid(self, provider: Provider) -> str | None:
        parent = self.by_id.get(provider.parent_id) if provider.parent_id is not None else None
        return parent.uuid if parent else None


class _Memory:
    """What one process remembers of one database."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state: tuple[dict[int, int], Snapshot] = ({}, Snapshot({}))

    def current(self, conn: sa.Connection) -> Snapshot:
        query = sa.select(resource_providers.c.id, resource_providers.c.revision).order_by(resource_providers.c.id)
        revisions: dict[int, int] = dict(conn.execute(query).all())
        known, snapshot = self._state
        if revisions == known:
            return snapshot
        with self._lock:
            known, snapshot = self._state
            if revisions != known:
                snapshot = self._merge(conn, revisions, known, snapshot.by_id)
                self._state = (revisions, snapshot)
            return snapshot

    @staticmethod
    def _merge(conn: sa.Connection, now: dict[int, int], known: dict[int, int], old: dict[int, Provider]) -> Snapshot:
        changed = [key for key, revision in now.items() if known.get(key) != revision]
        fresh = {provider.id: provider for provider in load(conn, changed, everything=not known)}
        merged: dict[int, Provider] = {}
        for key in now:
            provider = fresh.get(key) or old.get(key)
            if provider is not None:  # None: deleted between the two statements
                merged[key] = provider
        return Snapshot(merged)


_memories: weakref.WeakKeyDictionary[Database, _Memory] = weakref.WeakKeyDictionary()
_memories_lock = threading.Lock()


def current(db: Database) -> Snapshot:
    """All providers as they are in the database now."""
    memory = _memories.get(db)
    if memory is None:
        with _memories_lock:
            memory = _memories.setdefault(db, _Memory())
    with db.read() as conn:
        return memory.current(conn)


def load(conn: sa.Connection, provider_ids: Sequence[int], *, everything: bool = False) -> Iterable[Provider]:
    """Providers with all that belongs to them, in four statements per 500 (four in all with `everything`)."""
    if everything:
        return _load(conn, None)
    loaded: list[Provider] = []
    for start in range(0, len(provider_ids), _CHUNK):
        loaded += _load(conn, provider_ids[start : start + _CHUNK])
    return loaded


def _load(conn: sa.Connection, provider_ids: Sequence[int] | None) -> list[Provider]:
    columns = resource_providers.c
    query = sa.select(
        columns.id,
        columns.uuid,
        columns.name,
        columns.generation,
        columns.revision,
        columns.root_id,
        columns.parent_id,
        columns.created_at,
        columns.updated_at,
    ).order_by(columns.id)
    found = {row[0]: Provider(row) for row in conn.execute(_only(query, columns.id, provider_ids))}
    stock = inventories.c
    held = sa.select(
        stock.provider_id,
        stock.resource_class,
        stock.total,
        stock.reserved,
        stock.allocation_ratio,
        stock.used,
        stock.min_unit,
        stock.max_unit,
        stock.step_size,
    ).order_by(stock.provider_id, stock.created_at, stock.resource_class)
    for key, name, total, reserved, ratio, used, low, high, step in conn.execute(
        _only(held, stock.provider_id, provider_ids)
    ):
        if key in found:
            found[key].inventories[name] = Inventory((total - reserved) * ratio, used, low, high, step)
    for table, value, attribute in (
        (provider_traits, provider_traits.c.trait, "traits"),
        (provider_aggregates, provider_aggregates.c.aggregate, "aggregates"),
    ):
        gathered: dict[int, list[str]] = {}
        pairs = sa.select(table.c.provider_id, value)
        for key, text in conn.execute(_only(pairs, table.c.provider_id, provider_ids)):
            gathered.setdefault(key, []).append(text)
        for key, texts in gathered.items():
            if key in found:
                setattr(found[key], attribute, frozenset(texts))
    return list(found.values())


def _only(query: sa.Select[Any], column: sa.ColumnElement[Any], keys: Sequence[int] | None) -> sa.Select[Any]:
    return query if keys is None else query.where(column.in_(keys))
