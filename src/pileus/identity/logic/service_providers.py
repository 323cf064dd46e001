"""Commands and queries on service providers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.identity.errors import invalid, not_found
from pileus.identity.store import listing, revision
from pileus.identity.store import service_providers as store
from pileus.identity.store.federation_tables import service_providers
from pileus.identity.store.listing import Listing, Record
from pileus.kernel.service import Service

from .common import unique_id


def list_all(service: Service, wanted: Listing) -> Sequence[Record]:
    with service.db.read() as conn:
        return listing.select(conn, store.COLUMNS, service_providers, wanted)


def find(service: Service, provider_id: str) -> Record:
    """Raises NotFound."""
    with service.db.read() as conn:
        return _required(conn, provider_id)


def create(service: Service, provider_id: str, body: Mapping[str, Any]) -> Record:
    """It cannot be used before it is enabled. Raises AlreadyExists, Invalid for the id."""
    if len(provider_id) > 64 or not provider_id.isprintable():
        raise invalid("The id of a service provider has at most 64 characters, all of them printable.")
    values = _values(service, {"enabled": False, "relay_state_prefix": None, **body})
    with unique_id("service_provider", provider_id), service.db.write() as conn:
        conn.execute(sa.insert(service_providers).values(id=provider_id, **values))
        made = _required(conn, provider_id)
        revision.advance(conn, catalog=True)
        return made


def update(service: Service, provider_id: str, body: Mapping[str, Any]) -> Record:
    """Raises NotFound."""
    with service.db.write() as conn:
        _required(conn, provider_id, "update")
        listing.change(conn, service_providers, provider_id, _values(service, body))
        changed = _required(conn, provider_id)
        revision.advance(conn, catalog=True)
        return changed


def delete(service: Service, provider_id: str) -> None:
    """Raises NotFound."""
    with service.db.write() as conn:
        if listing.remove(conn, service_providers, provider_id) == 0:
            raise not_found("service provider", provider_id)
        revision.advance(conn, catalog=True)


def _values(service: Service, body: Mapping[str, Any]) -> dict[str, Any]:
    """What is given; a prefix of None is the one that the options name."""
    values = dict(body)
    if "relay_state_prefix" in values and values["relay_state_prefix"] is None:
        values["relay_state_prefix"] = service.options.saml_relay_state_prefix
    return values


def _required(conn: sa.Connection, provider_id: str, lock: listing.Lock = None) -> Record:
    row = listing.by_id(conn, store.COLUMNS, service_providers, provider_id, lock)
    if row is None:
        raise not_found("service provider", provider_id)
    return row
