"""Security groups and their rules: commands of the API."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.kernel import ids
from pileus.kernel.context import Context
from pileus.kernel.db import retried
from pileus.kernel.service import Service
from pileus.network import errors
from pileus.network.logic import concerns, groups
from pileus.network.logic.change import (
    Change,
    changing,
    check_revision,
    fetch,
    forget_tags,
    release,
    reserve,
    standard,
    update,
)
from pileus.network.logic.protocols import ICMP, WITH_PORTS, number_of
from pileus.network.store import render
from pileus.network.store import tables as t

Values = Mapping[str, Any]


@retried
def ensure_default(service: Service, project_id: str | None) -> None:
    """A project sees its default group from its first look on."""
    if not project_id:
        return
    with service.db.read() as conn:
        if conn.execute(sa.select(t.security_groups.c.id).where(t.security_groups.c.default_of == project_id)).first():
            return
    with changing(service) as change:
        groups.default_group(change, project_id)


def _show(conn: sa.Connection, ids_: Sequence[str]) -> list[dict[str, Any]]:
    rows = {row.id: row for row in conn.execute(sa.select(t.security_groups).where(t.security_groups.c.id.in_(ids_)))}
    return render.security_groups(conn, [rows[id] for id in ids_])


@retried
def create_groups(service: Service, items: Sequence[Values]) -> list[dict[str, Any]]:
    """Create groups, each with the rules that let everything out. Raises OverQuota, SecurityGroupDefaultAlreadyExists."""
    with changing(service) as change:
        return _show(change.conn, [_create_group(change, values) for values in items])


def _create_group(change: Change, values: Values) -> str:
    project_id = values["project_id"]
    if values["name"].lower() == "default":
        raise errors.SecurityGroupDefaultAlreadyExists("Default security group already exists.")
    groups.default_group(change, project_id)
    reserve(change, project_id, "security_group")
    row = {
        "id": ids.new_uuid(),
        "project_id": project_id,
        "name": values["name"],
        "description": values["description"],
        "stateful": values["stateful"],
        "default_of": None,
        **standard(),
    }
    change.conn.execute(sa.insert(t.security_groups), row)
    groups.first_rules(change, str(row["id"]), project_id, default=False)
    return str(row["id"])


@retried
def update_group(service: Service, group_id: str, values: Values, revision: int | None = None) -> dict[str, Any]:
    """Change a group. Raises SecurityGroupNotFound, SecurityGroupCannotUpdateDefault, SecurityGroupInUse."""
    with changing(service) as change:
        row = fetch(change.conn, t.security_groups, group_id, errors.SecurityGroupNotFound, lock=True)
        check_revision(row, revision)
        if row.default_of and values.get("name", row.name) != row.name:
            raise errors.SecurityGroupCannotUpdateDefault("Updating default security group not allowed.")
        if values.get("name", row.name) != row.name and values["name"].lower() == "default":
            raise errors.SecurityGroupDefaultAlreadyExists("Default security group already exists.")
        if values.get("stateful", row.stateful) != row.stateful and _has_ports(change, group_id):
            raise errors.SecurityGroupInUse(f"Security Group {group_id} in use.")
        update(change.conn, t.security_groups, group_id, values)
        return _show(change.conn, [group_id])[0]


def _has_ports(change: Change, group_id: str) -> bool:
    table = t.port_groups
    return change.conn.execute(sa.select(table.c.port_id).where(table.c.security_group_id == group_id).limit(1)).first() is not None


@retried
def delete_group(service: Service, context: Context, group_id: str, revision: int | None = None) -> None:
    """Delete a group, with the rules of others that refer to it. Raises SecurityGroupInUse, SecurityGroupCannotRemoveDefault."""
    with changing(service) as change:
        row = fetch(change.conn, t.security_groups, group_id, errors.SecurityGroupNotFound, lock=True)
        check_revision(row, revision)
        if row.default_of and not context.is_admin:
            raise errors.SecurityGroupCannotRemoveDefault("Insufficient rights for removing default security group.")
        if _has_ports(change, group_id):
            raise errors.SecurityGroupInUse(f"Security Group {group_id} in use.")
        table = t.security_group_rules
        either = sa.or_(table.c.security_group_id == group_id, table.c.remote_group_id == group_id)
        rules = change.conn.execute(sa.select(table.c.project_id, table.c.security_group_id).where(either)).all()
        change.conn.execute(sa.delete(table).where(either))
        for rule in rules:
            release(change, rule.project_id, "security_group_rule")
        for other in {rule.security_group_id for rule in rules} - {group_id}:
            concerns.rules_changed(change, other, [group_id])
        try:
            with change.conn.begin_nested():
                change.conn.execute(sa.delete(t.security_groups).where(t.security_groups.c.id == group_id))
        except sa.exc.IntegrityError:  # a port has joined it meanwhile
            raise errors.SecurityGroupInUse(f"Security Group {group_id} in use.") from None
        forget_tags(change.conn, [group_id])
        release(change, row.project_id, "security_group")


# -- rules -----------------------------------------------------------------------------------------------------------


@retried
def create_rules(service: Service, context: Context, items: Sequence[Values]) -> list[dict[str, Any]]:
    """Create rules, all or none. Raises SecurityGroupNotFound, SecurityGroupRuleExists, OverQuota and what `checked` raises."""
    if len({values["security_group_id"] for values in items}) > 1:
        raise errors.SecurityGroupNotSingleGroupRules("Only allowed to update rules for one security profile at a time.")
    with changing(service) as change:
        made = [_create_rule(change, context, checked(values)) for values in items]
        first = items[0]["security_group_id"]
        update(change.conn, t.security_groups, first, {})
        concerns.rules_changed(change, first, [str(values["remote_group_id"]) for values in items if values.get("remote_group_id")])
        table = t.security_group_rules
        rows = {row.id: row for row in change.conn.execute(sa.select(table).where(table.c.id.in_(made)))}
        return render.security_group_rules(change.conn, [rows[id] for id in made])


def _create_rule(change: Change, context: Context, rule: dict[str, Any]) -> str:
    for id in (rule["security_group_id"], rule.get("remote_group_id")):
        if id is None:
            continue
        row = fetch(change.conn, t.security_groups, id, errors.SecurityGroupNotFound, share=id != rule["security_group_id"])
        if row.project_id not in {context.project_id, rule["project_id"]} and not context.is_admin:
            raise errors.SecurityGroupNotFound(id)
    reserve(change, rule["project_id"], "security_group_rule")
    made = groups.insert_rule(change, rule["project_id"], rule)
    if made is None:
        table = t.security_group_rules
        query = sa.select(table.c.id).where(
            table.c.security_group_id == rule["security_group_id"], table.c.signature == groups.signature(rule)
        )
        raise errors.SecurityGroupRuleExists(
            f"Security group rule already exists. Rule id is {change.conn.execute(query).scalar()}."
        )
    return made


@retried
def delete_rule(service: Service, rule_id: str, revision: int | None = None) -> None:
    """Delete a rule. Raises SecurityGroupRuleNotFound."""
    with changing(service) as change:
        table = t.security_group_rules
        row = fetch(change.conn, table, rule_id, errors.SecurityGroupRuleNotFound, lock=True)
        check_revision(row, revision)
        change.conn.execute(sa.delete(table).where(table.c.id == rule_id))
        update(change.conn, t.security_groups, row.security_group_id, {})
        release(change, row.project_id, "security_group_rule")
        concerns.rules_changed(change, row.security_group_id, [row.remote_group_id])


def checked(values: Values) -> dict[str, Any]:
    """A rule that makes sense. Raises the errors of a rule that contradicts itself."""
    rule = dict(values)
    _check_ports(rule)
    _check_remote(rule)
    number = number_of(rule.get("protocol"))
    if number == 58 and rule["ethertype"] == "IPv4":
        raise errors.SecurityGroupEthertypeConflictWithProtocol(
            f"Invalid ethertype {rule['ethertype']} for protocol {rule['protocol']}."
        )
    return rule


def _check_ports(rule: Mapping[str, Any]) -> None:
    low, high, protocol = rule.get("port_range_min"), rule.get("port_range_max"), rule.get("protocol")
    if low is None and high is None:
        return
    number = number_of(protocol)
    if number is None:
        raise errors.SecurityGroupProtocolRequiredWithPorts("Must also specify protocol if port range is given.")
    if number in ICMP:
        for field, value in (("type (port-range-min)", low), ("code (port-range-max)", high)):
            if value is not None and not 0 <= value <= 255:
                raise errors.SecurityGroupInvalidIcmpValue(f"Invalid value for ICMP {field} {value}. It must be 0 to 255.")
        if low is None:
            raise errors.SecurityGroupMissingIcmpType(f"ICMP code (port-range-max) {high} is provided but ICMP type (port-range-min) is missing.")
        return
    if number not in WITH_PORTS:
        raise errors.SecurityGroupInvalidProtocolForPort(f"Invalid protocol {protocol} for port range, only TCP, UDP, UDPLITE, SCTP and DCCP have ports.")
    for value in (low, high):
        if value is not None and not 1 <= value <= 65535:
            raise errors.SecurityGroupInvalidPortValue(f"Invalid value for port {value}")
    if low is None or high is None or low > high:
        raise errors.SecurityGroupInvalidPortRange("For TCP/UDP protocols, port_range_min must be <= port_range_max")


def _check_remote(rule: dict[str, Any]) -> None:
    prefix = rule.get("remote_ip_prefix")
    if prefix is None:
        return
    if rule.get("remote_group_id"):
        raise errors.SecurityGroupRemoteGroupAndRemoteIpPrefix("Only remote_ip_prefix or remote_group_id may be provided.")
    version = ipaddress.ip_network(prefix, strict=False).version
    if version != (4 if rule["ethertype"] == "IPv4" else 6):
        raise errors.SecurityGroupRuleParameterConflict(
            f"Conflicting value ethertype {rule['ethertype']} for CIDR {prefix}"
        )


__all__ = [
    "checked",
    "create_groups",
    "create_rules",
    "delete_group",
    "delete_rule",
    "ensure_default",
    "update_group",
]
