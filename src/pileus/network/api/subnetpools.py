"""/v2.0/subnetpools."""

from __future__ import annotations

from typing import Any

from pileus.kernel.web import Call, Operations
from pileus.network.api import attributes as a
from pileus.network.api import collection as c
from pileus.network.api.attributes import Attribute
from pileus.network.errors import HTTPBadRequest
from pileus.network.logic import subnetpools as logic
from pileus.network.store.kinds import SUBNETPOOL

operations = Operations()


def _no_scope(value: Any) -> None:
    if value is not None:
        raise a.Wrong("address scopes are not served here")


_LENGTH = Attribute(a.integer(0, 128))

ATTRIBUTES: dict[str, Attribute] = {
    **a.STANDARD,
    "name": Attribute(a.text(), default=a.REQUIRED),
    "description": a.DESCRIPTION,
    "prefixes": Attribute(a.list_of(a.cidr, unique=True), default=a.REQUIRED),
    "min_prefixlen": _LENGTH,
    "default_prefixlen": _LENGTH,
    "max_prefixlen": _LENGTH,
    "default_quota": Attribute(a.or_none(a.integer(0, 2**62))),
    "shared": Attribute(a.boolean, update=False, default=False),
    "is_default": Attribute(a.boolean, default=False),
    "address_scope_id": Attribute(_no_scope),
    "ip_version": a.read_only(),
}


@operations("GET", "/subnetpools", rule="get_subnetpool", late=True)
def list_subnetpools(call: Call) -> dict[str, Any]:
    """List subnet pools: the project's own and shared ones."""
    return c.list_all(call, SUBNETPOOL)


@operations("GET", "/subnetpools/{id}", rule="get_subnetpool", late=True)
def show_subnetpool(call: Call) -> dict[str, Any]:
    """Show a subnet pool."""
    return c.show(call, SUBNETPOOL, call.params["id"])


@operations("POST", "/subnetpools", rule="create_subnetpool", late=True, status=201)
def create_subnetpool(call: Call) -> dict[str, Any]:
    """Create one subnet pool or several."""
    items, bulk = c.parse_new(call, SUBNETPOOL, ATTRIBUTES)
    return c.answer_new(call, SUBNETPOOL, logic.create_pools(call.service, items), bulk=bulk)


@operations("PUT", "/subnetpools/{id}", rule="update_subnetpool", late=True)
def update_subnetpool(call: Call) -> dict[str, Any]:
    """Change a subnet pool."""
    _, values = c.parse_change(call, SUBNETPOOL, ATTRIBUTES, call.params["id"])
    values.pop("address_scope_id", None)
    return c.answer(call, SUBNETPOOL, logic.update_pool(call.service, call.params["id"], values, c.revision(call)))


def _named_prefixes(call: Call, rule: str) -> list[str]:
    c.authorize(call, rule, c.find(call, SUBNETPOOL, call.params["id"]))
    if not isinstance(call.body, dict) or set(call.body) != {"prefixes"}:
        raise HTTPBadRequest("a list named prefixes is wanted, and nothing else")
    try:
        prefixes: list[str] = a.list_of(a.cidr, unique=True)(call.body["prefixes"])
    except ValueError as error:
        raise HTTPBadRequest(f"Invalid input for prefixes. Reason: {error}.") from None
    return prefixes


@operations("PUT", "/subnetpools/{id}/add_prefixes", rule="add_prefixes", late=True)
def add_prefixes(call: Call) -> dict[str, Any]:
    """Add prefixes to a subnet pool."""
    return {"prefixes": logic.add_prefixes(call.service, call.params["id"], _named_prefixes(call, "add_prefixes"))}


@operations("PUT", "/subnetpools/{id}/remove_prefixes", rule="remove_prefixes", late=True)
def remove_prefixes(call: Call) -> dict[str, Any]:
    """Remove prefixes from which no subnet is."""
    return {"prefixes": logic.remove_prefixes(call.service, call.params["id"], _named_prefixes(call, "remove_prefixes"))}


@operations("DELETE", "/subnetpools/{id}", rule="delete_subnetpool", late=True, status=204)
def delete_subnetpool(call: Call) -> None:
    """Delete a subnet pool from which no subnet is."""
    c.may_delete(call, SUBNETPOOL, call.params["id"])
    logic.delete_pool(call.service, call.params["id"], c.revision(call))
