"""Authentication: from methods and a scope to a token.

The caller learns nothing but "no": unknown user, wrong password, disabled user and missing role sound the same and, up
to the password check, take the same time. The log has the reason.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import Any

import orjson
import sqlalchemy as sa

from pileus.identity.errors import AuthenticationFailed, invalid
from pileus.identity.store import federated_users, passwords, revision
from pileus.kernel import clock, tokens
from pileus.kernel.errors import Forbidden, NotFound
from pileus.kernel.service import Service
from pileus.kernel.tokens import Claims

from . import compliance, keys, lockout, receipts, scopes
from . import tokens as token_logic
from . import trusts as trust_logic
from .methods import METHODS, external
from .proofs import Attempt, Section, SignedRequest, Who, both, carried


@dataclasses.dataclass(frozen=True, slots=True)
class Issued:
    """A new token and `{"token": ...}` as it goes over the wire."""

    token: str
    json: bytes
    expires_at: dt.datetime


def authenticate(
    service: Service,
    auth: Section,
    *,
    catalog: bool,
    assertion: Mapping[str, str] | None = None,
    receipt: str | None = None,
    signed: SignedRequest | None = None,
) -> Issued:
    """Issue a token for `auth`, the value of that name in the request (its schema was checked).

    `assertion` is what a trusted proxy says of the caller, `receipt` what an earlier part of the same login has proved, `signed`
    the request where its signature may be asked for.

    Raises AuthenticationFailed, MoreMethodsNeeded, Invalid, TokenNotFound when it is a token that is exchanged.
    """
    who = _identify(Attempt(service, clock.utcnow(), assertion or {}, signed), auth["identity"])
    with service.db.read() as conn:
        options, last_active = passwords.at_login(conn, who.user_id)
    who = receipts.completed(service, who, options, receipt)
    if lockout.GUESSABLE & set(auth["identity"]["methods"]):
        lockout.forgive(service, who.user_id)
    acting, scope = who, auth.get("scope")
    if isinstance(scope, dict) and "OS-TRUST:trust" in scope:
        acting, scope = _entrusted(service, who, scope)
    issued = issue(service, acting, scope, catalog=catalog)
    compliance.note_active(service, who.user_id, last_active)  # not before: the first login after too long is refused
    return issued


def issue(service: Service, who: Who, scope: Any, *, catalog: bool = True) -> Issued:
    """A token for somebody who has proved who they are, if they may have the scope. Raises AuthenticationFailed."""
    try:
        with service.db.read() as conn:
            present = revision.read(conn)
            claims, body = _scoped(service, conn, present, who, scope, catalog=catalog)
            token = keys.issue(service, conn, present, claims)
    except token_logic.NoRights as reason:
        if who.trust_id is not None:
            raise Forbidden("The trust gives no token now.", inside=f"trust {who.trust_id}: {reason}") from None
        raise AuthenticationFailed(f"user {who.user_id}: {reason}") from None
    if who.trust_uses is not None and not trust_logic.use(service, who.trust_id or ""):
        raise AuthenticationFailed(f"trust {who.trust_id} is used up")
    return Issued(token, orjson.dumps({"token": body}), claims.expires_at)


def _entrusted(service: Service, who: Who, scope: Mapping[str, Any]) -> tuple[Who, dict[str, Any]]:
    """The trustee as the trust makes them, and the scope of the trust. Raises AuthenticationFailed, Forbidden, Invalid."""
    if len(scope) != 1 or scope["OS-TRUST:trust"].get("id") is None:
        raise invalid("Expecting to find id in OS-TRUST:trust, and no other scope.")
    if who.application_credential_id is not None:
        raise AuthenticationFailed("an application credential cannot be used for a trust")
    if who.access_token_id is not None:
        raise AuthenticationFailed("an access token of OAuth 1.0 cannot be used for a trust")
    try:
        trust, giver_id = trust_logic.with_giver(service, scope["OS-TRUST:trust"]["id"])
    except NotFound as reason:
        raise AuthenticationFailed(reason.message) from None
    if trust.trustee_user_id != who.user_id:
        raise Forbidden("The user is not the trustee of this trust.")
    with service.db.read() as conn:  # the roles are the first trustor's, and end with the groups that carry them
        groups_end = federated_users.end_of_memberships(conn, giver_id, clock.utcnow())
    ends = [moment for moment in (who.expires_at, trust.expires_at, groups_end) if moment is not None]
    acting = dataclasses.replace(
        who,
        user_id=trust.trustor_user_id if trust.impersonation else trust.trustee_user_id,
        expires_at=min(ends) if ends else None,
        identity_provider_id=None,
        protocol_id=None,
        trust_id=trust.id,
        trust_uses=trust.remaining_uses,
    )
    return acting, {"project": {"id": trust.project_id}} if trust.project_id is not None else {"unscoped": {}}


def _identify(attempt: Attempt, identity: Section) -> Who:
    """Every method of the request must prove the same user."""
    found: list[Who] = []
    methods = dict.fromkeys(identity["methods"])
    if not methods and external.is_meant(attempt.service, attempt):
        return external.check(attempt, {})
    for method in methods:
        check = METHODS.get(method)
        if check is None:
            raise AuthenticationFailed(f"method {method!r} is not supported")
        section = identity.get(method)
        if section is None:
            raise invalid(f"Expecting to find {method} in identity.")
        found.append(check(attempt, section))
    if not found:
        raise AuthenticationFailed("no method was given")
    first = found[0]
    if any(other.user_id != first.user_id for other in found):
        raise AuthenticationFailed("the methods prove different users")
    for other in found[1:]:
        first = both(first, other)
    return first


def _scoped(
    service: Service,
    conn: sa.Connection,
    present: revision.Revision,
    who: Who,
    scope: Any,
    *,
    catalog: bool,
) -> tuple[Claims, dict[str, Any]]:
    """Claims and body for the wanted scope. Raises NoRights."""
    wanted = scopes.wanted(conn, who, scope)
    if wanted is not None:
        return token_logic.describe_new(service, conn, present, _claims(service, who, wanted), catalog=catalog)
    if who.default_project_id is not None:
        claims = _claims(service, who, {"project_id": who.default_project_id})
        try:
            return token_logic.describe_new(service, conn, present, claims, catalog=catalog)
        except token_logic.NoRights:
            pass  # a default project that cannot be used leaves the token unscoped
    return token_logic.describe_new(service, conn, present, _claims(service, who, {}), catalog=catalog)


def _claims(service: Service, who: Who, scope: Mapping[str, str]) -> Claims:
    ends = who.proved_at + dt.timedelta(seconds=service.options.token_expiration)
    if who.expires_at is not None:
        ends = min(ends, who.expires_at)
    audit_id = tokens.new_audit_id()
    return Claims(
        **carried(who),
        issued_at=who.proved_at,
        expires_at=ends,
        audit_ids=(audit_id,) if who.chain_id is None else (audit_id, who.chain_id),
        project_id=scope.get("project_id"),
        domain_id=scope.get("domain_id"),
        system=scope.get("system"),
        trust_id=who.trust_id,
    )
