"""/v2.0/networks."""

from __future__ import annotations

from typing import Any

from pileus.kernel.web import Call, Operations
from pileus.network.api import attributes as a
from pileus.network.api import collection as c
from pileus.network.api.attributes import Attribute
from pileus.network.logic import networks as logic
from pileus.network.store.kinds import NETWORK

operations = Operations()

ATTRIBUTES: dict[str, Attribute] = {
    **a.STANDARD,
    "name": a.NAME,
    "description": a.DESCRIPTION,
    "admin_state_up": a.ADMIN_STATE,
    "shared": Attribute(a.boolean, default=False),
    "router:external": Attribute(a.boolean, default=False),
    "is_default": Attribute(a.boolean, default=False),
    "mtu": Attribute(a.integer(0, 65535)),
    "port_security_enabled": Attribute(a.boolean, default=True),
    "provider:network_type": Attribute(a.or_none(a.text(32))),
    "provider:physical_network": Attribute(a.or_none(a.text(64))),
    "provider:segmentation_id": Attribute(a.or_none(a.integer(0))),
    "availability_zone_hints": Attribute(a.list_of(a.text()), update=False, default=[]),
    "availability_zones": a.read_only(),
    "status": a.read_only(),
    "subnets": a.read_only(),
}


@operations("GET", "/networks", rule="get_network", late=True)
def list_networks(call: Call) -> dict[str, Any]:
    """List networks: the project's own, shared and external ones."""
    return c.list_all(call, NETWORK)


@operations("GET", "/networks/{id}", rule="get_network", late=True)
def show_network(call: Call) -> dict[str, Any]:
    """Show a network."""
    return c.show(call, NETWORK, call.params["id"])


@operations("POST", "/networks", rule="create_network", late=True, status=201)
def create_network(call: Call) -> dict[str, Any]:
    """Create one network or several."""
    items, bulk = c.parse_new(call, NETWORK, ATTRIBUTES)
    return c.answer_new(call, NETWORK, logic.create_networks(call.service, call.context, items), bulk=bulk)


@operations("PUT", "/networks/{id}", rule="update_network", late=True)
def update_network(call: Call) -> dict[str, Any]:
    """Change a network."""
    _, values = c.parse_change(call, NETWORK, ATTRIBUTES, call.params["id"])
    changed = logic.update_network(call.service, call.context, call.params["id"], values, c.revision(call))
    return c.answer(call, NETWORK, changed)


@operations("DELETE", "/networks/{id}", rule="delete_network", late=True, status=204)
def delete_network(call: Call) -> None:
    """Delete a network."""
    c.may_delete(call, NETWORK, call.params["id"])
    logic.delete_network(call.service, call.params["id"], c.revision(call))
