"""Compute learns what happened to the ports of its servers: each event is sent until compute has taken it."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from pileus.clients.base import PeerError, PeerUnauthorized, PeerUnavailable
from pileus.kernel import clock
from pileus.kernel.context import service_context
from pileus.kernel.service import Service
from pileus.network.store import tables as t

_log = logging.getLogger(__name__)
_BATCH = 200
_KEEP = dt.timedelta(hours=1)


def deliver_events(service: Service) -> int:
    """Send what is waiting, oldest first; how many events compute has taken. Stops at the first failure: the next pass comes."""
    if not service.clients.has("compute"):
        return 0
    sent = 0
    while events := _waiting(service):
        if not _send(service, events):
            break
        _forget(service, [event.id for event in events])
        sent += len(events)
    return sent


def _waiting(service: Service) -> Sequence[Any]:
    with service.db.read() as conn:
        return conn.execute(sa.select(t.port_events).order_by(t.port_events.c.id).limit(_BATCH)).all()


def _send(service: Service, events: Sequence[Any]) -> bool:
    """Whether these are done with: taken, or about servers that compute does not know."""
    bodies = []
    for event in events:
        body = {"name": event.name, "server_uuid": event.server_uuid, "status": event.status}
        if event.tag:
            body["tag"] = event.tag
        bodies.append(body)
    try:
        service.clients.compute(service_context("network")).external_events(bodies)
    except (PeerUnavailable, PeerUnauthorized) as error:
        _log.warning("compute does not take port events now: %s", error)
        return _too_old(events)
    except PeerError as error:
        # 404: none of these servers exists; 4xx: what cannot be said now cannot be said later either.
        _log.info("compute has no use for %d port events: %s", len(events), error)
    return True


def _too_old(events: Sequence[Any]) -> bool:
    return bool(all(event.created_at < clock.utcnow() - _KEEP for event in events))


def _forget(service: Service, ids: list[int]) -> None:
    with service.db.write(durable=False) as conn:
        conn.execute(sa.delete(t.port_events).where(t.port_events.c.id.in_(ids)))
