"""/v2.0/ports/{id}/bindings: a port bound to several hosts, of which one is active (the extension binding-extended)."""

from __future__ import annotations

from typing import Any

from pileus.kernel.web import Call, Operations
from pileus.network import errors
from pileus.network.api import attributes as a
from pileus.network.api import collection as c
from pileus.network.api.attributes import Attribute
from pileus.network.api.ports import VNIC_TYPES
from pileus.network.logic import port_bindings as logic
from pileus.network.store.kinds import PORT

operations = Operations()

_FIELDS = ("host", "vif_type", "vif_details", "vnic_type", "profile", "status")
_FILTERS = ("host", "vif_type", "vnic_type", "status")
_ATTRIBUTES: dict[str, Attribute] = {
    "host": Attribute(a.text(), default=a.REQUIRED),
    "vnic_type": Attribute(a.one_of(*VNIC_TYPES), default="normal"),
    "profile": Attribute(a.dictionary, default={}),
    **{name: a.read_only() for name in ("vif_type", "vif_details", "status", "project_id")},
}


def _port(call: Call) -> str:
    """The port, if the caller may see it. Raises PortNotFound."""
    return str(c.find(call, PORT, call.params["id"])["id"])


@operations("GET", "/ports/{id}/bindings", rule="get_port_binding", late=True)
def list_port_bindings(call: Call) -> dict[str, Any]:
    """List a port's bindings; for those who may not see them there are none."""
    port_id = _port(call)
    wanted = {name: call.query.all(name) for name in _FILTERS if call.query.all(name)}
    found = logic.list_bindings(call.service, port_id) if call.allows("get_port_binding") else []
    found = [body for body in found if all(body[name] in values for name, values in wanted.items())]
    return {"bindings": [_shown(call, body) for body in found]}


def _shown(call: Call, body: dict[str, Any]) -> dict[str, Any]:
    fields = call.query.all("fields")
    return {name: body[name] for name in _FIELDS if not fields or name in fields}


@operations("POST", "/ports/{id}/bindings", rule="create_port_binding", late=True, status=201)
def create_port_binding(call: Call) -> dict[str, Any]:
    """Bind a port to one more host, which prepares for it."""
    port_id = _port(call)
    c.authorize(call, "create_port_binding", {})
    if not isinstance(call.body, dict) or not isinstance(call.body.get("binding"), dict):
        raise errors.HTTPBadRequest("Unable to find 'binding' in request body")
    values = a.on_create("binding", _ATTRIBUTES, call.body["binding"])
    if not values["host"]:
        raise errors.HTTPBadRequest("Invalid input for host. Reason: a binding needs a host.")
    return {"binding": logic.create_binding(call.service, port_id, values)}


@operations("PUT", "/ports/{id}/bindings/{host}/activate", rule="activate", late=True)
def activate_port_binding(call: Call) -> dict[str, Any]:
    """Move a port to a host that has an inactive binding of it."""
    port_id = _port(call)
    c.authorize(call, "activate", {})
    return {"binding": logic.activate_binding(call.service, port_id, call.params["host"])}


@operations("DELETE", "/ports/{id}/bindings/{host}", rule="delete_port_binding", late=True, status=204)
def delete_port_binding(call: Call) -> None:
    """Take a port off a host."""
    port_id = _port(call)
    c.authorize(call, "delete_port_binding", {})
    logic.delete_binding(call.service, port_id, call.params["host"])
