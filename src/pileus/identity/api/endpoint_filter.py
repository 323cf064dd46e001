"""Endpoint groups and the endpoints that projects are given: /v3/OS-EP-FILTER."""

from __future__ import annotations

from typing import Any

from pileus.identity.api import render
from pileus.identity.logic import endpoint_filter
from pileus.identity.logic.endpoint_filter import ENDPOINT, GROUP
from pileus.identity.store.listing import Record
from pileus.kernel.web import Call, Operations

from .common import ID, NAME, TEXT, collection, listing

operations = Operations()

_GROUPS = "/OS-EP-FILTER/endpoint_groups"
_GROUP = _GROUPS + "/{endpoint_group_id}"
_GROUP_PROJECT = _GROUP + "/projects/{project_id}"
_PROJECT = "/OS-EP-FILTER/projects/{project_id}"
_PROJECT_ENDPOINT = _PROJECT + "/endpoints/{endpoint_id}"


def _body(required: list[str], least_filters: int) -> dict[str, Any]:
    """A group is made with a filter; when it is changed it may lose them all, and then fits every endpoint."""
    properties = {
        "id": ID,
        "name": NAME,
        "description": TEXT,
        "filters": {
            "type": "object",
            "properties": {
                "service_id": ID,
                "region_id": {"type": ["string", "null"], "maxLength": 255},
                "interface": {"type": "string", "enum": ["public", "internal", "admin"]},
            },
            "minProperties": least_filters,
            "additionalProperties": False,
        },
    }
    group = {
        "type": "object",
        "properties": properties,
        "required": required,
        "minProperties": 1,
        "additionalProperties": False,
    }
    return {"type": "object", "properties": {"endpoint_group": group}, "required": ["endpoint_group"]}


def _shown(call: Call, row: Record) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "filters": row.filters,
        "links": {"self": call.link(f"{_GROUPS}/{row.id}")},
    }


@operations("GET", _GROUPS, rule="identity:list_endpoint_groups", summary="List endpoint groups")
def list_groups(call: Call) -> dict[str, Any]:
    wanted = listing(call, ("name",))
    rows = endpoint_filter.list_groups(call.service, wanted)
    return collection(call, "endpoint_groups", rows, lambda row: _shown(call, row), wanted)


@operations(
    "POST",
    _GROUPS,
    rule="identity:create_endpoint_group",
    status=201,
    body=_body(["name", "filters"], 1),
    summary="Create an endpoint group",
)
def create_group(call: Call) -> dict[str, Any]:
    return {"endpoint_group": _shown(call, endpoint_filter.create_group(call.service, call.body["endpoint_group"]))}


@operations("GET", _GROUP, rule="identity:get_endpoint_group", summary="Show an endpoint group")
def show_group(call: Call) -> dict[str, Any]:
    return {"endpoint_group": _shown(call, endpoint_filter.group(call.service, call.params["endpoint_group_id"]))}


@operations("PATCH", _GROUP, rule="identity:update_endpoint_group", body=_body([], 0), summary="Update an endpoint group")
def update_group(call: Call) -> dict[str, Any]:
    group_id, body = call.params["endpoint_group_id"], call.body["endpoint_group"]
    return {"endpoint_group": _shown(call, endpoint_filter.update_group(call.service, group_id, body))}


@operations("DELETE", _GROUP, rule="identity:delete_endpoint_group", status=204, summary="Delete an endpoint group")
def delete_group(call: Call) -> None:
    endpoint_filter.delete_group(call.service, call.params["endpoint_group_id"])


@operations(
    "GET",
    _GROUP + "/endpoints",
    rule="identity:list_endpoints_associated_with_endpoint_group",
    summary="List the endpoints that fit an endpoint group",
)
def list_endpoints_of_group(call: Call) -> dict[str, Any]:
    rows = endpoint_filter.endpoints_of_group(call.service, call.params["endpoint_group_id"])
    return collection(call, "endpoints", rows, render.endpoints(call))


@operations(
    "GET",
    _GROUP + "/projects",
    rule="identity:list_projects_associated_with_endpoint_group",
    summary="List the projects that are given an endpoint group",
)
def list_projects_of_group(call: Call) -> dict[str, Any]:
    found = endpoint_filter.projects_with(call.service, GROUP, call.params["endpoint_group_id"])
    return collection(call, "projects", found.rows, render.projects(call, found.tags))


@operations(
    "GET",
    _GROUP_PROJECT,
    rule="identity:get_endpoint_group_in_project",
    summary="Check that a project is given an endpoint group",
)
def check_group(call: Call) -> dict[str, Any]:
    group_id, project_id = call.params["endpoint_group_id"], call.params["project_id"]
    endpoint_filter.check(call.service, GROUP, group_id, project_id)
    here = call.link(f"{_GROUPS}/{group_id}/projects/{project_id}")
    link = {"endpoint_group_id": group_id, "project_id": project_id, "links": {"self": here}}
    return {"project_endpoint_group": link}


@operations(
    "PUT",
    _GROUP_PROJECT,
    rule="identity:add_endpoint_group_to_project",
    status=204,
    summary="Give a project an endpoint group",
)
def add_group(call: Call) -> None:
    endpoint_filter.add(call.service, GROUP, call.params["endpoint_group_id"], call.params["project_id"])


@operations(
    "DELETE",
    _GROUP_PROJECT,
    rule="identity:remove_endpoint_group_from_project",
    status=204,
    summary="Take an endpoint group from a project",
)
def remove_group(call: Call) -> None:
    endpoint_filter.remove(call.service, GROUP, call.params["endpoint_group_id"], call.params["project_id"])


@operations(
    "GET",
    "/OS-EP-FILTER/endpoints/{endpoint_id}/projects",
    rule="identity:list_projects_for_endpoint",
    summary="List the projects that are given an endpoint",
)
def list_projects_of_endpoint(call: Call) -> dict[str, Any]:
    found = endpoint_filter.projects_with(call.service, ENDPOINT, call.params["endpoint_id"])
    return collection(call, "projects", found.rows, render.projects(call, found.tags))


@operations(
    "GET",
    _PROJECT + "/endpoint_groups",
    rule="identity:list_endpoint_groups_for_project",
    summary="List the endpoint groups that a project is given",
)
def list_groups_of_project(call: Call) -> dict[str, Any]:
    rows = endpoint_filter.groups_of_project(call.service, call.params["project_id"])
    return collection(call, "endpoint_groups", rows, lambda row: _shown(call, row))


@operations(
    "GET",
    _PROJECT + "/endpoints",
    rule="identity:list_endpoints_for_project",
    summary="List the endpoints that a project is given",
)
def list_endpoints_of_project(call: Call) -> dict[str, Any]:
    rows = endpoint_filter.endpoints_of_project(call.service, call.params["project_id"])
    return collection(call, "endpoints", rows, render.endpoints(call))


@operations(
    "GET",
    _PROJECT_ENDPOINT,
    rule="identity:check_endpoint_in_project",
    status=204,
    summary="Check that a project is given an endpoint",
)
def check_endpoint(call: Call) -> None:
    endpoint_filter.check(call.service, ENDPOINT, call.params["endpoint_id"], call.params["project_id"])


@operations(
    "PUT",
    _PROJECT_ENDPOINT,
    rule="identity:add_endpoint_to_project",
    status=204,
    summary="Give a project an endpoint",
)
def add_endpoint(call: Call) -> None:
    endpoint_filter.add(call.service, ENDPOINT, call.params["endpoint_id"], call.params["project_id"])


@operations(
    "DELETE",
    _PROJECT_ENDPOINT,
    rule="identity:remove_endpoint_from_project",
    status=204,
    summary="Take an endpoint from a project",
)
def remove_endpoint(call: Call) -> None:
    endpoint_filter.remove(call.service, ENDPOINT, call.params["endpoint_id"], call.params["project_id"])
