"""Items of hosts that have no reason to have them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pileus.kernel.service import Service
from pileus.network.logic.binding import TAP
from pileus.network.logic.change import changing
from pileus.network.store import tables as t

_ITEMS = t.METADATA.tables["desired_items"]


def collect_leftovers(service: Service) -> int:
    """Take from hosts what has no reason to be there; how many items were taken.

    Commands keep hosts right by themselves; this is for what a fault left behind.
    """
    with service.db.read() as conn:
        unfounded = [row for reason in _REASONS for row in conn.execute(_without(*reason)).all()]
    if not unfounded:
        return 0
    with changing(service) as change:  # ask again: the reason may have come meanwhile
        for reason in _REASONS:
            for host, kind, id in change.conn.execute(_without(*reason)).all():
                change.drop(host, kind, [id])
    return len(unfounded)


def _without(kind: str, reason: sa.ColumnElement[bool]) -> sa.Select[Any]:
    query = sa.select(_ITEMS.c.host, _ITEMS.c.kind, _ITEMS.c.item_id)
    return query.where(_ITEMS.c.kind == kind, _ITEMS.c.gone.is_(False), ~sa.exists().where(reason))


_PREPARED = sa.exists().where(
    t.port_bindings.c.port_id == t.ports.c.id, t.port_bindings.c.host == _ITEMS.c.host, t.port_bindings.c.vif_type == TAP
)
_ON_HOST = sa.or_(t.ports.c.host_id == _ITEMS.c.host, _PREPARED)
_REASONS: tuple[tuple[str, sa.ColumnElement[bool]], ...] = (
    ("network", sa.and_(t.ports.c.network_id == _ITEMS.c.item_id, _ON_HOST)),
    ("port", sa.and_(t.ports.c.id == _ITEMS.c.item_id, _ON_HOST)),
    ("router", sa.and_(t.routers.c.id == _ITEMS.c.item_id, t.routers.c.host == _ITEMS.c.host)),
    ("group", t.security_groups.c.id == _ITEMS.c.item_id),
)
"""Why a host has an item of each kind."""
