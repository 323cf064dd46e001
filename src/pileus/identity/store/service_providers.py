"""Service providers: other clouds whose users come from here."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from .federation_tables import service_providers
from .listing import Record

COLUMNS = (
    service_providers.c.id,
    service_providers.c.auth_url,
    service_providers.c.sp_url,
    service_providers.c.relay_state_prefix,
    service_providers.c.enabled,
    service_providers.c.description,
)


def enabled(conn: sa.Connection) -> Sequence[Record]:
    """(id, auth_url, sp_url) of those that may be used."""
    table = service_providers
    query = sa.select(table.c.id, table.c.auth_url, table.c.sp_url).where(table.c.enabled == sa.true()).order_by(table.c.id)
    return conn.execute(query).all()
