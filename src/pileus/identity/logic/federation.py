"""Commands and queries on identity providers and their protocols.

Whatever ends what an identity provider may say (it is disabled or deleted, a protocol gets another mapping) takes its users out of
the groups in which it put them, and its tokens end: see `store.live`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from pileus.identity.errors import AlreadyExists, invalid, not_found
from pileus.identity.store import federation as store
from pileus.identity.store import listing, projects, revision
from pileus.identity.store.federation_tables import federation_protocols, identity_providers, remote_ids
from pileus.identity.store.listing import Listing, Lock, Record
from pileus.identity.store.tables import NO_DOMAIN
from pileus.kernel import ids
from pileus.kernel.db import is_unique_violation
from pileus.kernel.service import Service

from .common import check_id, unique_id
from .users import require_domain


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """Identity providers, with the remote ids of those that have any."""

    rows: Sequence[Record]
    remote_ids: Mapping[str, Sequence[str]]


def list_providers(service: Service, wanted: Listing) -> Found:
    """Two statements, however many."""
    with service.db.read() as conn:
        rows = listing.select(conn, store.PROVIDER_COLUMNS, identity_providers, wanted)
        return Found(rows, store.remote_ids_of(conn, [row.id for row in rows]) if rows else {})


def find_provider(service: Service, provider_id: str) -> Found:
    """Raises NotFound."""
    with service.db.read() as conn:
        return _found(conn, provider_id)


def _found(conn: sa.Connection, provider_id: str) -> Found:
    return Found([required_provider(conn, provider_id)], store.remote_ids_of(conn, [provider_id]))


def create_provider(service: Service, provider_id: str, body: Mapping[str, Any]) -> Found:
    """Register an identity provider; without a domain one is made for its users.

    Raises AlreadyExists, NotFound for the domain, Invalid.
    """
    check_id("identity provider", provider_id)
    with _unique(provider_id), service.db.write() as conn:
        if body.get("domain_id") is not None:
            domain_id = require_domain(conn, body["domain_id"]).id
        else:
            domain_id = _make_domain(conn, provider_id)
        conn.execute(
            sa.insert(identity_providers).values(
                id=provider_id,
                domain_id=domain_id,
                enabled=body.get("enabled", False),
                description=body.get("description"),
                authorization_ttl=body.get("authorization_ttl"),
            )
        )
        _take_remote_ids(conn, provider_id, body)
        return _found(conn, provider_id)


def _make_domain(conn: sa.Connection, provider_id: str) -> str:
    domain_id = ids.new_id()
    description = f"Users of identity provider {provider_id}; made with it."
    projects.add(conn, domain_id, domain_id, domain_id=NO_DOMAIN, description=description)
    return domain_id


def update_provider(service: Service, provider_id: str, body: Mapping[str, Any]) -> Found:
    """Change an identity provider; one that is disabled says nothing any more. Raises NotFound, AlreadyExists."""
    values = {name: body[name] for name in ("enabled", "description", "authorization_ttl") if name in body}
    with _unique(provider_id), service.db.write() as conn:
        required_provider(conn, provider_id, "update")
        listing.change(conn, identity_providers, provider_id, values)
        _take_remote_ids(conn, provider_id, body)
        if body.get("enabled") is False:
            store.end_memberships(conn, provider_id=provider_id)
            store.end_tokens(conn, provider_id)
        found = _found(conn, provider_id)
        revision.advance(conn)
        return found


@contextmanager
def _unique(provider_id: str) -> Iterator[None]:
    """Turns the breach of a unique constraint into the conflict that clients know."""
    with unique_id("identity_provider", provider_id):
        try:
            yield
        except IntegrityError as error:
            if is_unique_violation(error, remote_ids.name):
                details = "Duplicate remote ID: another identity provider has one of these."
                raise AlreadyExists("identity_provider", details) from None
            raise


def _take_remote_ids(conn: sa.Connection, provider_id: str, body: Mapping[str, Any]) -> None:
    if "remote_ids" in body:
        store.replace_remote_ids(conn, provider_id, body["remote_ids"] or ())


def delete_provider(service: Service, provider_id: str) -> None:
    """Delete it with its protocols. Its users and their domain stay: they may own things. Raises NotFound."""
    with service.db.write() as conn:
        required_provider(conn, provider_id, "update")
        store.end_tokens(conn, provider_id)
        listing.remove(conn, identity_providers, provider_id)
        revision.advance(conn)


def required_provider(conn: sa.Connection, provider_id: str, lock: Lock = None) -> Record:
    """Raises NotFound."""
    row = store.provider(conn, provider_id, lock)
    if row is None:
        raise not_found("Identity Provider", provider_id)
    return row


# Protocols -------------------------------------------------------------------------------------------------------------


def list_protocols(service: Service, provider_id: str) -> Sequence[Record]:
    """Raises NotFound for the identity provider."""
    with service.db.read() as conn:
        required_provider(conn, provider_id)
        return store.protocols_of(conn, provider_id)


def find_protocol(service: Service, provider_id: str, protocol_id: str) -> Record:
    """Raises NotFound."""
    with service.db.read() as conn:
        return required_protocol(conn, provider_id, protocol_id)


def create_protocol(service: Service, provider_id: str, protocol_id: str, body: Mapping[str, Any]) -> Record:
    """Raises NotFound for the identity provider, AlreadyExists, Invalid for an unknown mapping."""
    check_id("protocol", protocol_id)
    with unique_id("federation_protocol", protocol_id), service.db.write() as conn:
        required_provider(conn, provider_id, "share")
        _check_mapping(conn, body["mapping_id"])
        conn.execute(
            sa.insert(federation_protocols).values(
                identity_provider_id=provider_id,
                id=protocol_id,
                mapping_id=body["mapping_id"],
                remote_id_attribute=body.get("remote_id_attribute") or None,
            )
        )
        return required_protocol(conn, provider_id, protocol_id)


def update_protocol(service: Service, provider_id: str, protocol_id: str, body: Mapping[str, Any]) -> Record:
    """With another mapping what the former one came to ends. Raises NotFound, Invalid for an unknown mapping."""
    values = {name: body[name] or None for name in ("mapping_id", "remote_id_attribute") if name in body}
    with service.db.write() as conn:
        present = required_protocol(conn, provider_id, protocol_id, "update")
        _check_mapping(conn, body["mapping_id"])
        store.change_protocol(conn, provider_id, protocol_id, values)
        if present.mapping_id != body["mapping_id"]:
            store.end_memberships(conn, provider_id=provider_id)
        changed = required_protocol(conn, provider_id, protocol_id)
        revision.advance(conn)
        return changed


def delete_protocol(service: Service, provider_id: str, protocol_id: str) -> None:
    """Raises NotFound."""
    with service.db.write() as conn:
        required_protocol(conn, provider_id, protocol_id, "update")
        store.end_tokens(conn, provider_id, protocol_id)
        store.remove_protocol(conn, provider_id, protocol_id)
        store.end_memberships(conn, provider_id=provider_id)
        revision.advance(conn)


def required_protocol(conn: sa.Connection, provider_id: str, protocol_id: str, lock: Lock = None) -> Record:
    """Raises NotFound."""
    row = store.protocol(conn, provider_id, protocol_id, lock)
    if row is None:
        raise _no_protocol(provider_id, protocol_id)
    return row


def _no_protocol(provider_id: str, protocol_id: str) -> Exception:
    return not_found("federated protocol", f"{protocol_id} for Identity Provider: {provider_id}")


def _check_mapping(conn: sa.Connection, mapping_id: str) -> None:
    if store.mapping(conn, mapping_id, "share") is None:
        raise invalid(f"Invalid mapping id: {mapping_id}")
