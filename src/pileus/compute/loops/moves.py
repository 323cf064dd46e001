"""Moves that nobody waits for any more come to their end: evacuated hosts that are back, resizes that are not confirmed, claims left over."""

from __future__ import annotations

import datetime as dt
import logging

import sqlalchemy as sa

from pileus.compute.logic import hosts, moves, placement
from pileus.compute.store import moves as store
from pileus.compute.store.tables import MIGRATIONS
from pileus.kernel import clock
from pileus.kernel.bus import BusTimeout, BusUnavailable, RemoteError
from pileus.kernel.context import service_context
from pileus.kernel.errors import Failure
from pileus.kernel.service import Service

_log = logging.getLogger(__name__)


def evacuated(service: Service) -> None:
    """A host that is back and has removed what was evacuated from it gets its room back."""
    where = (MIGRATIONS.c.status == "done", MIGRATIONS.c.migration_type == store.EVACUATION)
    with service.db.read() as conn:
        waiting = [dict(row) for row in conn.execute(sa.select(MIGRATIONS).where(*where)).mappings()]
        up = {row["source_compute"]: False for row in waiting}
        up = {host: hosts.host_is_up(service.options, conn, host) for host in up}
    for move in waiting:
        if up[move["source_compute"]] and _is_removed(service, move["source_compute"], move["server_id"]):
            placement.release(service, service_context("compute"), move["uuid"])
            with service.db.write(durable=False) as conn:
                store.swap(conn, move["id"], ["done"], "completed")


def _is_removed(service: Service, host: str, server_id: str) -> bool:
    """Whether a host has neither guest nor files of a server."""
    try:
        answer = service.bus.call(f"agent.{host}", "compute.state", {"id": server_id}, timeout=10.0)
    except (BusTimeout, BusUnavailable, RemoteError):
        return False
    return answer["power_state"] == "missing" and not answer["prepared"]


def unconfirmed(service: Service) -> None:
    """Confirm resizes that have waited for longer than the operator lets them."""
    window = service.options.resize_confirm_window
    if window <= 0:
        return
    before = clock.utcnow() - dt.timedelta(seconds=window)
    query = sa.select(MIGRATIONS.c.server_id).where(MIGRATIONS.c.status == "finished", MIGRATIONS.c.updated_at < before)
    with service.db.read() as conn:
        waiting = list(conn.execute(query).scalars())
    for server_id in waiting:
        try:
            moves.confirm(service, service_context("compute"), server_id, unlocked=True)
        except Failure as failure:
            _log.info("the resize of server %s is not confirmed: %s", server_id, failure.message)
