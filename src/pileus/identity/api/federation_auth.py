"""Logging in by an identity provider: a path for each protocol, for clients and for browsers that come from a dashboard.

A trusted proxy protects these paths: nobody comes through who has not been at the identity provider first.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape

from pileus.identity.errors import MoreMethodsNeeded, invalid
from pileus.identity.logic import auth, federated_users
from pileus.identity.logic.auth import Issued
from pileus.kernel.errors import Unauthorized
from pileus.kernel.web import Call, Operations, Reply

from .auth import RECEIPT

operations = Operations()

_PUBLIC = "what a trusted proxy says of who is asking is the proof"
_AUTH = "/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/auth"
_SSO = "/auth/OS-FEDERATION/websso/{protocol_id}"
_SSO_OF_PROVIDER = "/auth/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/websso"


def _issue(call: Call, provider_id: str, protocol_id: str) -> Issued:
    section = {"identity_provider": provider_id, "protocol": protocol_id}
    wanted = {"identity": {"methods": ["mapped"], "mapped": section}}
    return auth.authenticate(call.service, wanted, catalog=True, assertion=call.assertion)


@operations("GET", _AUTH, public=_PUBLIC, status=201, summary="Get an unscoped token by an identity provider")
@operations(
    "POST", _AUTH, public=_PUBLIC, status=201, raw=True, summary="Get an unscoped token by an identity provider"
)
def authenticate(call: Call) -> Reply:
    try:
        issued = _issue(call, call.params["idp_id"], call.params["protocol_id"])
    except MoreMethodsNeeded as part:
        return Reply(part.body, status=401, headers={RECEIPT: part.receipt})
    headers = {"X-Subject-Token": issued.token, "Vary": "X-Auth-Token", "Cache-Control": "no-store"}
    return Reply(issued.json, headers=headers, content_type="application/json")


@operations("GET", _SSO, public=_PUBLIC, summary="Log in to a dashboard by a protocol")
@operations("POST", _SSO, public=_PUBLIC, raw=True, summary="Log in to a dashboard by a protocol")
def sign_on(call: Call) -> Reply:
    dashboard = _dashboard(call)
    protocol_id = call.params["protocol_id"]
    provider_id = federated_users.provider_behind(call.service, protocol_id, call.assertion)
    return _handed_to(dashboard, _issue(call, provider_id, protocol_id))


@operations("GET", _SSO_OF_PROVIDER, public=_PUBLIC, summary="Log in to a dashboard by an identity provider")
@operations("POST", _SSO_OF_PROVIDER, public=_PUBLIC, raw=True, summary="Log in to a dashboard by an identity provider")
def sign_on_by_provider(call: Call) -> Reply:
    dashboard = _dashboard(call)
    return _handed_to(dashboard, _issue(call, call.params["idp_id"], call.params["protocol_id"]))


def _dashboard(call: Call) -> str:
    """Where the token is to go. Raises Invalid, and Unauthorized for a place that nobody has allowed."""
    origin = call.query.one("origin")
    if not origin:
        raise invalid("Request must have an origin query parameter")
    trusted: dict[str, str] = {_plain(one): one for one in call.service.options.trusted_dashboard}
    if _plain(origin) not in trusted:
        raise Unauthorized(f"{origin} is not a trusted dashboard host")
    return trusted[_plain(origin)]


def _plain(url: str) -> str:
    """With scheme and host in lower case, and nothing else changed."""
    scheme, colon, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return scheme.lower() + colon + host.lower() + slash + path


_SCRIPT = "document.getElementById('sso').submit()"
_HASH = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Signing on</title></head>
<body>
<form id="sso" method="post" action="{dashboard}">
<input type="hidden" name="token" value="{token}">
<noscript><button type="submit">Continue</button></noscript>
</form>
<script>{script}</script>
</body>
</html>
"""


def _handed_to(dashboard: str, issued: Issued) -> Reply:
    """A page that posts the token to the dashboard. It may run its own one script and load nothing."""
    page = _PAGE.format(dashboard=escape(dashboard), token=escape(issued.token), script=_SCRIPT)
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": f"default-src 'none'; script-src 'sha256-{_HASH}'; frame-ancestors 'none'; base-uri 'none'",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return Reply(page, headers=headers, content_type="text/html; charset=utf-8")
