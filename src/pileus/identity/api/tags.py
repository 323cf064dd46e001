"""Tags of projects: /v3/projects/{project_id}/tags."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from pileus.identity.errors import not_found
from pileus.identity.logic import projects
from pileus.identity.store.listing import Record
from pileus.kernel.web import Call, Operations, Reply

from .common import permitted_project

operations = Operations()

MOST_TAGS = 80
TAG = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[^,/]*$"}
TAGS = {"type": "array", "items": TAG, "maxItems": MOST_TAGS, "uniqueItems": True}
_BODY = {"type": "object", "properties": {"tags": TAGS}, "required": ["tags"], "additionalProperties": False}


@operations("GET", "/projects/{project_id}/tags", rule="identity:list_project_tags", late=True, summary="List tags")
def list_tags(call: Call) -> dict[str, Any]:
    row, tags = permitted_project(call)
    return {"tags": tags, "links": _links(call, row)}


@operations(
    "PUT",
    "/projects/{project_id}/tags",
    rule="identity:update_project_tags",
    late=True,
    body=_BODY,
    summary="Replace all tags",
)
def replace_tags(call: Call) -> dict[str, Any]:
    row, _tags = permitted_project(call)
    tags = projects.set_tags(call.service, row.id, call.body["tags"], limit=MOST_TAGS)
    return {"tags": tags, "links": _links(call, row)}


@operations(
    "DELETE",
    "/projects/{project_id}/tags",
    rule="identity:delete_project_tags",
    late=True,
    status=204,
    summary="Remove all tags",
)
def remove_tags(call: Call) -> None:
    row, _tags = permitted_project(call)
    projects.set_tags(call.service, row.id, (), limit=MOST_TAGS)


_ONE = "/projects/{project_id}/tags/{tag}"


@operations("GET", _ONE, rule="identity:get_project_tag", late=True, status=204, summary="Check a tag")
def check_tag(call: Call) -> None:
    _row, tags = permitted_project(call)
    if call.params["tag"] not in tags:
        raise not_found("project tag", call.params["tag"])


@operations("PUT", _ONE, rule="identity:create_project_tag", late=True, status=201, summary="Add a tag")
def add_tag(call: Call) -> Reply:
    row, _tags = permitted_project(call)
    name = call.params["tag"]
    projects.add_tag(call.service, row.id, name, limit=MOST_TAGS)
    return Reply(headers={"Location": call.link(f"/projects/{row.id}/tags/{quote(name, safe='')}")})


@operations("DELETE", _ONE, rule="identity:delete_project_tag", late=True, status=204, summary="Remove a tag")
def remove_tag(call: Call) -> None:
    row, _tags = permitted_project(call)
    projects.remove_tag(call.service, row.id, call.params["tag"])


def _links(call: Call, row: Record) -> dict[str, Any]:
    return {"next": None, "self": call.link(f"/projects/{row.id}/tags"), "previous": None}
