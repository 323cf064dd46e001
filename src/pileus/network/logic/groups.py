"""Security groups of projects as ports need them: the default one, and whether the named ones exist."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from pileus.kernel import ids
from pileus.kernel.db import insert_ignore
from pileus.network import errors
from pileus.network.logic.change import Change, count, standard
from pileus.network.logic.protocols import number_of
from pileus.network.store import tables as t

_DEFAULT = sa.select(t.security_groups.c.id).where(t.security_groups.c.default_of == sa.bindparam("project_id"))


def default_group(change: Change, project_id: str) -> str:
    """The id of the project's default group, which is made when first asked for."""
    found: str | None = change.conn.execute(_DEFAULT, {"project_id": project_id}).scalar()
    return found or _make_default(change, project_id)


def _make_default(change: Change, project_id: str) -> str:
    group_id = ids.new_uuid()
    row = {
        "id": group_id,
        "project_id": project_id,
        "name": "default",
        "description": "Default security group",
        "stateful": True,
        "default_of": project_id,
        **standard(),
    }
    if not insert_ignore(change.conn, t.security_groups, [row]):  # another request was first
        return str(change.conn.execute(_DEFAULT, {"project_id": project_id}).scalar_one())
    count(change, project_id, "security_group")
    first_rules(change, group_id, project_id, default=True)
    return group_id


def first_rules(change: Change, group_id: str, project_id: str, *, default: bool) -> None:
    """Give a new group its first rules: everything out and, for a project's default group, everything in from its members."""
    wanted: list[tuple[str, str, str | None]] = [("egress", "IPv4", None), ("egress", "IPv6", None)]
    if default:
        wanted += [("ingress", "IPv4", group_id), ("ingress", "IPv6", group_id)]
    for direction, ethertype, remote in wanted:
        insert_rule(change, project_id, {"security_group_id": group_id, "direction": direction, "ethertype": ethertype, "remote_group_id": remote})
    count(change, project_id, "security_group_rule", len(wanted))


def signature(rule: dict[str, Any]) -> str:
    """What makes two rules of one group the same rule: names and numbers of a protocol are one."""
    prefix = rule.get("remote_ip_prefix")
    parts = (
        rule["direction"],
        rule["ethertype"],
        number_of(rule.get("protocol")),
        rule.get("port_range_min"),
        rule.get("port_range_max"),
        ipaddress.ip_network(prefix, strict=False) if prefix else None,
        rule.get("remote_group_id"),
    )
    return "|".join("" if part is None else str(part) for part in parts)


def insert_rule(change: Change, project_id: str, rule: dict[str, Any]) -> str | None:
    """Write a rule; its id, or None when the group has the same one."""
    row = {
        "id": ids.new_uuid(),
        "project_id": project_id,
        "security_group_id": rule["security_group_id"],
        "direction": rule["direction"],
        "ethertype": rule["ethertype"],
        "protocol": rule.get("protocol"),
        "port_range_min": rule.get("port_range_min"),
        "port_range_max": rule.get("port_range_max"),
        "remote_ip_prefix": rule.get("remote_ip_prefix"),
        "remote_group_id": rule.get("remote_group_id"),
        "description": rule.get("description") or "",
        "signature": signature(rule),
        **standard(),
    }
    return str(row["id"]) if insert_ignore(change.conn, t.security_group_rules, [row]) else None


def check(change: Change, project_id: str, wanted: Sequence[str]) -> list[str]:
    """The named groups, once each. Raises SecurityGroupNotFound for one that is not the project's."""
    named = list(dict.fromkeys(wanted))
    if not named:
        return []
    table = t.security_groups
    query = sa.select(table.c.id).where(table.c.id.in_(named), table.c.project_id == project_id)
    known = set(change.conn.execute(query).scalars())
    for id in named:
        if id not in known:
            raise errors.SecurityGroupNotFound(id)
    return named
