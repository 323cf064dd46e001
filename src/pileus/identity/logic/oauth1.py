"""OAuth 1.0 (RFC 5849): a consumer, a program of somebody else, acts with some roles of a user on a project.

The consumer asks for a request token, the user authorizes it and hands the verifier over, the consumer changes both for an
access token. With that it signs its requests for tokens (`methods.oauth1`), which are worth what was authorized and the user
still has. A signature is good once: its nonce is kept for as long as its time is near enough to be accepted.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.identity.errors import AuthenticationFailed, invalid, not_found
from pileus.identity.store import listing, live, projects, revision
from pileus.identity.store import oauth1 as store
from pileus.identity.store.listing import Listing, Record
from pileus.identity.store.tables import oauth_access_tokens, oauth_consumers, oauth_request_tokens
from pileus.kernel import clock, ids
from pileus.kernel.context import Context
from pileus.kernel.errors import NotFound
from pileus.kernel.service import Service

from . import application_credentials, sealing
from . import oauth1_signatures as signatures
from . import state as state_module
from . import tokens as token_logic
from .common import check_same_id, extra_of, merged_extra
from .proofs import SignedRequest

KNOWN = frozenset({"id", "description", "secret"})
WINDOW = dt.timedelta(seconds=600)
"""How far the time of a signature may be away from ours."""
_VERIFIER = "ABCDEFGHKLMNPQRSTUVWXYZabcdefghkmnpqrstuvwxyz23456789"  # people copy it by hand
_LONGEST_NONCE = 128


@dataclasses.dataclass(frozen=True, slots=True)
class Granted:
    """A new request or access token, as only its consumer gets to see it."""

    id: str
    secret: str = dataclasses.field(repr=False)
    expires_at: dt.datetime | None


# Consumers ------------------------------------------------------------------------------------------------------------


def list_consumers(service: Service, wanted: Listing) -> Sequence[Record]:
    with service.db.read() as conn:
        return listing.select(conn, store.CONSUMER_COLUMNS, oauth_consumers, wanted)


def find_consumer(service: Service, consumer_id: str) -> Record:
    """Raises NotFound."""
    with service.db.read() as conn:
        return _consumer(conn, consumer_id)


def create_consumer(service: Service, given: Mapping[str, Any]) -> tuple[Record, str]:
    """A consumer and its secret, which nobody sees again. Raises Invalid."""
    body = _normalized(given)
    consumer_id, secret = ids.new_id(), ids.new_id()
    values = {
        "id": consumer_id,
        "description": body.get("description"),
        "secret": sealing.seal(service, secret),
        "extra": extra_of(body, KNOWN),
    }
    with service.db.write() as conn:
        conn.execute(sa.insert(oauth_consumers).values(**values))
        return _consumer(conn, consumer_id), secret


def update_consumer(service: Service, consumer_id: str, given: Mapping[str, Any]) -> Record:
    """Raises NotFound, Invalid."""
    body = _normalized(given)
    check_same_id("consumer", consumer_id, body)
    with service.db.write() as conn:
        present = _consumer(conn, consumer_id, "update")
        values = {name: body[name] for name in ("description",) if name in body}
        listing.change(
            conn, oauth_consumers, consumer_id, {**values, "extra": merged_extra(present.extra, body, KNOWN)}
        )
        return _consumer(conn, consumer_id)


def delete_consumer(service: Service, consumer_id: str) -> None:
    """Delete it with all that it was granted; its tokens end at once. Raises NotFound."""
    with service.db.write() as conn:
        if listing.remove(conn, oauth_consumers, consumer_id) == 0:
            raise NotFound("Consumer not found.")
        revision.advance(conn)


def _normalized(body: Mapping[str, Any]) -> dict[str, Any]:
    """Names of attributes as upstream keeps them: `some:weird-field` is `some_weird_field`. Raises Invalid."""
    if "secret" in body:
        raise invalid("The secret of a consumer is made here: it can be neither chosen nor changed.")
    return {name.replace(":", "_").replace("-", "_"): value for name, value in body.items() if name != "links"}


def _consumer(conn: sa.Connection, consumer_id: str, lock: listing.Lock = None) -> Record:
    row = listing.by_id(conn, store.CONSUMER_COLUMNS, oauth_consumers, consumer_id, lock)
    if row is None:
        raise NotFound("Consumer not found.")
    return row


# From a request token to an access token --------------------------------------------------------------------------------


def create_request_token(service: Service, request: SignedRequest, project_id: str | None) -> Granted:
    """What a consumer asks a user with. Raises Invalid, NotFound, AuthenticationFailed."""
    stated = stated_in(request, "oauth_callback")
    if stated["oauth_callback"] != "oob":
        raise invalid("Nobody is called back here: oauth_callback must be oob.")
    if not project_id or not project_id.isprintable():
        raise invalid("Expecting to find Requested-Project-Id in request.")
    check_signature(service, request, stated, find_consumer(service, stated["oauth_consumer_key"]))
    granted = _granted(service.options.request_token_duration)
    values: dict[str, Any] = {
        "id": granted.id,
        "consumer_id": stated["oauth_consumer_key"],
        "project_id": project_id,
        "secret": sealing.seal(service, granted.secret),
        "role_ids": [],
        "expires_at": granted.expires_at,
    }
    with service.db.write() as conn:
        store.forget_request_tokens(conn, clock.utcnow())
        _consumer(conn, stated["oauth_consumer_key"], "share")
        if projects.project(conn, project_id, "share") is None:
            raise not_found("project", project_id)
        conn.execute(sa.insert(oauth_request_tokens).values(**values))
    return granted


def authorize(service: Service, context: Context, token_id: str, roles: Sequence[Mapping[str, str]]) -> str:
    """The caller lets the consumer act with these roles; the verifier. Raises NotFound, AuthenticationFailed, Forbidden."""
    application_credentials.check_unrestricted(service, context)
    application_credentials.check_not_delegated(service, context)
    user_id = context.user_id or ""
    verifier = "".join(_VERIFIER[ids.random_below(len(_VERIFIER))] for _ in range(8))
    with service.db.write() as conn:
        row = _request_token(conn, token_id, "update")
        role_ids = _role_ids(service, conn, user_id, row.project_id, roles)
        listing.change(
            conn, oauth_request_tokens, token_id, {"user_id": user_id, "role_ids": role_ids, "verifier": verifier}
        )
    return verifier


def _role_ids(
    service: Service, conn: sa.Connection, user_id: str, project_id: str, roles: Sequence[Mapping[str, str]]
) -> list[str]:
    """The wanted roles by id or name, all of which the user must have on the project."""
    row = live.state(conn, user_id, project_id)
    if row is None or row.project_id is None:
        raise not_found("project", project_id)
    role_map = state_module.role_map(service, conn, revision.read(conn))
    has = role_map.with_implied(token_logic.project_role_ids(conn, user_id, row))
    by_name = {name: role_id for role_id, name in role_map.names.items() if not role_map.domains[role_id]}
    found = set()
    for role in roles:
        role_id = role.get("id") or by_name.get(role.get("name", ""))
        if role_id is None or role_id not in role_map.names:
            raise not_found("role", role.get("id") or role.get("name", ""))
        found.add(role_id)
    if not found <= has:
        raise AuthenticationFailed(f"user {user_id} has not all of the roles to authorize")
    return sorted(found)


def create_access_token(service: Service, request: SignedRequest) -> Granted:
    """An authorized request token becomes an access token, once. Raises Invalid, NotFound, AuthenticationFailed."""
    stated = stated_in(request, "oauth_token", "oauth_verifier")
    with service.db.read() as conn:
        row = _request_token(conn, stated["oauth_token"])
        consumer = _consumer(conn, row.consumer_id)
    if consumer.id != stated["oauth_consumer_key"]:
        raise AuthenticationFailed("the request token is another consumer's")
    check_signature(service, request, stated, consumer, row)
    if row.verifier is None or not hmac.compare_digest(row.verifier.encode(), stated["oauth_verifier"].encode()):
        raise AuthenticationFailed("the request token was not authorized, or with another verifier")
    granted = _granted(service.options.access_token_duration)
    values = {
        "id": granted.id,
        "consumer_id": row.consumer_id,
        "project_id": row.project_id,
        "user_id": row.user_id,
        "secret": sealing.seal(service, granted.secret),
        "role_ids": row.role_ids,
        "expires_at": granted.expires_at,
    }
    with service.db.write() as conn:
        current = store.request_token(conn, row.id, "update")
        if (
            current is None
            or current.verifier != row.verifier
            or listing.remove(conn, oauth_request_tokens, row.id) == 0
        ):
            raise AuthenticationFailed("the request token was used, or authorized anew, at the same moment")
        conn.execute(sa.insert(oauth_access_tokens).values(**values))
    return granted


def _request_token(conn: sa.Connection, token_id: str, lock: listing.Lock = None) -> Record:
    row = store.request_token(conn, token_id, lock)
    if row is None:
        raise NotFound("Request token not found.")
    if row.expires_at is not None and row.expires_at <= clock.utcnow():
        raise AuthenticationFailed("the request token has expired")
    return row


def _granted(seconds: int) -> Granted:
    return Granted(ids.new_id(), ids.new_id(), clock.utcnow() + dt.timedelta(seconds=seconds) if seconds else None)


# Access tokens ----------------------------------------------------------------------------------------------------------


def list_access_tokens(service: Service, context: Context, user_id: str) -> Sequence[Record]:
    """Raises Forbidden for delegated tokens."""
    application_credentials.check_not_delegated(service, context)
    with service.db.read() as conn:
        return store.access_tokens_of(conn, user_id)


def find_access_token(service: Service, user_id: str, token_id: str) -> Record:
    """Raises NotFound."""
    with service.db.read() as conn:
        row = store.access_token(conn, token_id)
    if row is None or row.user_id != user_id:
        raise NotFound("Access token not found.")
    return row


def delete_access_token(service: Service, user_id: str, token_id: str) -> None:
    """Delete it; its tokens end at once. Raises NotFound."""
    find_access_token(service, user_id, token_id)
    with service.db.write() as conn:
        if listing.remove(conn, oauth_access_tokens, token_id) == 0:
            raise NotFound("Access token not found.")
        revision.advance(conn)


# Signatures -------------------------------------------------------------------------------------------------------------


def stated_in(request: SignedRequest, *names: str) -> dict[str, str]:
    """The parameters of the Authorization header, with these at least. Raises Invalid."""
    try:
        stated = signatures.parameters(request.authorization)
    except signatures.Malformed as reason:
        raise invalid(str(reason)) from None
    for name in (
        "oauth_consumer_key",
        *names,
        "oauth_signature_method",
        "oauth_signature",
        "oauth_timestamp",
        "oauth_nonce",
    ):
        if not stated.get(name):
            raise invalid(f"Expecting to find {name} in request.")
    if any(name.startswith("oauth_") for name, _value in (*request.query, *request.form)):
        raise invalid("The parameters of OAuth belong into the Authorization header.")
    if stated.get("oauth_version", "1.0") != "1.0":
        raise invalid("The only oauth_version is 1.0.")
    return stated


def check_signature(
    service: Service, request: SignedRequest, stated: Mapping[str, str], consumer: Record, token: Record | None = None
) -> None:
    """Raises AuthenticationFailed unless the request was signed by the consumer, just now, and comes for the first time.

    Raises Invalid for what cannot be a signature. The nonce of a wrong signature is not kept: nobody without a secret fills the table.
    """
    when = _moment(stated)
    now = clock.utcnow()
    if abs(now - when) > WINDOW:
        raise AuthenticationFailed(f"the time of an OAuth signature of consumer {consumer.id} is not now")
    token_secret = sealing.unseal(service, token.secret) if token is not None else ""
    try:
        right = signatures.is_right(request, stated, sealing.unseal(service, consumer.secret), token_secret)
    except signatures.Malformed as reason:
        raise invalid(str(reason)) from None
    if not right:
        raise AuthenticationFailed(f"wrong OAuth signature of consumer {consumer.id}")
    parts = (consumer.id, token.id if token is not None else "", stated["oauth_timestamp"], stated["oauth_nonce"])
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    with service.db.write() as conn:
        if not store.use_nonce(conn, digest, when + WINDOW, now):
            raise AuthenticationFailed(f"an OAuth signature of consumer {consumer.id} was used before")


def _moment(stated: Mapping[str, str]) -> dt.datetime:
    text, nonce = stated["oauth_timestamp"], stated["oauth_nonce"]
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise invalid("oauth_timestamp must be a number of seconds.")
    if len(nonce) > _LONGEST_NONCE:
        raise invalid(f"oauth_nonce must be of at most {_LONGEST_NONCE} characters.")
    return clock.from_epoch(int(text))
