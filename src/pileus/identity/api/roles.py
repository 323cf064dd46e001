"""Roles and what they imply: /v3/roles, /v3/role_inferences."""

from __future__ import annotations

from typing import Any

from pileus.identity.api import render
from pileus.identity.errors import not_found
from pileus.identity.logic import roles
from pileus.identity.store.listing import Record
from pileus.identity.store.tables import NO_DOMAIN
from pileus.kernel.web import Call, Operations, Reply

from .common import IMMUTABLE_OPTIONS, NAME, NULLABLE_ID, TEXT, collection, listing, permit, target, wrapped

operations = Operations()

_PROPERTIES = {"name": NAME, "description": TEXT, "domain_id": NULLABLE_ID, "options": IMMUTABLE_OPTIONS}


def _rule(verb: str, *, domain: bool) -> str:
    return f"identity:{verb}_domain_role" if domain else f"identity:{verb}_role"


@operations("GET", "/roles", rule="identity:list_roles", late=True, summary="List global roles, or those of a domain")
def list_roles(call: Call) -> dict[str, Any]:
    domain_id = call.query.one("domain_id")
    permit(call, {}, "identity:list_domain_roles" if domain_id else "identity:list_roles")
    wanted = listing(call, ("name",)).with_filter("domain_id", domain_id or NO_DOMAIN)
    return collection(call, "roles", roles.list_roles(call.service, wanted), render.roles(call), wanted)


@operations(
    "POST",
    "/roles",
    rule="identity:create_role",
    late=True,
    status=201,
    body=wrapped("role", _PROPERTIES, required=["name"]),
    summary="Create a role",
)
def create_role(call: Call) -> dict[str, Any]:
    body = call.body["role"]
    permit(call, {}, _rule("create", domain=bool(body.get("domain_id"))))
    return {"role": render.roles(call)(roles.create(call.service, body))}


@operations("GET", "/roles/{role_id}", rule="identity:get_role", late=True, summary="Show a role")
def show_role(call: Call) -> dict[str, Any]:
    return {"role": render.roles(call)(_permitted(call, "get"))}


@operations(
    "PATCH",
    "/roles/{role_id}",
    rule="identity:update_role",
    late=True,
    body=wrapped("role", _PROPERTIES, least=1),
    summary="Update a role",
)
def update_role(call: Call) -> dict[str, Any]:
    row = _permitted(call, "update")
    return {"role": render.roles(call)(roles.update(call.service, row.id, call.body["role"]))}


@operations("DELETE", "/roles/{role_id}", rule="identity:delete_role", late=True, status=204, summary="Delete a role")
def delete_role(call: Call) -> None:
    roles.delete(call.service, _permitted(call, "delete").id)


def _permitted(call: Call, verb: str) -> Record:
    """The role of the path, authorized by the rule for its kind. Raises Forbidden, NotFound."""
    row = roles.find(call.service, call.params["role_id"])
    permit(call, target(role=row), _rule(verb, domain=row is not None and bool(row.domain_id)))
    if row is None:
        raise not_found("role", call.params["role_id"])
    return row


# Implications ---------------------------------------------------------------------------------------------------------

_IMPLIES = "/roles/{prior_role_id}/implies"
_ONE = _IMPLIES + "/{implied_role_id}"


def _brief(call: Call, row: Record) -> dict[str, Any]:
    shown = {
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "links": {"self": call.link(f"/roles/{row.id}")},
    }
    if row.domain_id:
        shown["domain_id"] = row.domain_id
    return shown


def _pair(call: Call) -> tuple[Record, Record]:
    """Prior and implied role of the path. Raises NotFound."""
    found = []
    for name in ("prior_role_id", "implied_role_id"):
        row = roles.find(call.service, call.params[name])
        if row is None:
            raise not_found("role", call.params[name])
        found.append(row)
    return found[0], found[1]


def _inference(call: Call, prior: Record, implied: Record) -> dict[str, Any]:
    return {
        "role_inference": {"prior_role": _brief(call, prior), "implies": _brief(call, implied)},
        "links": {"self": call.link(f"/roles/{prior.id}/implies/{implied.id}")},
    }


@operations("GET", _IMPLIES, rule="identity:list_implied_roles", summary="List what a role implies")
def list_implied(call: Call) -> dict[str, Any]:
    prior = roles.find(call.service, call.params["prior_role_id"])
    if prior is None:
        raise not_found("role", call.params["prior_role_id"])
    implied = [_brief(call, row) for row in roles.implied_by(call.service, prior.id)]
    return {
        "role_inference": {"prior_role": _brief(call, prior), "implies": implied},
        "links": {"self": call.link(f"/roles/{prior.id}/implies")},
    }


@operations("PUT", _ONE, rule="identity:create_implied_role", status=201, summary="Make a role imply another")
def create_implied(call: Call) -> dict[str, Any]:
    prior, implied = _pair(call)
    roles.imply(call.service, prior.id, implied.id)
    return _inference(call, prior, implied)


@operations("GET", _ONE, rule="identity:get_implied_role", summary="Show an implication")
def show_implied(call: Call) -> dict[str, Any]:
    prior, implied = _checked_pair(call)
    return _inference(call, prior, implied)


@operations("HEAD", _ONE, rule="identity:check_implied_role", status=204, summary="Check an implication")
def check_implied(call: Call) -> Reply:
    _checked_pair(call)
    return Reply(status=204)


@operations("DELETE", _ONE, rule="identity:delete_implied_role", status=204, summary="Stop a role implying another")
def delete_implied(call: Call) -> None:
    roles.stop_implying(call.service, call.params["prior_role_id"], call.params["implied_role_id"])


def _checked_pair(call: Call) -> tuple[Record, Record]:
    prior, implied = _pair(call)
    if implied.id not in {row.id for row in roles.implied_by(call.service, prior.id)}:
        raise not_found("implied role", f"{prior.id} implies {implied.id}")
    return prior, implied


@operations("GET", "/role_inferences", rule="identity:list_role_inference_rules", summary="List all implications")
def list_inferences(call: Call) -> dict[str, Any]:
    found = [
        {"prior_role": _brief(call, prior), "implies": [_brief(call, one) for one in implied]}
        for prior, implied in roles.inferences(call.service)
    ]
    return {"role_inferences": found, "links": {"self": call.link("/role_inferences")}}
