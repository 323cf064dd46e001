"""Resource providers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pileus.kernel.web import Call, Operations, Reply
from pileus.placement.api import queries
from pileus.placement.api.common import TEXT, UUID, fresh, prefix, strings
from pileus.placement.logic import providers as logic
from pileus.placement.logic.model import Group, ProviderFilter

operations = Operations()

_NAME = {"type": "string", "maxLength": 200}
_PARENT = {"anyOf": [UUID, {"type": "null"}]}


def _body(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": ["name"], "additionalProperties": False}


_CREATE = [("1.0", _body(name=_NAME, uuid=UUID)), ("1.14", _body(name=_NAME, uuid=UUID, parent_provider_uuid=_PARENT))]
_UPDATE = [("1.0", _body(name=_NAME)), ("1.14", _body(name=_NAME, parent_provider_uuid=_PARENT))]
_LIST = [
    ("1.0", strings(name=TEXT, uuid=UUID)),
    ("1.3", strings(name=TEXT, uuid=UUID, member_of=TEXT)),
    ("1.4", strings(name=TEXT, uuid=UUID, member_of=TEXT, resources=TEXT)),
    ("1.14", strings(name=TEXT, uuid=UUID, member_of=TEXT, resources=TEXT, in_tree=UUID)),
    ("1.18", strings(name=TEXT, uuid=UUID, member_of=TEXT, resources=TEXT, in_tree=UUID, required=TEXT)),
]
_LINKS = (
    ("", "self", (1, 0)),
    ("/inventories", "inventories", (1, 0)),
    ("/usages", "usages", (1, 0)),
    ("/aggregates", "aggregates", (1, 1)),
    ("/traits", "traits", (1, 6)),
    ("/allocations", "allocations", (1, 11)),
)


def _view(call: Call, uuid: str, name: str, generation: int, parent: str | None, root: str | None) -> dict[str, Any]:
    path = f"{prefix(call)}/resource_providers/{uuid}"
    view: dict[str, Any] = {
        "uuid": uuid,
        "name": name,
        "generation": generation,
        "links": [{"rel": rel, "href": path + suffix} for suffix, rel, since in _LINKS if call.version >= since],
    }
    if call.at_least(1, 14):
        view["parent_provider_uuid"] = parent
        view["root_provider_uuid"] = root
    return view


def _show(call: Call, row: Mapping[Any, Any]) -> dict[str, Any]:
    return _view(call, row["uuid"], row["name"], row["generation"], row["parent_uuid"], row["root_uuid"])


@operations("GET", "/resource_providers", rule="placement:resource_providers:list", query=_LIST)
def list_providers(call: Call) -> Reply:
    """List the resource providers that meet every given condition."""
    query = call.query
    member_of, not_member_of = queries.parse_member_of(query.all("member_of"), call.version)
    required, forbidden = queries.parse_traits(query.all("required"), call.version)
    resources = query.one("resources")
    group = Group(
        resources=queries.parse_resources(resources) if resources is not None else {},
        required=required,
        forbidden=forbidden,
        member_of=member_of,
        not_member_of=not_member_of,
        in_tree=query.one("in_tree"),
    )
    uuid = query.one("uuid")
    wanted = ProviderFilter(name=query.one("name"), uuid=logic.dashed(uuid) if uuid else None, group=group)
    now, found = logic.find_providers(call.service, wanted)
    shown = [_view(call, p.uuid, p.name, p.generation, now.parent_uuid(p), now.root_of(p).uuid) for p in found]
    return fresh(call, {"resource_providers": shown}, [provider.updated_at for provider in found])


@operations("POST", "/resource_providers", rule="placement:resource_providers:create", body=_CREATE)
def create_provider(call: Call) -> Reply:
    """Create a resource provider."""
    body = call.body
    row = logic.create_provider(call.service, body["name"], body.get("uuid"), body.get("parent_provider_uuid"))
    headers = {"Location": call.link(f"/resource_providers/{row['uuid']}")}
    if not call.at_least(1, 20):
        return Reply(status=201, headers=headers)
    return fresh(call, _show(call, row), [row["updated_at"]], headers=headers)


@operations("GET", "/resource_providers/{uuid}", rule="placement:resource_providers:show")
def show_provider(call: Call) -> Reply:
    """Show a resource provider."""
    row = logic.get_provider(call.service, call.params["uuid"])
    return fresh(call, _show(call, row), [row["updated_at"]])


@operations("PUT", "/resource_providers/{uuid}", rule="placement:resource_providers:update", body=_UPDATE)
def update_provider(call: Call) -> Reply:
    """Rename a resource provider, or hang it under another parent."""
    parent = call.body.get("parent_provider_uuid", logic.KEEP)
    row = logic.update_provider(
        call.service, call.params["uuid"], call.body["name"], parent, reparent=call.at_least(1, 37)
    )
    return fresh(call, _show(call, row), [row["updated_at"]])


@operations("DELETE", "/resource_providers/{uuid}", rule="placement:resource_providers:delete", status=204)
def delete_provider(call: Call) -> None:
    """Delete a resource provider that has neither children nor allocations."""
    logic.delete_provider(call.service, call.params["uuid"])
