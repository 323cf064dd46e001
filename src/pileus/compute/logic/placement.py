"""What compute asks of placement: candidates, claims, and what hosts have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pileus.clients.base import PeerConflict, PeerNotFound
from pileus.kernel.context import Context
from pileus.kernel.service import Service

_VERSION = {"OpenStack-API-Version": "placement 1.39"}
_TRIES = 4


@dataclass(frozen=True)
class Candidate:
    """One way to place a server: on the tree of `provider`, with these allocations (provider -> {"resources": ...})."""

    provider: str
    allocations: Mapping[str, Any]
    free: Mapping[str, float]


def candidates(
    service: Service,
    context: Context,
    resources: Mapping[str, int],
    *,
    required: Sequence[str] = (),
    provider: str | None = None,
    limit: int,
) -> list[Candidate]:
    """Where the resources are free now, in placement's order; only on one provider when it is given."""
    query: dict[str, Any] = {
        "resources": ",".join(f"{name}:{amount}" for name, amount in sorted(resources.items())),
        "limit": limit,
    }
    if required:
        query["required"] = ",".join(required)
    if provider:
        query["in_tree"] = provider
    found = service.clients.placement(context).get("/allocation_candidates", query=query, headers=_VERSION)
    summaries = found["provider_summaries"]
    result = []
    for request in found["allocation_requests"]:
        first = next(iter(request["allocations"]))
        root = summaries.get(first, {}).get("root_provider_uuid") or first
        result.append(Candidate(root, request["allocations"], _free(summaries.get(root, {}))))
    return result


def _free(summary: Mapping[str, Any]) -> dict[str, float]:
    return {name: entry["capacity"] - entry["used"] for name, entry in summary.get("resources", {}).items()}


def claim(
    service: Service,
    context: Context,
    consumer: str,
    allocations: Mapping[str, Any],
    *,
    project_id: str,
    user_id: str,
) -> bool:
    """Give the consumer exactly these allocations; False when the resources are gone. Repeating it changes nothing."""
    client = service.clients.placement(context)
    generation: int | None = None
    for _ in range(_TRIES):
        body = {
            "allocations": {p: {"resources": a["resources"]} for p, a in allocations.items()},
            "project_id": project_id,
            "user_id": user_id,
            "consumer_generation": generation,
            "consumer_type": "INSTANCE",
        }
        try:
            client.put(f"/allocations/{consumer}", body, headers=_VERSION)
        except PeerConflict as error:
            if "concurrent_update" not in str(error.body) and "consumer generation" not in error.message:
                return False
            generation = held(service, context, consumer).get("consumer_generation")
        else:
            return True
    return False


def held(service: Service, context: Context, consumer: str) -> dict[str, Any]:
    """The allocations of a consumer, as placement shows them."""
    found: dict[str, Any] = service.clients.placement(context).get(f"/allocations/{consumer}", headers=_VERSION)
    return found


def release(service: Service, context: Context, consumer: str) -> None:
    """Free everything a consumer has. Idempotent."""
    try:
        service.clients.placement(context).delete(f"/allocations/{consumer}", headers=_VERSION)
    except PeerNotFound:
        return


def consumers_on(service: Service, context: Context, provider: str) -> list[str]:
    """Everybody who has allocations on a provider."""
    try:
        found = service.clients.placement(context).get(f"/resource_providers/{provider}/allocations", headers=_VERSION)
    except PeerNotFound:
        return []
    return list(found["allocations"])


def ensure_provider(
    service: Service, context: Context, uuid: str, name: str, inventory: Mapping[str, Any]
) -> None:
    """The provider of a host is there with exactly this inventory."""
    client = service.clients.placement(context)
    try:
        client.get(f"/resource_providers/{uuid}", headers=_VERSION)
    except PeerNotFound:
        client.post("/resource_providers", {"uuid": uuid, "name": name}, headers=_VERSION)
    for attempt in range(_TRIES):
        path = f"/resource_providers/{uuid}/inventories"
        current = client.get(path, headers=_VERSION)
        if _same(current["inventories"], inventory):
            return
        body = {
            "resource_provider_generation": current["resource_provider_generation"],
            "inventories": {**_foreign(current["inventories"]), **inventory},
        }
        try:
            client.put(path, body, headers=_VERSION)
        except PeerConflict as error:
            if attempt == _TRIES - 1 or "concurrent_update" not in str(error.body):
                raise
        else:
            return


_OURS = frozenset(("VCPU", "MEMORY_MB", "DISK_GB"))


def _foreign(inventories: Mapping[str, Any]) -> dict[str, Any]:
    """What an operator added to the provider by hand stays."""
    return {name: entry for name, entry in inventories.items() if name not in _OURS}


def _same(current: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    ours = {name: entry for name, entry in current.items() if name in _OURS}
    return ours.keys() == wanted.keys() and all(
        ours[name].get(field) == value for name, entry in wanted.items() for field, value in entry.items()
    )


def remove_provider(service: Service, context: Context, uuid: str) -> None:
    """A host has left. Idempotent; raises `PeerConflict` while it still has allocations."""
    try:
        service.clients.placement(context).delete(f"/resource_providers/{uuid}", headers=_VERSION)
    except PeerNotFound:
        return
