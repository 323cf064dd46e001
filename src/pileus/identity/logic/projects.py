"""Commands and queries on projects: a tree below each domain."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.identity.errors import invalid, not_found
from pileus.identity.store import listing, live, projects, revision
from pileus.identity.store.listing import Listing, Lock, Record
from pileus.identity.store.tables import DOMAIN, NO_DOMAIN, PROJECT, SYSTEM_KIND
from pileus.identity.store.tables import projects as table
from pileus.kernel import clock, ids
from pileus.kernel.errors import Forbidden
from pileus.kernel.service import Service

from . import limits
from .common import (
    check_immutable,
    check_same_domain,
    check_same_id,
    extra_of,
    merged_extra,
    merged_options,
    unique_name,
)
from .users import require_domain

KNOWN = frozenset(
    {
        "id",
        "name",
        "domain_id",
        "parent_id",
        "description",
        "enabled",
        "is_domain",
        "options",
        "tags",
        "explicit_domain_id",
    }
)


@dataclasses.dataclass(frozen=True, slots=True)
class Tagged:
    """Rows with the tags of those that have any."""

    rows: Sequence[Record]
    tags: Mapping[str, Sequence[str]]


@dataclasses.dataclass(frozen=True, slots=True)
class TagFilter:
    """tags, tags-any, not-tags and not-tags-any of a list."""

    every: tuple[str, ...] = ()
    some: tuple[str, ...] = ()
    not_every: tuple[str, ...] = ()
    not_some: tuple[str, ...] = ()

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        found = []
        if self.every:
            found.append(projects.with_tags(every=self.every))
        if self.some:
            found.append(projects.with_tags(some=self.some))
        if self.not_every:
            found.append(sa.not_(projects.with_tags(every=self.not_every)))
        if self.not_some:
            found.append(sa.not_(projects.with_tags(some=self.not_some)))
        return found


def find(service: Service, project_id: str) -> tuple[Record | None, list[str]]:
    """The project (a domain is one too) and its tags."""
    with service.db.read() as conn:
        row = projects.project(conn, project_id)
        tags = projects.tags_of(conn, [project_id]) if row is not None else {}
    return row, tags.get(project_id, [])


def list_projects(service: Service, wanted: Listing, tags: TagFilter) -> Tagged:
    """Two statements, however many projects."""
    with service.db.read() as conn:
        rows = listing.select(conn, projects.COLUMNS, table, wanted, *tags.conditions())
        return _with_tags(conn, rows)


def _with_tags(conn: sa.Connection, rows: Sequence[Record]) -> Tagged:
    if len(rows) > 500:  # cheaper than so many parameters
        return Tagged(rows, projects.tags_of(conn, sa.select(table.c.id)))
    return Tagged(rows, projects.tags_of(conn, [row.id for row in rows]) if rows else {})


def create(service: Service, body: Mapping[str, Any], project_id: str | None = None) -> Record:
    """Create a project below its parent, by default its domain. Raises AlreadyExists, Invalid, Forbidden, NotFound."""
    project_id = project_id or ids.new_id()
    name = body["name"].strip()
    if body.get("is_domain"):
        return create_domain(service, body, project_id)
    domain_id = body["domain_id"]
    with unique_name("project", name, domain_id), service.db.write() as conn:
        parent_id = _check_parent(service, conn, domain_id, body.get("parent_id") or domain_id)
        projects.add(
            conn,
            project_id,
            name,
            domain_id=domain_id,
            parent_id=parent_id,
            description=body.get("description") or "",
            enabled=body.get("enabled", True),
            options=merged_options(None, body.get("options")),
            extra=extra_of(body, KNOWN),
        )
        projects.replace_tags(conn, project_id, body.get("tags") or ())
        return _required(conn, project_id)


def _check_parent(service: Service, conn: sa.Connection, domain_id: str, parent_id: str) -> str:
    require_domain(conn, domain_id)
    _required(conn, parent_id, lock="share")
    line = live.ancestors(conn, parent_id)
    above = {row.id: row for row in projects.by_ids(conn, line)}
    if (above[parent_id].domain_id or parent_id) != domain_id:
        raise invalid("A project must be in the same domain as its parent.")
    if not all(row.enabled for row in above.values()):
        raise Forbidden("Cannot create a project in a branch that contains a disabled project.")
    depth = service.options.max_project_tree_depth
    if len(line) > (min(depth, limits.DEPTH) if limits.is_strict(service) else depth):
        raise Forbidden(f"Max hierarchy depth reached for {parent_id} branch.")
    return parent_id


def create_domain(service: Service, body: Mapping[str, Any], domain_id: str | None = None) -> Record:
    """Create a domain: a project at the top of a tree of its own. Raises AlreadyExists, Invalid."""
    domain_id = body.get("explicit_domain_id") or domain_id or ids.new_id()
    name = body["name"].strip()
    if body.get("parent_id") or (body.get("is_domain") and body.get("domain_id")):
        raise invalid("A project acting as a domain has neither a parent nor a domain.")
    with unique_name("domain", name), service.db.write() as conn:
        projects.add(
            conn,
            domain_id,
            name,
            domain_id=NO_DOMAIN,
            description=body.get("description") or "",
            enabled=body.get("enabled", True),
            options=merged_options(None, body.get("options")),
            extra=extra_of(body, KNOWN),
        )
        projects.replace_tags(conn, domain_id, body.get("tags") or ())
        return _required(conn, domain_id)


def update(service: Service, project_id: str, body: Mapping[str, Any], *, kind: str = "project") -> Record:
    """Change a project or, with `kind` "domain", a domain; disabling it ends all tokens for it.

    Raises NotFound, AlreadyExists, Invalid, Forbidden.
    """
    check_same_id(kind, project_id, body)
    with unique_name(kind, str(body.get("name")), body.get("domain_id")), service.db.write() as conn:
        present = _required(conn, project_id, kind, "update")
        _check_update(conn, present, body, kind)
        values: dict[str, Any] = {
            "extra": merged_extra(present.extra, body, KNOWN),
            "options": merged_options(present.options, body.get("options")),
        }
        if "name" in body:
            values["name"] = body["name"].strip()
        if "description" in body:
            values["description"] = body["description"] or ""
        if "enabled" in body:
            values["enabled"] = body["enabled"]
            if not body["enabled"]:
                values["tokens_valid_after"] = clock.utcnow()
        listing.change(conn, table, project_id, values)
        if "tags" in body:
            projects.replace_tags(conn, project_id, body["tags"])
        changed = _required(conn, project_id, kind)
        revision.advance(conn)
        return changed


def _check_update(conn: sa.Connection, present: Record, body: Mapping[str, Any], kind: str) -> None:
    check_immutable(kind, present.id, present.options, body)
    if kind == "project":
        if not present.is_domain:
            check_same_domain(present.domain_id, body)
        elif body.get("domain_id") is not None:
            raise invalid("Cannot change Domain ID")
        if "parent_id" in body and body["parent_id"] != present.parent_id:
            raise Forbidden("Update of `parent_id` is not allowed.")
        if "is_domain" in body and body["is_domain"] != present.is_domain:
            raise invalid("Update of `is_domain` is not allowed.")
    if present.is_domain or "enabled" not in body or body["enabled"] == present.enabled:
        return
    if body["enabled"]:
        line = live.ancestors(conn, present.id)
        if not all(row.enabled for row in projects.by_ids(conn, [one for one in line if one != present.id])):
            raise Forbidden(f"Cannot enable project {present.id} since it has disabled parents.")
    elif any(row.enabled for row in projects.tree(conn, present.id)):
        raise Forbidden(f"Cannot disable project {present.id} since its subtree contains enabled projects.")


def delete(service: Service, project_id: str) -> None:
    """Delete a leaf of the tree; what acts as a domain goes as a domain does. Raises NotFound, Forbidden."""
    with service.db.write() as conn:
        present = _required(conn, project_id, lock="update")
        if present.is_domain:
            _delete_domain(service, conn, present)
            return
        check_immutable("project", project_id, present.options, None)
        if projects.children(conn, project_id):
            raise Forbidden(f"Cannot delete the project {project_id} since it is not a leaf in the hierarchy.")
        projects.delete_project(conn, project_id)
        revision.advance(conn)


def delete_domain(service: Service, domain_id: str) -> None:
    """Delete a disabled domain with everything in it. Raises NotFound, Forbidden."""
    with service.db.write() as conn:
        _delete_domain(service, conn, _required(conn, domain_id, "domain", "update"))


def _delete_domain(service: Service, conn: sa.Connection, present: Record) -> None:
    check_immutable("domain", present.id, present.options, None)
    if present.id == service.options.default_domain_id:
        raise Forbidden(f"Cannot delete the default domain {present.id}.")
    if present.enabled:
        raise Forbidden("Cannot delete a domain that is enabled, please disable it first.")
    projects.delete_domain(conn, present.id)
    revision.advance(conn, roles=True)


def set_tags(service: Service, project_id: str, names: Sequence[str], *, limit: int) -> list[str]:
    """Replace all tags. Raises NotFound, Invalid."""
    with service.db.write() as conn:
        present = _required(conn, project_id, lock="update")
        check_immutable("project", project_id, present.options, {"tags": names})
        return _store_tags(conn, project_id, names, limit)


def add_tag(service: Service, project_id: str, name: str, *, limit: int) -> None:
    with service.db.write() as conn:
        present = _required(conn, project_id, lock="update")
        check_immutable("project", project_id, present.options, {"tags": [name]})
        tags = projects.tags_of(conn, [project_id]).get(project_id, [])
        _store_tags(conn, project_id, [*tags, name], limit)


def _store_tags(conn: sa.Connection, project_id: str, names: Sequence[str], limit: int) -> list[str]:
    wanted = sorted(set(names))
    if len(wanted) > limit:
        raise invalid(f"A project cannot have more than {limit} tags.")
    if any(not 1 <= len(name) <= 255 or not {",", "/"}.isdisjoint(name) for name in wanted):
        raise invalid("A tag has 1 to 255 characters, none of them a comma or a slash.")
    projects.replace_tags(conn, project_id, wanted)
    return wanted


def remove_tag(service: Service, project_id: str, name: str) -> None:
    """Raises NotFound when the project does not carry the tag."""
    with service.db.write() as conn:
        present = _required(conn, project_id, lock="update")
        check_immutable("project", project_id, present.options, {"tags": []})
        if not projects.remove_tag(conn, project_id, name):
            raise not_found("project tag", name)


def hierarchy(service: Service, project_id: str) -> tuple[list[Record], Sequence[Record]]:
    """(projects above it, nearest first, without the domain; everything below it, parents first)."""
    with service.db.read() as conn:
        line = live.ancestors(conn, project_id)[1:]
        above = {row.id: row for row in projects.by_ids(conn, line)}
        below = projects.tree(conn, project_id)
    return [above[one] for one in line if not above[one].is_domain], below


def of_user(service: Service, user_id: str, *, domains: bool = False) -> Tagged:
    """Enabled projects (or domains) on which the user has a role, by group and inheritance too."""
    with service.db.read() as conn:
        given = live.all_assignments(conn, user_id)
        if domains:
            wanted = {target for kind, target, _role, inherited in given if kind == DOMAIN and not inherited}
            rows = [row for row in projects.by_ids(conn, wanted) if row.enabled and row.is_domain] if wanted else []
            return _with_tags(conn, rows)
        wanted = {target for kind, target, _role, inherited in given if kind == PROJECT and not inherited}
        above = [target for kind, target, _role, inherited in given if inherited and kind != SYSTEM_KIND]
        if above:
            wanted.update(row.id for row in projects.tree(conn, *above))
        return _with_tags(conn, _usable(conn, wanted))


def _usable(conn: sa.Connection, wanted: set[str]) -> list[Record]:
    """The enabled ones whose domain is enabled too."""
    rows = projects.by_ids(conn, wanted) if wanted else []
    owners = {row.domain_id for row in rows if row.domain_id}
    alive = {row.id for row in projects.by_ids(conn, owners) if row.enabled} if owners else set()
    return sorted(
        (row for row in rows if row.enabled and (row.is_domain or row.domain_id in alive)), key=lambda row: row.id
    )


def has_system_role(service: Service, user_id: str) -> bool:
    with service.db.read() as conn:
        return bool(live.system_role_ids(conn, user_id))


def _required(conn: sa.Connection, project_id: str, kind: str = "project", lock: Lock = None) -> Record:
    row = projects.domain(conn, project_id, lock) if kind == "domain" else projects.project(conn, project_id, lock)
    if row is None:
        raise not_found(kind, project_id)
    return row
