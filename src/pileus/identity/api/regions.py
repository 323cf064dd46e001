"""Regions: /v3/regions."""

from __future__ import annotations

from typing import Any

from pileus.identity.api import render
from pileus.identity.errors import invalid
from pileus.identity.logic import catalog
from pileus.kernel.web import Call, Operations

from .common import TEXT, collection, listing, wrapped

operations = Operations()

_ID = {"type": "string", "minLength": 1, "maxLength": 255}
_PROPERTIES = {
    "id": _ID,
    "description": {**TEXT, "maxLength": 255},
    "parent_region_id": {"type": ["string", "null"], "maxLength": 255},
}


@operations("GET", "/regions", rule="identity:list_regions", summary="List regions")
def list_regions(call: Call) -> dict[str, Any]:
    wanted = listing(call, ("parent_region_id",))
    return collection(call, "regions", catalog.list_regions(call.service, wanted), render.regions(call), wanted)


@operations(
    "POST",
    "/regions",
    rule="identity:create_region",
    status=201,
    body=wrapped("region", _PROPERTIES),
    summary="Create a region",
)
def create_region(call: Call) -> dict[str, Any]:
    return {"region": render.regions(call)(catalog.create_region(call.service, call.body["region"]))}


@operations(
    "PUT",
    "/regions/{region_id}",
    rule="identity:create_region",
    status=201,
    body=wrapped("region", _PROPERTIES),
    summary="Create a region with this id",
)
def create_region_with_id(call: Call) -> dict[str, Any]:
    body, region_id = call.body["region"], call.params["region_id"]
    if body.get("id", region_id) != region_id:
        raise invalid(f"The id of the URL, {region_id}, and that of the body, {body['id']}, differ.")
    return {"region": render.regions(call)(catalog.create_region(call.service, body, region_id))}


@operations("GET", "/regions/{region_id}", rule="identity:get_region", summary="Show a region")
def show_region(call: Call) -> dict[str, Any]:
    return {"region": render.regions(call)(catalog.region(call.service, call.params["region_id"]))}


@operations(
    "PATCH",
    "/regions/{region_id}",
    rule="identity:update_region",
    body=wrapped("region", _PROPERTIES, least=1),
    summary="Update a region",
)
def update_region(call: Call) -> dict[str, Any]:
    changed = catalog.update_region(call.service, call.params["region_id"], call.body["region"])
    return {"region": render.regions(call)(changed)}


@operations("DELETE", "/regions/{region_id}", rule="identity:delete_region", status=204, summary="Delete a region")
def delete_region(call: Call) -> None:
    catalog.delete_region(call.service, call.params["region_id"])
