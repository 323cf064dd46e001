"""Receipts: what a login of several methods has proved so far.

A receipt is made like an unscoped token, with keys of its own, so that neither is taken for the other. It ends after some
minutes, with what was proved with, and with whatever ends the tokens of its user: another password, disabling.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.identity.errors import AuthenticationFailed, MoreMethodsNeeded
from pileus.identity.store import live, oauth1, revision
from pileus.kernel import clock, tokens
from pileus.kernel.service import Service
from pileus.kernel.tokens import Claims

from . import keys, multi_factor
from . import tokens as token_logic
from .proofs import Who, both, carried


def completed(service: Service, who: Who, options: Mapping[str, Any], receipt: str | None) -> Who:
    """A caller with all that was proved, here and in the login that the receipt is from, if that meets the rules of the user.

    Raises MoreMethodsNeeded with a receipt for what is there when it does not, AuthenticationFailed for a receipt that is
    none or somebody else's.
    """
    if receipt is not None:
        before = _proved_before(service, who, receipt)
        who = dataclasses.replace(both(who, before), methods=tuple(dict.fromkeys((*before.methods, *who.methods))))
    rules = multi_factor.rules_of(options)
    if not multi_factor.are_met(rules, who.methods):
        raise _unfinished(service, who, rules)
    return who


def _proved_before(service: Service, who: Who, receipt: str) -> Who:
    keys.ensure_receipts(service)
    with service.db.read() as conn:
        present = revision.read(conn)
        try:
            claims = tokens.decode(receipt, keys.receipt_ring(service, conn, present))
        except tokens.TokenInvalid:
            raise AuthenticationFailed("not a receipt of this installation") from None
        if claims.user_id != who.user_id:
            raise AuthenticationFailed(f"the receipt is one of user {claims.user_id}, not {who.user_id}")
        if claims.expires_at <= clock.utcnow():
            raise AuthenticationFailed("the receipt has expired")
        _check_user(service, conn, present, claims)
        ends = _end_of_proof(conn, claims)
    return Who(
        **carried(claims),
        expires_at=ends,
        project_id=claims.project_id,
        proved_at=claims.issued_at,
    )


def _end_of_proof(conn: sa.Connection, claims: Claims) -> dt.datetime | None:
    """When the application credential or access token ends that the receipt stands on: the token must not last longer."""
    rows = []
    if claims.application_credential_id is not None:
        rows.append(live.application_credential(conn, claims.application_credential_id))
    if claims.access_token_id is not None:
        rows.append(oauth1.access_token(conn, claims.access_token_id))
    return min((row.expires_at for row in rows if row is not None and row.expires_at is not None), default=None)


def _unfinished(service: Service, who: Who, rules: Sequence[Sequence[str]]) -> Exception:
    """What to answer to a login that is a part of what the rules ask for."""
    if "token" in who.methods:
        return AuthenticationFailed(f"the token of user {who.user_id} was made with fewer methods than are needed")
    keys.ensure_receipts(service)
    ends = who.proved_at + dt.timedelta(seconds=service.options.receipt_expiration)
    if who.expires_at is not None:
        ends = min(ends, who.expires_at)
    claims = Claims(
        **carried(who),
        issued_at=who.proved_at,
        expires_at=ends.replace(microsecond=0),
        audit_ids=(tokens.new_audit_id(),),
        project_id=who.project_id,
    )
    with service.db.read() as conn:
        present = revision.read(conn)
        user = _check_user(service, conn, present, claims)
        receipt = tokens.encode(claims, keys.receipt_ring(service, conn, present))
    body = {
        "receipt": {
            "methods": list(claims.methods),
            "user": {name: user[name] for name in ("domain", "id", "name")},
            "expires_at": clock.iso_utc(claims.expires_at),
            "issued_at": clock.iso_utc(claims.issued_at),
        },
        "required_auth_methods": multi_factor.begun(rules, claims.methods),
    }
    return MoreMethodsNeeded(receipt, body)


def _check_user(service: Service, conn: Any, present: revision.Revision, claims: Claims) -> Mapping[str, Any]:
    """The user as tokens show it; what would end an unscoped token ends the receipt. Raises AuthenticationFailed."""
    plain = dataclasses.replace(claims, project_id=None, application_credential_id=None, access_token_id=None, thumbprint=None)
    try:
        user: Mapping[str, Any] = token_logic.describe(service, conn, present, plain, catalog=False)["user"]
    except token_logic.NoRights as reason:
        raise AuthenticationFailed(f"receipt: {reason}") from None
    return user
