"""Unified limits: /v3/registered_limits, /v3/limits."""

from __future__ import annotations

from typing import Any

from pileus.identity.errors import not_found
from pileus.identity.logic import limits
from pileus.identity.store.listing import Record
from pileus.kernel.web import Call, Operations

from .common import ID, TEXT, collection, listing, permit, wrapped

operations = Operations()

_AMOUNT = {"type": "integer", "minimum": -1, "maximum": 2147483647}
_PLACE = {
    "service_id": ID,
    "region_id": {"type": ["string", "null"], "maxLength": 255},
    "resource_name": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": TEXT,
}
_REGISTERED = {**_PLACE, "default_limit": _AMOUNT}
_LIMIT = {**_PLACE, "resource_limit": _AMOUNT, "project_id": ID, "domain_id": ID}


def _many(name: str, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    item = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {
        "type": "object",
        "properties": {name: {"type": "array", "items": item, "minItems": 1}},
        "required": [name],
    }


# Registered limits ----------------------------------------------------------------------------------------------------


def _registered(call: Call, row: Record) -> dict[str, Any]:
    return {
        "id": row.id,
        "service_id": row.service_id,
        "region_id": row.region_id or None,
        "resource_name": row.resource_name,
        "default_limit": row.default_limit,
        "description": row.description,
        "links": {"self": call.link(f"/registered_limits/{row.id}")},
    }


@operations("GET", "/registered_limits", rule="identity:list_registered_limits", summary="List registered limits")
def list_registered(call: Call) -> dict[str, Any]:
    wanted = listing(call, ("service_id", "region_id", "resource_name"))
    rows = limits.list_registered(call.service, wanted)
    return collection(call, "registered_limits", rows, lambda row: _registered(call, row), wanted)


@operations(
    "POST",
    "/registered_limits",
    rule="identity:create_registered_limits",
    status=201,
    body=_many("registered_limits", _REGISTERED, ["service_id", "resource_name", "default_limit"]),
    summary="Register limits",
)
def create_registered(call: Call) -> dict[str, Any]:
    rows = limits.create_registered(call.service, call.body["registered_limits"])
    return collection(call, "registered_limits", rows, lambda row: _registered(call, row))


_REGISTERED_PATH = "/registered_limits/{registered_limit_id}"


@operations("GET", _REGISTERED_PATH, rule="identity:get_registered_limit", summary="Show a registered limit")
def show_registered(call: Call) -> dict[str, Any]:
    row = limits.find_registered(call.service, call.params["registered_limit_id"])
    return {"registered_limit": _registered(call, row)}


@operations(
    "PATCH",
    _REGISTERED_PATH,
    rule="identity:update_registered_limit",
    body=wrapped("registered_limit", _REGISTERED, least=1, strict=True),
    summary="Update a registered limit",
)
def update_registered(call: Call) -> dict[str, Any]:
    row = limits.update_registered(call.service, call.params["registered_limit_id"], call.body["registered_limit"])
    return {"registered_limit": _registered(call, row)}


@operations(
    "DELETE", _REGISTERED_PATH, rule="identity:delete_registered_limit", status=204, summary="Delete a registered limit"
)
def delete_registered(call: Call) -> None:
    limits.delete_registered(call.service, call.params["registered_limit_id"])


# Limits of projects and domains ---------------------------------------------------------------------------------------


def _limit(call: Call, row: Record) -> dict[str, Any]:
    return {
        "id": row.id,
        "project_id": row.project_id or None,
        "domain_id": row.domain_id or None,
        "service_id": row.service_id,
        "region_id": row.region_id or None,
        "resource_name": row.resource_name,
        "resource_limit": row.resource_limit,
        "description": row.description,
        "links": {"self": call.link(f"/limits/{row.id}")},
    }


_MODELS = {
    "flat": "Limit enforcement and validation does not take project hierarchy into consideration.",
    "strict_two_level": "No limit of a project is above that of its domain, and below a domain are two levels of projects at most.",
}


@operations("GET", "/limits/model", rule="identity:get_limit_model", summary="Show how limits are enforced")
def show_model(call: Call) -> dict[str, Any]:
    name = call.service.options.limit_enforcement_model
    return {"model": {"name": name, "description": _MODELS[name]}}


@operations("GET", "/limits", rule="identity:list_limits", summary="List limits; without a right to see all, one's own")
def list_limits(call: Call) -> dict[str, Any]:
    context = call.context
    wanted = listing(call, ("service_id", "region_id", "resource_name", "project_id", "domain_id"))
    everything = call.allows("identity:get_limit", {})
    rows = limits.list_limits(
        call.service,
        wanted,
        project_id=None if everything else context.project_id or "",
        domain_id=None if everything else context.domain_id or "",
    )
    return collection(call, "limits", rows, lambda row: _limit(call, row), wanted)


@operations(
    "POST",
    "/limits",
    rule="identity:create_limits",
    status=201,
    body=_many("limits", _LIMIT, ["service_id", "resource_name", "resource_limit"]),
    summary="Create limits of projects and domains",
)
def create_limits(call: Call) -> dict[str, Any]:
    rows = limits.create_limits(call.service, call.body["limits"])
    return collection(call, "limits", rows, lambda row: _limit(call, row))


@operations("GET", "/limits/{limit_id}", rule="identity:get_limit", late=True, summary="Show a limit")
def show_limit(call: Call) -> dict[str, Any]:
    row = limits.find_limit(call.service, call.params["limit_id"])
    target = {}
    if row is not None and row.project_id:
        target["target.limit.project_id"] = row.project_id
        target["target.limit.project.domain_id"] = limits.domain_of(call.service, row.project_id)
    elif row is not None:
        target["target.limit.domain.id"] = row.domain_id
    permit(call, target)
    if row is None:
        raise not_found("limit", call.params["limit_id"])
    return {"limit": _limit(call, row)}


@operations(
    "PATCH",
    "/limits/{limit_id}",
    rule="identity:update_limit",
    body=wrapped("limit", {"resource_limit": _AMOUNT, "description": TEXT}, least=1, strict=True),
    summary="Update a limit",
)
def update_limit(call: Call) -> dict[str, Any]:
    return {"limit": _limit(call, limits.update_limit(call.service, call.params["limit_id"], call.body["limit"]))}


@operations("DELETE", "/limits/{limit_id}", rule="identity:delete_limit", status=204, summary="Delete a limit")
def delete_limit(call: Call) -> None:
    limits.delete_limit(call.service, call.params["limit_id"])
