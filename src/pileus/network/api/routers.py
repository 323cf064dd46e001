"""/v2.0/routers, with their interfaces and extra routes."""

from __future__ import annotations

from typing import Any

from pileus.kernel.web import Call, Operations
from pileus.network import errors
from pileus.network.api import attributes as a
from pileus.network.api import collection as c
from pileus.network.api.attributes import Attribute
from pileus.network.logic import router_legs as legs
from pileus.network.logic import routers as logic
from pileus.network.store.kinds import PORT, ROUTER, SUBNET

operations = Operations()

_FIXED_IP = a.mapping({"subnet_id": a.uuid, "ip_address": a.address})
_GATEWAY = a.mapping(
    {
        "network_id": a.uuid,
        "enable_snat": a.boolean,
        "external_fixed_ips": a.list_of(_FIXED_IP),
    },
    ("network_id",),
)
_ROUTE = a.mapping({"destination": a.cidr, "nexthop": a.address}, ("destination", "nexthop"))
_ROUTES = a.list_of(_ROUTE, unique=True)

ATTRIBUTES: dict[str, Attribute] = {
    **a.STANDARD,
    "name": a.NAME,
    "description": a.DESCRIPTION,
    "admin_state_up": a.ADMIN_STATE,
    "external_gateway_info": Attribute(lambda value: _GATEWAY(value) if value else None),
    "routes": Attribute(_ROUTES, create=False),
    "availability_zone_hints": Attribute(a.list_of(a.text()), update=False, default=[]),
    "availability_zones": a.read_only(),
    "distributed": Attribute(a.boolean),
    "ha": Attribute(a.boolean),
    "status": a.read_only(),
}


@operations("GET", "/routers", rule="get_router", late=True)
def list_routers(call: Call) -> dict[str, Any]:
    """List routers."""
    return c.list_all(call, ROUTER)


@operations("GET", "/routers/{id}", rule="get_router", late=True)
def show_router(call: Call) -> dict[str, Any]:
    """Show a router."""
    return c.show(call, ROUTER, call.params["id"])


def _check(call: Call, values: dict[str, Any]) -> None:
    """Kinds of routers there are not, and networks the caller cannot see, are refused."""
    for kind in ("distributed", "ha"):
        if values.pop(kind, False):
            raise errors.InvalidInput(f"a router cannot be '{kind}' here: each runs on one host and moves when that dies")
    info = values.get("external_gateway_info")
    if info:
        c.network_target(call, info["network_id"])


@operations("POST", "/routers", rule="create_router", late=True, status=201)
def create_router(call: Call) -> dict[str, Any]:
    """Create one router or several."""
    items, bulk = c.parse_new(call, ROUTER, ATTRIBUTES)
    for values in items:
        _check(call, values)
    return c.answer_new(call, ROUTER, logic.create_routers(call.service, items), bulk=bulk)


@operations("PUT", "/routers/{id}", rule="update_router", late=True)
def update_router(call: Call) -> dict[str, Any]:
    """Change a router: name, state, gateway, routes."""
    _, values = c.parse_change(call, ROUTER, ATTRIBUTES, call.params["id"])
    _check(call, values)
    return c.answer(call, ROUTER, logic.update_router(call.service, call.params["id"], values, c.revision(call)))


@operations("DELETE", "/routers/{id}", rule="delete_router", late=True, status=204)
def delete_router(call: Call) -> None:
    """Delete a router that has no interfaces."""
    c.may_delete(call, ROUTER, call.params["id"])
    logic.delete_router(call.service, call.params["id"], c.revision(call))


def _leg(call: Call, rule: str) -> dict[str, str | None]:
    """The subnet or port of an interface that the body names, seen by this caller."""
    c.authorize(call, rule, c.find(call, ROUTER, call.params["id"]))
    body = call.body
    if not isinstance(body, dict) or not body:
        raise errors.BadRequest("Bad router request: Either subnet_id or port_id must be specified.")
    wanted: dict[str, str | None] = {}
    for name in ("subnet_id", "port_id"):
        try:
            wanted[name] = a.or_none(a.uuid)(body.get(name))
        except ValueError as error:
            raise errors.HTTPBadRequest(f"Invalid input for {name}. Reason: {error}.") from None
    if wanted["port_id"] is None and wanted["subnet_id"] is None:
        raise errors.BadRequest("Bad router request: Either subnet_id or port_id must be specified.")
    return wanted


@operations("PUT", "/routers/{id}/add_router_interface", rule="add_router_interface", late=True)
def add_router_interface(call: Call) -> dict[str, Any]:
    """Give a router a leg in a subnet, or at a port."""
    wanted = _leg(call, "add_router_interface")
    if wanted["port_id"] and wanted["subnet_id"]:
        raise errors.BadRequest("Bad router request: Cannot specify both subnet-id and port-id.")
    if wanted["subnet_id"]:
        c.find(call, SUBNET, wanted["subnet_id"])
    else:
        c.find(call, PORT, str(wanted["port_id"]))
    return legs.add_interface(call.service, call.params["id"], **wanted)


@operations("PUT", "/routers/{id}/remove_router_interface", rule="remove_router_interface", late=True)
def remove_router_interface(call: Call) -> dict[str, Any]:
    """Take a leg away."""
    return legs.remove_interface(call.service, call.params["id"], **_leg(call, "remove_router_interface"))


def _routes(call: Call, rule: str) -> list[dict[str, str]]:
    c.authorize(call, rule, c.find(call, ROUTER, call.params["id"]))
    body = c.item(call, ROUTER)
    if not isinstance(body, dict) or set(body) != {"routes"}:
        raise errors.HTTPBadRequest("the router's body needs routes, and nothing else")
    try:
        routes: list[dict[str, str]] = _ROUTES(body["routes"])
    except ValueError as error:
        raise errors.HTTPBadRequest(f"Invalid input for routes. Reason: {error}.") from None
    return routes


@operations("PUT", "/routers/{id}/add_extraroutes", rule="add_extraroutes", late=True)
def add_extraroutes(call: Call) -> dict[str, Any]:
    """Add static routes, atomically."""
    routes = _routes(call, "add_extraroutes")
    return c.answer(call, ROUTER, logic.add_routes(call.service, call.params["id"], routes))


@operations("PUT", "/routers/{id}/remove_extraroutes", rule="remove_extraroutes", late=True)
def remove_extraroutes(call: Call) -> dict[str, Any]:
    """Remove static routes, atomically."""
    routes = _routes(call, "remove_extraroutes")
    return c.answer(call, ROUTER, logic.remove_routes(call.service, call.params["id"], routes))
