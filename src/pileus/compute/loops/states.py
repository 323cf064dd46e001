"""No server stays in work that nobody does, and none runs that was stopped."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa

from pileus.compute.logic import power, states
from pileus.compute.store.tables import SERVERS
from pileus.kernel import clock
from pileus.kernel.context import service_context
from pileus.kernel.service import Service

_QUIET = dt.timedelta(seconds=60)


def server_states(service: Service) -> None:
    """Take servers whose task has no flow out of it, and switch off what runs although it was stopped."""
    before = clock.utcnow() - _QUIET
    columns = SERVERS.c
    changed = sa.func.coalesce(columns.updated_at, columns.created_at)
    with service.db.read() as conn:
        stuck = list(
            conn.execute(
                sa.select(columns.id).where(
                    columns.deleted.is_(False), columns.task_state.is_not(None), changed < before
                )
            ).scalars()
        )
        running = sa.select(columns.id).where(
            columns.deleted.is_(False),
            columns.vm_state == states.STOPPED,
            columns.task_state.is_(None),
            columns.power_state == states.RUNNING,
            changed < before,
        )
        astray = list(conn.execute(running).scalars())
    for server_id in stuck:
        _settle(service, server_id)
    for server_id in astray:
        power.stop_again(service, service_context("compute"), server_id)


def _settle(service: Service, server_id: str) -> None:
    with service.db.write() as conn:
        row = conn.execute(sa.select(SERVERS).where(SERVERS.c.id == server_id).with_for_update()).mappings().first()
        if row is None or row["deleted"] or row["task_state"] is None or service.flows.unfinished(conn, server_id):
            return
        if row["task_state"] == states.DELETING:
            power.start_deletion(service, conn, service_context("compute"), dict(row))
            return
        values: dict[str, object] = {"task_state": None, "updated_at": clock.utcnow()}
        if row["vm_state"] == states.BUILDING:
            values["vm_state"] = states.ERROR
        conn.execute(SERVERS.update().where(SERVERS.c.id == server_id).values(**values))
