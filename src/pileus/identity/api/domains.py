"""Domains: /v3/domains."""

from __future__ import annotations

from typing import Any

from pileus.identity.api import render
from pileus.identity.errors import not_found
from pileus.identity.logic import projects
from pileus.identity.logic.projects import TagFilter
from pileus.identity.store.listing import Record
from pileus.kernel.web import Call, Operations

from .common import (
    BOOLEAN,
    ID,
    IMMUTABLE_OPTIONS,
    SHORT_NAME,
    TEXT,
    collection,
    listing,
    own_domain,
    permit,
    target,
    wrapped,
)
from .tags import TAGS

operations = Operations()

_PROPERTIES = {
    "name": SHORT_NAME,
    "description": TEXT,
    "enabled": BOOLEAN,
    "explicit_domain_id": ID,
    "tags": TAGS,
    "options": IMMUTABLE_OPTIONS,
}


@operations("GET", "/domains", rule="identity:list_domains", late=True, summary="List domains")
def list_domains(call: Call) -> dict[str, Any]:
    permit(call, own_domain(call, "target.domain.id"))
    wanted = listing(call, ("name", "enabled")).with_filter("is_domain", True)
    if call.context.domain_id:
        wanted = wanted.with_filter("id", call.context.domain_id)
    found = projects.list_projects(call.service, wanted, TagFilter())
    return collection(call, "domains", found.rows, render.domains(call, found.tags), wanted)


@operations(
    "POST",
    "/domains",
    rule="identity:create_domain",
    status=201,
    body=wrapped("domain", _PROPERTIES, required=["name"]),
    summary="Create a domain",
)
def create_domain(call: Call) -> dict[str, Any]:
    body = call.body["domain"]
    row = projects.create_domain(call.service, body)
    return {"domain": render.domains(call, {row.id: sorted(set(body.get("tags", ())))})(row)}


@operations("GET", "/domains/{domain_id}", rule="identity:get_domain", late=True, summary="Show a domain")
def show_domain(call: Call) -> dict[str, Any]:
    row, tags = _permitted(call)
    return {"domain": render.domains(call, {row.id: tags})(row)}


@operations(
    "PATCH",
    "/domains/{domain_id}",
    rule="identity:update_domain",
    late=True,
    body=wrapped("domain", _PROPERTIES, least=1),
    summary="Update a domain",
)
def update_domain(call: Call) -> dict[str, Any]:
    row, _tags = _permitted(call)
    changed = projects.update(call.service, row.id, call.body["domain"], kind="domain")
    _row, tags = projects.find(call.service, row.id)
    return {"domain": render.domains(call, {row.id: tags})(changed)}


@operations(
    "DELETE", "/domains/{domain_id}", rule="identity:delete_domain", late=True, status=204, summary="Delete a domain"
)
def delete_domain(call: Call) -> None:
    row, _tags = _permitted(call)
    projects.delete_domain(call.service, row.id)


def _permitted(call: Call) -> tuple[Record, list[str]]:
    """The domain of the path, authorized. Raises Forbidden, NotFound."""
    row, tags = projects.find(call.service, call.params["domain_id"])
    if row is not None and not row.is_domain:
        row = None
    permit(call, target(domain=row))
    if row is None:
        raise not_found("domain", call.params["domain_id"])
    return row, tags
