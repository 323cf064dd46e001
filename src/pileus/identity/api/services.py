"""Services of the catalog: /v3/services."""

from __future__ import annotations

from typing import Any

from pileus.identity.api import render
from pileus.identity.logic import catalog
from pileus.kernel.web import Call, Operations

from .common import BOOLEAN, TEXT, collection, listing, wrapped

operations = Operations()

_PROPERTIES = {
    "type": {"type": "string", "minLength": 1, "maxLength": 255},
    "name": {**TEXT, "maxLength": 255},
    "description": TEXT,
    "enabled": BOOLEAN,
}


@operations("GET", "/services", rule="identity:list_services", summary="List services")
def list_services(call: Call) -> dict[str, Any]:
    wanted = listing(call, ("type", "name"))
    return collection(call, "services", catalog.list_services(call.service, wanted), render.services(call), wanted)


@operations(
    "POST",
    "/services",
    rule="identity:create_service",
    status=201,
    body=wrapped("service", _PROPERTIES, required=["type"]),
    summary="Register a service",
)
def create_service(call: Call) -> dict[str, Any]:
    return {"service": render.services(call)(catalog.create_service(call.service, call.body["service"]))}


@operations("GET", "/services/{service_id}", rule="identity:get_service", summary="Show a service")
def show_service(call: Call) -> dict[str, Any]:
    return {"service": render.services(call)(catalog.find_service(call.service, call.params["service_id"]))}


@operations(
    "PATCH",
    "/services/{service_id}",
    rule="identity:update_service",
    body=wrapped("service", _PROPERTIES, least=1),
    summary="Update a service",
)
def update_service(call: Call) -> dict[str, Any]:
    changed = catalog.update_service(call.service, call.params["service_id"], call.body["service"])
    return {"service": render.services(call)(changed)}


@operations("DELETE", "/services/{service_id}", rule="identity:delete_service", status=204, summary="Delete a service")
def delete_service(call: Call) -> None:
    catalog.delete_service(call.service, call.params["service_id"])
