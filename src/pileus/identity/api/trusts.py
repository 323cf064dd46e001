"""Trusts: /v3/OS-TRUST/trusts."""

from __future__ import annotations

from typing import Any

from pileus.identity.api import render
from pileus.identity.errors import not_found
from pileus.identity.logic import roles as role_logic
from pileus.identity.logic import trusts
from pileus.identity.store.listing import Record
from pileus.kernel import clock
from pileus.kernel.errors import Forbidden
from pileus.kernel.web import Call, Operations

from .common import BOOLEAN, ID, NULLABLE_ID, TEXT, collection, permit

operations = Operations()

_ALL = "/OS-TRUST/trusts"
_ONE = _ALL + "/{trust_id}"
_BODY = {
    "type": "object",
    "properties": {
        "trust": {
            "type": "object",
            "properties": {
                "trustor_user_id": ID,
                "trustee_user_id": ID,
                "impersonation": BOOLEAN,
                "project_id": NULLABLE_ID,
                "remaining_uses": {"type": ["integer", "null"], "maximum": 2147483647},
                "expires_at": TEXT,
                "allow_redelegation": {"type": ["boolean", "null"]},
                "redelegation_count": {"type": ["integer", "null"], "minimum": 0, "maximum": 2147483647},
                "redelegated_trust_id": NULLABLE_ID,
                "roles": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"id": {"type": "string"}, "name": {"type": "string"}},
                        "minProperties": 1,
                    },
                },
            },
            "required": ["trustor_user_id", "trustee_user_id", "impersonation"],
        }
    },
    "required": ["trust"],
}


def _brief(call: Call, row: Record) -> dict[str, Any]:
    return {
        **row.extra,
        "id": row.id,
        "trustor_user_id": row.trustor_user_id,
        "trustee_user_id": row.trustee_user_id,
        "project_id": row.project_id,
        "impersonation": row.impersonation,
        "expires_at": clock.iso_utc(row.expires_at),
        "remaining_uses": row.remaining_uses,
        "redelegation_count": row.redelegation_count,
        "redelegated_trust_id": row.redelegated_trust_id,
        "deleted_at": None,
        "links": {"self": call.link(f"{_ALL}/{row.id}")},
    }


def _shown(call: Call, row: Record) -> dict[str, Any]:
    return {
        **_brief(call, row),
        "roles": [
            {**role, "links": {"self": call.link(f"/roles/{role['id']}")}}
            for role in trusts.with_roles(call.service, row)
        ],
        "roles_links": {"next": None, "self": call.link(f"{_ALL}/{row.id}/roles"), "previous": None},
    }


@operations("GET", _ALL, rule="identity:list_trusts", late=True, summary="List trusts")
def list_trusts(call: Call) -> dict[str, Any]:
    """All are for administrators; a trustor and a trustee may ask for the own ones."""
    trustor, trustee = call.query.one("trustor_user_id"), call.query.one("trustee_user_id")
    if trustor is None and trustee is None:
        permit(call, {})
    if trustor is not None:
        permit(call, {"target.trust.trustor_user_id": trustor}, "identity:list_trusts_for_trustor")
    if trustee is not None:
        permit(call, {"target.trust.trustee_user_id": trustee}, "identity:list_trusts_for_trustee")
    rows = trusts.list_trusts(call.service, trustor, trustee)
    return collection(call, "trusts", rows, lambda row: _brief(call, row))


@operations("POST", _ALL, rule="identity:create_trust", late=True, status=201, body=_BODY, summary="Create a trust")
def create_trust(call: Call) -> dict[str, Any]:
    body = call.body["trust"]
    permit(call, {f"{prefix}trust.trustor_user_id": body["trustor_user_id"] for prefix in ("", "target.")})
    if body.get("project_id") is not None and body["project_id"] != call.context.project_id:
        raise Forbidden("A trust is made with a token for its project.")
    return {"trust": _shown(call, trusts.create(call.service, call.context, body))}


@operations("GET", _ONE, rule="identity:get_trust", late=True, summary="Show a trust")
def show_trust(call: Call) -> dict[str, Any]:
    return {"trust": _shown(call, _permitted(call))}


@operations("DELETE", _ONE, rule="identity:delete_trust", late=True, status=204, summary="Delete a trust")
def delete_trust(call: Call) -> None:
    trusts.delete(call.service, _permitted(call).id)


@operations(
    "GET", _ONE + "/roles", rule="identity:list_roles_for_trust", late=True, summary="List what a trust passes on"
)
def list_roles(call: Call) -> dict[str, Any]:
    shown = _shown(call, _permitted(call))
    return {"roles": shown["roles"], "links": shown["roles_links"]}


@operations(
    "GET",
    _ONE + "/roles/{role_id}",
    rule="identity:get_role_for_trust",
    late=True,
    summary="Show a role that a trust passes on",
)
def show_role(call: Call) -> dict[str, Any]:
    row, role_id = _permitted(call), call.params["role_id"]
    role = role_logic.find(call.service, role_id) if role_id in row.role_ids else None
    if role is None:
        raise not_found("role", role_id)
    return {"role": render.roles(call)(role)}


def _permitted(call: Call) -> Record:
    """The trust of the path, authorized; one that does not exist is 404 for everybody. Raises Forbidden, NotFound."""
    row = trusts.required(call.service, call.params["trust_id"])
    parties = ("trustor_user_id", "trustee_user_id")
    permit(call, {f"target.trust.{name}": getattr(row, name) for name in parties})
    return row
