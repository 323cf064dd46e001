"""Tags of resources: /v2.0/{networks,subnets,ports,routers,floatingips,security-groups}/{id}/tags (the extension standard-attr-tag)."""

from __future__ import annotations

from typing import Any

from pileus.kernel.web import Call, Operations
from pileus.network import errors
from pileus.network.api import collection as c
from pileus.network.logic import tags as logic
from pileus.network.store.kinds import TAGGED, Kind

operations = Operations()

_LONGEST = 255
_MOST = 50


def _aim(call: Call, kind: Kind, action: str) -> dict[str, Any]:
    """The tagged resource, once it is sure that the caller may do this to its tags."""
    body = c.find(call, kind, call.params["id"])
    more = c.network_facts(call, body["network_id"]) if kind.name in {"subnet", "port"} else None
    c.authorize(call, f"{action}_{kind.plural}_tags", c.target_of(kind, body, more))
    return body


def _checked(tag: Any) -> str:
    if not isinstance(tag, str) or not tag or len(tag) > _LONGEST:
        raise errors.HTTPBadRequest(f"Invalid input for tags. Reason: '{tag}' is not a text of 1 to {_LONGEST} characters.")
    if "," in tag or "/" in tag:
        raise errors.HTTPBadRequest(f"Invalid input for tags. Reason: '{tag}' must not contain a comma or a slash.")
    return tag


def _body(call: Call) -> list[str]:
    if not isinstance(call.body, dict) or set(call.body) != {"tags"} or not isinstance(call.body["tags"], list):
        raise errors.HTTPBadRequest("Invalid tags body: a list named tags is wanted, and nothing else.")
    if len(call.body["tags"]) > _MOST:
        raise errors.HTTPBadRequest(f"Invalid input for tags. Reason: more than {_MOST} tags.")
    found = [_checked(tag) for tag in call.body["tags"]]
    if len(set(found)) != len(found):
        raise errors.HTTPBadRequest(f"Invalid input for tags. Reason: Duplicate items in the list: {sorted(found)}.")
    return found


def _declare(place: str, kind: Kind) -> None:
    """The seven operations for one kind of resource."""
    path, plural = f"/{place}/{{id}}/tags", kind.plural

    @operations("GET", path, rule=f"get_{plural}_tags", late=True, summary=f"List the tags of a {kind.name}")
    def list_tags(call: Call) -> dict[str, Any]:
        return {"tags": _aim(call, kind, "get")["tags"]}

    @operations("PUT", path, rule=f"update_{plural}_tags", late=True, summary=f"Replace the tags of a {kind.name}")
    def replace_tags(call: Call) -> dict[str, Any]:
        _aim(call, kind, "update")
        return {"tags": logic.replace(call.service, kind, call.params["id"], _body(call))}

    @operations("POST", path, rule=f"create_{plural}_tags", late=True, status=200, summary=f"Add tags to a {kind.name}")
    def add_tags(call: Call) -> dict[str, Any]:
        _aim(call, kind, "create")
        return {"tags": logic.add(call.service, kind, call.params["id"], _body(call))}

    @operations("DELETE", path, rule=f"delete_{plural}_tags", late=True, status=204, summary=f"Remove all tags of a {kind.name}")
    def remove_tags(call: Call) -> None:
        _aim(call, kind, "delete")
        logic.replace(call.service, kind, call.params["id"], [])

    @operations("GET", path + "/{tag}", rule=f"get_{plural}_tags", late=True, status=204, summary=f"Whether a {kind.name} has a tag")
    def check_tag(call: Call) -> None:
        if call.params["tag"] not in _aim(call, kind, "get")["tags"]:
            raise errors.TagNotFound(call.params["tag"])

    @operations("PUT", path + "/{tag}", rule=f"update_{plural}_tags", late=True, status=201, summary=f"Add a tag to a {kind.name}")
    def add_tag(call: Call) -> None:
        _aim(call, kind, "update")
        logic.add(call.service, kind, call.params["id"], [_checked(call.params["tag"])])

    @operations("DELETE", path + "/{tag}", rule=f"delete_{plural}_tags", late=True, status=204, summary=f"Remove a tag of a {kind.name}")
    def remove_tag(call: Call) -> None:
        _aim(call, kind, "delete")
        logic.remove(call.service, kind, call.params["id"], call.params["tag"])


for _place, _kind in TAGGED.items():
    _declare(_place, _kind)
