"""Authentication: from methods and a scope to a token.

The caller learns nothing but "no": unknown user, wrong password, disabled user and missing role sound the same and, up
to the password check, take the same time. The log has the reason.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import sqlalchemy as sa

from pileus.identity.errors import AuthenticationFailed, TokenNotFound, invalid
from pileus.identity.store import credentials as credential_store
from pileus.identity.store import live, people, projects, revision
from pileus.kernel import clock, tokens
from pileus.kernel.errors import Forbidden
from pileus.kernel.service import Service
from pileus.kernel.tokens import Claims

from . import keys, passwords
from . import state as state_module
from . import tokens as token_logic
from . import trusts as trust_logic

Section = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Issued:
    """A new token and `{"token": ...}` as it goes over the wire."""

    token: str
    json: bytes
    expires_at: dt.datetime


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
    trust_id: str | None = None
    trust_uses: int | None = None  # None: any number
    proved_at: dt.datetime  # a revocation after this moment counts, however long the hash took


def authenticate(service: Service, auth: Section, *, catalog: bool) -> Issued:
    """Issue a token for `auth`, the value of that name in the request (its schema was checked).

    Raises AuthenticationFailed, Invalid.
    """
    who = _identify(service, auth["identity"])
    scope = auth.get("scope")
    if isinstance(scope, dict) and "OS-TRUST:trust" in scope:
        who, scope = _entrusted(service, who, scope)
    return issue(service, who, scope, catalog=catalog)


def issue(service: Service, who: Who, scope: Any, *, catalog: bool = True) -> Issued:
    """A token for somebody who has proved who they are, if they may have the scope. Raises AuthenticationFailed."""
    try:
        with service.db.read() as conn:
            present = revision.read(conn)
            claims, body = _scoped(service, conn, present, who, scope, catalog=catalog)
            ring = keys.ring(service, conn, present)
    except token_logic.NoRights as reason:
        raise AuthenticationFailed(f"user {who.user_id}: {reason}") from None
    if who.trust_uses is not None:
        trust_logic.use(service, who.trust_id or "")
    return Issued(tokens.encode(claims, ring), orjson.dumps({"token": body}), claims.expires_at)


def _entrusted(service: Service, who: Who, scope: Mapping[str, Any]) -> tuple[Who, dict[str, Any]]:
    """The trustee as the trust makes them, and the scope of the trust. Raises NotFound, Forbidden, Invalid."""
    if len(scope) != 1 or scope["OS-TRUST:trust"].get("id") is None:
        raise invalid("Expecting to find id in OS-TRUST:trust, and no other scope.")
    if who.application_credential_id is not None:
        raise AuthenticationFailed("an application credential cannot be used for a trust")
    trust = trust_logic.required(service, scope["OS-TRUST:trust"]["id"])
    if trust.trustee_user_id != who.user_id:
        raise Forbidden("The user is not the trustee of this trust.")
    ends = [moment for moment in (who.expires_at, trust.expires_at) if moment is not None]
    acting = dataclasses.replace(
        who,
        user_id=trust.trustor_user_id if trust.impersonation else trust.trustee_user_id,
        expires_at=min(ends) if ends else None,
        trust_id=trust.id,
        trust_uses=trust.remaining_uses,
    )
    return acting, {"project": {"id": trust.project_id}} if trust.project_id is not None else {"unscoped": {}}


def _identify(service: Service, identity: Section) -> Who:
    """Every method of the request must prove the same user."""
    found: list[Who] = []
    began = clock.utcnow()
    for method in dict.fromkeys(identity["methods"]):
        check = _METHODS.get(method)
        if check is None:
            raise AuthenticationFailed(f"method {method!r} is not supported")
        section = identity.get(method)
        if section is None:
            raise invalid(f"Expecting to find {method} in identity.")
        found.append(check(service, section, began))
    if not found:
        raise AuthenticationFailed("no method was given")
    first = found[0]
    if any(other.user_id != first.user_id for other in found):
        raise AuthenticationFailed("the methods prove different users")
    for other in found[1:]:
        first = _both(first, other)
    return first


def _both(one: Who, other: Who) -> Who:
    """What is left when two proofs are given: every limit of each."""
    ends = [moment for moment in (one.expires_at, other.expires_at) if moment is not None]
    return dataclasses.replace(
        one,
        methods=tuple(dict.fromkeys((*one.methods, *other.methods))),
        default_project_id=one.default_project_id or other.default_project_id,
        expires_at=min(ends) if ends else None,
        chain_id=one.chain_id or other.chain_id,
        project_id=one.project_id or other.project_id,
        application_credential_id=one.application_credential_id or other.application_credential_id,
    )


def _by_password(service: Service, section: Section, began: dt.datetime) -> Who:
    user = section["user"]
    row = find_user(service, user)
    verified = state_module.of(service).hasher.verify(user["password"], row.password_hash if row is not None else None)
    if row is None or not verified:
        raise AuthenticationFailed("unknown user" if row is None else f"wrong password for user {row.id}")
    if not (row.enabled and row.domain_enabled):
        raise AuthenticationFailed(f"user {row.id} or its domain is disabled")
    if row.password_expires_at is not None and row.password_expires_at <= clock.utcnow():
        raise AuthenticationFailed(f"the password of user {row.id} has expired")
    return Who(user_id=row.id, methods=("password",), default_project_id=row.default_project_id, proved_at=began)


def find_user(service: Service, user: Section) -> Any:
    """The row of `{"id"}` or `{"name", "domain": {"id"|"name"}}` with hash and flags, or None."""
    domain = user.get("domain") or {}
    if user.get("id") is None:
        if user.get("name") is None:
            raise invalid("Expecting to find id or name in user.")
        if domain.get("id") is None and domain.get("name") is None:
            raise invalid("Expecting to find domain in user.")
    with service.db.read() as conn:
        return people.for_password(
            conn,
            user_id=user.get("id"),
            name=user.get("name"),
            domain_id=domain.get("id"),
            domain_name=domain.get("name"),
        )


def _by_token(service: Service, section: Section, began: dt.datetime) -> Who:
    try:
        claims = token_logic.current(service, section["id"])
    except TokenNotFound as reason:
        raise AuthenticationFailed(f"token: {reason.inside}") from None
    if claims.trust_id is not None:
        raise Forbidden("A token of a trust cannot be used to get another token.")
    if "ec2credential" in claims.methods:
        raise Forbidden("A token of an EC2 credential cannot be used to get another token.")
    if not claims.unscoped and not service.options.allow_rescope_scoped_token:
        raise AuthenticationFailed("scoped tokens may not be exchanged here")
    with service.db.read() as conn:
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
        proved_at=began,
    )


def _by_application_credential(service: Service, section: Section, began: dt.datetime) -> Who:
    """By the id of the credential, or by its name and the user."""
    with service.db.read() as conn:
        if section.get("id") is not None:
            row = live.application_credential(conn, section["id"])
        else:
            row = _credential_by_name(conn, section)
    secret = section["secret"]
    if row is not None and passwords.is_generated(row.secret_hash):
        verified = passwords.verify_generated(secret, row.secret_hash)
    else:
        verified = state_module.of(service).hasher.verify(secret, row.secret_hash if row is not None else None)
    if row is None or not verified:
        raise AuthenticationFailed("unknown application credential or wrong secret")
    if row.expires_at is not None and row.expires_at <= clock.utcnow():
        raise AuthenticationFailed(f"application credential {row.id} has expired")
    return Who(
        user_id=row.user_id,
        methods=("application_credential",),
        expires_at=row.expires_at,
        project_id=row.project_id,
        application_credential_id=row.id,
        proved_at=began,
    )


def _credential_by_name(conn: sa.Connection, section: Section) -> Any:
    name, user = section.get("name"), section.get("user") or {}
    domain = user.get("domain") or {}
    if name is None or (user.get("id") is None and (user.get("name") is None or not domain)):
        raise invalid("Expecting to find id, or name and user, in application_credential.")
    row = people.for_password(
        conn,
        user_id=user.get("id"),
        name=user.get("name"),
        domain_id=domain.get("id"),
        domain_name=domain.get("name"),
    )
    return None if row is None else credential_store.application_credential_by_name(conn, row.id, name)


_METHODS: dict[str, Callable[[Service, Section, dt.datetime], Who]] = {
    "password": _by_password,
    "token": _by_token,
    "application_credential": _by_application_credential,
}


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
    wanted = _wanted(conn, who, scope)
    if wanted is not None:
        claims = _claims(service, who, wanted)
        return claims, token_logic.describe(service, conn, present, claims, catalog=catalog)
    if who.default_project_id is not None:
        claims = _claims(service, who, {"project_id": who.default_project_id})
        try:
            return claims, token_logic.describe(service, conn, present, claims, catalog=catalog)
        except token_logic.NoRights:
            pass  # a default project that cannot be used leaves the token unscoped
    claims = _claims(service, who, {})
    return claims, token_logic.describe(service, conn, present, claims, catalog=catalog)


def _wanted(conn: sa.Connection, who: Who, scope: Any) -> dict[str, str] | None:
    """The claims of the scope that was asked for; {} is explicitly none, None leaves it to the default project."""
    if who.application_credential_id is not None:
        asked = _looked_up(conn, scope) if isinstance(scope, dict) else None
        if scope is not None and asked != {"project_id": who.project_id}:
            raise token_logic.NoRights("an application credential cannot be used for another scope")
        return {"project_id": who.project_id or ""}
    if scope is None:
        return None
    if scope == "unscoped":
        return {}
    return _looked_up(conn, scope)


def _looked_up(conn: sa.Connection, scope: Mapping[str, Any]) -> dict[str, str]:
    kinds = [kind for kind in ("project", "domain", "system", "unscoped", "OS-TRUST:trust") if kind in scope]
    if len(kinds) != 1:
        raise invalid("The scope must name exactly one of project, domain, system or unscoped.")
    value = scope[kinds[0]]
    match kinds[0]:
        case "unscoped":
            return {}
        case "system":
            if not (isinstance(value, dict) and value.get("all") is True):
                raise invalid("The only system scope is {'all': true}.")
            return {"system": "all"}
        case "domain":
            row = _scope_domain(conn, value)
            if row is None:
                raise token_logic.NoRights("there is no such domain")
            return {"domain_id": row.id}
        case "project":
            project_id = _scope_project(conn, value)
            if project_id is None:
                raise token_logic.NoRights("there is no such project")
            return {"project_id": project_id}
    raise invalid("The scope must name exactly one of project, domain, system or unscoped.")


def _scope_domain(conn: sa.Connection, value: Section) -> Any:
    if value.get("id") is not None:
        return projects.domain(conn, value["id"])
    if value.get("name") is None:
        raise invalid("Expecting to find id or name in domain.")
    return projects.domain_by_name(conn, value["name"])


def _scope_project(conn: sa.Connection, value: Section) -> str | None:
    if value.get("id") is not None:
        return str(value["id"])  # whether it exists is seen when it is described
    domain = value.get("domain") or {}
    if value.get("name") is None:
        raise invalid("Expecting to find id or name in project.")
    if domain.get("id") is None and domain.get("name") is None:
        raise invalid("Expecting to find domain in project.")
    row = projects.project_by_name(conn, value["name"], domain.get("id"), domain.get("name"))
    return None if row is None else row.id


def _claims(service: Service, who: Who, scope: Mapping[str, str]) -> Claims:
    ends = who.proved_at + dt.timedelta(seconds=service.options.token_expiration)
    if who.expires_at is not None:
        ends = min(ends, who.expires_at)
    audit_id = tokens.new_audit_id()
    return Claims(
        user_id=who.user_id,
        methods=who.methods,
        issued_at=who.proved_at,
        expires_at=ends,
        audit_ids=(audit_id,) if who.chain_id is None else (audit_id, who.chain_id),
        project_id=scope.get("project_id"),
        domain_id=scope.get("domain_id"),
        system=scope.get("system"),
        trust_id=who.trust_id,
        application_credential_id=who.application_credential_id,
    )
