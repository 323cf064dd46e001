"""OAuth 2.0 (RFC 6749): /v3/OS-OAUTH2.

Clients get a token with an application credential, whose id and secret are client_id and client_secret, or with a certificate
(RFC 8705): then client_id is a user, and the token is bound to the certificate.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from pileus.identity.errors import AuthenticationFailed
from pileus.identity.logic import auth, oauth2
from pileus.kernel import client_certificates, clock
from pileus.kernel.errors import Failure, Invalid, TooManyRequests
from pileus.kernel.web import Call, Operations, Reply

from .common import form
from .failures import slowed

operations = Operations()



@operations(
    "POST",
    "/OS-OAUTH2/token",
    public="the secret or the certificate of the client proves who asks",
    raw=True,
    summary="Get an access token with client credentials",
)
def issue_token(call: Call) -> Reply:
    given = _form(call)
    grant_type = given.get("grant_type")
    if grant_type is None:
        return _refused(400, "invalid_request", "The parameter grant_type is required.")
    if grant_type != "client_credentials":
        return _refused(400, "unsupported_grant_type", f"The parameter grant_type {grant_type} is not supported.")
    try:
        issued = _issue(call, given)
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


def _issue(call: Call, given: dict[str, str]) -> auth.Issued:
    """By the certificate where the client has shown one, by its secret otherwise. Raises AuthenticationFailed."""
    allowed = call.service.options.oauth2_authn_methods
    certificate = client_certificates.told(call.assertion, call.service.config.api.client_certificate_header)
    if certificate is not None:
        if "tls_client_auth" not in allowed or not given.get("client_id"):
            raise AuthenticationFailed("client certificates are not allowed, or there is no client_id")
        return oauth2.by_certificate(call.service, given["client_id"], certificate)
    client = _client(call, given)
    if "client_secret_basic" not in allowed or client is None:
        raise AuthenticationFailed("the client has shown neither certificate nor secret, or none that is allowed")
    credential = {"id": client[0], "secret": client[1]}
    wanted = {"identity": {"methods": ["application_credential"], "application_credential": credential}}
    with slowed(call, [client[0]]):
        return auth.authenticate(call.service, wanted, catalog=False)


_UNKEPT = {"Cache-Control": "no-store", "Pragma": "no-cache"}  # RFC 6749, section 5.1


def _refused(status: int, error: str, description: str) -> Reply:
    """RFC 6749, section 5.2."""
    asks = {"WWW-Authenticate": 'Basic realm="OS-OAUTH2"'} if status == 401 else {}
    return Reply({"error": error, "error_description": description}, status=status, headers={**_UNKEPT, **asks})


def _form(call: Call) -> dict[str, str]:
    """The parameters of the body; empty where it is no form. Of one that is given twice the first counts."""
    try:
        return dict(reversed(form(call)))
    except Invalid:
        return {}


def _client(call: Call, given: dict[str, Any]) -> tuple[str, str] | None:
    """Id and secret: by HTTP Basic, or else in the form (RFC 6749, section 2.3.1)."""
    kind, _, told = (call.headers.get("Authorization") or "").partition(" ")
    if kind.lower() == "basic":
        try:
            name, _, secret = base64.b64decode(told, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return None
    else:
        name, secret = given.get("client_id", ""), given.get("client_secret", "")
    return (name, secret) if name and secret and "\0" not in name else None
