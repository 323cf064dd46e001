"""/v2.0/floatingips."""

from __future__ import annotations

from typing import Any

from pileus.kernel.web import Call, Operations
from pileus.network.api import attributes as a
from pileus.network.api import collection as c
from pileus.network.api.attributes import Attribute
from pileus.network.logic import floatingips as logic
from pileus.network.store.kinds import FLOATINGIP, PORT

operations = Operations()

ATTRIBUTES: dict[str, Attribute] = {
    **a.STANDARD,
    "description": a.DESCRIPTION,
    "floating_network_id": Attribute(a.uuid, update=False, default=a.REQUIRED),
    "floating_ip_address": Attribute(a.or_none(a.address), update=False),
    "subnet_id": Attribute(a.or_none(a.uuid), update=False),
    "port_id": Attribute(a.or_none(a.uuid)),
    "fixed_ip_address": Attribute(a.or_none(a.address)),
    "router_id": a.read_only(),
    "status": a.read_only(),
    "port_details": a.read_only(),
}


def _see_port(call: Call, values: dict[str, Any]) -> None:
    if values.get("port_id"):
        c.find(call, PORT, values["port_id"])


@operations("GET", "/floatingips", rule="get_floatingip", late=True)
def list_floatingips(call: Call) -> dict[str, Any]:
    """List floating IPs."""
    return c.list_all(call, FLOATINGIP)


@operations("GET", "/floatingips/{id}", rule="get_floatingip", late=True)
def show_floatingip(call: Call) -> dict[str, Any]:
    """Show a floating IP."""
    return c.show(call, FLOATINGIP, call.params["id"])


@operations("POST", "/floatingips", rule="create_floatingip", late=True, status=201)
def create_floatingip(call: Call) -> dict[str, Any]:
    """Create one floating IP or several, associated with a port where the body names one."""
    items, bulk = c.parse_new(call, FLOATINGIP, ATTRIBUTES)
    for values in items:
        c.network_target(call, values["floating_network_id"])
        _see_port(call, values)
    return c.answer_new(call, FLOATINGIP, logic.create_floatingips(call.service, call.context, items), bulk=bulk)


@operations("PUT", "/floatingips/{id}", rule="update_floatingip", late=True)
def update_floatingip(call: Call) -> dict[str, Any]:
    """Associate a floating IP with a port, or set it free."""
    _, values = c.parse_change(call, FLOATINGIP, ATTRIBUTES, call.params["id"])
    _see_port(call, values)
    changed = logic.update_floatingip(call.service, call.context, call.params["id"], values, c.revision(call))
    return c.answer(call, FLOATINGIP, changed)


@operations("DELETE", "/floatingips/{id}", rule="delete_floatingip", late=True, status=204)
def delete_floatingip(call: Call) -> None:
    """Give a floating IP back."""
    c.may_delete(call, FLOATINGIP, call.params["id"])
    logic.delete_floatingip(call.service, call.params["id"], c.revision(call))
