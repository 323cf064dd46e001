"""Identities that an administrator gives to a user: whoever has one of them at an identity provider is this user here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.identity.errors import AlreadyExists, invalid
from pileus.identity.store import federated_users as store
from pileus.identity.store import federation
from pileus.kernel.service import Service


def of_user(service: Service, user_id: str) -> dict[str, Any]:
    """What the API shows of them: nothing for a user without any."""
    with service.db.read() as conn:
        found = store.of_user(conn, user_id)
    return {"federated": found} if found else {}


def replace(conn: sa.Connection, user_id: str, name: str, wanted: Sequence[Mapping[str, Any]]) -> None:
    """Raises Invalid for an unknown identity provider or protocol, AlreadyExists for another user's identity."""
    store.forget(conn, user_id)
    for provider in wanted:
        for told in provider["protocols"]:
            provider_id, protocol_id, unique_id = provider["idp_id"], told["protocol_id"], told["unique_id"]
            if federation.protocol(conn, provider_id, protocol_id, "share") is None:
                raise invalid(f"Could not find federated protocol {protocol_id} for Identity Provider: {provider_id}.")
            if store.owner(conn, provider_id, protocol_id, unique_id) is not None:
                raise AlreadyExists("federated_user", f"Duplicate entry found with unique ID {unique_id}")
            store.add(conn, user_id, provider_id, protocol_id, unique_id, name)
