"""What happens to floating IPs when the ports behind them change."""

from __future__ import annotations

import sqlalchemy as sa

from pileus.kernel import ids
from pileus.network.logic import concerns
from pileus.network.logic.change import Change, update
from pileus.network.store import tables as t

FREE = {"port_id": None, "fixed_ip_address": None, "router_id": None, "status": "DOWN", "version": 0}
"""The columns of a floating IP that stands for nothing."""


def port_removed(change: Change, port_id: str) -> None:
    """Set free what stood for the port."""
    _set_free(change, t.floatingips.c.port_id == port_id)


def addresses_changed(change: Change, port_id: str, addresses: set[str]) -> None:
    """Set free what stood for an address that the port has no longer."""
    table = t.floatingips
    _set_free(change, sa.and_(table.c.port_id == port_id, table.c.fixed_ip_address.not_in(addresses)))


def _set_free(change: Change, condition: sa.ColumnElement[bool]) -> None:
    table = t.floatingips
    query = (
        sa.select(table.c.id, table.c.router_id, t.routers.c.host)
        .outerjoin(t.routers, t.routers.c.id == table.c.router_id)
        .where(condition)
    )
    for id, router_id, host in change.conn.execute(query).all():
        update(change.conn, table, id, FREE)
        if router_id and host:
            concerns.router_changed(change, router_id, host)


def tell_compute(change: Change, port_id: str | None) -> None:
    """Compute shows floating addresses of servers: let it look again."""
    if port_id is None:
        return
    query = sa.select(t.ports.c.device_id, t.ports.c.device_owner).where(t.ports.c.id == port_id)
    port = change.conn.execute(query).first()
    if port and port.device_owner.startswith("compute:") and ids.is_uuid_like(port.device_id):
        change.tell_compute("network-changed", port.device_id, port_id)
