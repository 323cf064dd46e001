"""Rows that nothing needs any longer: old tombstones of hosts."""

from __future__ import annotations

import sqlalchemy as sa

from pileus.kernel import desired
from pileus.kernel.service import Service
from pileus.network.store import tables as t

_HOSTS = t.METADATA.tables["desired_hosts"]


def collect_leftovers(service: Service) -> None:
    """Forget tombstones that no host needs."""
    with service.db.read() as conn:
        hosts = list(conn.execute(sa.select(_HOSTS.c.host)).scalars())
    for host in hosts:
        with service.db.write(durable=False) as conn:
            desired.forget_tombstones(conn, host)
