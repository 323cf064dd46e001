"""Endpoints of the catalog: /v3/endpoints."""

from __future__ import annotations

from typing import Any

from pileus.identity.api import render
from pileus.identity.logic import catalog
from pileus.kernel.web import Call, Operations

from .common import BOOLEAN, ID, TEXT, collection, listing, wrapped

operations = Operations()

_PROPERTIES = {
    "service_id": ID,
    "interface": {"type": "string", "enum": ["public", "internal", "admin"]},
    "region_id": {"type": ["string", "null"], "maxLength": 255},
    "region": {"type": ["string", "null"], "maxLength": 255},
    "url": {"type": "string", "minLength": 1, "maxLength": 4000, "pattern": "^[a-zA-Z0-9+.-]+:.+"},
    "name": TEXT,
    "description": TEXT,
    "enabled": BOOLEAN,
}


@operations("GET", "/endpoints", rule="identity:list_endpoints", summary="List endpoints")
def list_endpoints(call: Call) -> dict[str, Any]:
    wanted = listing(call, ("interface", "service_id", "region_id", "enabled"))
    return collection(call, "endpoints", catalog.list_endpoints(call.service, wanted), render.endpoints(call), wanted)


@operations(
    "POST",
    "/endpoints",
    rule="identity:create_endpoint",
    status=201,
    body=wrapped("endpoint", _PROPERTIES, required=["interface", "service_id", "url"]),
    summary="Register a URL of a service",
)
def create_endpoint(call: Call) -> dict[str, Any]:
    return {"endpoint": render.endpoints(call)(catalog.create_endpoint(call.service, call.body["endpoint"]))}


@operations("GET", "/endpoints/{endpoint_id}", rule="identity:get_endpoint", summary="Show an endpoint")
def show_endpoint(call: Call) -> dict[str, Any]:
    return {"endpoint": render.endpoints(call)(catalog.endpoint(call.service, call.params["endpoint_id"]))}


@operations(
    "PATCH",
    "/endpoints/{endpoint_id}",
    rule="identity:update_endpoint",
    body=wrapped("endpoint", _PROPERTIES, least=1),
    summary="Update an endpoint",
)
def update_endpoint(call: Call) -> dict[str, Any]:
    changed = catalog.update_endpoint(call.service, call.params["endpoint_id"], call.body["endpoint"])
    return {"endpoint": render.endpoints(call)(changed)}


@operations(
    "DELETE", "/endpoints/{endpoint_id}", rule="identity:delete_endpoint", status=204, summary="Delete an endpoint"
)
def delete_endpoint(call: Call) -> None:
    catalog.delete_endpoint(call.service, call.params["endpoint_id"])
