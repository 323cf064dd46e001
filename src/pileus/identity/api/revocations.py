"""Which tokens have been ended: /v3/OS-REVOKE. What ends tokens by itself (a disabled user, a new password) is no event here: it is looked at
when a token is validated.
"""

from __future__ import annotations

from typing import Any

from pileus.identity.errors import invalid
from pileus.identity.logic import tokens
from pileus.identity.store.listing import Record
from pileus.kernel import clock
from pileus.kernel.errors import Forbidden
from pileus.kernel.web import Call, Operations

operations = Operations()

_EVENTS = "/OS-REVOKE/events"


def _shown(row: Record) -> dict[str, Any]:
    moment = clock.iso_utc(row.revoked_at)
    name = "audit_chain_id" if row.chain else "audit_id"
    return {name: row.audit_id, "issued_before": moment, "revoked_at": moment}


@operations("GET", _EVENTS, rule="identity:list_revoke_events", summary="List revocation events")
def list_events(call: Call) -> dict[str, Any]:
    since = None
    if text := call.query.one("since"):
        try:
            since = clock.parse(text)
        except ValueError:
            raise invalid(f"since: {text!r} is no time of ISO 8601.") from None
    links = {"next": None, "self": call.link(_EVENTS), "previous": None}
    return {"events": [_shown(row) for row in tokens.revoked_since(call.service, since)], "links": links}


@operations("GET", "/auth/tokens/OS-PKI/revoked", public="there is nothing to be seen", summary="Say that there is no list of revoked PKI tokens")
def list_revoked_pki_tokens(_call: Call) -> None:
    raise Forbidden("There are no PKI tokens, and so no list of revoked ones.")
