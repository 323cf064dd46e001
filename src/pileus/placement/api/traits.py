"""Traits, and which of them a provider has."""

from __future__ import annotations

import re

from pileus.kernel.web import Call, Operations, Reply
from pileus.placement.api.common import CUSTOM_NAME, TEXT, fresh, strings
from pileus.placement.errors import BadRequest
from pileus.placement.logic import inventories, names

operations = Operations()

_CUSTOM = re.compile(CUSTOM_NAME["pattern"][:-1] + r"\Z")  # type: ignore[index]
_PROVIDER = "/resource_providers/{uuid}/traits"
_SET = {
    "type": "object",
    "properties": {
        "traits": {
            "type": "array",
            "items": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[A-Z0-9_]+$"},
            "uniqueItems": True,
        },
        "resource_provider_generation": {"type": "integer"},
    },
    "required": ["traits", "resource_provider_generation"],
    "additionalProperties": False,
}


def _name_filter(text: str) -> tuple[frozenset[str] | None, str]:
    """(names to choose from, prefix) of a `name` parameter."""
    kind, colon, value = text.partition(":")
    if colon and kind == "in":
        return frozenset(value.split(",")), ""
    if colon and kind == "startswith":
        return None, value
    raise BadRequest(
        "Badly formatted name parameter. Expected name query string parameter in form: "
        f'?name=[in|startswith]:[name1,name2|prefix]. Got: "{text}"'
    )


@operations("GET", "/traits", rule="placement:traits:list", versions="1.6-", query=strings(name=TEXT, associated=TEXT))
def list_traits(call: Call) -> Reply:
    """List the traits there are."""
    name, associated = call.query.one("name"), call.query.one("associated")
    among, prefix = _name_filter(name) if name is not None else (None, "")
    if associated is not None and associated.lower() not in {"true", "false"}:
        raise BadRequest(f'The query parameter "associated" only accepts "true" or "false". Got: {associated}')
    found = names.list_traits(
        call.service,
        among=among,
        prefix=prefix,
        associated=None if associated is None else associated.lower() == "true",
    )
    return fresh(call, {"traits": [trait for trait, _ in found]}, [changed for _, changed in found])


@operations("GET", "/traits/{name}", rule="placement:traits:show", status=204, versions="1.6-")
def show_trait(call: Call) -> Reply:
    """Say whether a trait exists."""
    _, changed = names.get_trait(call.service, call.params["name"])
    return fresh(call, changed=[changed])


@operations("PUT", "/traits/{name}", rule="placement:traits:update", status=201, versions="1.6-")
def put_trait(call: Call) -> Reply:
    """Make sure that a custom trait exists."""
    name = call.params["name"]
    if not _CUSTOM.match(name) or len(name) > 255:
        raise BadRequest(
            "The trait is invalid. A valid trait must be no longer than 255 characters, start with the prefix "
            '"CUSTOM_" and use following characters: "A"-"Z", "0"-"9" and "_"'
        )
    made = names.put_trait(call.service, name)
    return fresh(call, status=201 if made else 204, headers={"Location": call.link(f"/traits/{name}")})


@operations("DELETE", "/traits/{name}", rule="placement:traits:delete", status=204, versions="1.6-")
def delete_trait(call: Call) -> None:
    """Delete a custom trait that no provider has."""
    names.delete_trait(call.service, call.params["name"])


@operations("GET", _PROVIDER, rule="placement:resource_providers:traits:list", versions="1.6-")
def list_provider_traits(call: Call) -> Reply:
    """List a provider's traits."""
    generation, traits = inventories.get_traits(call.service, call.params["uuid"])
    return fresh(call, {"traits": traits, "resource_provider_generation": generation})


@operations("PUT", _PROVIDER, rule="placement:resource_providers:traits:update", versions="1.6-", body=_SET)
def replace_provider_traits(call: Call) -> Reply:
    """Replace all of a provider's traits."""
    generation, traits = inventories.set_traits(
        call.service, call.params["uuid"], call.body["resource_provider_generation"], call.body["traits"]
    )
    return fresh(call, {"traits": traits, "resource_provider_generation": generation})


@operations("DELETE", _PROVIDER, rule="placement:resource_providers:traits:delete", status=204, versions="1.6-")
def delete_provider_traits(call: Call) -> None:
    """Take all traits off a provider."""
    inventories.set_traits(call.service, call.params["uuid"], None, ())
