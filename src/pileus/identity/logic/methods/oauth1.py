"""A request that is signed with the access token of a consumer (OAuth 1.0): the user is who granted it."""

from __future__ import annotations

import dataclasses

from pileus.identity.errors import AuthenticationFailed
from pileus.identity.logic import oauth1
from pileus.identity.logic.proofs import Attempt, Section, SignedRequest, Who
from pileus.identity.store import listing
from pileus.identity.store import oauth1 as store
from pileus.identity.store.tables import oauth_consumers
from pileus.kernel import clock


def check(attempt: Attempt, section: Section) -> Who:
    del section  # all is in the Authorization header
    if attempt.signed is None:
        raise AuthenticationFailed("there is no signed request")
    request = _without_flag(attempt.signed)
    stated = oauth1.stated_in(request, "oauth_token")
    with attempt.service.db.read() as conn:
        token = store.access_token(conn, stated["oauth_token"])
        consumer = (
            listing.by_id(conn, store.CONSUMER_COLUMNS, oauth_consumers, token.consumer_id)
            if token is not None
            else None
        )
    if token is None or consumer is None or consumer.id != stated["oauth_consumer_key"]:
        raise AuthenticationFailed("unknown access token, or another consumer's")
    oauth1.check_signature(attempt.service, request, stated, consumer, token)
    if token.expires_at is not None and token.expires_at <= clock.utcnow():
        raise AuthenticationFailed(f"access token {token.id} has expired")
    return Who(
        user_id=token.user_id,
        methods=("oauth1",),
        expires_at=token.expires_at,
        project_id=token.project_id,
        access_token_id=token.id,
        proved_at=attempt.began,
    )


def _without_flag(request: SignedRequest) -> SignedRequest:
    """Clients with keystoneauth sign the URL before they append `?nocatalog`, and upstream looks at no query here."""
    return dataclasses.replace(request, query=tuple(pair for pair in request.query if pair[0] != "nocatalog"))
