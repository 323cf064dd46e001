"""Identities that are given to a user: whoever has one of them at an identity provider is this user here.

The manager of a domain gives those of the domain's own providers: one of another provider may be that of somebody elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.identity.errors import AlreadyExists, invalid
from pileus.identity.store import federated_users as store
from pileus.identity.store import federation
from pileus.identity.store.listing import Record
from pileus.kernel.errors import Forbidden
from pileus.kernel.service import Service


def of_user(service: Service, user_id: str) -> dict[str, Any]:
    """What the API shows of them: nothing for a user without any."""
    with service.db.read() as conn:
        found = store.of_user(conn, user_id)
    return {"federated": found} if found else {}


def replace(
    conn: sa.Connection, user: Record, name: str, wanted: Sequence[Mapping[str, Any]], *, any_provider: bool
) -> None:
    """Without `any_provider` what is new has to be of a provider of the user's domain.

    Raises Invalid for an unknown identity provider or protocol, Forbidden, AlreadyExists for another user's identity.
    """
    present = store.of_user(conn, user.id)
    store.forget(conn, user.id)
    for provider in wanted:
        for told in provider["protocols"]:
            provider_id, protocol_id, unique_id = provider["idp_id"], told["protocol_id"], told["unique_id"]
            source = federation.provider(conn, provider_id, "share")
            if source is None or federation.protocol(conn, provider_id, protocol_id, "share") is None:
                raise invalid(f"Could not find federated protocol {protocol_id} for Identity Provider: {provider_id}.")
            if not (any_provider or source.domain_id == user.domain_id or _has(present, provider_id, told)):
                raise Forbidden(
                    f"Identity Provider {provider_id} is of another domain than the user:"
                    " only an administrator may give this identity."
                )
            if store.owner(conn, provider_id, protocol_id, unique_id) is not None:
                raise AlreadyExists("federated_user", f"Duplicate entry found with unique ID {unique_id}")
            store.add(conn, user.id, provider_id, protocol_id, unique_id, name)


def _has(present: Sequence[Mapping[str, Any]], provider_id: str, identity: Mapping[str, Any]) -> bool:
    return any(one["idp_id"] == provider_id and identity in one["protocols"] for one in present)
