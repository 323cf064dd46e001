"""Commands and queries on policy blobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.identity.errors import not_found
from pileus.identity.store import listing
from pileus.identity.store.listing import Listing, Record
from pileus.identity.store.tables import policies
from pileus.kernel import ids
from pileus.kernel.service import Service

from .common import check_same_id, extra_of, merged_extra

KNOWN = frozenset({"id", "type", "blob"})
_COLUMNS = (policies.c.id, policies.c.type, policies.c.blob, policies.c.extra)


def list_policies(service: Service, wanted: Listing) -> Sequence[Record]:
    with service.db.read() as conn:
        return listing.select(conn, _COLUMNS, policies, wanted)


def find(service: Service, policy_id: str) -> Record:
    """Raises NotFound."""
    with service.db.read() as conn:
        return required(conn, policy_id)


def create(service: Service, body: Mapping[str, Any]) -> Record:
    policy_id = ids.new_id()
    values = {"id": policy_id, "type": body["type"], "blob": body["blob"], "extra": extra_of(body, KNOWN)}
    with service.db.write() as conn:
        conn.execute(sa.insert(policies).values(**values))
        return required(conn, policy_id)


def update(service: Service, policy_id: str, body: Mapping[str, Any]) -> Record:
    """Raises NotFound, Invalid."""
    check_same_id("policy", policy_id, body)
    with service.db.write() as conn:
        present = required(conn, policy_id, "update")
        values = {name: body[name] for name in ("type", "blob") if name in body}
        listing.change(conn, policies, policy_id, {**values, "extra": merged_extra(present.extra, body, KNOWN)})
        return required(conn, policy_id)


def delete(service: Service, policy_id: str) -> None:
    """Raises NotFound."""
    with service.db.write() as conn:
        if listing.remove(conn, policies, policy_id) == 0:
            raise not_found("policy", policy_id)


def required(conn: sa.Connection, policy_id: str, lock: listing.Lock = None) -> Record:
    """Raises NotFound."""
    row = listing.by_id(conn, _COLUMNS, policies, policy_id, lock)
    if row is None:
        raise not_found("policy", policy_id)
    return row
