"""Identity providers, their protocols and mappings: /v3/OS-FEDERATION."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pileus.identity.logic import federation, mappings
from pileus.identity.store.listing import Record
from pileus.kernel.web import Call, Operations

from .common import BOOLEAN, NULLABLE_ID, TEXT, collection, listing, wrapped

operations = Operations()

_PROVIDERS = "/OS-FEDERATION/identity_providers"
_PROVIDER = f"{_PROVIDERS}/{{idp_id}}"
_PROTOCOL = f"{_PROVIDER}/protocols/{{protocol_id}}"
_MAPPING = "/OS-FEDERATION/mappings/{mapping_id}"

_REMOTE_ID = {"type": "string", "minLength": 1, "maxLength": 255}
_CHANGEABLE = {
    "enabled": BOOLEAN,
    "description": TEXT,
    "authorization_ttl": {"type": ["integer", "null"], "minimum": 0, "maximum": 5256000},
    "remote_ids": {"type": ["array", "null"], "items": _REMOTE_ID, "uniqueItems": True, "maxItems": 100},
}
_MAPPING_ID = {"type": "string", "minLength": 1, "maxLength": 64}
_ATTRIBUTE = {"type": ["string", "null"], "maxLength": 255}
_PROTOCOL_BODY = wrapped(
    "protocol",
    {"mapping_id": _MAPPING_ID, "remote_id_attribute": _ATTRIBUTE},
    required=["mapping_id"],
    strict=True,
)
_RULES = {"id": _MAPPING_ID, "rules": {"type": "array"}, "schema_version": {"type": ["string", "null"]}}


# Identity providers ----------------------------------------------------------------------------------------------------


def _provider(call: Call, remote_ids: Mapping[str, Sequence[str]]) -> Callable[[Record], dict[str, Any]]:
    def render(row: Record) -> dict[str, Any]:
        here = call.link(f"{_PROVIDERS}/{row.id}")
        return {
            "id": row.id,
            "domain_id": row.domain_id,
            "enabled": row.enabled,
            "description": row.description,
            "authorization_ttl": row.authorization_ttl,
            "remote_ids": list(remote_ids.get(row.id, ())),
            "links": {"self": here, "protocols": f"{here}/protocols"},
        }

    return render


def _one_provider(call: Call, found: federation.Found) -> dict[str, Any]:
    return {"identity_provider": _provider(call, found.remote_ids)(found.rows[0])}


@operations("GET", _PROVIDERS, rule="identity:list_identity_providers", summary="List identity providers")
def list_providers(call: Call) -> dict[str, Any]:
    wanted = listing(call, ("id", "enabled"))
    found = federation.list_providers(call.service, wanted)
    return collection(call, "identity_providers", found.rows, _provider(call, found.remote_ids), wanted)


@operations(
    "PUT",
    _PROVIDER,
    rule="identity:create_identity_provider",
    status=201,
    body=wrapped("identity_provider", {**_CHANGEABLE, "domain_id": NULLABLE_ID}, strict=True),
    summary="Register an identity provider",
)
def create_provider(call: Call) -> dict[str, Any]:
    body = call.body["identity_provider"]
    return _one_provider(call, federation.create_provider(call.service, call.params["idp_id"], body))


@operations("GET", _PROVIDER, rule="identity:get_identity_provider", summary="Show an identity provider")
def show_provider(call: Call) -> dict[str, Any]:
    return _one_provider(call, federation.find_provider(call.service, call.params["idp_id"]))


@operations(
    "PATCH",
    _PROVIDER,
    rule="identity:update_identity_provider",
    body=wrapped("identity_provider", _CHANGEABLE, least=1, strict=True),
    summary="Update an identity provider",
)
def update_provider(call: Call) -> dict[str, Any]:
    body = call.body["identity_provider"]
    return _one_provider(call, federation.update_provider(call.service, call.params["idp_id"], body))


@operations(
    "DELETE", _PROVIDER, rule="identity:delete_identity_provider", status=204, summary="Delete an identity provider"
)
def delete_provider(call: Call) -> None:
    federation.delete_provider(call.service, call.params["idp_id"])


# Protocols -------------------------------------------------------------------------------------------------------------


def _protocol(call: Call) -> Callable[[Record], dict[str, Any]]:
    def render(row: Record) -> dict[str, Any]:
        provider = call.link(f"{_PROVIDERS}/{row.identity_provider_id}")
        shown = {"id": row.id, "mapping_id": row.mapping_id}
        if row.remote_id_attribute is not None:
            shown["remote_id_attribute"] = row.remote_id_attribute
        return {**shown, "links": {"self": f"{provider}/protocols/{row.id}", "identity_provider": provider}}

    return render


def _listed_protocol(call: Call) -> Callable[[Record], dict[str, Any]]:
    """In lists upstream shows more."""
    render = _protocol(call)
    return lambda row: {
        "idp_id": row.identity_provider_id,
        "remote_id_attribute": row.remote_id_attribute,
        **render(row),
    }


@operations(
    "GET",
    f"{_PROVIDER}/protocols",
    rule="identity:list_protocols",
    summary="List the protocols of an identity provider",
)
def list_protocols(call: Call) -> dict[str, Any]:
    rows = federation.list_protocols(call.service, call.params["idp_id"])
    return collection(call, "protocols", rows, _listed_protocol(call))


@operations(
    "PUT",
    _PROTOCOL,
    rule="identity:create_protocol",
    status=201,
    body=_PROTOCOL_BODY,
    summary="Add a protocol to an identity provider",
)
def create_protocol(call: Call) -> dict[str, Any]:
    row = federation.create_protocol(
        call.service, call.params["idp_id"], call.params["protocol_id"], call.body["protocol"]
    )
    return {"protocol": _protocol(call)(row)}


@operations("GET", _PROTOCOL, rule="identity:get_protocol", summary="Show a protocol of an identity provider")
def show_protocol(call: Call) -> dict[str, Any]:
    row = federation.find_protocol(call.service, call.params["idp_id"], call.params["protocol_id"])
    return {"protocol": _protocol(call)(row)}


@operations(
    "PATCH",
    _PROTOCOL,
    rule="identity:update_protocol",
    body=_PROTOCOL_BODY,
    summary="Update a protocol of an identity provider",
)
def update_protocol(call: Call) -> dict[str, Any]:
    row = federation.update_protocol(
        call.service, call.params["idp_id"], call.params["protocol_id"], call.body["protocol"]
    )
    return {"protocol": _protocol(call)(row)}


@operations(
    "DELETE",
    _PROTOCOL,
    rule="identity:delete_protocol",
    status=204,
    summary="Remove a protocol from an identity provider",
)
def delete_protocol(call: Call) -> None:
    federation.delete_protocol(call.service, call.params["idp_id"], call.params["protocol_id"])


# Mappings --------------------------------------------------------------------------------------------------------------


def _mapping(call: Call) -> Callable[[Record], dict[str, Any]]:
    base = call.link("/OS-FEDERATION/mappings/")
    return lambda row: {
        "id": row.id,
        "rules": row.rules,
        "schema_version": row.schema_version,
        "links": {"self": base + row.id},
    }


@operations("GET", "/OS-FEDERATION/mappings", rule="identity:list_mappings", summary="List mappings")
def list_mappings(call: Call) -> dict[str, Any]:
    wanted = listing(call, ("id",))
    return collection(call, "mappings", mappings.list_mappings(call.service, wanted), _mapping(call), wanted)


@operations(
    "PUT",
    _MAPPING,
    rule="identity:create_mapping",
    status=201,
    body=wrapped("mapping", _RULES, required=["rules"], strict=True),
    summary="Create a mapping",
)
def create_mapping(call: Call) -> dict[str, Any]:
    row = mappings.create(call.service, call.params["mapping_id"], call.body["mapping"])
    return {"mapping": _mapping(call)(row)}


@operations("GET", _MAPPING, rule="identity:get_mapping", summary="Show a mapping")
def show_mapping(call: Call) -> dict[str, Any]:
    return {"mapping": _mapping(call)(mappings.find(call.service, call.params["mapping_id"]))}


@operations(
    "PATCH",
    _MAPPING,
    rule="identity:update_mapping",
    body=wrapped("mapping", _RULES, required=["rules"], strict=True),
    summary="Replace the rules of a mapping",
)
def update_mapping(call: Call) -> dict[str, Any]:
    row = mappings.update(call.service, call.params["mapping_id"], call.body["mapping"])
    return {"mapping": _mapping(call)(row)}


@operations("DELETE", _MAPPING, rule="identity:delete_mapping", status=204, summary="Delete a mapping")
def delete_mapping(call: Call) -> None:
    mappings.delete(call.service, call.params["mapping_id"])
