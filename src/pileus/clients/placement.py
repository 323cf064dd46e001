"""Placement as the other services call it: what hosts have, what fits where, and claims that survive races.

Whatever compares a generation reads it, tries, and on `placement.concurrent_update` reads again, a few times. All of it may be repeated: a call that
was answered but whose answer was lost does no harm when it is made again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pileus.clients.base import Client, PeerConflict, PeerError, PeerNotFound
from pileus.kernel import clock

CONCURRENT_UPDATE = "placement.concurrent_update"
_ATTEMPTS = 6

Allocations = Mapping[str, Mapping[str, int]]
"""Amounts by resource class, by provider UUID."""


def code_of(error: PeerError) -> str:
    """Placement's stable code of an error, "" when it has none."""
    body = error.body
    if isinstance(body, dict) and body.get("errors"):
        return str(body["errors"][0].get("code", ""))
    return ""


class PlacementClient(Client):
    """The placement service, at one microversion."""

    version_header = {"OpenStack-API-Version": "placement 1.39"}

    # ---------------------------------------------------------------------------------------------------- providers

    def provider(self, uuid: str) -> dict[str, Any]:
        """Raises PeerNotFound."""
        return dict(self.get(f"/resource_providers/{uuid}"))

    def providers(self, **query: Any) -> list[dict[str, Any]]:
        """Providers by the API's filters, e.g. `name=`, `in_tree=`, `required=`."""
        return list(self.get("/resource_providers", query)["resource_providers"])

    def ensure_provider(self, uuid: str, name: str, parent: str | None = None) -> dict[str, Any]:
        """The provider, made if it is not there, renamed or hung elsewhere if it is different."""
        try:
            found = self.provider(uuid)
        except PeerNotFound:
            try:
                return dict(
                    self.post("/resource_providers", {"uuid": uuid, "name": name, "parent_provider_uuid": parent})
                )
            except PeerConflict:
                # Made meanwhile, or another provider has the name: the second look tells.
                found = self.provider(uuid)
        if found["name"] == name and found["parent_provider_uuid"] == parent:
            return found
        return dict(self.put(f"/resource_providers/{uuid}", {"name": name, "parent_provider_uuid": parent}))

    def introduce_provider(self, uuid: str, name: str, inventories: Mapping[str, Mapping[str, Any]]) -> bool:
        """A provider that is most likely new, with its inventories, in two calls; False when it, or its name, was there before."""
        try:
            self.post("/resource_providers", {"uuid": uuid, "name": name, "parent_provider_uuid": None})
            body = {"resource_provider_generation": 0, "inventories": inventories}
            self.put(f"/resource_providers/{uuid}/inventories", body)
        except PeerConflict:
            return False
        return True

    def delete_provider(self, uuid: str) -> None:
        """Remove a provider; nothing happens when it is gone already. Raises PeerConflict while it is in use."""
        try:
            self.delete(f"/resource_providers/{uuid}")
        except PeerNotFound:
            return

    def set_inventories(self, uuid: str, inventories: Mapping[str, Mapping[str, Any]]) -> None:
        """Make a provider have exactly these inventories; writes only what differs.

        Raises PeerConflict when a class that would go is in use.
        """
        path = f"/resource_providers/{uuid}/inventories"
        for attempt in range(1, _ATTEMPTS + 1):
            now = self.get(path)
            if _covers(now["inventories"], inventories):
                return
            body = {"resource_provider_generation": now["resource_provider_generation"], "inventories": inventories}
            if self._try_put(path, body, attempt):
                return

    def set_traits(self, uuid: str, traits: Collection[str]) -> None:
        """Make a provider have exactly these traits; custom ones are made as needed."""
        path = f"/resource_providers/{uuid}/traits"
        wanted = sorted(set(traits))
        for attempt in range(1, _ATTEMPTS + 1):
            now = self.get(path)
            if sorted(now["traits"]) == wanted:
                return
            if attempt == 1:
                for name in wanted:
                    if name.startswith("CUSTOM_") and name not in now["traits"]:
                        self.ensure_trait(name)
            body = {"resource_provider_generation": now["resource_provider_generation"], "traits": wanted}
            if self._try_put(path, body, attempt):
                return

    def set_aggregates(self, uuid: str, aggregates: Collection[str]) -> None:
        """Make a provider a member of exactly these aggregates."""
        path = f"/resource_providers/{uuid}/aggregates"
        wanted = sorted(set(aggregates))
        for attempt in range(1, _ATTEMPTS + 1):
            now = self.get(path)
            if sorted(now["aggregates"]) == wanted:
                return
            body = {"resource_provider_generation": now["resource_provider_generation"], "aggregates": wanted}
            if self._try_put(path, body, attempt):
                return

    def _try_put(self, path: str, body: Any, attempt: int) -> bool:
        """False when somebody was faster and another attempt is left."""
        try:
            self.put(path, body)
        except PeerConflict as error:
            if code_of(error) != CONCURRENT_UPDATE or attempt == _ATTEMPTS:
                raise
            clock.sleep(0.01 * attempt)
            return False
        return True

    def ensure_trait(self, name: str) -> None:
        self.put(f"/traits/{name}")

    def ensure_resource_class(self, name: str) -> None:
        self.put(f"/resource_classes/{name}")

    def usages(self, uuid: str) -> dict[str, int]:
        """How much of each class of a provider is allocated."""
        return dict(self.get(f"/resource_providers/{uuid}/usages")["usages"])

    def provider_allocations(self, uuid: str) -> dict[str, dict[str, int]]:
        """Amounts by class, by consumer, of all that is allocated from a provider."""
        held = self.get(f"/resource_providers/{uuid}/allocations")["allocations"]
        return {consumer: dict(entry["resources"]) for consumer, entry in held.items()}

    # -------------------------------------------------------------------------------------------------- allocations

    def allocation_candidates(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """`allocation_requests` and `provider_summaries` for a query as the API takes it."""
        return dict(self.get("/allocation_candidates", query))

    def allocations(self, consumer: str) -> dict[str, dict[str, int]]:
        """What a consumer holds; {} for an unknown one."""
        return _amounts(self._consumer(consumer))

    def _consumer(self, consumer: str) -> dict[str, Any]:
        return dict(self.get(f"/allocations/{consumer}"))

    def put_allocations(
        self, consumer: str, allocations: Allocations, *, project_id: str, user_id: str, consumer_type: str = "INSTANCE"
    ) -> None:
        """Make a consumer hold exactly this. Raises PeerConflict when there is no room."""
        for attempt in range(1, _ATTEMPTS + 1):
            now = self._consumer(consumer)
            if allocations and _amounts(now) == allocations:
                return
            body = _body(allocations, project_id, user_id, consumer_type, now.get("consumer_generation"))
            if self._try_put(f"/allocations/{consumer}", body, attempt):
                return

    def delete_allocations(self, consumer: str) -> None:
        """Give back all a consumer holds; nothing happens when it holds nothing."""
        try:
            self.delete(f"/allocations/{consumer}")
        except PeerNotFound:
            return

    def move_allocations(
        self, source: str, target: str, *, consumer_type: str = "MIGRATION", keep: Allocations | None = None
    ) -> None:
        """Hand all that `source` holds to `target`, at once; `source` then holds `keep` (nothing by default).

        Done before (the source holds `keep` and the target something) it does nothing.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            giver, taker = self._consumer(source), self._consumer(target)
            held = _amounts(giver)
            if not held or (_amounts(taker) and held == (keep or {})):
                return
            owner = (giver["project_id"], giver["user_id"])
            body = {
                source: _body(keep or {}, *owner, giver["consumer_type"], giver["consumer_generation"]),
                target: _body(held, *owner, consumer_type, taker.get("consumer_generation")),
            }
            try:
                self.post("/allocations", body)
            except PeerConflict as error:
                if code_of(error) != CONCURRENT_UPDATE or attempt == _ATTEMPTS:
                    raise
                clock.sleep(0.01 * attempt)
            else:
                return


def _amounts(consumer: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    return {provider: dict(entry["resources"]) for provider, entry in consumer["allocations"].items()}


def _body(
    allocations: Allocations, project_id: str, user_id: str, consumer_type: str, generation: int | None
) -> dict[str, Any]:
    return {
        "allocations": {provider: {"resources": dict(amounts)} for provider, amounts in allocations.items()},
        "project_id": project_id,
        "user_id": user_id,
        "consumer_type": consumer_type,
        "consumer_generation": generation,
    }


def _covers(present: Mapping[str, Mapping[str, Any]], wanted: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the inventories are those wanted; fields that `wanted` leaves out may be anything."""
    return present.keys() == wanted.keys() and all(
        present[name].get(key) == value for name, fields in wanted.items() for key, value in fields.items()
    )
