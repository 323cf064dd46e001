"""Access rules: the requests to which a user confines application credentials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.identity.errors import invalid, not_found
from pileus.identity.store import credentials as store
from pileus.identity.store import listing
from pileus.identity.store.listing import Listing, Record
from pileus.identity.store.tables import access_rules
from pileus.kernel import ids
from pileus.kernel.errors import Forbidden
from pileus.kernel.service import Service

Rule = tuple[str, str, str]
"""Service type, method, pattern of paths."""


def shown(rule: Record) -> dict[str, str]:
    """A rule as credentials and tokens show it."""
    return {"id": rule.id, "service": rule.service, "method": rule.method, "path": rule.path}


def list_rules(service: Service, user_id: str, wanted: Listing) -> Sequence[Record]:
    with service.db.read() as conn:
        own = wanted.with_filter("user_id", user_id)
        return listing.select(conn, store.RULE_COLUMNS, access_rules, own)


def find(service: Service, user_id: str, rule_id: str) -> Record:
    """Raises NotFound, for another user's too."""
    with service.db.read() as conn:
        return _required(conn, user_id, rule_id)


def delete(service: Service, user_id: str, rule_id: str) -> None:
    """Raises NotFound, Forbidden while an application credential has the rule."""
    with service.db.write() as conn:
        _required(conn, user_id, rule_id, "update")
        if store.rule_is_used(conn, rule_id):
            raise Forbidden(f"Access rule {rule_id} belongs to an application credential and cannot be deleted.")
        listing.remove(conn, access_rules, rule_id)


def attach(conn: sa.Connection, user_id: str, credential_id: str, wanted: Sequence[Mapping[str, Any]]) -> None:
    """Confine a new credential to these rules; those that the user does not have yet are made.

    Raises Invalid for an incomplete rule, NotFound for an unknown id.
    """
    if not wanted:
        return
    asked = {_complete(rule): None for rule in wanted if "id" not in rule}
    fresh = [
        {"id": ids.new_id(), "user_id": user_id, "service": service, "method": method, "path": path}
        for service, method, path in asked
    ]
    store.add_rules(conn, fresh)
    present = store.rules_of_user(conn, user_id)
    by_content = {(rule.service, rule.method, rule.path): rule.id for rule in present}
    own = {rule.id for rule in present}
    for rule in wanted:
        if "id" in rule and rule["id"] not in own:
            raise not_found("Access Rule", rule["id"])
    named = {rule["id"] for rule in wanted if "id" in rule}
    store.link_rules(conn, credential_id, named | {by_content[rule] for rule in asked})


def _complete(rule: Mapping[str, str]) -> Rule:
    missing = [name for name in ("service", "method", "path") if name not in rule]
    if missing:
        raise invalid(
            f"An access rule has a service, a method and a path, or the id of another: {missing[0]} is missing."
        )
    return rule["service"], rule["method"], rule["path"]


def _required(conn: sa.Connection, user_id: str, rule_id: str, lock: listing.Lock = None) -> Record:
    row = listing.by_id(conn, store.RULE_COLUMNS, access_rules, rule_id, lock)
    if row is None or row.user_id != user_id:
        raise not_found("Access Rule", rule_id)
    return row
