"""Addresses, cards and security groups of servers."""

from __future__ import annotations

from typing import Any

from pileus.compute.api import schemas as s
from pileus.compute.api.common import server_of
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
    found = addresses_of(row["network_info"] or [])
    return {label: [{"version": ip["version"], "addr": ip["addr"]} for ip in listed] for label, listed in found.items()}


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


def security_group_view(group: dict[str, Any]) -> dict[str, Any]:
    """A security group of the network service in compute's older form; only ingress rules exist there."""
    return {
        "id": group["id"],
        "name": group["name"],
        "description": group.get("description") or "",
        "tenant_id": group["tenant_id"],
        "rules": [rule_view(r) for r in group.get("security_group_rules", ()) if r["direction"] == "ingress"],
    }


def rule_view(rule: dict[str, Any]) -> dict[str, Any]:
    protocol = rule["protocol"]
    low, high = rule["port_range_min"], rule["port_range_max"]
    every = {"icmp": (-1, -1), "tcp": (1, 65535), "udp": (1, 65535)}.get(str(protocol or "").lower(), (None, None))
    cidr = rule.get("remote_ip_prefix")
    if not cidr and not rule.get("remote_group_id"):
        cidr = "::/0" if rule["ethertype"] == "IPv6" else "0.0.0.0/0"
    return {
        "id": rule["id"],
        "parent_group_id": rule["security_group_id"],
        "ip_protocol": protocol,
        "from_port": every[0] if low is None else low,
        "to_port": every[1] if high is None else high,
        "group": {"tenant_id": rule["tenant_id"], "name": rule["remote_group_id"]}
        if rule.get("remote_group_id")
        else {},
        "ip_range": {"cidr": cidr} if cidr else {},
    }


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


_POOLS = "os_compute_api:os-floating-ips"
_OLD = "2.1-2.35"


def _floating_view(item: dict[str, Any], pools: dict[str, str]) -> dict[str, Any]:
    details = item.get("port_details") or {}
    return {
        "id": item["id"],
        "ip": item["floating_ip_address"],
        "pool": pools.get(item["floating_network_id"], item["floating_network_id"]),
        "fixed_ip": item["fixed_ip_address"],
        "instance_id": details.get("device_id") or None,
    }


def _external(call: Call) -> dict[str, str]:
    fields = ["id", "name"]
    found = networks.list_all(call.service, call.context, "networks", router_external=True, fields=fields)
    return {network["id"]: network["name"] for network in found}


@operations("GET", "/os-floating-ip-pools", rule="os_compute_api:os-floating-ip-pools", versions=_OLD)
def list_pools(call: Call) -> dict[str, Any]:
    """List external networks as pools of floating IP addresses"""
    return {"floating_ip_pools": [{"name": name} for name in _external(call).values()]}


@operations("GET", "/os-floating-ips", rule=f"{_POOLS}:list", versions=_OLD)
def list_floating_ips(call: Call) -> dict[str, Any]:
    """List floating IP addresses"""
    items = networks.list_all(call.service, call.context, "floatingips", tenant_id=call.context.project_id)
    pools = _external(call)
    return {"floating_ips": [_floating_view(item, pools) for item in items]}


@operations("GET", "/os-floating-ips/{floating_ip_id}", rule=f"{_POOLS}:show", versions=_OLD)
def show_floating_ip(call: Call) -> dict[str, Any]:
    """Show a floating IP address"""
    floating_ip_id = call.params["floating_ip_id"]
    item = networks.show_floatingip(call.service, call.context, floating_ip_id)
    return {"floating_ip": _floating_view(item, _external(call))}


@operations("GET", "/os-security-groups", rule="os_compute_api:os-security-groups:get", versions=_OLD)
def list_groups(call: Call) -> dict[str, Any]:
    """List the project's security groups"""
    groups = networks.list_all(call.service, call.context, "security_groups", tenant_id=call.context.project_id)
    return {"security_groups": [security_group_view(group) for group in groups]}


@operations("GET", "/os-security-groups/{group_id}", rule="os_compute_api:os-security-groups:show", versions=_OLD)
def show_group(call: Call) -> dict[str, Any]:
    """Show a security group"""
    group_id = call.params["group_id"]
    found = networks.list_all(call.service, call.context, "security_groups", id=group_id)
    if not found:
        raise NotFound(f"Security group {group_id} not found.")
    return {"security_group": security_group_view(found[0])}


@operations("GET", "/os-networks", rule="os_compute_api:os-networks:list", versions=_OLD)
def list_networks(call: Call) -> dict[str, Any]:
    """List networks by id and label"""
    found = networks.list_all(call.service, call.context, "networks", fields=["id", "name"])
    return {"networks": [{"id": network["id"], "label": network["name"]} for network in found]}


@operations("GET", "/os-tenant-networks", rule="os_compute_api:os-tenant-networks:list", versions=_OLD)
def list_tenant_networks(call: Call) -> dict[str, Any]:
    """List networks of the project"""
    found = networks.list_all(call.service, call.context, "networks", fields=["id", "name"])
    return {"networks": [{"id": network["id"], "label": network["name"], "cidr": "None"} for network in found]}
