"""Trusts that are passed on: a trustee makes another trust with the token of one, for somebody else.

No trust of a chain gives more than the one it was made from, each may be passed on less often than that, and it holds as long as
all before it do and everybody in the chain may act.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from pileus.identity.errors import invalid
from pileus.identity.store import trusts as store
from pileus.identity.store.listing import Record
from pileus.kernel.errors import Forbidden
from pileus.kernel.service import Service


class Broken(Exception):
    """The chain of a trust does not hold any more; the text says why, for the log."""


def root(service: Service, conn: sa.Connection, trust: Record, now: dt.datetime) -> Record:
    """The trust with which the chain of this one began: its trustor is whose rights they are. Raises Broken."""
    if trust.redelegated_trust_id is None:
        return trust
    line = store.ancestors(conn, trust)
    if not line or line[-1].redelegated_trust_id is not None:
        raise Broken("a trust of the chain is gone")
    for above in line:
        if store.has_ended(above, now):
            raise Broken(f"trust {above.id} of the chain has ended")
        if not 0 < above.redelegation_count <= service.options.max_redelegation_count:
            raise Broken(f"trust {above.id} of the chain may not be passed on")
    people = {user_id for above in line for user_id in (above.trustor_user_id, above.trustee_user_id)}
    if store.enabled_users(conn, people) != people:
        raise Broken("somebody in the chain is gone or disabled")
    return line[-1]


def count(service: Service, body: Mapping[str, Any], source: Record | None) -> int:
    """How often a new trust may be passed on; `source` is the trust that it is made from. Raises Invalid, Forbidden."""
    most, asked = service.options.max_redelegation_count, body.get("redelegation_count")
    if not body.get("allow_redelegation") or asked == 0:
        return 0
    if asked is not None and asked > most:
        raise Forbidden(f"Requested redelegation depth of {asked} is greater than allowed {most}.")
    if body.get("remaining_uses") is not None:
        raise invalid("A trust that may be passed on cannot have remaining_uses.")
    if source is None:
        return int(most if asked is None else asked)
    left = int(source.redelegation_count) - 1
    if asked is not None and asked != left:
        raise Forbidden(f"This trust can be passed on {left} more times: leave redelegation_count out.")
    return left


def giver_id(service: Service, conn: sa.Connection, source: Record, now: dt.datetime) -> str:
    """The user whose rights a trust passes on that is made from `source`, which must be locked. Raises Forbidden."""
    try:
        return str(root(service, conn, source, now).trustor_user_id)
    except Broken as reason:
        raise Forbidden("The chain of this trust does not hold any more.", inside=str(reason)) from None


def check(service: Service, conn: sa.Connection, source: Record, values: Mapping[str, Any]) -> None:
    """Whether a trust of these values may be made from `source`, which must be locked and hold. Raises Forbidden."""
    most = service.options.max_redelegation_count
    for above in (source, *store.ancestors(conn, source)):
        ends = above.expires_at
        if not 0 < above.redelegation_count <= most:
            raise Forbidden(f"This trust may not be passed on: its redelegation depth {above.redelegation_count} is not in 1..{most}.")
        if values["remaining_uses"] is not None:
            raise Forbidden("What is passed on cannot have remaining_uses.")
        if ends is not None and (values["expires_at"] is None or values["expires_at"] > ends):
            raise Forbidden("What is passed on cannot last longer than the trust that it is made from.")
        if not set(values["role_ids"]) <= set(above.role_ids):
            raise Forbidden("Some of the roles are not in the trust that is passed on.")
        if values["impersonation"] and not above.impersonation:
            raise Forbidden("Impersonation cannot be passed on by a trust that has none.")
