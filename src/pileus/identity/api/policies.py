"""Policy blobs: /v3/policies. Identity keeps and gives back what others put there; it reads nothing out of them."""

from __future__ import annotations

from typing import Any

from pileus.identity.logic import policies
from pileus.identity.store.listing import Record
from pileus.kernel.web import Call, Operations

from .common import collection, listing, wrapped

operations = Operations()

_PROPERTIES = {
    "blob": {"type": ["string", "object"]},
    "type": {"type": "string", "minLength": 1, "maxLength": 255},
}


def shown(call: Call, row: Record) -> dict[str, Any]:
    return {
        **row.extra,
        "id": row.id,
        "type": row.type,
        "blob": row.blob,
        "links": {"self": call.link(f"/policies/{row.id}")},
    }


@operations("GET", "/policies", rule="identity:list_policies", summary="List policy blobs")
def list_policies(call: Call) -> dict[str, Any]:
    wanted = listing(call, ("type",))
    return collection(
        call, "policies", policies.list_policies(call.service, wanted), lambda row: shown(call, row), wanted
    )


@operations(
    "POST",
    "/policies",
    rule="identity:create_policy",
    status=201,
    body=wrapped("policy", _PROPERTIES, required=["blob", "type"]),
    summary="Store a policy blob",
)
def create_policy(call: Call) -> dict[str, Any]:
    return {"policy": shown(call, policies.create(call.service, call.body["policy"]))}


@operations("GET", "/policies/{policy_id}", rule="identity:get_policy", summary="Show a policy blob")
def show_policy(call: Call) -> dict[str, Any]:
    return {"policy": shown(call, policies.find(call.service, call.params["policy_id"]))}


@operations(
    "PATCH",
    "/policies/{policy_id}",
    rule="identity:update_policy",
    body=wrapped("policy", _PROPERTIES, least=1),
    summary="Update a policy blob",
)
def update_policy(call: Call) -> dict[str, Any]:
    return {"policy": shown(call, policies.update(call.service, call.params["policy_id"], call.body["policy"]))}


@operations(
    "DELETE", "/policies/{policy_id}", rule="identity:delete_policy", status=204, summary="Delete a policy blob"
)
def delete_policy(call: Call) -> None:
    policies.delete(call.service, call.params["policy_id"])
