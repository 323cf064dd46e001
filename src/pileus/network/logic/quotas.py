"""Limits and usage of projects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pileus.kernel import quota
from pileus.kernel.service import Service
from pileus.network import errors
from pileus.network.logic.change import RESOURCES, defaults


def limits(service: Service, project_id: str) -> dict[str, int]:
    """The limits in force for a project."""
    with service.db.read() as conn:
        return quota.limits(conn, project_id, defaults(service))


def default_limits(service: Service) -> dict[str, int]:
    """The limits of a project for which none are set."""
    return defaults(service)


def details(service: Service, project_id: str) -> dict[str, dict[str, int]]:
    """Limit and usage of each resource. Nothing is ever reserved: usage is counted when it begins."""
    with service.db.read() as conn:
        own, used = quota.limits(conn, project_id, defaults(service)), quota.usages(conn, project_id)
    return {name: {"limit": own[name], "used": used.get(name, 0), "reserved": 0} for name in RESOURCES}


def projects_with_limits(service: Service) -> list[dict[str, Any]]:
    """All limits of the projects that have some of their own."""
    with service.db.read() as conn:
        own = quota.own_limits(conn)
    return [{"tenant_id": id, "project_id": id, **defaults(service), **values} for id, values in sorted(own.items())]


def set_limits(service: Service, project_id: str, values: Mapping[str, int], *, check: bool = False) -> dict[str, int]:
    """Set limits; with `check` raises InvalidQuotaValue for one below the usage."""
    with service.db.write() as conn:
        used = quota.usages(conn, project_id) if check else {}
        low = [name for name, value in values.items() if value != quota.UNLIMITED and used.get(name, 0) > value]
        if low:
            raise errors.InvalidQuotaValue(f"Change would make usage less than 0 for the following resources: {low}.")
        quota.set_limits(conn, project_id, values)
        return quota.limits(conn, project_id, defaults(service))


def reset(service: Service, project_id: str) -> None:
    """Back to the defaults."""
    with service.db.write() as conn:
        quota.reset_limits(conn, project_id)
