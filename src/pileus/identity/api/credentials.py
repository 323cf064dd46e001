"""Credentials: /v3/credentials."""

from __future__ import annotations

from typing import Any

from pileus.identity.errors import not_found
from pileus.identity.logic import application_credentials, credentials
from pileus.identity.store.listing import Record
from pileus.kernel.web import Call, Operations

from .common import NULLABLE_ID, collection, listing, permit, wrapped

operations = Operations()

_PROPERTIES = {
    "blob": {"type": "string"},
    "project_id": NULLABLE_ID,
    "type": {"type": "string", "minLength": 1, "maxLength": 255},
    "user_id": {"type": "string", "minLength": 1, "maxLength": 64},
}
_OWNER = "target.credential.user_id"


def _shown(call: Call, row: Record) -> dict[str, Any]:
    return {
        **row.extra,
        "id": row.id,
        "user_id": row.user_id,
        "project_id": row.project_id,
        "type": row.type,
        "blob": credentials.decrypted(call.service, row),
        "links": {"self": call.link(f"/credentials/{row.id}")},
    }


@operations("GET", "/credentials", rule="identity:list_credentials", late=True, summary="List credentials")
def list_credentials(call: Call) -> dict[str, Any]:
    """Those who may not see all see their own."""
    application_credentials.check_not_delegated(call.service, call.context)
    wanted = listing(call, ("user_id", "type"))
    if call.allows("identity:list_credentials", {}):
        permit(call, {})
    else:
        permit(call, {_OWNER: call.context.user_id})
        wanted = wanted.with_filter("user_id", call.context.user_id)
    rows = credentials.list_credentials(call.service, wanted)
    return collection(call, "credentials", rows, lambda row: _shown(call, row), wanted)


@operations(
    "POST",
    "/credentials",
    rule="identity:create_credential",
    late=True,
    status=201,
    body=wrapped("credential", _PROPERTIES, required=["blob", "type", "user_id"]),
    summary="Create a credential",
)
def create_credential(call: Call) -> dict[str, Any]:
    body = call.body["credential"]
    permit(call, {_OWNER: body["user_id"]})
    application_credentials.check_not_delegated(call.service, call.context)
    return {"credential": _shown(call, credentials.create(call.service, body))}


@operations(
    "GET", "/credentials/{credential_id}", rule="identity:get_credential", late=True, summary="Show a credential"
)
def show_credential(call: Call) -> dict[str, Any]:
    row = _permitted(call)
    application_credentials.check_not_delegated(call.service, call.context)
    return {"credential": _shown(call, row)}


@operations(
    "PATCH",
    "/credentials/{credential_id}",
    rule="identity:update_credential",
    late=True,
    body=wrapped("credential", _PROPERTIES, least=1),
    summary="Update a credential",
)
def update_credential(call: Call) -> dict[str, Any]:
    row, body = _permitted(call), call.body["credential"]
    permit(call, {_OWNER: body.get("user_id", row.user_id)})  # nor may it be given to somebody else
    application_credentials.check_not_delegated(call.service, call.context)
    return {"credential": _shown(call, credentials.update(call.service, row.id, body))}


@operations(
    "DELETE",
    "/credentials/{credential_id}",
    rule="identity:delete_credential",
    late=True,
    status=204,
    summary="Delete a credential",
)
def delete_credential(call: Call) -> None:
    row = _permitted(call)
    application_credentials.check_not_delegated(call.service, call.context)
    credentials.delete(call.service, row.id)


def _permitted(call: Call) -> Record:
    """The credential of the path, authorized. Raises Forbidden, NotFound."""
    row = credentials.find(call.service, call.params["credential_id"])
    permit(call, {_OWNER: row.user_id} if row is not None else {})
    if row is None:
        raise not_found("credential", call.params["credential_id"])
    return row
