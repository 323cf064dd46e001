"""Limits of projects: which there are, what they default to, and the sentences of a refusal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from pileus.compute.errors import TooMany
from pileus.compute.options import Options
from pileus.compute.store.tables import QUOTA_CLASSES
from pileus.kernel import quota
from pileus.kernel.service import Service

COUNTED = ("instances", "cores", "ram", "server_groups")
"""Used up by a project as a whole; key pairs count per user, the others per server, file or group."""

PER_ITEM = (
    "metadata_items",
    "injected_files",
    "injected_file_content_bytes",
    "injected_file_path_bytes",
    "key_pairs",
    "server_group_members",
)
GONE = ("fixed_ips", "floating_ips", "security_groups", "security_group_rules", "networks")
"""Limits that the network service has today; shown as unlimited to clients of microversions below 2.36."""

RESOURCES = (*COUNTED, *PER_ITEM)


def option_defaults(options: Options) -> dict[str, int]:
    """Resource -> limit from the configuration."""
    names = {"injected_file_path_bytes": "quota_injected_file_path_length"}
    return {r: getattr(options, names.get(r, f"quota_{r}")) for r in RESOURCES}


def class_limits(conn: sa.Connection, class_name: str = "default") -> dict[str, int]:
    """What was set for a quota class; class `default` overrides the configuration for everybody."""
    query = sa.select(QUOTA_CLASSES.c.resource, QUOTA_CLASSES.c.hard_limit)
    return {r: n for r, n in conn.execute(query.where(QUOTA_CLASSES.c.class_name == class_name))}


def defaults(service: Service, conn: sa.Connection) -> dict[str, int]:
    """Resource -> limit of a project for which nothing was set."""
    return {**option_defaults(service.options), **class_limits(conn)}


def limits(service: Service, conn: sa.Connection, project_id: str) -> dict[str, int]:
    """Resource -> limit that holds for a project."""
    return quota.limits(conn, project_id, defaults(service, conn))


def reserve(service: Service, conn: sa.Connection, project_id: str, amounts: Mapping[str, int]) -> None:
    """Count what is about to be used. Raises `TooMany`; negative amounts give back and always succeed."""
    base = defaults(service, conn) if any(n > 0 for n in amounts.values()) else {}
    try:
        quota.reserve(conn, project_id, amounts, base)
    except quota.Exceeded:
        raise TooMany(_sentence(conn, project_id, amounts, base)) from None


def release(conn: sa.Connection, project_id: str, amounts: Mapping[str, int]) -> None:
    """Give back what is not used any more."""
    quota.reserve(conn, project_id, {name: -number for name, number in amounts.items()}, {})


def headroom(service: Service, conn: sa.Connection, project_id: str, one: Mapping[str, int]) -> int:
    """How many more things of size `one` the project may have; a large number without limits."""
    allowed = limits(service, conn, project_id)
    used = quota.usages(conn, project_id)
    room = 1 << 30
    for name, size in one.items():
        if size > 0 and allowed[name] != quota.UNLIMITED:
            room = min(room, max(0, allowed[name] - used.get(name, 0)) // size)
    return room


def _sentence(conn: sa.Connection, project_id: str, amounts: Mapping[str, int], base: Mapping[str, int]) -> str:
    allowed = quota.limits(conn, project_id, base)
    used = quota.usages(conn, project_id)
    over = [
        name
        for name in sorted(amounts)
        if allowed[name] != quota.UNLIMITED and used.get(name, 0) + amounts[name] > allowed[name]
    ]
    names = ", ".join(over)
    return (
        f"Quota exceeded for {names}: Requested {', '.join(str(amounts[n]) for n in over)}, but already used "
        f"{', '.join(str(used.get(n, 0)) for n in over)} of {', '.join(str(allowed[n]) for n in over)} {names}"
    )


def usage_report(service: Service, conn: sa.Connection, project_id: str) -> dict[str, dict[str, Any]]:
    """Resource -> {limit, in_use, reserved}."""
    used = quota.usages(conn, project_id)
    return {
        name: {"limit": limit, "in_use": used.get(name, 0) if name in COUNTED else 0, "reserved": 0}
        for name, limit in limits(service, conn, project_id).items()
    }
