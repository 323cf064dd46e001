"""Access rules of a user's application credentials: /v3/users/{user_id}/access_rules."""

from __future__ import annotations

from typing import Any

from pileus.identity.logic import access_rules, application_credentials
from pileus.identity.store.listing import Record
from pileus.kernel.web import Call, Operations

from .common import collection, listing, permit

operations = Operations()

_ALL = "/users/{user_id}/access_rules"
_ONE = _ALL + "/{access_rule_id}"


def _shown(call: Call, row: Record) -> dict[str, Any]:
    return {
        **access_rules.shown(row),
        "links": {"self": call.link(f"/users/{row.user_id}/access_rules/{row.id}")},
    }


@operations("GET", _ALL, rule="identity:list_access_rules", late=True, summary="List access rules")
def list_access_rules(call: Call) -> dict[str, Any]:
    permit(call, _target(call))
    wanted = listing(call, ("service", "path", "method"))
    rows = access_rules.list_rules(call.service, call.params["user_id"], wanted)
    return collection(call, "access_rules", rows, lambda row: _shown(call, row), wanted)


@operations("GET", _ONE, rule="identity:get_access_rule", late=True, summary="Show an access rule")
def show_access_rule(call: Call) -> dict[str, Any]:
    permit(call, _target(call))
    row = access_rules.find(call.service, call.params["user_id"], call.params["access_rule_id"])
    return {"access_rule": _shown(call, row)}


@operations(
    "DELETE", _ONE, rule="identity:delete_access_rule", late=True, status=204, summary="Delete an unused access rule"
)
def delete_access_rule(call: Call) -> None:
    permit(call, _target(call))
    application_credentials.check_may_manage(call.service, call.context)
    access_rules.delete(call.service, call.params["user_id"], call.params["access_rule_id"])


def _target(call: Call) -> dict[str, Any]:
    return {"target.user.id": call.params["user_id"]}
