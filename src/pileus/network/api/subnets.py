"""/v2.0/subnets."""

from __future__ import annotations

from typing import Any

from pileus.kernel.web import Call, Operations
from pileus.network.api import attributes as a
from pileus.network.api import collection as c
from pileus.network.api.attributes import Attribute
from pileus.network.errors import HTTPBadRequest
from pileus.network.logic import subnets as logic
from pileus.network.store.kinds import SUBNET, SUBNETPOOL

operations = Operations()

_POOL = a.mapping({"start": a.address, "end": a.address}, ("start", "end"))
_ROUTE = a.mapping({"destination": a.cidr, "nexthop": a.address}, ("destination", "nexthop"))
_MODES = a.or_none(a.one_of("dhcpv6-stateful", "dhcpv6-stateless", "slaac"))


ATTRIBUTES: dict[str, Attribute] = {
    **a.STANDARD,
    "name": a.NAME,
    "description": a.DESCRIPTION,
    "network_id": Attribute(a.uuid, update=False, default=a.REQUIRED),
    "ip_version": Attribute(lambda value: a.one_of(4, 6)(a.integer()(value)), update=False),
    "cidr": Attribute(a.or_none(a.cidr), update=False),
    "gateway_ip": Attribute(a.or_none(a.address)),
    "enable_dhcp": Attribute(a.boolean, default=True),
    "ipv6_ra_mode": Attribute(_MODES, update=False),
    "ipv6_address_mode": Attribute(_MODES, update=False),
    "allocation_pools": Attribute(a.or_none(a.list_of(_POOL))),
    "dns_nameservers": Attribute(a.list_of(a.address, unique=True), default=[]),
    "host_routes": Attribute(a.list_of(_ROUTE, unique=True), default=[]),
    "service_types": Attribute(a.list_of(a.text(), unique=True), default=[]),
    "subnetpool_id": Attribute(a.or_none(a.uuid), update=False),
    "prefixlen": Attribute(a.or_none(a.integer(0, 128)), update=False),
    "use_default_subnetpool": Attribute(a.boolean, update=False, default=False),
}


@operations("GET", "/subnets", rule="get_subnet", late=True)
def list_subnets(call: Call) -> dict[str, Any]:
    """List subnets: the project's own and those of shared networks."""
    return c.list_all(call, SUBNET)


@operations("GET", "/subnets/{id}", rule="get_subnet", late=True)
def show_subnet(call: Call) -> dict[str, Any]:
    """Show a subnet."""
    return c.show(call, SUBNET, call.params["id"])


@operations("POST", "/subnets", rule="create_subnet", late=True, status=201)
def create_subnet(call: Call) -> dict[str, Any]:
    """Create one subnet or several."""
    items, bulk = c.parse_new(call, SUBNET, ATTRIBUTES, lambda values: c.network_target(call, values["network_id"]))
    for values in items:
        if values.get("subnetpool_id"):
            c.find(call, SUBNETPOOL, values["subnetpool_id"])
        elif not values["use_default_subnetpool"] and values.get("cidr") is None:
            raise HTTPBadRequest("a subnetpool must be specified in the absence of a cidr")
        elif values.get("prefixlen") is not None and values.get("cidr") is not None:
            raise HTTPBadRequest("prefixlen and cidr exclude each other")
    return c.answer_new(call, SUBNET, logic.create_subnets(call.service, items), bulk=bulk)


@operations("PUT", "/subnets/{id}", rule="update_subnet", late=True)
def update_subnet(call: Call) -> dict[str, Any]:
    """Change a subnet."""
    _, values = c.parse_change(call, SUBNET, ATTRIBUTES, call.params["id"], lambda body: c.network_facts(call, body["network_id"]))
    return c.answer(call, SUBNET, logic.update_subnet(call.service, call.params["id"], values, c.revision(call)))


@operations("DELETE", "/subnets/{id}", rule="delete_subnet", late=True, status=204)
def delete_subnet(call: Call) -> None:
    """Delete a subnet."""
    c.may_delete(call, SUBNET, call.params["id"], lambda body: c.network_facts(call, body["network_id"]))
    logic.delete_subnet(call.service, call.params["id"], c.revision(call))
