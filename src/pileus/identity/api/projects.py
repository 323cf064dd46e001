"""Projects: /v3/projects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pileus.identity.api import render
from pileus.identity.errors import invalid
from pileus.identity.logic import projects
from pileus.identity.logic.projects import TagFilter
from pileus.identity.store.listing import Record
from pileus.kernel.web import Call, Operations

from .common import (
    BOOLEAN,
    IMMUTABLE_OPTIONS,
    NULLABLE_ID,
    SHORT_NAME,
    TEXT,
    collection,
    flag,
    listing,
    own_domain,
    permit,
    permitted_project,
    with_domain,
    wrapped,
)
from .tags import TAGS

operations = Operations()

_PROPERTIES = {
    "name": SHORT_NAME,
    "domain_id": NULLABLE_ID,
    "parent_id": NULLABLE_ID,
    "description": TEXT,
    "enabled": BOOLEAN,
    "is_domain": BOOLEAN,
    "tags": TAGS,
    "options": IMMUTABLE_OPTIONS,
}


@operations("GET", "/projects", rule="identity:list_projects", late=True, summary="List projects")
def list_projects(call: Call) -> dict[str, Any]:
    permit(call, own_domain(call, "target.domain_id"))
    wanted = listing(call, ("domain_id", "enabled", "name", "parent_id"))
    wanted = wanted.with_filter("is_domain", flag(call.query.one("is_domain")))
    if call.context.domain_id:
        wanted = wanted.with_filter("domain_id", call.context.domain_id)
    tags = TagFilter(*(_names(call, key) for key in ("tags", "tags-any", "not-tags", "not-tags-any")))
    found = projects.list_projects(call.service, wanted, tags)
    return collection(call, "projects", found.rows, render.projects(call, found.tags), wanted)


def _names(call: Call, key: str) -> tuple[str, ...]:
    return tuple(name for name in (call.query.one(key) or "").split(",") if name)


@operations(
    "POST",
    "/projects",
    rule="identity:create_project",
    late=True,
    status=201,
    body=wrapped("project", _PROPERTIES, required=["name"]),
    summary="Create a project",
)
def create_project(call: Call) -> dict[str, Any]:
    body = dict(call.body["project"])
    if not body.get("is_domain"):
        if body.get("domain_id") is None and body.get("parent_id") is not None:
            parent, _tags = projects.find(call.service, body["parent_id"])
            body["domain_id"] = (parent.domain_id or parent.id) if parent is not None else None
        body = with_domain(call, body)
    permit(call, {"target.project.domain_id": body["domain_id"]} if body.get("domain_id") else {})
    row = projects.create(call.service, body)
    return {"project": render.projects(call, {row.id: sorted(set(body.get("tags", ())))})(row)}


@operations("GET", "/projects/{project_id}", rule="identity:get_project", late=True, summary="Show a project")
def show_project(call: Call) -> dict[str, Any]:
    row, tags = permitted_project(call)
    shown = render.projects(call, {row.id: tags})(row)
    shown.update(_family(call, row))
    return {"project": shown}


def _family(call: Call, row: Record) -> dict[str, Any]:
    """`parents` and `subtree`, as lists of the caller's own projects or as nested ids of all."""
    parents = [name for name in ("parents_as_list", "parents_as_ids") if name in call.query]
    subtree = [name for name in ("subtree_as_list", "subtree_as_ids") if name in call.query]
    if len(parents) > 1 or len(subtree) > 1:
        raise invalid("Cannot use the as_list and the as_ids query parameter at the same time.")
    if not parents and not subtree:
        return {}
    above, below = projects.hierarchy(call.service, row.id)
    found: dict[str, Any] = {}
    if parents:
        as_ids = parents[0] == "parents_as_ids"
        found["parents"] = _nested_parents(above) if as_ids else _own(call, above)
    if subtree:
        as_ids = subtree[0] == "subtree_as_ids"
        found["subtree"] = _nested_children(row.id, below) if as_ids else _own(call, below)
    return found


def _own(call: Call, rows: Sequence[Record]) -> list[dict[str, Any]]:
    """Those on which the caller has a role."""
    own = projects.of_user(call.service, call.context.user_id or "")
    mine = {row.id for row in own.rows}
    shown = render.projects(call, own.tags)
    return [{"project": shown(row)} for row in rows if row.id in mine]


def _nested_parents(above: Sequence[Record]) -> dict[str, Any] | None:
    nested: dict[str, Any] | None = None
    for row in reversed(above):
        nested = {row.id: nested}
    return nested


def _nested_children(project_id: str, below: Sequence[Record]) -> dict[str, Any] | None:
    children: dict[str, list[str]] = {}
    for row in below:
        children.setdefault(row.parent_id, []).append(row.id)

    def nested(one: str) -> dict[str, Any] | None:
        return {child: nested(child) for child in children[one]} if one in children else None

    return nested(project_id)


@operations(
    "PATCH",
    "/projects/{project_id}",
    rule="identity:update_project",
    late=True,
    body=wrapped("project", _PROPERTIES, least=1),
    summary="Update a project",
)
def update_project(call: Call) -> dict[str, Any]:
    row, _tags = permitted_project(call)
    changed = projects.update(call.service, row.id, call.body["project"])
    _row, tags = projects.find(call.service, row.id)
    return {"project": render.projects(call, {row.id: tags})(changed)}


@operations(
    "DELETE",
    "/projects/{project_id}",
    rule="identity:delete_project",
    late=True,
    status=204,
    summary="Delete a project",
)
def delete_project(call: Call) -> None:
    row, _tags = permitted_project(call)
    projects.delete(call.service, row.id)
