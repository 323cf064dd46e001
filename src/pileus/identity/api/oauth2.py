"""OAuth 2.0 (RFC 6749): /v3/OS-OAUTH2. Clients get a token with an application credential: its id and secret are client_id and client_secret."""

from __future__ import annotations

import base64
import binascii
import urllib.parse
from typing import Any

from pileus.identity.errors import AuthenticationFailed
from pileus.identity.logic import auth
from pileus.kernel import clock
from pileus.kernel.errors import Failure, TooManyRequests
from pileus.kernel.web import Call, Operations, Reply

from .failures import slowed

operations = Operations()

_FORM = "application/x-www-form-urlencoded"
_MOST = 16384
"""Bytes of a form: far more than any client sends."""


@operations(
    "POST",
    "/OS-OAUTH2/token",
    public="the secret of the client proves who asks",
    raw=True,
    summary="Get an access token with client credentials",
)
def issue_token(call: Call) -> Reply:
    form = _form(call)
    grant_type = form.get("grant_type")
    if grant_type is None:
        return _refused(400, "invalid_request", "The parameter grant_type is required.")
    if grant_type != "client_credentials":
        return _refused(400, "unsupported_grant_type", f"The parameter grant_type {grant_type} is not supported.")
    client = _client(call, form)
    if client is None:
        return _refused(401, "invalid_client", "Client authentication failed.")
    credential = {"id": client[0], "secret": client[1]}
    wanted = {"identity": {"methods": ["application_credential"], "application_credential": credential}}
    try:
        with slowed(call, [client[0]]):
            issued = auth.authenticate(call.service, wanted, catalog=False)
    except TooManyRequests:
        raise
    except AuthenticationFailed:
        return _refused(401, "invalid_client", "Client authentication failed.")
    except Failure as failure:
        if failure.status >= 500:
            raise
        return _refused(400, "invalid_request", failure.message)
    seconds = max(0, round((issued.expires_at - clock.utcnow()).total_seconds()))
    answer = {"access_token": issued.token, "token_type": "Bearer", "expires_in": seconds}
    return Reply(answer, headers=_UNKEPT)


_UNKEPT = {"Cache-Control": "no-store", "Pragma": "no-cache"}  # RFC 6749, section 5.1


def _refused(status: int, error: str, description: str) -> Reply:
    """RFC 6749, section 5.2."""
    asks = {"WWW-Authenticate": 'Basic realm="OS-OAUTH2"'} if status == 401 else {}
    return Reply({"error": error, "error_description": description}, status=status, headers={**_UNKEPT, **asks})


def _form(call: Call) -> dict[str, str]:
    """The parameters of the body; empty where it is no form. Of one that is given twice the first counts."""
    sent = call.content(_MOST)
    if (call.headers.get("Content-Type") or "").partition(";")[0].strip().lower() != _FORM:
        return {}
    try:
        found = urllib.parse.parse_qs(sent.decode(), keep_blank_values=True, max_num_fields=20)
    except ValueError:
        return {}
    return {name: values[0] for name, values in found.items()}


def _client(call: Call, form: dict[str, Any]) -> tuple[str, str] | None:
    """Id and secret: by HTTP Basic, or else in the form (RFC 6749, section 2.3.1)."""
    kind, _, told = (call.headers.get("Authorization") or "").partition(" ")
    if kind.lower() == "basic":
        try:
            name, _, secret = base64.b64decode(told, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return None
    else:
        name, secret = form.get("client_id", ""), form.get("client_secret", "")
    return (name, secret) if name and secret and "\0" not in name else None
