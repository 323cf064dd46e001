"""OAuth 1.0: consumers and how they come to access tokens (/v3/OS-OAUTH1), and the access tokens of users."""

from __future__ import annotations

from typing import Any

from pileus.identity.api import render
from pileus.identity.errors import not_found
from pileus.identity.logic import oauth1
from pileus.identity.logic import roles as role_logic
from pileus.identity.logic.oauth1 import Granted
from pileus.identity.store.listing import Record
from pileus.kernel import clock
from pileus.kernel.web import Call, Operations, Reply

from .common import FORM, ID, NAME, TEXT, collection, form, listing, signed_request, wrapped

operations = Operations()

_CONSUMERS = "/OS-OAUTH1/consumers"
_CONSUMER = _CONSUMERS + "/{consumer_id}"
_PROPERTIES = {"description": TEXT}
_ROLE = {
    "type": "object",
    "properties": {"id": ID, "name": NAME},
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": False,
}
_ROLES = {
    "type": "object",
    "properties": {"roles": {"type": "array", "items": _ROLE, "minItems": 1, "maxItems": 100}},
    "required": ["roles"],
}


# Consumers ------------------------------------------------------------------------------------------------------------


def _shown(call: Call, row: Record) -> dict[str, Any]:
    links = {"self": call.link(f"{_CONSUMERS}/{row.id}")}
    return {**row.extra, "id": row.id, "description": row.description, "links": links}


@operations("GET", _CONSUMERS, rule="identity:list_consumers", summary="List consumers")
def list_consumers(call: Call) -> dict[str, Any]:
    wanted = listing(call, ("id",))
    rows = oauth1.list_consumers(call.service, wanted)
    return collection(call, "consumers", rows, lambda row: _shown(call, row), wanted)


@operations(
    "POST",
    _CONSUMERS,
    rule="identity:create_consumer",
    status=201,
    body=wrapped("consumer", _PROPERTIES),
    summary="Create a consumer; its secret is shown this once",
)
def create_consumer(call: Call) -> dict[str, Any]:
    row, secret = oauth1.create_consumer(call.service, call.body["consumer"])
    return {"consumer": {**_shown(call, row), "secret": secret}}


@operations("GET", _CONSUMER, rule="identity:get_consumer", summary="Show a consumer")
def show_consumer(call: Call) -> dict[str, Any]:
    return {"consumer": _shown(call, oauth1.find_consumer(call.service, call.params["consumer_id"]))}


@operations(
    "PATCH",
    _CONSUMER,
    rule="identity:update_consumer",
    body=wrapped("consumer", _PROPERTIES, least=1),
    summary="Update a consumer",
)
def update_consumer(call: Call) -> dict[str, Any]:
    row = oauth1.update_consumer(call.service, call.params["consumer_id"], call.body["consumer"])
    return {"consumer": _shown(call, row)}


@operations(
    "DELETE",
    _CONSUMER,
    rule="identity:delete_consumer",
    status=204,
    summary="Delete a consumer and all that it was granted",
)
def delete_consumer(call: Call) -> None:
    oauth1.delete_consumer(call.service, call.params["consumer_id"])


# How a consumer comes to an access token --------------------------------------------------------------------------------


@operations(
    "POST", "/OS-OAUTH1/request_token", public="the consumer signs", raw=True, status=201, summary="Get a request token"
)
def create_request_token(call: Call) -> Reply:
    request = signed_request(call, form(call))
    return _granted(oauth1.create_request_token(call.service, request, call.headers.get("Requested-Project-Id")))


@operations(
    "PUT",
    "/OS-OAUTH1/authorize/{request_token_id}",
    rule="identity:authorize_request_token",
    body=_ROLES,
    summary="Authorize a request token",
)
def authorize_request_token(call: Call) -> dict[str, Any]:
    verifier = oauth1.authorize(call.service, call.context, call.params["request_token_id"], call.body["roles"])
    return {"token": {"oauth_verifier": verifier}}


@operations(
    "POST", "/OS-OAUTH1/access_token", public="the consumer signs", raw=True, status=201, summary="Get an access token"
)
def create_access_token(call: Call) -> Reply:
    return _granted(oauth1.create_access_token(call.service, signed_request(call, form(call))))


def _granted(made: Granted) -> Reply:
    answer = f"oauth_token={made.id}&oauth_token_secret={made.secret}"
    if made.expires_at is not None:
        answer += f"&oauth_expires_at={clock.iso_utc(made.expires_at)}"
    return Reply(answer, headers={"Cache-Control": "no-store"}, content_type=FORM)


# Access tokens of a user ------------------------------------------------------------------------------------------------

_TOKENS = "/users/{user_id}/OS-OAUTH1/access_tokens"
_TOKEN = _TOKENS + "/{access_token_id}"


def _token(call: Call, row: Record) -> dict[str, Any]:
    here = call.link(f"/users/{row.user_id}/OS-OAUTH1/access_tokens/{row.id}")
    return {
        "id": row.id,
        "consumer_id": row.consumer_id,
        "project_id": row.project_id,
        "authorizing_user_id": row.user_id,
        "expires_at": clock.iso_utc(row.expires_at),
        "links": {"self": here, "roles": here + "/roles"},
    }


def _found(call: Call) -> Record:
    return oauth1.find_access_token(call.service, call.params["user_id"], call.params["access_token_id"])


def _roles(call: Call, role_ids: list[str]) -> list[dict[str, Any]]:
    shown = render.roles(call)
    rows = role_logic.some(call.service, role_ids)
    return [{name: value for name, value in shown(row).items() if name != "description"} for row in rows]


@operations("GET", _TOKENS, rule="identity:list_access_tokens", summary="List what a user has granted to consumers")
def list_access_tokens(call: Call) -> dict[str, Any]:
    rows = oauth1.list_access_tokens(call.service, call.context, call.params["user_id"])
    return collection(call, "access_tokens", rows, lambda row: _token(call, row))


@operations("GET", _TOKEN, rule="identity:get_access_token", summary="Show what a user has granted to a consumer")
def show_access_token(call: Call) -> dict[str, Any]:
    return {"access_token": _token(call, _found(call))}


@operations(
    "DELETE",
    _TOKEN,
    rule="identity:delete_access_token",
    status=204,
    summary="Take back what was granted to a consumer",
)
def delete_access_token(call: Call) -> None:
    oauth1.delete_access_token(call.service, call.params["user_id"], call.params["access_token_id"])


@operations(
    "GET", _TOKEN + "/roles", rule="identity:list_access_token_roles", summary="List the roles granted to a consumer"
)
def list_access_token_roles(call: Call) -> dict[str, Any]:
    here = call.root_link(call.path)
    roles = _roles(call, _found(call).role_ids)
    return {"roles": roles, "links": {"next": None, "self": here, "previous": None}}


@operations(
    "GET",
    _TOKEN + "/roles/{role_id}",
    rule="identity:get_access_token_role",
    summary="Show a role granted to a consumer",
)
def show_access_token_role(call: Call) -> dict[str, Any]:
    role_id = call.params["role_id"]
    roles = _roles(call, [role_id]) if role_id in _found(call).role_ids else []
    if not roles:
        raise not_found("role", role_id)
    return {"role": roles[0]}
