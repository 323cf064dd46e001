"""The services of compute: this controller is alive; which hosts came and went."""

from __future__ import annotations

import datetime as dt
import logging

import sqlalchemy as sa

from pileus.compute.logic import hosts
from pileus.compute.store import hosts as store
from pileus.compute.store.tables import SERVICES
from pileus.kernel import clock
from pileus.kernel.service import Service

_log = logging.getLogger(__name__)

CONTROLLER = ("nova-conductor", "nova-scheduler")
"""Upstream's names for what the controller does; clients look for them."""


def compute_services(service: Service) -> None:
    now = clock.utcnow()
    with service.db.write(durable=False) as conn:
        for binary in CONTROLLER:
            hosts.seen(conn, service.host, binary)
        for row in store.services(conn, SERVICES.c.binary == store.COMPUTE, _moved(service, now)):
            up = hosts.is_up(service.options, row, now)
            if up == row["was_up"]:
                continue
            _log.warning("host %s is %s", row["host"], "up again" if up else "down: it has not reported")
            conn.execute(SERVICES.update().where(SERVICES.c.id == row["id"]).values(was_up=up))


def _moved(service: Service, now: dt.datetime) -> sa.ColumnElement[bool]:
    """Services that may not be as they are recorded: of thousands, few."""
    alive = SERVICES.c.last_seen_up >= now - dt.timedelta(seconds=service.options.service_down_time)
    up = sa.and_(SERVICES.c.forced_down.is_(False), SERVICES.c.last_seen_up.is_not(None), alive)
    return sa.case((up, SERVICES.c.was_up.is_(False)), else_=SERVICES.c.was_up)
