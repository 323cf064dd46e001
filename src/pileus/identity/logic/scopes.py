"""The scope that a request asks for, as the claims of a token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from pileus.identity.errors import invalid
from pileus.identity.store import projects

from .proofs import Section, Who
from .tokens import NoRights


def wanted(conn: sa.Connection, who: Who, scope: Any) -> dict[str, str] | None:
    """The claims of the scope that was asked for; {} is explicitly none, None leaves it to the default project."""
    if who.application_credential_id is not None or who.access_token_id is not None:
        asked = _looked_up(conn, scope) if isinstance(scope, dict) else None
        if scope is not None and asked != {"project_id": who.project_id}:
            raise NoRights("an application credential or access token cannot be used for another scope")
        return {"project_id": who.project_id or ""}
    if scope is None:
        return None
    if scope == "unscoped":
        return {}
    return _looked_up(conn, scope)


def _looked_up(conn: sa.Connection, scope: Mapping[str, Any]) -> dict[str, str]:
    kinds = [kind for kind in ("project", "domain", "system", "unscoped", "OS-TRUST:trust") if kind in scope]
    if len(kinds) != 1:
        raise invalid("The scope must name exactly one of project, domain, system or unscoped.")
    value = scope[kinds[0]]
    match kinds[0]:
        case "unscoped":
            return {}
        case "system":
            if not (isinstance(value, dict) and value.get("all") is True):
                raise invalid("The only system scope is {'all': true}.")
            return {"system": "all"}
        case "domain":
            row = _scope_domain(conn, value)
            if row is None:
                raise NoRights("there is no such domain")
            return {"domain_id": row.id}
        case "project":
            project_id = _scope_project(conn, value)
            if project_id is None:
                raise NoRights("there is no such project")
            return {"project_id": project_id}
    raise invalid("The scope must name exactly one of project, domain, system or unscoped.")


def _scope_domain(conn: sa.Connection, value: Section) -> Any:
    if value.get("id") is not None:
        return projects.domain(conn, value["id"])
    if value.get("name") is None:
        raise invalid("Expecting to find id or name in domain.")
    return projects.domain_by_name(conn, value["name"])


def _scope_project(conn: sa.Connection, value: Section) -> str | None:
    if value.get("id") is not None:
        return str(value["id"])  # whether it exists is seen when it is described
    domain = value.get("domain") or {}
    if value.get("name") is None:
        raise invalid("Expecting to find id or name in project.")
    if domain.get("id") is None and domain.get("name") is None:
        raise invalid("Expecting to find domain in project.")
    row = projects.project_by_name(conn, value["name"], domain.get("id"), domain.get("name"))
    return None if row is None else row.id
