"""Allocations: what consumers hold of providers."""

from __future__ import annotations

from typing import Any

from pileus.kernel import ids
from pileus.kernel.web import Call, Operations, Reply
from pileus.placement.api.common import NAME_KEY, UUID, UUID_KEY, fresh
from pileus.placement.errors import BadRequest
from pileus.placement.logic import allocations as logic
from pileus.placement.logic.providers import dashed

operations = Operations()

_ID = {"type": "string", "minLength": 1, "maxLength": 255}
_RESOURCES = {
    "type": "object",
    "minProperties": 1,
    "patternProperties": {NAME_KEY: {"type": "integer", "minimum": 1}},
    "additionalProperties": False,
}
_BY_PROVIDER = {
    "type": "object",
    "patternProperties": {
        UUID_KEY: {
            "type": "object",
            "properties": {"generation": {"type": "integer"}, "resources": _RESOURCES},
            "required": ["resources"],
            "additionalProperties": False,
        }
    },
    "additionalProperties": False,
}
_LISTED = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "properties": {
            "resource_provider": {
                "type": "object",
                "properties": {"uuid": UUID},
                "required": ["uuid"],
                "additionalProperties": False,
            },
            "resources": _RESOURCES,
        },
        "required": ["resource_provider", "resources"],
        "additionalProperties": False,
    },
}
_OWNER = {"project_id": _ID, "user_id": _ID}
_GENERATION = {"consumer_generation": {"type": ["integer", "null"]}}
_MAPPINGS = {
    "mappings": {
        "type": "object",
        "minProperties": 1,
        "patternProperties": {"^[a-zA-Z0-9_-]{0,64}$": {"type": "array", "minItems": 1, "items": UUID}},
        "additionalProperties": False,
    }
}
_TYPE = {"consumer_type": {"type": "string", "pattern": NAME_KEY, "minLength": 1, "maxLength": 255}}


def _body(allocations: dict[str, Any], *optional: str, **properties: Any) -> dict[str, Any]:
    known = {"allocations": allocations, **properties}
    required = [name for name in known if name not in optional]
    return {"type": "object", "properties": known, "required": required, "additionalProperties": False}


_V1_0 = _body(_LISTED)
_V1_8 = _body(_LISTED, **_OWNER)
_V1_12 = _body({**_BY_PROVIDER, "minProperties": 1}, **_OWNER)
_V1_13 = _body(_BY_PROVIDER, **_OWNER)
_V1_28 = _body(_BY_PROVIDER, **_OWNER, **_GENERATION)
_V1_34 = _body(_BY_PROVIDER, "mappings", **_OWNER, **_GENERATION, **_MAPPINGS)
_V1_38 = _body(_BY_PROVIDER, "mappings", **_OWNER, **_GENERATION, **_MAPPINGS, **_TYPE)


def _by_consumer(one: dict[str, Any], minimum: int) -> dict[str, Any]:
    return {
        "type": "object",
        "minProperties": minimum,
        "patternProperties": {UUID_KEY: one},
        "additionalProperties": False,
    }


_PUT = [("1.0", _V1_0), ("1.8", _V1_8), ("1.12", _V1_12), ("1.28", _V1_28), ("1.34", _V1_34), ("1.38", _V1_38)]
_POST = [
    (since, _by_consumer(one, 1))
    for since, one in (("1.13", _V1_13), ("1.28", _V1_28), ("1.34", _V1_34), ("1.38", _V1_38))
]
MANY = {"1.30": _by_consumer(_V1_28, 0), "1.34": _by_consumer(_V1_34, 0), "1.38": _by_consumer(_V1_38, 0)}
"""Schemas of the allocations in a reshape, by minimum microversion."""


def read_change(call: Call, consumer: str, body: dict[str, Any]) -> logic.Change:
    """One consumer's part of a request, in the form of the request's microversion."""
    given = body["allocations"]
    wanted: dict[str, dict[str, int]] = {}
    if isinstance(given, list):
        for item in given:
            wanted.setdefault(item["resource_provider"]["uuid"], {}).update(item["resources"])
    else:
        wanted = {uuid: item["resources"] for uuid, item in given.items()}
    return logic.Change(
        consumer=consumer,
        allocations=wanted,
        project_id=body.get("project_id"),
        user_id=body.get("user_id"),
        consumer_type=body.get("consumer_type"),
        generation=body["consumer_generation"] if call.at_least(1, 28) else logic.ANY,
    )


@operations("GET", "/allocations/{consumer_uuid}", rule="placement:allocations:list")
def list_for_consumer(call: Call) -> Reply:
    """Show what a consumer holds."""
    rows = logic.of_consumer(call.service, call.params["consumer_uuid"])
    held: dict[str, dict[str, Any]] = {}
    for row in rows:
        held.setdefault(row[0], {"resources": {}, "generation": row[1]})["resources"][row[2]] = row[3]
    body: dict[str, Any] = {"allocations": held}
    if rows:
        _, _, _, _, project_id, user_id, generation, kind, _ = rows[0]
        if call.at_least(1, 12):
            body |= {"project_id": project_id, "user_id": user_id}
        if call.at_least(1, 28):
            body["consumer_generation"] = generation
        if call.at_least(1, 38):
            body["consumer_type"] = kind or "unknown"
    return fresh(call, body, [row[8] for row in rows])


@operations("PUT", "/allocations/{consumer_uuid}", rule="placement:allocations:update", status=204, body=_PUT)
def replace_for_consumer(call: Call) -> None:
    """Replace what a consumer holds."""
    consumer = call.params["consumer_uuid"]
    if not ids.is_uuid_like(consumer):
        raise BadRequest(f"Malformed consumer_uuid: {consumer}")
    logic.set_allocations(call.service, [read_change(call, dashed(consumer), call.body)])


@operations("DELETE", "/allocations/{consumer_uuid}", rule="placement:allocations:delete", status=204)
def delete_for_consumer(call: Call) -> None:
    """Give back all that a consumer holds."""
    logic.delete_allocations(call.service, call.params["consumer_uuid"])


@operations("POST", "/allocations", rule="placement:allocations:manage", status=204, versions="1.13-", body=_POST)
def replace_for_many(call: Call) -> None:
    """Replace what several consumers hold, all or none."""
    logic.set_allocations(call.service, [read_change(call, consumer, body) for consumer, body in call.body.items()])


@operations("GET", "/resource_providers/{uuid}/allocations", rule="placement:resource_providers:allocations:list")
def list_for_provider(call: Call) -> Reply:
    """Show everything that is allocated from a provider."""
    generation, rows = logic.of_provider(call.service, call.params["uuid"])
    held: dict[str, dict[str, Any]] = {}
    for consumer, consumer_generation, name, used, _ in rows:
        entry = held.get(consumer)
        if entry is None:
            entry = held[consumer] = {"resources": {}}
            if call.at_least(1, 28):
                entry["consumer_generation"] = consumer_generation
        entry["resources"][name] = used
    body = {"allocations": held, "resource_provider_generation": generation}
    return fresh(call, body, [row[4] for row in rows])
