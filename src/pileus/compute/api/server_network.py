"""Addresses, cards and security groups of servers."""

from __future__ import annotations

from typing import Any

from pileus.compute.api import schemas as s
from pileus.compute.api.common import server_of
from pileus.compute.api.network_proxies import security_group_view
from pileus.compute.api.server_view import addresses_of
from pileus.compute.errors import BadRequest
from pileus.compute.logic import networks
from pileus.compute.store.tables import SERVERS
from pileus.kernel.context import service_context
from pileus.kernel.errors import NotFound
from pileus.kernel.web import Call, Operations

operations = Operations()


def _plain_addresses(call: Call) -> dict[str, list[dict[str, Any]]]:
    row = server_of(call, SERVERS.c.network_info)
    return addresses_of(row["network_info"] or [], extended=False)


@operations("GET", "/servers/{server_id}/ips", rule="os_compute_api:ips:index", late=True)
def list_addresses(call: Call) -> dict[str, Any]:
    """List a server's addresses"""
    return {"addresses": _plain_addresses(call)}


@operations("GET", "/servers/{server_id}/ips/{label}", rule="os_compute_api:ips:show", late=True)
def show_addresses(call: Call) -> dict[str, Any]:
    """List a server's addresses on one network"""
    found, label = _plain_addresses(call), call.params["label"]
    if label not in found:
        raise NotFound("Instance is not a member of specified network")
    return {label: found[label]}


def _attachment(call: Call, port: dict[str, Any]) -> dict[str, Any]:
    view = {
        "net_id": port["network_id"],
        "port_id": port["id"],
        "mac_addr": port["mac_address"],
        "port_state": port["status"],
        "fixed_ips": [{"subnet_id": ip["subnet_id"], "ip_address": ip["ip_address"]} for ip in port["fixed_ips"]],
    }
    if call.at_least(2, 70):
        view["tag"] = None
    return view


@operations("GET", "/servers/{server_id}/os-interface", rule="os_compute_api:os-attach-interfaces:list", late=True)
def list_interfaces(call: Call) -> dict[str, Any]:
    """List a server's cards"""
    row = server_of(call)
    ports = networks.ports_of(call.service, service_context("compute"), [row["id"]])
    return {"interfaceAttachments": [_attachment(call, port) for port in ports]}


@operations(
    "GET", "/servers/{server_id}/os-interface/{port_id}", rule="os_compute_api:os-attach-interfaces:show", late=True
)
def show_interface(call: Call) -> dict[str, Any]:
    """Show a card of a server"""
    row, port_id = server_of(call), call.params["port_id"]
    port = networks.show_port(call.service, service_context("compute"), port_id)
    if port.get("device_id") != row["id"]:
        raise NotFound(f"Instance {row['id']} does not have port with id {port_id}")
    return {"interfaceAttachment": _attachment(call, port)}


_NIC = {
    "net_id": s.UUID,
    "port_id": s.UUID,
    "fixed_ips": {
        "type": "array",
        "items": s.obj({"ip_address": s.ANY_TEXT}, ["ip_address"]),
        "minItems": 1,
        "maxItems": 1,
    },
}
ATTACH = [
    ("2.1", s.obj({"interfaceAttachment": s.obj(_NIC)})),
    ("2.49", s.obj({"interfaceAttachment": s.obj({**_NIC, "tag": s.TAG})})),
]


@operations(
    "POST",
    "/servers/{server_id}/os-interface",
    rule="os_compute_api:os-attach-interfaces:create",
    late=True,
    body=ATTACH,
)
def attach_interface(call: Call) -> dict[str, Any]:
    """Refused: cards are given to servers when they are made"""
    server_of(call)
    raise BadRequest("Cards cannot be plugged into servers that are there already; name all networks at creation.")


@operations(
    "DELETE",
    "/servers/{server_id}/os-interface/{port_id}",
    rule="os_compute_api:os-attach-interfaces:delete",
    late=True,
    status=202,
)
def detach_interface(call: Call) -> None:
    """Refused: cards stay until the server is deleted"""
    server_of(call)
    raise BadRequest("Cards cannot be pulled out of servers; delete the server to free its ports.")


@operations("GET", "/servers/{server_id}/os-security-groups", rule="os_compute_api:os-security-groups:list", late=True)
def list_security_groups(call: Call) -> dict[str, Any]:
    """List the security groups of a server"""
    row = server_of(call)
    own = service_context("compute")
    ports = networks.ports_of(call.service, own, [row["id"]])
    wanted = sorted({group for port in ports for group in port.get("security_groups", ())})
    groups = networks.list_all(call.service, own, "security_groups", id=wanted) if wanted else []
    return {"security_groups": [security_group_view(group) for group in groups]}


@operations(
    "GET",
    "/servers/{server_id}/os-virtual-interfaces",
    rule="os_compute_api:os-attach-interfaces:list",
    late=True,
    versions="2.1-2.43",
)
def virtual_interfaces(call: Call) -> dict[str, Any]:
    """List a server's cards in the oldest form"""
    row = server_of(call, SERVERS.c.network_info)
    found = [{"id": vif["port_id"], "mac_address": vif["mac"]} for vif in row["network_info"] or ()]
    if call.at_least(2, 12):
        for view, vif in zip(found, row["network_info"] or (), strict=True):
            view["net_id"] = vif["network_id"]
    return {"virtual_interfaces": found}
