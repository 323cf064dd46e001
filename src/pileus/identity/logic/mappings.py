"""Commands and queries on mappings: rules that say who the users of an identity provider are here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.identity.errors import not_found
from pileus.identity.store import federation as store
from pileus.identity.store import listing, revision
from pileus.identity.store.federation_tables import mappings
from pileus.identity.store.listing import Listing, Lock, Record
from pileus.kernel.service import Service

from . import mapping_schema
from .common import check_id, check_same_id, unique_id

_FIRST_VERSION = mapping_schema.VERSIONS[0]


def list_mappings(service: Service, wanted: Listing) -> Sequence[Record]:
    with service.db.read() as conn:
        return listing.select(conn, store.MAPPING_COLUMNS, mappings, wanted)


def find(service: Service, mapping_id: str) -> Record:
    """Raises NotFound."""
    with service.db.read() as conn:
        return required(conn, mapping_id)


def create(service: Service, mapping_id: str, body: Mapping[str, Any]) -> Record:
    """Raises Invalid with what is wrong, AlreadyExists."""
    check_id("mapping", mapping_id)
    check_same_id("mapping", mapping_id, body)
    version = body.get("schema_version") or _FIRST_VERSION
    mapping_schema.check(body["rules"], version)
    with unique_id("mapping", mapping_id), service.db.write() as conn:
        conn.execute(sa.insert(mappings).values(id=mapping_id, rules=body["rules"], schema_version=version))
        return required(conn, mapping_id)


def update(service: Service, mapping_id: str, body: Mapping[str, Any]) -> Record:
    """Other rules: what the former ones came to ends, users have to log in again. Raises NotFound, Invalid."""
    check_same_id("mapping", mapping_id, body)
    with service.db.write() as conn:
        present = required(conn, mapping_id, "update")
        version = body.get("schema_version") or present.schema_version
        mapping_schema.check(body["rules"], version)
        listing.change(conn, mappings, mapping_id, {"rules": body["rules"], "schema_version": version})
        store.end_memberships(conn, mapping_id=mapping_id)
        changed = required(conn, mapping_id)
        revision.advance(conn)
        return changed


def delete(service: Service, mapping_id: str) -> None:
    """Nobody can log in by it any more, what it came to ends. Raises NotFound."""
    with service.db.write() as conn:
        if listing.remove(conn, mappings, mapping_id) == 0:
            raise not_found("mapping", mapping_id)
        store.end_memberships(conn, mapping_id=mapping_id)
        revision.advance(conn)


def required(conn: sa.Connection, mapping_id: str, lock: Lock = None) -> Record:
    """Raises NotFound."""
    row = store.mapping(conn, mapping_id, lock)
    if row is None:
        raise not_found("mapping", mapping_id)
    return row
