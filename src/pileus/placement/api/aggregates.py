"""Aggregates: groups of providers known by UUID alone."""

from __future__ import annotations

from typing import Any

from pileus.kernel.web import Call, Operations, Reply
from pileus.placement.api.common import UUID, fresh
from pileus.placement.logic import inventories as logic

operations = Operations()

_PATH = "/resource_providers/{uuid}/aggregates"
_LIST = {"type": "array", "items": UUID, "uniqueItems": True}
_SET = {
    "type": "object",
    "properties": {"resource_provider_generation": {"type": "integer"}, "aggregates": _LIST},
    "required": ["resource_provider_generation", "aggregates"],
    "additionalProperties": False,
}


def _show(call: Call, generation: int, aggregates: list[str]) -> Reply:
    body: dict[str, Any] = {"aggregates": aggregates}
    if call.at_least(1, 19):
        body["resource_provider_generation"] = generation
    return fresh(call, body)


@operations("GET", _PATH, rule="placement:resource_providers:aggregates:list", versions="1.1-")
def list_aggregates(call: Call) -> Reply:
    """List the aggregates a provider is in."""
    return _show(call, *logic.get_aggregates(call.service, call.params["uuid"]))


@operations(
    "PUT",
    _PATH,
    rule="placement:resource_providers:aggregates:update",
    versions="1.1-",
    body=[("1.1", _LIST), ("1.19", _SET)],
)
def replace_aggregates(call: Call) -> Reply:
    """Replace the aggregates a provider is in."""
    guarded = call.at_least(1, 19)
    aggregates = call.body["aggregates"] if guarded else call.body
    generation = call.body["resource_provider_generation"] if guarded else None
    return _show(call, *logic.set_aggregates(call.service, call.params["uuid"], generation, aggregates))
