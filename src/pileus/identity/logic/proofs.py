"""What a proof of identity is made from, and what it is worth: shared by all methods of authentication."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from pileus.identity.errors import invalid
from pileus.identity.store import people
from pileus.kernel.service import Service
from pileus.kernel.tokens import Claims

Section = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class SignedRequest:
    """What a client signs of its request for OAuth 1.0 (RFC 5849): the URL is the one it used, without the query."""

    method: str
    url: str
    authorization: str = dataclasses.field(repr=False)
    query: tuple[tuple[str, str], ...] = ()
    form: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Attempt:
    """One request to authenticate. `assertion` is what a trusted proxy says of the caller, by the names that mappings use;
    `signed` the request itself, where a method looks at its signature.
    """

    service: Service
    began: dt.datetime
    assertion: Mapping[str, str] = dataclasses.field(default_factory=dict)
    signed: SignedRequest | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """A caller who has proved who they are, and what that proof limits."""

    user_id: str
    methods: tuple[str, ...]
    default_project_id: str | None = None
    expires_at: dt.datetime | None = None  # tokens made from a token end with it
    chain_id: str | None = None
    project_id: str | None = None  # an application credential is bound to its project
    application_credential_id: str | None = None
    access_token_id: str | None = None  # of OAuth 1.0
    identity_provider_id: str | None = None
    protocol_id: str | None = None
    thumbprint: str | None = None  # of the certificate that the token will be bound to
    trust_id: str | None = None
    trust_uses: int | None = None  # None: any number
    proved_at: dt.datetime  # a revocation after this moment counts, however long the hash took


def both(one: Who, other: Who) -> Who:
    """What is left when two proofs are given: every limit of each."""
    ends = [moment for moment in (one.expires_at, other.expires_at) if moment is not None]
    added = {name: getattr(other, name) for name in _LIMITS if getattr(one, name) is None}
    return dataclasses.replace(
        one,
        **added,
        methods=tuple(dict.fromkeys((*one.methods, *other.methods))),
        expires_at=min(ends) if ends else None,
    )


_LIMITS = tuple(field.name for field in dataclasses.fields(Who) if field.name not in {"methods", "expires_at"})


_CARRIED = (
    "user_id",
    "methods",
    "application_credential_id",
    "access_token_id",
    "identity_provider_id",
    "protocol_id",
    "thumbprint",
)


def carried(source: Who | Claims) -> dict[str, Any]:
    """What tokens and receipts hold of a proof just as it is."""
    return {name: getattr(source, name) for name in _CARRIED}


def find_user(service: Service, user: Section) -> Any:
    """The row of `{"id"}` or `{"name", "domain": {"id"|"name"}}` with hash and flags, or None."""
    domain = user.get("domain") or {}
    if user.get("id") is None:
        if user.get("name") is None:
            raise invalid("Expecting to find id or name in user.")
        if domain.get("id") is None and domain.get("name") is None:
            raise invalid("Expecting to find domain in user.")
    with service.db.read() as conn:
        return user_row(conn, user)


def user_row(conn: sa.Connection, user: Section) -> Any:
    """The same in a transaction that is there."""
    domain = user.get("domain") or {}
    return people.for_password(
        conn,
        user_id=user.get("id"),
        name=user.get("name"),
        domain_id=domain.get("id"),
        domain_name=domain.get("name"),
    )
