"""Application credentials of a user: /v3/users/{user_id}/application_credentials."""

from __future__ import annotations

from typing import Any

from pileus.identity.logic import access_rules, application_credentials
from pileus.identity.logic.application_credentials import Found
from pileus.identity.store.listing import Record
from pileus.kernel import clock
from pileus.kernel.web import Call, Operations

from .common import BOOLEAN, ID, NAME, TEXT, collection, permit, wrapped

operations = Operations()

_ALL = "/users/{user_id}/application_credentials"
_ONE = _ALL + "/{application_credential_id}"
_ROLE = {
    "type": "object",
    "properties": {"id": {"type": "string"}, "name": {"type": "string"}},
    "minProperties": 1,
}
_ACCESS_RULE = {
    "type": "object",
    "properties": {
        "service": {**ID, "maxLength": 64},
        "method": {"type": "string", "enum": ["POST", "GET", "HEAD", "PATCH", "PUT", "DELETE"]},
        "path": {"type": "string", "maxLength": 128, "pattern": "^/"},
        "id": ID,
    },
    "additionalProperties": False,
}
_BODY = wrapped(
    "application_credential",
    {
        "name": NAME,
        "description": TEXT,
        "secret": {"type": ["string", "null"]},
        "expires_at": TEXT,
        "roles": {"type": "array", "items": _ROLE},
        "unrestricted": BOOLEAN,
        "access_rules": {"type": "array", "items": _ACCESS_RULE},
    },
    required=["name"],
    strict=True,
)


def _shown(call: Call, row: Record, found: Found) -> dict[str, Any]:
    roles = found.roles
    shown = {
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "user_id": row.user_id,
        "project_id": row.project_id,
        "system": None,
        "expires_at": clock.iso_micro(row.expires_at),
        "unrestricted": row.unrestricted,
        "roles": [
            {"id": role_id, "name": roles.names[role_id], "domain_id": roles.domains[role_id] or None}
            for role_id in row.role_ids
            if role_id in roles.names
        ],
        "links": {"self": call.link(f"/users/{row.user_id}/application_credentials/{row.id}")},
    }
    if row.id in found.rules:
        shown["access_rules"] = [access_rules.shown(rule) for rule in found.rules[row.id]]
    return shown


@operations(
    "GET", _ALL, rule="identity:list_application_credentials", late=True, summary="List application credentials"
)
def list_application_credentials(call: Call) -> dict[str, Any]:
    permit(call, _target(call))
    found = application_credentials.list_of(call.service, call.params["user_id"], call.query.one("name"))
    return collection(call, "application_credentials", found.rows, lambda row: _shown(call, row, found))


@operations(
    "POST",
    _ALL,
    rule="identity:create_application_credential",
    late=True,
    status=201,
    body=_BODY,
    summary="Create an application credential",
)
def create_application_credential(call: Call) -> dict[str, Any]:
    permit(call, _target(call))
    body = call.body["application_credential"]
    found, secret = application_credentials.create(call.service, call.context, body)
    return {"application_credential": {**_shown(call, found.rows[0], found), "secret": secret}}


@operations(
    "GET", _ONE, rule="identity:get_application_credential", late=True, summary="Show an application credential"
)
def show_application_credential(call: Call) -> dict[str, Any]:
    permit(call, _target(call))
    found = application_credentials.find(call.service, call.params["user_id"], call.params["application_credential_id"])
    return {"application_credential": _shown(call, found.rows[0], found)}


@operations(
    "DELETE",
    _ONE,
    rule="identity:delete_application_credential",
    late=True,
    status=204,
    summary="Delete an application credential",
)
def delete_application_credential(call: Call) -> None:
    permit(call, _target(call))
    application_credentials.check_may_manage(call.service, call.context)
    application_credentials.delete(call.service, call.params["user_id"], call.params["application_credential_id"])


def _target(call: Call) -> dict[str, Any]:
    return {"user_id": call.params["user_id"]}
