"""Users: /v3/users."""

from __future__ import annotations

from typing import Any

from pileus.identity.api import render
from pileus.identity.errors import not_found
from pileus.identity.logic import federated_identities, shadows, users
from pileus.identity.logic import projects as project_logic
from pileus.identity.logic.common import matching
from pileus.identity.store.listing import Record
from pileus.kernel.web import Call, Operations

from .common import (
    BOOLEAN,
    ID,
    ID_OF_FEDERATION,
    NAME,
    NULLABLE_ID,
    TEXT,
    collection,
    listing,
    own_domain,
    people,
    permit,
    target,
    with_domain,
    wrapped,
)
from .failures import slowed

operations = Operations()

_RULES = {
    "type": ["array", "null"],
    "items": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 16, "uniqueItems": True},
    "maxItems": 64,
    "uniqueItems": True,
}
_OPTIONS = {
    "type": "object",
    "properties": {
        name: {"type": ["boolean", "null"]}
        for name in (
            "ignore_change_password_upon_first_use",
            "ignore_password_expiry",
            "ignore_lockout_failure_attempts",
            "ignore_user_inactivity",
            "lock_password",
            "multi_factor_auth_enabled",
        )
    }
    | {"multi_factor_auth_rules": _RULES},
    "additionalProperties": False,
}
_IDENTITY = {
    "type": "object",
    "properties": {"protocol_id": ID_OF_FEDERATION, "unique_id": {"type": "string", "minLength": 1, "maxLength": 255}},
    "required": ["protocol_id", "unique_id"],
    "additionalProperties": False,
}
_FEDERATED = {
    "type": "array",
    "maxItems": 100,
    "items": {
        "type": "object",
        "properties": {
            "idp_id": ID_OF_FEDERATION,
            "protocols": {"type": "array", "items": _IDENTITY, "minItems": 1, "maxItems": 100},
        },
        "required": ["idp_id", "protocols"],
        "additionalProperties": False,
    },
}
_IDENTITY_FILTERS = {"idp_id": "identity_provider_id", "protocol_id": "protocol_id", "unique_id": "unique_id"}
_PROPERTIES = {
    "name": NAME,
    "domain_id": ID,
    "enabled": BOOLEAN,
    "default_project_id": NULLABLE_ID,
    "description": TEXT,
    "email": TEXT,
    "password": TEXT,
    "options": _OPTIONS,
    "federated": _FEDERATED,
}
_PASSWORD = {
    "type": "object",
    "properties": {
        "user": {
            "type": "object",
            "properties": {"original_password": {"type": "string"}, "password": {"type": "string", "minLength": 1}},
            "required": ["original_password", "password"],
        }
    },
    "required": ["user"],
}


@operations("GET", "/users", rule="identity:list_users", late=True, summary="List users")
def list_users(call: Call) -> dict[str, Any]:
    permit(call, own_domain(call, "target.domain_id"))
    wanted = people(call)
    if call.context.domain_id:
        wanted = wanted.with_filter("domain_id", call.context.domain_id)
    wanted = shadows.limited(call.service, wanted)
    identity = {column: told for name, column in _IDENTITY_FILTERS.items() if (told := call.query.one(name)) is not None}
    return collection(call, "users", users.list_users(call.service, wanted, identity), render.users(call), wanted)


def _is_administrator(call: Call) -> bool:
    """Whether the caller may give users identities of any identity provider."""
    return call.allows("admin_required", {})


def _shown(call: Call, row: Record) -> dict[str, Any]:
    return {"user": {**render.users(call)(row), **federated_identities.of_user(call.service, row.id)}}


@operations(
    "POST",
    "/users",
    rule="identity:create_user",
    late=True,
    status=201,
    body=wrapped("user", _PROPERTIES, required=["name"]),
    summary="Create a user",
)
def create_user(call: Call) -> dict[str, Any]:
    body = with_domain(call, call.body["user"])
    permit(call, {"target.user.domain_id": body["domain_id"]})
    return _shown(call, users.create(call.service, body, any_provider=_is_administrator(call)))


@operations("GET", "/users/{user_id}", rule="identity:get_user", late=True, summary="Show a user")
def show_user(call: Call) -> dict[str, Any]:
    row = users.find(call.service, call.params["user_id"])
    permit(call, target(user=row))
    row = shadows.fresh_user(call.service, row) if row is not None else None
    if row is None:
        raise not_found("user", call.params["user_id"])
    return _shown(call, row)


@operations(
    "PATCH",
    "/users/{user_id}",
    rule="identity:update_user",
    late=True,
    body=wrapped("user", _PROPERTIES, least=1),
    summary="Update a user",
)
def update_user(call: Call) -> dict[str, Any]:
    permit(call, target(user=users.find(call.service, call.params["user_id"])))
    changed = users.update(
        call.service, call.params["user_id"], call.body["user"], any_provider=_is_administrator(call)
    )
    return _shown(call, changed)


@operations("DELETE", "/users/{user_id}", rule="identity:delete_user", late=True, status=204, summary="Delete a user")
def delete_user(call: Call) -> None:
    permit(call, target(user=users.find(call.service, call.params["user_id"])))
    users.delete(call.service, call.params["user_id"])


@operations(
    "POST",
    "/users/{user_id}/password",
    public="the old password proves who asks, also when it has expired",
    status=204,
    body=_PASSWORD,
    summary="Change one's own password",
)
def change_password(call: Call) -> None:
    given = call.body["user"]
    user_id = call.params["user_id"]
    with slowed(call, [user_id]):
        users.change_password(call.service, user_id, given["original_password"], given["password"])


@operations(
    "GET",
    "/users/{user_id}/groups",
    rule="identity:list_groups_for_user",
    late=True,
    summary="List the groups of a user",
)
def list_user_groups(call: Call) -> dict[str, Any]:
    row = users.find(call.service, call.params["user_id"])
    permit(call, target(user=row))
    if row is None:
        raise not_found("user", call.params["user_id"])
    shadows.refresh_groups(call.service, row)
    wanted = listing(call, ("name",))
    if call.context.domain_id:
        wanted = wanted.with_filter("domain_id", call.context.domain_id)
    rows = users.groups_of(call.service, row.id, wanted)
    return collection(call, "groups", rows, render.groups(call), wanted)


@operations(
    "GET",
    "/users/{user_id}/projects",
    rule="identity:list_user_projects",
    late=True,
    summary="List the projects of a user",
)
def list_user_projects(call: Call) -> dict[str, Any]:
    row = users.find(call.service, call.params["user_id"])
    permit(call, target(user=row))
    if row is None:
        raise not_found("user", call.params["user_id"])
    found = project_logic.of_user(call.service, row.id)
    shown = matching(found.rows, listing(call, ("name", "domain_id", "enabled")))
    return collection(call, "projects", shown, render.projects(call, found.tags))
