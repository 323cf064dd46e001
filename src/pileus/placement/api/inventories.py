"""Inventories: how much of each resource class a provider has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pileus.kernel.web import Call, Operations, Reply
from pileus.placement.api.common import NAME_KEY, fresh
from pileus.placement.logic import inventories as logic
from pileus.placement.logic.inventories import MAX_INT

operations = Operations()

_COLLECTION = "/resource_providers/{uuid}/inventories"
_ONE = "/resource_providers/{uuid}/inventories/{resource_class}"
_GENERATION = {"type": "integer"}
_FLOAT_MAX = 3.40282e38


def _whole(minimum: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": minimum, "maximum": MAX_INT}


FIELDS: dict[str, dict[str, Any]] = {
    "resource_provider_generation": _GENERATION,
    "total": _whole(1),
    "reserved": _whole(0),
    "min_unit": _whole(1),
    "max_unit": _whole(1),
    "step_size": _whole(1),
    "allocation_ratio": {"type": "number", "maximum": _FLOAT_MAX},
}
_RECORD = {"type": "object", "properties": FIELDS, "required": ["total"], "additionalProperties": False}
_PUT_ONE = {**_RECORD, "required": ["total", "resource_provider_generation"]}
_POST = {
    **_RECORD,
    "properties": {**FIELDS, "resource_class": {"type": "string", "pattern": NAME_KEY}},
    "required": ["total", "resource_class"],
}
SET = {
    "type": "object",
    "properties": {
        "resource_provider_generation": _GENERATION,
        "inventories": {"type": "object", "patternProperties": {NAME_KEY: _RECORD}, "additionalProperties": False},
    },
    "required": ["resource_provider_generation", "inventories"],
    "additionalProperties": False,
}


def _view(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        "total": row["total"],
        "reserved": row["reserved"],
        "min_unit": row["min_unit"],
        "max_unit": row["max_unit"],
        "step_size": row["step_size"],
        "allocation_ratio": row["allocation_ratio"],
    }


def read_set(call: Call, uuid: str, given: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Complete and checked inventories, by resource class."""
    rows = {name: logic.complete(row) for name, row in given.items()}
    for name, row in rows.items():
        logic.check(uuid, name, row, full_reserve=call.at_least(1, 26))
    return rows


@operations("GET", _COLLECTION, rule="placement:resource_providers:inventories:list")
def list_inventories(call: Call) -> Reply:
    """List a provider's inventories."""
    stock = logic.list_inventories(call.service, call.params["uuid"])
    body = {
        "resource_provider_generation": stock.generation,
        "inventories": {name: _view(row) for name, row in stock.rows.items()},
    }
    return fresh(call, body, [row["updated_at"] for row in stock.rows.values()])


@operations("PUT", _COLLECTION, rule="placement:resource_providers:inventories:update", body=SET)
def replace_inventories(call: Call) -> Reply:
    """Replace all of a provider's inventories."""
    uuid = call.params["uuid"]
    rows = read_set(call, uuid, call.body["inventories"])
    generation = logic.replace_inventories(call.service, uuid, call.body["resource_provider_generation"], rows)
    return fresh(call, {"resource_provider_generation": generation, "inventories": rows})


@operations("POST", _COLLECTION, rule="placement:resource_providers:inventories:create", status=201, body=_POST)
def create_inventory(call: Call) -> Reply:
    """Add one inventory to a provider."""
    uuid, name = call.params["uuid"], call.body["resource_class"]
    row = logic.complete(call.body)
    logic.check(uuid, name, row, full_reserve=call.at_least(1, 26))
    generation = logic.add_inventory(call.service, uuid, name, row)
    headers = {"Location": call.link(f"/resource_providers/{uuid}/inventories/{name}")}
    return fresh(call, {**row, "resource_provider_generation": generation}, headers=headers)


@operations("DELETE", _COLLECTION, rule="placement:resource_providers:inventories:delete", status=204, versions="1.5-")
def delete_inventories(call: Call) -> None:
    """Delete all of a provider's inventories."""
    logic.delete_inventories(call.service, call.params["uuid"])


@operations("GET", _ONE, rule="placement:resource_providers:inventories:show")
def show_inventory(call: Call) -> Reply:
    """Show a provider's inventory of one resource class."""
    generation, row = logic.get_inventory(call.service, call.params["uuid"], call.params["resource_class"])
    return fresh(call, {**_view(row), "resource_provider_generation": generation}, [row["updated_at"]])


@operations("PUT", _ONE, rule="placement:resource_providers:inventories:update", body=_PUT_ONE)
def update_inventory(call: Call) -> Reply:
    """Change a provider's inventory of one resource class."""
    uuid, name = call.params["uuid"], call.params["resource_class"]
    row = logic.complete(call.body)
    logic.check(uuid, name, row, full_reserve=call.at_least(1, 26))
    generation = logic.change_inventory(call.service, uuid, call.body["resource_provider_generation"], name, row)
    return fresh(call, {**row, "resource_provider_generation": generation})


@operations("DELETE", _ONE, rule="placement:resource_providers:inventories:delete", status=204)
def delete_inventory(call: Call) -> None:
    """Delete a provider's inventory of one resource class."""
    logic.delete_inventory(call.service, call.params["uuid"], call.params["resource_class"])
