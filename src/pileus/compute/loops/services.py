"""The services of compute: this controller is alive; which hosts came and went."""

from __future__ import annotations

import logging

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
        for row in store.services(conn, SERVICES.c.binary == store.COMPUTE):
            up = hosts.is_up(service.options, row, now)
            if up == row["was_up"]:
                continue
            _log.warning("host %s is %s", row["host"], "up again" if up else "down: it has not reported")
            conn.execute(SERVICES.update().where(SERVICES.c.id == row["id"]).values(was_up=up))
