"""/v2.0/security-groups and /v2.0/security-group-rules."""

from __future__ import annotations

import ipaddress
from typing import Any

import sqlalchemy as sa

from pileus.kernel.web import Call, Operations
from pileus.network.api import attributes as a
from pileus.network.api import collection as c
from pileus.network.api.attributes import Attribute
from pileus.network.logic import security_groups as logic
from pileus.network.logic.protocols import NUMBERS
from pileus.network.store import tables as t
from pileus.network.store.kinds import SECURITY_GROUP, SECURITY_GROUP_RULE

operations = Operations()

GROUP: dict[str, Attribute] = {
    **a.STANDARD,
    "name": a.NAME,
    "description": a.DESCRIPTION,
    "stateful": Attribute(a.boolean, default=True),
    "security_group_rules": a.read_only(),
}


def _protocol(value: Any) -> str | None:
    """A known name in lower case, a number from 0 to 255 as text, or None for any."""
    text = str(value).lower() if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    if value is None or text in {"any", ""}:
        if value is None or text == "any":
            return None
        raise a.Wrong(f"'{value}' is not a protocol")
    if text in NUMBERS:
        return text
    if text.isdigit() and int(text) <= 255:
        return str(int(text))
    raise a.Wrong(f"'{value}' is neither the name of a protocol nor a number from 0 to 255")


def _prefix(value: Any) -> str:
    """A CIDR as it came; an address alone is a network of one."""
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise a.Wrong(f"'{value}' is not a valid IP subnet") from None
    return str(value) if "/" in value else f"{value}/{network.max_prefixlen}"


def _text_prefix(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise a.Wrong(f"'{value}' is not a valid IP subnet")
    return _prefix(value)


def _ethertype(value: Any) -> str:
    names = {"ipv4": "IPv4", "ipv6": "IPv6"}
    if isinstance(value, str) and value.lower() in names:
        return names[value.lower()]
    raise a.Wrong(f"'{value}' is not in ['IPv4', 'IPv6']")


def _number(value: Any) -> int | None:
    """A port, or an ICMP type or code."""
    if value is None:
        return None
    number: int = a.integer()(value)
    if not 0 <= number <= 65535:
        raise a.Wrong(f"Invalid value for port {value}")
    return number


RULE: dict[str, Attribute] = {
    "id": a.read_only(),
    "project_id": a.STANDARD["project_id"],
    "revision_number": a.read_only(),
    "created_at": a.read_only(),
    "updated_at": a.read_only(),
    "normalized_cidr": a.read_only(),
    "security_group_id": Attribute(a.uuid, update=False, default=a.REQUIRED),
    "direction": Attribute(a.one_of("ingress", "egress"), update=False, default=a.REQUIRED),
    "ethertype": Attribute(_ethertype, update=False, default="IPv4"),
    "protocol": Attribute(_protocol, update=False, default=None),
    "port_range_min": Attribute(_number, update=False, default=None),
    "port_range_max": Attribute(_number, update=False, default=None),
    "remote_ip_prefix": Attribute(_text_prefix, update=False, default=None),
    "remote_group_id": Attribute(a.or_none(a.text(36)), update=False, default=None),
    "description": Attribute(a.none_as("", a.text()), update=False, default=""),
}


def _ensure_default(call: Call) -> None:
    """The default group of the caller's project; a service looks on behalf of the project it filters by."""
    project = call.context.project_id
    if "service" in call.context.roles:
        project = call.query.one("project_id") or call.query.one("tenant_id")
    if call.allows("get_security_group"):
        logic.ensure_default(call.service, project)


@operations("GET", "/security-groups", rule="get_security_group", late=True)
def list_security_groups(call: Call) -> dict[str, Any]:
    """List security groups with their rules; the project's default one is made at its first look."""
    _ensure_default(call)
    return c.list_all(call, SECURITY_GROUP)


@operations("GET", "/security-groups/{id}", rule="get_security_group", late=True)
def show_security_group(call: Call) -> dict[str, Any]:
    """Show a security group with its rules."""
    return c.show(call, SECURITY_GROUP, call.params["id"])


@operations("POST", "/security-groups", rule="create_security_group", late=True, status=201)
def create_security_group(call: Call) -> dict[str, Any]:
    """Create one security group or several; everything may leave, nothing may enter."""
    items, bulk = c.parse_new(call, SECURITY_GROUP, GROUP)
    return c.answer_new(call, SECURITY_GROUP, logic.create_groups(call.service, items), bulk=bulk)


@operations("PUT", "/security-groups/{id}", rule="update_security_group", late=True)
def update_security_group(call: Call) -> dict[str, Any]:
    """Change a security group."""
    _, values = c.parse_change(call, SECURITY_GROUP, GROUP, call.params["id"])
    return c.answer(call, SECURITY_GROUP, logic.update_group(call.service, call.params["id"], values, c.revision(call)))


@operations("DELETE", "/security-groups/{id}", rule="delete_security_group", late=True, status=204)
def delete_security_group(call: Call) -> None:
    """Delete a security group that no port uses."""
    c.may_delete(call, SECURITY_GROUP, call.params["id"])
    logic.delete_group(call.service, call.context, call.params["id"], c.revision(call))


@operations("GET", "/security-group-rules", rule="get_security_group_rule", late=True)
def list_security_group_rules(call: Call) -> dict[str, Any]:
    """List rules of security groups."""
    _ensure_default(call)
    return c.list_all(call, SECURITY_GROUP_RULE)


@operations("GET", "/security-group-rules/{id}", rule="get_security_group_rule", late=True)
def show_security_group_rule(call: Call) -> dict[str, Any]:
    """Show a rule."""
    return c.show(call, SECURITY_GROUP_RULE, call.params["id"])


@operations("POST", "/security-group-rules", rule="create_security_group_rule", late=True, status=201)
def create_security_group_rule(call: Call) -> dict[str, Any]:
    """Add one rule or several to a security group."""
    items, bulk = c.parse_new(call, SECURITY_GROUP_RULE, RULE)
    made = logic.create_rules(call.service, call.context, items)
    return c.answer_new(call, SECURITY_GROUP_RULE, made, bulk=bulk)


def _group_owner(call: Call, body: dict[str, Any]) -> dict[str, Any]:
    table = t.security_groups
    with call.service.db.read() as conn:
        owner = conn.execute(sa.select(table.c.project_id).where(table.c.id == body["security_group_id"])).scalar()
    return {"security_group:tenant_id": owner, "security_group:project_id": owner}


@operations("DELETE", "/security-group-rules/{id}", rule="delete_security_group_rule", late=True, status=204)
def delete_security_group_rule(call: Call) -> None:
    """Remove a rule from its security group."""
    c.may_delete(call, SECURITY_GROUP_RULE, call.params["id"], lambda body: _group_owner(call, body))
    logic.delete_rule(call.service, call.params["id"], c.revision(call))
