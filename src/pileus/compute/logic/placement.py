"""What compute asks of placement: candidates, claims, and what hosts have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pileus.clients.base import PeerConflict, PeerNotFound
from pileus.clients.placement import CONCURRENT_UPDATE, code_of
from pileus.kernel.context import Context
from pileus.kernel.service import Service


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
    found = service.clients.placement(context).allocation_candidates(query)
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
    amounts = {provider: dict(entry["resources"]) for provider, entry in allocations.items()}
    first = {
        "allocations": {provider: {"resources": resources} for provider, resources in amounts.items()},
        "project_id": project_id,
        "user_id": user_id,
        "consumer_type": "INSTANCE",
        "consumer_generation": None,
    }
    try:
        # Nearly always the consumer is new: that takes one call.
        client.put(f"/allocations/{consumer}", first)
    except PeerConflict as error:
        if code_of(error) != CONCURRENT_UPDATE:
            return False
        with service.db.write(durable=False):
            pass  # ends the work of a flow that another worker has taken over: the claim may be that one's
        try:
            client.put_allocations(consumer, amounts, project_id=project_id, user_id=user_id)
        except PeerConflict:
            return False
    return True


def hold(service: Service, context: Context, server_id: str, migration: str) -> None:
    """The migration takes over what the server has at its source, so that the server can claim its destination. Idempotent."""
    client = service.clients.placement(context)
    if not client.allocations(migration):
        client.move_allocations(server_id, migration)


def give_back(service: Service, context: Context, server_id: str, migration: str) -> None:
    """The server has what its migration held and nothing else. Idempotent."""
    client = service.clients.placement(context)
    if client.allocations(migration):
        client.move_allocations(migration, server_id, consumer_type="INSTANCE")


def release(service: Service, context: Context, consumer: str) -> None:
    """Free everything a consumer has. Idempotent."""
    service.clients.placement(context).delete_allocations(consumer)


def consumers_on(service: Service, context: Context, provider: str) -> list[str]:
    """Everybody who has allocations on a provider."""
    try:
        return list(service.clients.placement(context).provider_allocations(provider))
    except PeerNotFound:
        return []


_OURS = frozenset(("VCPU", "MEMORY_MB", "DISK_GB"))


def ensure_provider(
    service: Service, context: Context, uuid: str, name: str, inventory: Mapping[str, Any], *, is_new: bool = False
) -> None:
    """The provider of a host is there with this inventory; what an operator added by hand stays. Fewer calls for a new one."""
    client = service.clients.placement(context)
    if is_new and client.introduce_provider(uuid, name, inventory):
        return
    client.ensure_provider(uuid, name)
    present = client.get(f"/resource_providers/{uuid}/inventories")["inventories"]
    foreign = {kind: entry for kind, entry in present.items() if kind not in _OURS}
    client.set_inventories(uuid, {**foreign, **inventory})


def remove_provider(service: Service, context: Context, uuid: str) -> None:
    """A host has left. Idempotent; raises `PeerConflict` while it still has allocations."""
    service.clients.placement(context).delete_provider(uuid)
