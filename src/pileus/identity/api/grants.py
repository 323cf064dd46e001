"""Giving and taking roles, on projects, domains and the system, for users and groups.

Every combination of target and actor has the same operations, so they are declared in a loop:
`/{projects|domains}/{target_id}/{users|groups}/{actor_id}/roles[/{role_id}]`, the same below `/OS-INHERIT` with
`/inherited_to_projects` at the end, and `/system/{users|groups}/{actor_id}/roles[/{role_id}]`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pileus.identity.api import render
from pileus.identity.logic import roles
from pileus.identity.logic.roles import Place
from pileus.identity.store.tables import DOMAIN, GROUP, PROJECT, USER
from pileus.kernel.web import Call, Operations

from .common import collection, permit, target

operations = Operations()

_ACTORS = (("user", USER), ("group", GROUP))
_TARGETS = (("project", PROJECT), ("domain", DOMAIN))

PlaceOf = Callable[[Call], Place]


def _authorized(call: Call, place: Place, *, actor: bool = True) -> None:
    """Look up what the path names, authorize, then say what does not exist. Raises Forbidden, NotFound."""
    role_id = call.params.get("role_id")
    found = roles.parties(call.service, place, role_id)
    permit(
        call, target(user=found.user, group=found.group, project=found.project, domain=found.domain, role=found.role)
    )
    roles.check_parties(place, found, role_id, actor=actor)


def _declare(path: str, place_of: PlaceOf, rules: dict[str, str], words: str, *, listed: bool = True) -> None:
    """The operations on one kind of grant. `path` has `{role_id}` where the list has nothing."""

    @operations("PUT", path, rule=rules["create"], late=True, status=204, summary=f"Give a role {words}")
    def give(call: Call) -> None:
        place = place_of(call)
        _authorized(call, place)
        roles.grant(call.service, place, call.params["role_id"])

    @operations("GET", path, rule=rules["check"], late=True, status=204, summary=f"Check a role {words}")
    def check(call: Call) -> None:
        place = place_of(call)
        _authorized(call, place)
        roles.check(call.service, place, call.params["role_id"])

    @operations("DELETE", path, rule=rules["revoke"], late=True, status=204, summary=f"Take a role away {words}")
    def take(call: Call) -> None:
        place = place_of(call)
        _authorized(call, place, actor=False)
        roles.revoke(call.service, place, call.params["role_id"])

    if not listed:
        return

    @operations(
        "GET", path.replace("/{role_id}", ""), rule=rules["list"], late=True, summary=f"List the roles given {words}"
    )
    def list_given(call: Call) -> dict[str, Any]:
        place = place_of(call)
        _authorized(call, place)
        return collection(call, "roles", roles.granted(call.service, place), render.roles(call))


_RULES = {
    "create": "identity:create_grant",
    "check": "identity:check_grant",
    "revoke": "identity:revoke_grant",
    "list": "identity:list_grants",
}


def _on_target(actor: str, actor_kind: str, target_name: str, target_kind: str, *, inherited: bool) -> PlaceOf:
    def place(call: Call) -> Place:
        return Place(
            actor_kind, call.params[f"{actor}_id"], target_kind, call.params[f"{target_name}_id"], inherited=inherited
        )

    return place


def _on_system(actor: str, actor_kind: str) -> PlaceOf:
    return lambda call: roles.on_system(actor_kind, call.params[f"{actor}_id"])


for _actor, _actor_kind in _ACTORS:
    for _target, _target_kind in _TARGETS:
        _path = f"/{_target}s/{{{_target}_id}}/{_actor}s/{{{_actor}_id}}/roles/{{role_id}}"
        _declare(
            _path,
            _on_target(_actor, _actor_kind, _target, _target_kind, inherited=False),
            _RULES,
            f"to a {_actor} on a {_target}",
        )
        _declare(
            f"/OS-INHERIT{_path}/inherited_to_projects",
            _on_target(_actor, _actor_kind, _target, _target_kind, inherited=True),
            _RULES,
            f"to a {_actor} on all projects below a {_target}",
            listed=_target_kind == DOMAIN,
        )
    _declare(
        f"/system/{_actor}s/{{{_actor}_id}}/roles/{{role_id}}",
        _on_system(_actor, _actor_kind),
        {
            verb: f"identity:{verb}_system_grant{'s' if verb == 'list' else ''}_for_{_actor}"
            for verb in ("create", "check", "revoke", "list")
        },
        f"to a {_actor} on the system",
    )
