"""Groups and their members: /v3/groups."""

from __future__ import annotations

from typing import Any

from pileus.identity.api import render
from pileus.identity.errors import not_found
from pileus.identity.logic import groups, shadows, users
from pileus.identity.store.listing import Record
from pileus.kernel.web import Call, Operations

from .common import ID, SHORT_NAME, TEXT, collection, listing, own_domain, people, permit, target, with_domain, wrapped

operations = Operations()

_PROPERTIES = {"name": SHORT_NAME, "domain_id": ID, "description": TEXT}


@operations("GET", "/groups", rule="identity:list_groups", late=True, summary="List groups")
def list_groups(call: Call) -> dict[str, Any]:
    permit(call, own_domain(call, "target.group.domain_id"))
    wanted = listing(call, ("domain_id", "name"))
    if call.context.domain_id:
        wanted = wanted.with_filter("domain_id", call.context.domain_id)
    wanted = shadows.limited(call.service, wanted)
    return collection(call, "groups", groups.list_groups(call.service, wanted), render.groups(call), wanted)


@operations(
    "POST",
    "/groups",
    rule="identity:create_group",
    late=True,
    status=201,
    body=wrapped("group", _PROPERTIES, required=["name"]),
    summary="Create a group",
)
def create_group(call: Call) -> dict[str, Any]:
    body = with_domain(call, call.body["group"])
    permit(call, {"target.group.domain_id": body["domain_id"]})
    return {"group": render.groups(call)(groups.create(call.service, body))}


@operations("GET", "/groups/{group_id}", rule="identity:get_group", late=True, summary="Show a group")
def show_group(call: Call) -> dict[str, Any]:
    row = shadows.fresh_group(call.service, _permitted(call))
    if row is None:
        raise not_found("group", call.params["group_id"])
    return {"group": render.groups(call)(row)}


@operations(
    "PATCH",
    "/groups/{group_id}",
    rule="identity:update_group",
    late=True,
    body=wrapped("group", _PROPERTIES, least=1),
    summary="Update a group",
)
def update_group(call: Call) -> dict[str, Any]:
    row = _permitted(call)
    return {"group": render.groups(call)(groups.update(call.service, row.id, call.body["group"]))}


@operations(
    "DELETE", "/groups/{group_id}", rule="identity:delete_group", late=True, status=204, summary="Delete a group"
)
def delete_group(call: Call) -> None:
    groups.delete(call.service, _permitted(call).id)


@operations(
    "GET",
    "/groups/{group_id}/users",
    rule="identity:list_users_in_group",
    late=True,
    summary="List the members of a group",
)
def list_members(call: Call) -> dict[str, Any]:
    row = _permitted(call)
    shadows.refresh_members(call.service, row)
    wanted = people(call)
    rows = groups.list_members(call.service, row.id, wanted)
    return collection(call, "users", rows, render.users(call), wanted)


_MEMBER = "/groups/{group_id}/users/{user_id}"


@operations("PUT", _MEMBER, rule="identity:add_user_to_group", late=True, status=204, summary="Add a member")
def add_member(call: Call) -> None:
    group, user = _permitted_pair(call)
    groups.add_member(call.service, group.id, user.id)


@operations("GET", _MEMBER, rule="identity:check_user_in_group", late=True, status=204, summary="Check a member")
def check_member(call: Call) -> None:
    group, user = _permitted_pair(call)
    shadows.refresh_groups(call.service, user)
    if not groups.is_member(call.service, group.id, user.id):
        raise not_found("user in group", f"{user.id} in {group.id}")


@operations("DELETE", _MEMBER, rule="identity:remove_user_from_group", late=True, status=204, summary="Remove a member")
def remove_member(call: Call) -> None:
    group, user = _permitted_pair(call)
    groups.remove_member(call.service, group.id, user.id)


def _permitted(call: Call) -> Record:
    """The group of the path, authorized. Raises Forbidden, NotFound."""
    row = groups.find(call.service, call.params["group_id"])
    permit(call, target(group=row))
    if row is None:
        raise not_found("group", call.params["group_id"])
    return row


def _permitted_pair(call: Call) -> tuple[Record, Record]:
    group = groups.find(call.service, call.params["group_id"])
    user = users.find(call.service, call.params["user_id"])
    permit(call, target(group=group, user=user))
    if group is None:
        raise not_found("group", call.params["group_id"])
    if user is None:
        raise not_found("user", call.params["user_id"])
    return group, user
