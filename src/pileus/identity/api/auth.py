"""Tokens and what a token's holder may see: /v3/auth."""

from __future__ import annotations

from typing import Any

from pileus.identity.api import render
from pileus.identity.errors import MoreMethodsNeeded, TokenNotFound
from pileus.identity.logic import auth, catalog, projects, tokens
from pileus.identity.logic.tokens import Validated
from pileus.kernel.errors import Forbidden
from pileus.kernel.web import Call, Operations, Reply

from .common import collection, flag, permit, signed_request
from .failures import accounts_of, slowed

operations = Operations()

JSON = "application/json"
RECEIPT = "Openstack-Auth-Receipt"

_DOMAIN = {"type": "object", "properties": {"id": {"type": "string"}, "name": {"type": "string"}}}
_USER: dict[str, Any] = {
    "type": "object",
    "properties": {"id": {"type": "string"}, "name": {"type": "string"}, "domain": _DOMAIN},
}


def _user_with(secret: str, schema: dict[str, Any]) -> dict[str, Any]:
    """The section of a method in which a user is named together with a secret."""
    user = {**_USER, "properties": {**_USER["properties"], secret: schema}, "required": [secret]}
    return {"type": "object", "properties": {"user": user}, "required": ["user"]}


_SCOPE = {
    "anyOf": [
        {"type": "string", "enum": ["unscoped"]},
        {
            "type": "object",
            "properties": {
                "project": {
                    "type": "object",
                    "properties": {"id": {"type": "string"}, "name": {"type": "string"}, "domain": _DOMAIN},
                },
                "domain": _DOMAIN,
                "system": {"type": "object", "properties": {"all": {"type": "boolean"}}},
                "unscoped": {"type": "object"},
                "OS-TRUST:trust": {"type": "object", "properties": {"id": {"type": "string"}}},
            },
        },
    ]
}
_AUTH = {
    "type": "object",
    "properties": {
        "auth": {
            "type": "object",
            "properties": {
                "identity": {
                    "type": "object",
                    "properties": {
                        "methods": {"type": "array", "items": {"type": "string"}},
                        "token": {
                            "type": "object",
                            "properties": {"id": {"type": "string"}},
                            "required": ["id"],
                        },
                        "password": _user_with("password", {"type": "string"}),
                        "totp": _user_with("passcode", {"type": "string", "maxLength": 64}),
                        "mapped": {
                            "type": "object",
                            "properties": {
                                "identity_provider": {"type": "string"},
                                "protocol": {"type": "string"},
                                "id": {"type": "string"},
                            },
                        },
                        "external": {"type": "object"},
                        "application_credential": {
                            "type": "object",
                            "properties": {
                                "id": {"type": "string"},
                                "name": {"type": "string"},
                                "secret": {"type": "string"},
                                "user": _USER,
                            },
                            "required": ["secret"],
                        },
                        "oauth1": {"type": "object"},
                    },
                    "required": ["methods"],
                },
                "scope": _SCOPE,
            },
            "required": ["identity"],
        }
    },
    "required": ["auth"],
}


@operations(
    "POST",
    "/auth/tokens",
    public="here a token is asked for",
    status=201,
    body=_AUTH,
    summary="Authenticate and get a token",
)
def issue_token(call: Call) -> Reply:
    wanted, receipt = call.body["auth"], call.headers.get(RECEIPT)
    catalog = "nocatalog" not in call.query
    try:
        with slowed(call, accounts_of(wanted["identity"])):
            issued = auth.authenticate(
                call.service,
                wanted,
                catalog=catalog,
                assertion=call.assertion,
                receipt=receipt,
                signed=signed_request(call),
            )
    except MoreMethodsNeeded as part:
        return Reply(part.body, status=401, headers={RECEIPT: part.receipt})
    return _token_reply(issued.token, issued.json)


@operations("GET", "/auth/tokens", rule="identity:validate_token", late=True, summary="Validate a token and show it")
def show_token(call: Call) -> Reply:
    token, found = _subject(call, catalog="nocatalog" not in call.query)
    return _token_reply(token, found.json)


@operations("HEAD", "/auth/tokens", rule="identity:check_token", late=True, summary="Check a token")
def check_token(call: Call) -> Reply:
    token, found = _subject(call, catalog="nocatalog" not in call.query)
    return _token_reply(token, found.json)


@operations("DELETE", "/auth/tokens", rule="identity:revoke_token", late=True, status=204, summary="Revoke a token")
def revoke_token(call: Call) -> None:
    _token, found = _subject(call, catalog=False)
    tokens.revoke(call.service, found.claims)


def _subject(call: Call, *, catalog: bool) -> tuple[str, Validated]:
    """The token that the request is about, authorized. Raises TokenNotFound, Forbidden."""
    token = call.headers.get("X-Subject-Token")
    call.mark_authorized()  # what is no valid token is nobody's, and 404 for everybody
    if not token:
        raise TokenNotFound("no X-Subject-Token")
    allow_expired = flag(call.query.one("allow_expired"))
    found = tokens.validate(call.service, token, catalog=catalog, allow_expired=allow_expired)
    permit(call, {"target.token.user_id": found.claims.user_id})
    if found.confined and call.method != "DELETE" and not _knows_access_rules(call):
        raise TokenNotFound("the token is confined by access rules, of which the asking service knows nothing")
    return token, found


def _knows_access_rules(call: Call) -> bool:
    """Whether who asks says that it obeys access rules; a service that would not must not see such a token as valid."""
    return (call.headers.get("OpenStack-Identity-Access-Rules") or "") >= "1.0"


def _token_reply(token: str, json: bytes) -> Reply:
    return Reply(json, headers={"X-Subject-Token": token, "Vary": "X-Auth-Token"}, content_type=JSON)


@operations(
    "GET", "/auth/revision", rule="identity:get_revision", summary="The revision under which tokens may be remembered"
)
def show_revision(call: Call) -> Reply:
    return Reply(b'{"revision":%d}' % tokens.current_revision(call.service), content_type=JSON)


@operations("GET", "/auth/catalog", rule="identity:get_auth_catalog", summary="Show the catalog of the token")
def show_catalog(call: Call) -> dict[str, Any]:
    context = call.context
    if context.project_id is None and context.domain_id is None and context.system_scope is None:
        raise Forbidden("A scoped token is needed for a service catalog.")
    found = catalog.catalog_for(call.service, context.user_id or "", context.project_id)
    return {"catalog": found, "links": {"next": None, "self": call.link("/auth/catalog"), "previous": None}}


@operations(
    "GET",
    "/auth/projects",
    rule="identity:get_auth_projects",
    aliases=("/OS-FEDERATION/projects",),
    summary="List the projects one can have a token for",
)
def list_projects(call: Call) -> dict[str, Any]:
    found = projects.of_user(call.service, call.context.user_id or "")
    return collection(call, "projects", found.rows, render.projects(call, found.tags))


@operations(
    "GET",
    "/auth/domains",
    rule="identity:get_auth_domains",
    aliases=("/OS-FEDERATION/domains",),
    summary="List the domains one can have a token for",
)
def list_domains(call: Call) -> dict[str, Any]:
    found = projects.of_user(call.service, call.context.user_id or "", domains=True)
    return collection(call, "domains", found.rows, render.domains(call, found.tags))


@operations("GET", "/auth/system", rule="identity:get_auth_system", summary="List the systems one can have a token for")
def list_systems(call: Call) -> dict[str, Any]:
    has_role = projects.has_system_role(call.service, call.context.user_id or "")
    return {"system": [{"all": True}] if has_role else [], "links": {"self": call.link("/auth/system")}}
