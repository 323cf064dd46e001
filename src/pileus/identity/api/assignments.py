"""The list of role assignments: /v3/role_assignments."""

from __future__ import annotations

from typing import Any

from pileus.identity.logic import assignments
from pileus.identity.logic.assignments import Entry, Names, Wanted
from pileus.identity.store.listing import Record
from pileus.identity.store.tables import DOMAIN, PROJECT, SYSTEM_KIND, USER
from pileus.kernel.web import Call, Operations

from .common import flag, own_domain, permit, target

operations = Operations()


@operations(
    "GET", "/role_assignments", rule="identity:list_role_assignments", late=True, summary="List role assignments"
)
def list_assignments(call: Call) -> dict[str, Any]:
    query = call.query
    include_subtree = flag(query.one("include_subtree"))
    project_id = query.one("scope.project.id")
    if include_subtree:
        project = assignments.project_of(call.service, project_id or "")
        tree = target(project=project)
        if "target.project.domain_id" in tree:
            tree["target.domain_id"] = tree["target.project.domain_id"]
        permit(call, tree, "identity:list_role_assignments_for_tree")
    else:
        permit(call, own_domain(call, "target.domain_id"))
    inherited = query.one("scope.OS-INHERIT:inherited_to")
    wanted = Wanted(
        user_id=query.one("user.id"),
        group_id=query.one("group.id"),
        role_id=query.one("role.id"),
        project_id=project_id,
        domain_id=query.one("scope.domain.id"),
        system=flag(query.one("scope.system")),
        inherited=None if inherited is None else inherited == "projects",
        effective=flag(query.one("effective")),
        include_subtree=include_subtree,
        only_domain=None if include_subtree else call.context.domain_id,
    )
    entries, names = assignments.list_assignments(call.service, wanted, names=flag(query.one("include_names")))
    links = {"next": None, "self": call.root_link(call.path), "previous": None}
    return {"role_assignments": [_shown(call, entry, names) for entry in entries], "links": links}


def _shown(call: Call, entry: Entry, names: Names | None) -> dict[str, Any]:
    actor = "user" if entry.actor_kind == USER else "group"
    shown: dict[str, Any] = {
        "role": _named(entry.role_id, names.roles if names else None, names),
        actor: _named(entry.actor_id, (names.users if actor == "user" else names.groups) if names else None, names),
        "scope": _scope(entry, names),
        "links": {"assignment": call.link(_assignment_path(entry))},
    }
    if entry.member_of is not None:
        shown["links"]["membership"] = call.link(f"/groups/{entry.member_of}/users/{entry.actor_id}")
    if entry.prior_role_id is not None:
        shown["links"]["prior_role"] = call.link(f"/prior_role/{entry.prior_role_id}/implies/{entry.role_id}")
    return shown


def _scope(entry: Entry, names: Names | None) -> dict[str, Any]:
    if entry.target_kind == SYSTEM_KIND:
        return {"system": {"all": True}}
    kind = "project" if entry.target_kind == PROJECT else "domain"
    scope: dict[str, Any] = {kind: _named(entry.target_id, names.projects if names else None, names)}
    if kind == "domain" and names:
        scope[kind].pop("domain", None)
    if entry.inherited:
        scope["OS-INHERIT:inherited_to"] = "projects"
    return scope


def _named(identifier: str, rows: Any, names: Names | None) -> dict[str, Any]:
    """`{"id"}`, with names also `name` and `domain`; what is gone keeps its id and has empty names."""
    if names is None:
        return {"id": identifier}
    row: Record | None = rows.get(identifier)
    if row is None:
        return {"id": identifier, "name": "", "domain": {"id": "", "name": ""}}
    shown = {"id": identifier, "name": row.name}
    if row.domain_id:
        domain = names.projects.get(row.domain_id)
        shown["domain"] = {"id": row.domain_id, "name": domain.name if domain is not None else ""}
    return shown


def _assignment_path(entry: Entry) -> str:
    """The URL of the grant that the entry comes from."""
    source = entry.source
    actor = f"{'users' if source.actor_kind == USER else 'groups'}/{source.actor_id}/roles/{source.role_id}"
    if source.target_kind == SYSTEM_KIND:
        return f"/system/{actor}"
    path = f"/{'domains' if source.target_kind == DOMAIN else 'projects'}/{source.target_id}/{actor}"
    return f"/OS-INHERIT{path}/inherited_to_projects" if source.inherited else path
