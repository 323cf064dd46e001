"""/v2.0/ports."""

from __future__ import annotations

import ipaddress
from typing import Any

from pileus.kernel.web import Call, Operations
from pileus.network import errors
from pileus.network.api import attributes as a
from pileus.network.api import collection as c
from pileus.network.api.attributes import Attribute
from pileus.network.logic import ports as logic
from pileus.network.store.kinds import PORT

operations = Operations()

_FIXED_IP = a.mapping({"subnet_id": a.uuid, "ip_address": a.address})
VNIC_TYPES = (
    "normal",
    "direct",
    "macvtap",
    "baremetal",
    "direct-physical",
    "virtio-forwarder",
    "smart-nic",
    "accelerator-direct",
    "accelerator-direct-physical",
    "remote-managed",
)


def _pair_address(value: Any) -> str:
    """An address or a CIDR, as it came but canonical."""
    if isinstance(value, str):
        try:
            parsed = ipaddress.ip_network(value, strict=False)
        except ValueError:
            raise a.Wrong(f"'{value}' is not a valid IP address") from None
        return str(parsed) if "/" in value else str(parsed.network_address)
    raise a.Wrong(f"'{value}' is not a valid IP address")


def _fixed_ips(value: Any) -> list[dict[str, str]]:
    items: list[dict[str, str]] = a.list_of(_FIXED_IP, unique=True)(value)
    addresses = [item["ip_address"] for item in items if "ip_address" in item]
    if len(set(addresses)) != len(addresses):
        raise a.Wrong("Duplicate IP address in fixed_ips")
    if any(not item for item in items):
        raise a.Wrong("an item of fixed_ips needs subnet_id or ip_address")
    return items


def _ip_version(value: Any) -> int:
    return int(a.one_of(4, 6)(a.integer()(value)))


_OPTION = a.mapping(
    {"opt_name": a.text(64), "opt_value": a.or_none(a.text()), "ip_version": _ip_version}, ("opt_name", "opt_value")
)


def _options(value: Any) -> list[dict[str, Any]]:
    options: list[dict[str, Any]] = a.list_of(_OPTION)(value)
    for option in options:
        option.setdefault("ip_version", 4)
        if not option["opt_name"].strip():
            raise a.Wrong("an option needs a name")
    return options


ATTRIBUTES: dict[str, Attribute] = {
    **a.STANDARD,
    "name": a.NAME,
    "description": a.DESCRIPTION,
    "network_id": Attribute(a.uuid, update=False, default=a.REQUIRED),
    "admin_state_up": a.ADMIN_STATE,
    "mac_address": Attribute(a.or_none(a.mac)),
    "fixed_ips": Attribute(a.or_none(_fixed_ips)),
    "device_id": Attribute(a.none_as("", a.text()), default=""),
    "device_owner": Attribute(a.none_as("", a.text()), default=""),
    "security_groups": Attribute(a.list_of(a.uuid)),
    "allowed_address_pairs": Attribute(
        a.list_of(a.mapping({"ip_address": _pair_address, "mac_address": a.mac}, ("ip_address",)), unique=True), default=[]
    ),
    "port_security_enabled": Attribute(a.boolean),
    "extra_dhcp_opts": Attribute(_options, default=[]),
    "binding:host_id": Attribute(a.none_as("", a.text()), default=""),
    "binding:vnic_type": Attribute(a.one_of(*VNIC_TYPES), default="normal"),
    "binding:profile": Attribute(a.dictionary, default={}),
    "binding:vif_type": a.read_only(),
    "binding:vif_details": a.read_only(),
    "status": a.read_only(),
}
OF_SERVICES: dict[str, Attribute] = {**ATTRIBUTES, "id": Attribute(a.uuid, update=False)}
"""Services choose the id of a port, so that a create whose answer was lost is not done twice when it is repeated."""


def _limits(call: Call, values: dict[str, Any]) -> None:
    options = call.service.options
    if len(values.get("fixed_ips") or []) > options.max_fixed_ips_per_port:
        raise errors.InvalidInput("Exceeded maximum amount of fixed ips per port")
    if len(values.get("allowed_address_pairs") or []) > options.max_allowed_address_pairs:
        raise errors.AllowedAddressPairExhausted(f"The number of allowed address pair exceeds the maximum {options.max_allowed_address_pairs}.")


@operations("GET", "/ports", rule="get_port", late=True)
def list_ports(call: Call) -> dict[str, Any]:
    """List ports: the project's own and those in its networks."""
    return c.list_all(call, PORT)


@operations("GET", "/ports/{id}", rule="get_port", late=True)
def show_port(call: Call) -> dict[str, Any]:
    """Show a port."""
    return c.show(call, PORT, call.params["id"])


def _target(call: Call, values: dict[str, Any]) -> dict[str, Any]:
    """The network's facts. A project may see an external network without being allowed ports of its own in it."""
    facts = c.network_target(call, values["network_id"])
    context = call.context
    only_seen = facts["router:external"] and not facts["shared"] and facts["network:tenant_id"] != context.project_id
    if only_seen and not (context.is_admin or context.is_service):
        raise errors.PolicyNotAuthorized(f"Project {context.project_id} not allowed to create port on this network")
    return {**facts, "network_device": values["device_owner"].startswith("network:")}


@operations("POST", "/ports", rule="create_port", late=True, status=201)
def create_port(call: Call) -> dict[str, Any]:
    """Create one port or several."""
    attributes = OF_SERVICES if call.context.is_service else ATTRIBUTES
    items, bulk = c.parse_new(call, PORT, attributes, lambda values: _target(call, values))
    for values in items:
        _limits(call, values)
    return c.answer_new(call, PORT, logic.create_ports(call.service, items), bulk=bulk)


@operations("PUT", "/ports/{id}", rule="update_port", late=True)
def update_port(call: Call) -> dict[str, Any]:
    """Change a port; an administrator or service binds it to a host."""
    id = call.params["id"]
    _, values = c.parse_change(call, PORT, ATTRIBUTES, id, lambda body: c.network_facts(call, body["network_id"]))
    _limits(call, values)
    return c.answer(call, PORT, logic.update_port(call.service, id, values, c.revision(call)))


@operations("DELETE", "/ports/{id}", rule="delete_port", late=True, status=204)
def delete_port(call: Call) -> None:
    """Delete a port."""
    c.may_delete(call, PORT, call.params["id"], lambda body: c.network_facts(call, body["network_id"]))
    logic.delete_port(call.service, call.params["id"], c.revision(call))
