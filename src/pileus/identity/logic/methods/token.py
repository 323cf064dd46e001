"""A token that is exchanged for another scope: the new one ends when the old one does."""

from __future__ import annotations

from pileus.identity.errors import AuthenticationFailed
from pileus.identity.logic import tokens
from pileus.identity.logic.proofs import Attempt, Section, Who
from pileus.identity.store import people
from pileus.kernel.errors import Forbidden


def check(attempt: Attempt, section: Section) -> Who:
    claims = tokens.current(attempt.service, section["id"])  # what is no valid token is 404 here too, as clients expect
    if claims.trust_id is not None:
        raise Forbidden("A token of a trust cannot be used to get another token.")
    if claims.access_token_id is not None:
        raise Forbidden("A token of OAuth 1.0 cannot be used to get another token.")
    if claims.thumbprint is not None:
        raise Forbidden("A token that is bound to a certificate cannot be used to get another token.")
    if "ec2credential" in claims.methods:
        raise Forbidden("A token of an EC2 credential cannot be used to get another token.")
    if not claims.unscoped and not attempt.service.options.allow_rescope_scoped_token:
        raise AuthenticationFailed("scoped tokens may not be exchanged here")
    with attempt.service.db.read() as conn:
        row = people.user(conn, claims.user_id)
    bound = claims.application_credential_id is not None
    return Who(
        user_id=claims.user_id,
        methods=tuple(dict.fromkeys((*claims.methods, "token"))),
        default_project_id=row.default_project_id if row is not None else None,
        expires_at=claims.expires_at,
        chain_id=claims.chain_id,
        project_id=claims.project_id if bound else None,
        application_credential_id=claims.application_credential_id,
        identity_provider_id=claims.identity_provider_id,
        protocol_id=claims.protocol_id,
        proved_at=attempt.began,
    )
