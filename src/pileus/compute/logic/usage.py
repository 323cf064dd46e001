"""What projects used in a period: hours of their servers, times what those have."""

from __future__ import annotations

import datetime as dt
from typing import Any

import sqlalchemy as sa

from pileus.compute.errors import BadRequest
from pileus.compute.logic import states
from pileus.compute.store.tables import SERVERS
from pileus.kernel import clock
from pileus.kernel.service import Service


def usage(
    service: Service,
    project_id: str | None,
    start: dt.datetime,
    end: dt.datetime,
    *,
    marker: str | None,
    limit: int | None,
) -> tuple[list[dict[str, Any]], str | None]:
    """Usage by project with `server_usages`, ordered by the servers' ids; the last server of a full page."""
    columns = SERVERS.c
    query = (
        sa.select(
            columns.id,
            columns.name,
            columns.project_id,
            columns.flavor,
            columns.vm_state,
            columns.task_state,
            columns.launched_at,
            columns.terminated_at,
        )
        .where(
            columns.launched_at.is_not(None),
            columns.launched_at < end,
            sa.or_(columns.terminated_at.is_(None), columns.terminated_at > start),
        )
        .order_by(columns.project_id, columns.id)
    )
    if project_id is not None:
        query = query.where(columns.project_id == project_id)
    with service.db.read() as conn:
        if marker is not None:
            after = conn.execute(sa.select(columns.project_id).where(columns.id == marker)).scalar()
            if after is None:
                raise BadRequest(f"marker [{marker}] not found")
            later = sa.and_(columns.project_id == after, columns.id > marker)
            query = query.where(sa.or_(columns.project_id > after, later))
        rows = conn.execute(query.limit(limit)).mappings().all()
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        project = found.setdefault(row["project_id"], _empty(row["project_id"], start, end))
        _add(project, row, start, end)
    last = rows[-1]["id"] if rows and limit is not None and len(rows) == limit else None
    return list(found.values()), last


def _empty(project_id: str, start: dt.datetime, end: dt.datetime) -> dict[str, Any]:
    return {
        "tenant_id": project_id,
        "start": clock.iso_micro(start),
        "stop": clock.iso_micro(end),
        "total_hours": 0.0,
        "total_vcpus_usage": 0.0,
        "total_memory_mb_usage": 0.0,
        "total_local_gb_usage": 0.0,
        "server_usages": [],
    }


def _add(project: dict[str, Any], row: Any, start: dt.datetime, end: dt.datetime) -> None:
    launched, terminated = row["launched_at"], row["terminated_at"]
    until = min(terminated, end) if terminated else end
    hours = max(0.0, (until - max(launched, start)).total_seconds()) / 3600
    flavor = row["flavor"]
    local = flavor["root_gb"] + flavor["ephemeral_gb"]
    ended = terminated is not None
    now = min(end, clock.utcnow())
    state = "terminated" if ended else states.status(row["vm_state"], row["task_state"]).lower()
    project["server_usages"].append(
        {
            "instance_id": row["id"],
            "name": row["name"],
            "hours": hours,
            "flavor": flavor["name"],
            "vcpus": flavor["vcpus"],
            "memory_mb": flavor["memory_mb"],
            "local_gb": local,
            "tenant_id": row["project_id"],
            "started_at": clock.iso_micro(launched),
            "ended_at": clock.iso_micro(terminated),
            "state": state,
            "uptime": int(((terminated or now) - launched).total_seconds()),
        }
    )
    project["total_hours"] += hours
    project["total_vcpus_usage"] += hours * flavor["vcpus"]
    project["total_memory_mb_usage"] += hours * flavor["memory_mb"]
    project["total_local_gb_usage"] += hours * local
