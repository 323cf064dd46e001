"""What compute once did for networks, up to microversion 2.35: handed through to the network service with the caller's rights."""

from __future__ import annotations

from typing import Any

from pileus.compute.api import schemas as s
from pileus.compute.errors import BadRequest
from pileus.compute.logic import networks
from pileus.compute.logic import security_groups as logic
from pileus.kernel import ids
from pileus.kernel.web import Call, Operations

operations = Operations()


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
    found = logic.get_group(call.service, call.context, call.params["group_id"])
    return {"security_group": security_group_view(found)}


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


_GROUP_TEXT = {"type": ["string", "null"], "maxLength": 255}
_GROUP = s.wrap("security_group", s.obj({"name": _GROUP_TEXT, "description": _GROUP_TEXT}, ["name"]))
_GROUPS_RULE = "os_compute_api:os-security-groups"


def _group_body(call: Call) -> dict[str, str]:
    given = call.body["security_group"]
    if not (given["name"] or "").strip():
        raise BadRequest("Security group name should not be empty.")
    return {"name": given["name"], "description": given.get("description") or ""}


@operations("POST", "/os-security-groups", rule=f"{_GROUPS_RULE}:create", versions=_OLD, body=_GROUP)
def create_group(call: Call) -> dict[str, Any]:
    """Create a security group"""
    made = logic.create_group(call.service, call.context, _group_body(call))
    return {"security_group": security_group_view(made)}


@operations("PUT", "/os-security-groups/{group_id}", rule=f"{_GROUPS_RULE}:update", versions=_OLD, body=_GROUP)
def update_group(call: Call) -> dict[str, Any]:
    """Change a security group's name and description"""
    changed = logic.update_group(call.service, call.context, call.params["group_id"], _group_body(call))
    return {"security_group": security_group_view(changed)}


@operations("DELETE", "/os-security-groups/{group_id}", rule=f"{_GROUPS_RULE}:delete", versions=_OLD, status=202)
def delete_group(call: Call) -> None:
    """Delete a security group"""
    logic.delete_group(call.service, call.context, call.params["group_id"])


_PORT = {"type": ["integer", "string", "null"]}
_RULE = s.wrap(
    "security_group_rule",
    s.obj(
        {
            "parent_group_id": {"type": ["string", "integer", "null"]},
            "ip_protocol": {"type": ["string", "null"]},
            "from_port": _PORT,
            "to_port": _PORT,
            "cidr": {"type": ["string", "null"]},
            "group_id": {"type": ["string", "null"]},
        },
        ["parent_group_id"],
    ),
)


def _port_of(given: dict[str, Any], name: str) -> int | None:
    value = given.get(name)
    if value in {None, "", -1, "-1"}:
        return None
    return s.integer(value, name, 0, 65535)


def _rule_body(given: dict[str, Any]) -> dict[str, Any]:
    protocol = (given.get("ip_protocol") or "").lower()
    if protocol not in {"tcp", "udp", "icmp", "icmpv6", ""}:
        raise BadRequest(f"Invalid IP protocol {protocol}.")
    cidr = given.get("cidr")
    body: dict[str, Any] = {
        "security_group_id": str(given["parent_group_id"]),
        "direction": "ingress",
        "ethertype": "IPv6" if ":" in (cidr or "") else "IPv4",
        "protocol": protocol or None,
        "port_range_min": _port_of(given, "from_port"),
        "port_range_max": _port_of(given, "to_port"),
    }
    low, high = body["port_range_min"], body["port_range_max"]
    if protocol in {"tcp", "udp"} and low is not None and high is not None and low > high:
        raise BadRequest(f"Invalid port range {low}:{high}. Former value cannot be greater than the later")
    if given.get("group_id"):
        body["remote_group_id"] = given["group_id"]
    elif cidr:
        body["remote_ip_prefix"] = cidr
    return body


@operations("POST", "/os-security-group-rules", rule=f"{_GROUPS_RULE}:rule:create", versions=_OLD, body=_RULE)
def create_rule(call: Call) -> dict[str, Any]:
    """Create a rule of a security group"""
    body = _rule_body(call.body["security_group_rule"])
    if not ids.is_uuid_like(body["security_group_id"]):
        raise BadRequest(f"Invalid security group id {body['security_group_id']}: it must be a UUID.")
    made = logic.create_rule(call.service, call.context, body)
    view = rule_view(made)
    if made.get("remote_group_id"):
        remote = logic.get_group(call.service, call.context, made["remote_group_id"])
        view["group"] = {"tenant_id": made["tenant_id"], "name": remote["name"]}
    return {"security_group_rule": view}


@operations(
    "DELETE", "/os-security-group-rules/{rule_id}", rule=f"{_GROUPS_RULE}:rule:delete", versions=_OLD, status=202
)
def delete_rule(call: Call) -> None:
    """Delete a rule of a security group"""
    logic.delete_rule(call.service, call.context, call.params["rule_id"])
