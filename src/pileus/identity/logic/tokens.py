"""Validation: the token says who, the database says what they may do now.

Nothing about rights is in a token, so every answer is made from the users, projects, roles and revocations of this
moment, and remembered under the revision they were read at. A remembered answer costs one primary key read.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import sqlalchemy as sa

from pileus.identity.errors import TokenNotFound
from pileus.identity.store import credentials, federated_users, live, oauth1, revision, revocations, trusts
from pileus.identity.store.listing import Record
from pileus.identity.store.tables import DOMAIN, PROJECT
from pileus.kernel import clock, tokens
from pileus.kernel.service import Service
from pileus.kernel.tokens import Claims

from . import access_rules, compliance, keys, redelegation
from . import state as state_module


@dataclasses.dataclass(frozen=True, slots=True)
class Validated:
    """A valid token: who, and `{"token": ...}` as it goes over the wire."""

    claims: Claims
    json: bytes
    revision: int
    confined: bool  # to the access rules of an application credential


class NoRights(Exception):
    """The user or the scope cannot be used now; the text is for the log."""


def validate(service: Service, token: str, *, catalog: bool = True, allow_expired: bool = False) -> Validated:
    """What the token is worth now. Raises TokenNotFound."""
    key = (token, catalog)
    now = clock.utcnow()
    known: Validated | None = state_module.of(service).validated.get(key)
    if known is not None and known.claims.expires_at > now and known.revision == state_module.revision_of(service):
        return known
    with service.db.read() as conn:
        present = revision.read(conn)
        claims = decode(service, conn, present, token)
        _check_time(service, claims, now, allow_expired=allow_expired)
        try:
            body = describe(service, conn, present, claims, catalog=catalog)
        except NoRights as reason:
            raise TokenNotFound(str(reason)) from None
    confined = "access_rules" in body.get("application_credential", ())
    fresh = Validated(claims, orjson.dumps({"token": body}), present[0], confined)
    if claims.expires_at > now:
        _remember(service, key, fresh)
    return fresh


def current(service: Service, token: str) -> Claims:
    """The claims of a token that is valid now. Raises TokenNotFound."""
    return validate(service, token, catalog=False).claims


def revoke(service: Service, claims: Claims) -> None:
    """End this token; tokens made from it live on, as upstream has it."""
    now = clock.utcnow()
    window = dt.timedelta(seconds=service.options.allow_expired_window)
    with service.db.write() as conn:
        revocations.add(conn, claims.audit_id, claims.expires_at + window, now)
        revocations.forget(conn, now)
        revision.advance(conn)


def revoked_since(service: Service, moment: dt.datetime | None) -> Sequence[Record]:
    """What was ended, token by token or chain by chain, and could still be valid otherwise."""
    with service.db.read() as conn:
        return revocations.since(conn, moment)


def decode(service: Service, conn: sa.Connection, present: revision.Revision, token: str) -> Claims:
    """`present` was read in the same transaction. Raises TokenNotFound for what is no token of ours, Unavailable when
    there are no keys.
    """
    try:
        return keys.read(service, conn, present, token)
    except tokens.TokenInvalid:
        later = revision.read(conn)  # the keys may have been rotated, twice even, since the first look
    try:
        if later[0] != present[0]:
            return keys.read(service, conn, later, token)
    except tokens.TokenInvalid:
        pass
    raise TokenNotFound("not a token of this installation")


def claims_of(service: Service, token: str) -> Claims:
    """What a token that has been validated says. Raises TokenNotFound."""
    with service.db.read() as conn:
        return decode(service, conn, revision.read(conn), token)


def current_revision(service: Service) -> int:
    """The number under which validated tokens may be remembered."""
    return state_module.revision_of(service)


def _check_time(service: Service, claims: Claims, now: dt.datetime, *, allow_expired: bool) -> None:
    end = claims.expires_at
    if allow_expired:
        end += dt.timedelta(seconds=service.options.allow_expired_window)
    if end <= now:
        raise TokenNotFound("the token has expired")


def _remember(service: Service, key: tuple[str, bool], answer: Validated) -> None:
    state = state_module.of(service)
    with state.lock:
        if state.validated_revision < answer.revision:
            state.validated = {}
            state.validated_revision = answer.revision
        while len(state.validated) >= service.options.validated_tokens > 0:
            state.validated.pop(next(iter(state.validated)))
        if service.options.validated_tokens > 0:
            state.validated[key] = answer


def describe(
    service: Service, conn: sa.Connection, present: revision.Revision, claims: Claims, *, catalog: bool
) -> dict[str, Any]:
    """The token body (API reference: value of `token`) as of now.

    Raises NoRights when the user, the scope or the roles do not carry the token any more.
    """
    return _described(service, conn, present, claims, _state(service, conn, claims), catalog=catalog)


def describe_new(
    service: Service, conn: sa.Connection, present: revision.Revision, claims: Claims, *, catalog: bool
) -> tuple[Claims, dict[str, Any]]:
    """The body of a token that is being made, and its claims: it ends with the first of the groups in which federation put
    its user, so that what caches know of it stays true. Raises NoRights.
    """
    row = _state(service, conn, claims)
    if row.memberships_end is not None and row.memberships_end < claims.expires_at:
        claims = dataclasses.replace(claims, expires_at=row.memberships_end)
    return claims, _described(service, conn, present, claims, row, catalog=catalog)


def _state(service: Service, conn: sa.Connection, claims: Claims) -> Record:
    federation = (claims.identity_provider_id or "", claims.protocol_id or "")
    target = claims.project_id or claims.domain_id
    row = live.state(conn, claims.user_id, target, claims.audit_id, claims.chain_id, federation)
    if row is None:
        raise NoRights("the user is gone")
    if compliance.is_inactive(service, row.user_last_active_at):
        raise NoRights("the user is inactive")
    _check_state(row, claims)
    return row


def _described(
    service: Service, conn: sa.Connection, present: revision.Revision, claims: Claims, row: Record, *, catalog: bool
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "methods": list(claims.methods),
        "user": {
            "domain": {"id": row.user_domain_id, "name": row.user_domain_name},
            "id": row.user_id,
            "name": row.user_name,
            "password_expires_at": clock.iso_micro(row.password_expires_at),
        },
        "audit_ids": list(claims.audit_ids),
        "expires_at": clock.iso_utc(claims.expires_at),
        "issued_at": clock.iso_utc(claims.issued_at),
    }
    if claims.identity_provider_id is not None:
        body["user"]["OS-FEDERATION"] = _federation(conn, claims)
    if claims.thumbprint is not None:
        body["oauth2_credential"] = {"x5t#S256": claims.thumbprint}
    trust = _checked_trust(service, conn, claims, body)
    if providers := state_module.service_providers(service, conn, present):
        body["service_providers"] = providers
    if claims.unscoped:
        return body
    role_map = state_module.role_map(service, conn, present)
    if trust is None:
        role_ids = effective_role_ids(conn, row, claims)
    else:
        role_ids = set(trust.role_ids)
        has = project_role_ids(conn, trust.giver_id, row)
        if not role_ids <= role_map.with_implied(has):
            raise NoRights("the trustor has lost a role that the trust passes on")
    if claims.application_credential_id is not None:
        role_ids = role_map.with_implied(role_ids) & _credential_role_ids(conn, claims, body)
    if claims.access_token_id is not None:
        role_ids = role_map.with_implied(role_ids) & role_map.with_implied(_consumer_role_ids(conn, claims, body))
    body["roles"] = role_map.shown(role_ids)
    if not body["roles"]:
        raise NoRights("the user has no role there")
    if claims.project_id is not None:
        domain = {"id": row.project_domain_id, "name": row.project_domain_name}
        if row.is_domain:
            domain = {"id": None, "name": None}
        body["project"] = {"domain": domain, "id": row.project_id, "name": row.project_name}
        body["is_domain"] = bool(row.is_domain)
    elif claims.domain_id is not None:
        body["domain"] = {"id": row.project_id, "name": row.project_name}
    else:
        body["system"] = {"all": True}
    if catalog:
        templates = state_module.catalog_templates(service, conn, present, claims.project_id)
        body["catalog"] = filled_catalog(templates, claims.user_id, claims.project_id)
    return body


def _federation(conn: sa.Connection, claims: Claims) -> dict[str, Any]:
    """Who says that it is this user, and in which groups it put them."""
    groups = federated_users.group_ids(conn, claims.user_id, claims.identity_provider_id or "", clock.utcnow())
    return {
        "identity_provider": {"id": claims.identity_provider_id},
        "protocol": {"id": claims.protocol_id},
        "groups": [{"id": group_id} for group_id in groups],
    }


def _check_state(row: Record, claims: Claims) -> None:
    if row.revoked:
        raise NoRights("the token was revoked")
    if claims.identity_provider_id is not None and not row.federation_stands:
        raise NoRights("the identity provider or its protocol is gone or disabled")
    if not (row.user_enabled and row.user_domain_enabled):
        raise NoRights("the user or its domain is disabled")
    if claims.project_id is None and claims.domain_id is None:
        pass
    elif row.project_id is None or (claims.domain_id is not None and not row.is_domain):
        raise NoRights("the project or domain is gone")
    elif not row.project_enabled or row.project_domain_enabled is False:
        raise NoRights("the project or its domain is disabled")
    for moment in (
        row.user_valid_after,
        row.user_domain_valid_after,
        row.project_valid_after,
        row.project_domain_valid_after,
    ):
        if moment is not None and claims.issued_at < moment:
            raise NoRights("all tokens of the user, project or domain were revoked later")


def effective_role_ids(conn: sa.Connection, row: Record, claims: Claims) -> set[str]:
    """Roles assigned for the scope, by group and inheritance too, not yet expanded by implication."""
    if claims.project_id is not None:
        return project_role_ids(conn, claims.user_id, row)
    if claims.domain_id is not None:
        return live.role_ids(conn, claims.user_id, (claims.domain_id,), DOMAIN)
    return live.system_role_ids(conn, claims.user_id)


def project_role_ids(conn: sa.Connection, user_id: str, row: Record) -> set[str]:
    """Roles of a user on the project of `row` (a row of `live.state`), not yet expanded."""
    return live.role_ids(conn, user_id, _inherits_from(conn, row), PROJECT)


def _inherits_from(conn: sa.Connection, row: Record) -> Sequence[str]:
    """The project, and what is above it; only a project below another one needs a query for that."""
    if row.is_domain:
        return (row.project_id,)
    if row.parent_id == row.project_domain_id:
        return (row.project_id, row.project_domain_id)
    return live.ancestors(conn, row.project_id)


def _credential_role_ids(conn: sa.Connection, claims: Claims, body: dict[str, Any]) -> set[str]:
    """The roles that an application credential passes on; what it adds to the token body is added."""
    credential = live.application_credential(conn, claims.application_credential_id or "")
    if credential is None or credential.project_id != claims.project_id:
        raise NoRights("the application credential is gone")
    if credential.expires_at is not None and credential.expires_at <= clock.utcnow():
        raise NoRights("the application credential has expired")
    body["application_credential"] = {
        "id": credential.id,
        "name": credential.name,
        "restricted": not credential.unrestricted,
    }
    if rules := credentials.rules_of(conn, [credential.id]).get(credential.id):
        body["application_credential"]["access_rules"] = [access_rules.shown(rule) for rule in rules]
    return set(credential.role_ids)


def _consumer_role_ids(conn: sa.Connection, claims: Claims, body: dict[str, Any]) -> set[str]:
    """The roles that a user granted to a consumer of OAuth 1.0; what that adds to the token body is added."""
    token = oauth1.access_token(conn, claims.access_token_id or "")
    if token is None or (token.user_id, token.project_id) != (claims.user_id, claims.project_id):
        raise NoRights("the access token is gone")
    if token.expires_at is not None and token.expires_at <= clock.utcnow():
        raise NoRights("the access token has expired")
    body["OS-OAUTH1"] = {"access_token_id": token.id, "consumer_id": token.consumer_id}
    return set(token.role_ids)


@dataclasses.dataclass(frozen=True, slots=True)
class _Entrusted:
    """The roles that a trust passes on, and whose they are: of a trust that was passed on, the first trustor's."""

    role_ids: frozenset[str]
    giver_id: str


def _checked_trust(service: Service, conn: sa.Connection, claims: Claims, body: dict[str, Any]) -> _Entrusted | None:
    """What the trust of the token passes on. It must hold, with both parties and the first trustor; it is added to the body."""
    if claims.trust_id is None:
        return None
    now = clock.utcnow()
    trust = trusts.trust(conn, claims.trust_id)
    if trust is None or trusts.has_ended(trust, now) or trust.project_id != claims.project_id:
        raise NoRights("the trust is gone")
    try:
        first = redelegation.root(service, conn, trust, now)
    except redelegation.Broken as reason:
        raise NoRights(str(reason)) from None
    acting = trust.trustor_user_id if trust.impersonation else trust.trustee_user_id
    if acting != claims.user_id:
        raise NoRights("the trust is for somebody else")
    for user_id in {trust.trustor_user_id, trust.trustee_user_id, first.trustor_user_id} - {claims.user_id}:
        _check_party(service, conn, claims, user_id)
    body["OS-TRUST:trust"] = {
        "id": trust.id,
        "impersonation": trust.impersonation,
        "trustor_user": {"id": trust.trustor_user_id},
        "trustee_user": {"id": trust.trustee_user_id},
    }
    return _Entrusted(frozenset(trust.role_ids), first.trustor_user_id)


def _check_party(service: Service, conn: sa.Connection, claims: Claims, user_id: str) -> None:
    """Whether somebody on whom a trust rests, and whose token this is not, could have one. Raises NoRights."""
    behind = live.state(conn, user_id, None)
    if behind is None or not (behind.user_enabled and behind.user_domain_enabled):
        raise NoRights("a party of the trust is gone or disabled")
    if compliance.is_inactive(service, behind.user_last_active_at):
        raise NoRights("a party of the trust is inactive")
    if behind.user_valid_after is not None and claims.issued_at < behind.user_valid_after:
        raise NoRights("all tokens of a party of the trust were revoked later")


def filled_catalog(
    templates: Sequence[Mapping[str, Any]], user_id: str, project_id: str | None
) -> list[dict[str, Any]]:
    """The catalog for one caller; endpoints that need a project are left out where there is none."""
    values = {"user_id": user_id}
    if project_id is not None:
        values["project_id"] = values["tenant_id"] = project_id
    return [
        {
            "id": service["id"],
            "type": service["type"],
            "name": service["name"],
            "endpoints": [
                endpoint if endpoint["url"] == url else {**endpoint, "url": url}
                for endpoint in service["endpoints"]
                if (url := _filled(endpoint["url"], values)) is not None
            ],
        }
        for service in templates
    ]


def _filled(url: str, values: Mapping[str, str]) -> str | None:
    """`$(project_id)s` and `%(project_id)s` replaced; None when one of them has no value."""
    if "(" not in url:
        return url
    for name, value in values.items():
        url = url.replace(f"$({name})s", value).replace(f"%({name})s", value)
    return None if "$(" in url or "%(" in url else url
