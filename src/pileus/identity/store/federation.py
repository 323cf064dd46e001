"""Identity providers, their protocols, and the mappings of what they say."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import sqlalchemy as sa

from pileus.kernel import clock

from . import listing
from .federation_tables import (
    federated_memberships,
    federated_users,
    federation_protocols,
    identity_providers,
    mappings,
    remote_ids,
)
from .listing import Lock, Record
from .tables import users

PROVIDER_COLUMNS = (
    identity_providers.c.id,
    identity_providers.c.domain_id,
    identity_providers.c.enabled,
    identity_providers.c.description,
    identity_providers.c.authorization_ttl,
)
PROTOCOL_COLUMNS = (
    federation_protocols.c.id,
    federation_protocols.c.identity_provider_id,
    federation_protocols.c.mapping_id,
    federation_protocols.c.remote_id_attribute,
)
MAPPING_COLUMNS = (mappings.c.id, mappings.c.rules, mappings.c.schema_version)


def provider(conn: sa.Connection, provider_id: str, lock: Lock = None) -> Record | None:
    return listing.by_id(conn, PROVIDER_COLUMNS, identity_providers, provider_id, lock)


def remote_ids_of(conn: sa.Connection, provider_ids: Collection[str]) -> dict[str, list[str]]:
    """Remote ids by identity provider; those without any are absent."""
    query = sa.select(remote_ids.c.identity_provider_id, remote_ids.c.remote_id).order_by(remote_ids.c.remote_id)
    if len(provider_ids) <= 500:  # cheaper than so many parameters
        query = query.where(remote_ids.c.identity_provider_id.in_(list(provider_ids)))
    found: dict[str, list[str]] = {}
    for provider_id, remote_id in conn.execute(query):
        found.setdefault(provider_id, []).append(remote_id)
    return found


def replace_remote_ids(conn: sa.Connection, provider_id: str, wanted: Iterable[str]) -> None:
    """Raises IntegrityError for one that belongs to another identity provider."""
    conn.execute(sa.delete(remote_ids).where(remote_ids.c.identity_provider_id == provider_id))
    rows = [{"remote_id": one, "identity_provider_id": provider_id} for one in dict.fromkeys(wanted)]
    if rows:
        conn.execute(sa.insert(remote_ids), rows)


def provider_of_remote_id(conn: sa.Connection, remote_id: str) -> str | None:
    query = sa.select(remote_ids.c.identity_provider_id).where(remote_ids.c.remote_id == remote_id)
    return conn.execute(query).scalar()


def protocol(conn: sa.Connection, provider_id: str, protocol_id: str, lock: Lock = None) -> Record | None:
    query = sa.select(*PROTOCOL_COLUMNS).where(*_same(provider_id, protocol_id))
    row: Record | None = conn.execute(listing.locked(query, lock)).first()
    return row


def _same(provider_id: str, protocol_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    table = federation_protocols
    return table.c.identity_provider_id == provider_id, table.c.id == protocol_id


def protocols_of(conn: sa.Connection, provider_id: str) -> Sequence[Record]:
    query = sa.select(*PROTOCOL_COLUMNS).where(federation_protocols.c.identity_provider_id == provider_id)
    return conn.execute(query.order_by(federation_protocols.c.id)).all()


def remote_id_attributes(conn: sa.Connection, protocol_id: str) -> list[str | None]:
    """What attribute names the identity provider, of all protocols of this name."""
    column = federation_protocols.c.remote_id_attribute
    return list(conn.execute(sa.select(column).where(federation_protocols.c.id == protocol_id).distinct()).scalars())


def change_protocol(conn: sa.Connection, provider_id: str, protocol_id: str, values: dict[str, str | None]) -> None:
    conn.execute(sa.update(federation_protocols).where(*_same(provider_id, protocol_id)).values(**values))


def remove_protocol(conn: sa.Connection, provider_id: str, protocol_id: str) -> None:
    conn.execute(sa.delete(federation_protocols).where(*_same(provider_id, protocol_id)))


def mapping(conn: sa.Connection, mapping_id: str, lock: Lock = None) -> Record | None:
    return listing.by_id(conn, MAPPING_COLUMNS, mappings, mapping_id, lock)


def end_tokens(conn: sa.Connection, provider_id: str, protocol_id: str | None = None) -> None:
    """End all tokens of the users whom this identity provider knows: those of trusts, too, which do not say who vouched."""
    known = sa.select(federated_users.c.user_id).where(federated_users.c.identity_provider_id == provider_id)
    if protocol_id is not None:
        known = known.where(federated_users.c.protocol_id == protocol_id)
    conn.execute(sa.update(users).where(users.c.id.in_(known)).values(tokens_valid_after=clock.utcnow()))


def end_memberships(conn: sa.Connection, *, provider_id: str | None = None, mapping_id: str | None = None) -> None:
    """Take users out of the groups in which this identity provider, or those with this mapping, put them."""
    column = federated_memberships.c.identity_provider_id
    if provider_id is not None:
        conn.execute(sa.delete(federated_memberships).where(column == provider_id))
    if mapping_id is not None:
        affected = sa.select(federation_protocols.c.identity_provider_id).where(
            federation_protocols.c.mapping_id == mapping_id
        )
        conn.execute(sa.delete(federated_memberships).where(column.in_(affected)))
