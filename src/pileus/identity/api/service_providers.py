"""Other clouds whose users come from here: /v3/OS-FEDERATION/service_providers."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from pileus.identity.logic import service_providers
from pileus.identity.store.listing import Record
from pileus.kernel.web import Call, Operations

from .common import BOOLEAN, TEXT, collection, listing, wrapped

operations = Operations()

_PATH = "/OS-FEDERATION/service_providers"
# Both go out in headers and are opened by clients: no blanks, nothing but HTTP.
_URL = {"type": "string", "maxLength": 256, "pattern": "^https?://[!-~]+$"}
_PROPERTIES = {
    "auth_url": _URL,
    "sp_url": _URL,
    "relay_state_prefix": {"type": ["string", "null"], "maxLength": 256, "pattern": "^[ -~]*$"},
    "enabled": BOOLEAN,
    "description": TEXT,
}


def _body(**more: Any) -> dict[str, Any]:
    return {**wrapped("service_provider", _PROPERTIES, strict=True, **more), "additionalProperties": False}


def _shown(call: Call, row: Record) -> dict[str, Any]:
    provider_id, auth_url, sp_url, relay_state_prefix, enabled, description = row
    return {
        "id": provider_id,
        "auth_url": auth_url,
        "sp_url": sp_url,
        "relay_state_prefix": relay_state_prefix,
        "enabled": enabled,
        "description": description,
        "links": {"self": call.link(f"{_PATH}/{quote(provider_id)}")},
    }


@operations("GET", _PATH, rule="identity:list_service_providers", summary="List service providers")
def list_service_providers(call: Call) -> dict[str, Any]:
    wanted = listing(call, ("id", "enabled"))
    rows = service_providers.list_all(call.service, wanted)
    return collection(call, "service_providers", rows, lambda row: _shown(call, row), wanted)


@operations(
    "PUT",
    _PATH + "/{sp_id}",
    rule="identity:create_service_provider",
    status=201,
    body=_body(required=["auth_url", "sp_url"]),
    summary="Register a service provider",
)
def create_service_provider(call: Call) -> dict[str, Any]:
    made = service_providers.create(call.service, call.params["sp_id"], call.body["service_provider"])
    return {"service_provider": _shown(call, made)}


@operations("GET", _PATH + "/{sp_id}", rule="identity:get_service_provider", summary="Show a service provider")
def show_service_provider(call: Call) -> dict[str, Any]:
    return {"service_provider": _shown(call, service_providers.find(call.service, call.params["sp_id"]))}


@operations(
    "PATCH",
    _PATH + "/{sp_id}",
    rule="identity:update_service_provider",
    body=_body(least=1),
    summary="Update a service provider",
)
def update_service_provider(call: Call) -> dict[str, Any]:
    changed = service_providers.update(call.service, call.params["sp_id"], call.body["service_provider"])
    return {"service_provider": _shown(call, changed)}


@operations(
    "DELETE",
    _PATH + "/{sp_id}",
    rule="identity:delete_service_provider",
    status=204,
    summary="Delete a service provider",
)
def delete_service_provider(call: Call) -> None:
    service_providers.delete(call.service, call.params["sp_id"])
