"""Resource classes: the kinds of things that can be had."""

from __future__ import annotations

import re
from typing import Any

from pileus.kernel.web import Call, Operations, Reply
from pileus.placement.api.common import CUSTOM_NAME, fresh, prefix
from pileus.placement.errors import BadRequest, Refused
from pileus.placement.logic import names

operations = Operations()

_CUSTOM = re.compile(str(CUSTOM_NAME["pattern"])[:-1] + r"\Z")
_BODY = {"type": "object", "properties": {"name": CUSTOM_NAME}, "required": ["name"], "additionalProperties": False}


def _view(call: Call, name: str) -> dict[str, Any]:
    return {"name": name, "links": [{"rel": "self", "href": f"{prefix(call)}/resource_classes/{name}"}]}


def _location(call: Call, name: str) -> dict[str, str]:
    return {"Location": call.link(f"/resource_classes/{name}")}


@operations("GET", "/resource_classes", rule="placement:resource_classes:list", versions="1.2-")
def list_resource_classes(call: Call) -> Reply:
    """List the resource classes there are."""
    found = names.list_resource_classes(call.service)
    body = {"resource_classes": [_view(call, name) for name, _ in found]}
    return fresh(call, body, [changed for _, changed in found])


@operations(
    "POST", "/resource_classes", rule="placement:resource_classes:create", status=201, versions="1.2-", body=_BODY
)
def create_resource_class(call: Call) -> Reply:
    """Create a custom resource class."""
    name = call.body["name"]
    if not names.put_resource_class(call.service, name):
        raise Refused(f"Conflicting resource class already exists: {name}")
    return Reply(headers=_location(call, name))


@operations("GET", "/resource_classes/{name}", rule="placement:resource_classes:show", versions="1.2-")
def show_resource_class(call: Call) -> Reply:
    """Show a resource class."""
    name, changed = names.get_resource_class(call.service, call.params["name"])
    return fresh(call, _view(call, name), [changed])


@operations("PUT", "/resource_classes/{name}", rule="placement:resource_classes:update", versions="1.2-1.6", body=_BODY)
def rename_resource_class(call: Call) -> dict[str, Any]:
    """Rename a custom resource class."""
    names.rename_resource_class(call.service, call.params["name"], call.body["name"])
    return _view(call, call.body["name"])


@operations("PUT", "/resource_classes/{name}", rule="placement:resource_classes:update", status=201, versions="1.7-")
def put_resource_class(call: Call) -> Reply:
    """Make sure that a custom resource class exists."""
    name = call.params["name"]
    if not _CUSTOM.match(name) or len(name) > 255:
        raise BadRequest(
            "JSON does not validate: a custom resource class begins with CUSTOM_, has the characters A-Z, 0-9 and _ "
            f"and at most 255 of them ('{name[:300]}' does not match '{CUSTOM_NAME['pattern']}')"
        )
    made = names.put_resource_class(call.service, name)
    return Reply(status=201 if made else 204, headers=_location(call, name))


@operations("DELETE", "/resource_classes/{name}", rule="placement:resource_classes:delete", status=204, versions="1.2-")
def delete_resource_class(call: Call) -> None:
    """Delete a custom resource class that no inventory has."""
    names.delete_resource_class(call.service, call.params["name"])
