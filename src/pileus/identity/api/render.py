"""Rows as the API shows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pileus.identity.logic import compliance
from pileus.identity.store.listing import Record
from pileus.kernel import clock
from pileus.kernel.web import Call

Render = Callable[[Record], dict[str, Any]]


def users(call: Call) -> Render:
    base = call.link("/users/")
    inactive_until = compliance.inactive_until(call.service)

    def render(row: Record) -> dict[str, Any]:
        user_id, domain_id, name, enabled, default_project_id, options, extra, password_expires_at, last_active = row
        if inactive_until is not None and last_active is not None and last_active <= inactive_until:
            enabled = False
        shown = {
            "id": user_id,
            "name": name,
            "domain_id": domain_id,
            "enabled": enabled,
            "options": options,
            "password_expires_at": None if password_expires_at is None else clock.iso_micro(password_expires_at),
            "links": {"self": base + user_id},
        }
        if default_project_id is not None:
            shown["default_project_id"] = default_project_id
        return {**extra, **shown} if extra else shown

    return render


def groups(call: Call) -> Render:
    base = call.link("/groups/")

    def render(row: Record) -> dict[str, Any]:
        group_id, domain_id, name, description, extra = row
        return {
            **extra,
            "id": group_id,
            "name": name,
            "domain_id": domain_id,
            "description": description,
            "links": {"self": base + group_id},
        }

    return render


def projects(call: Call, tags: Mapping[str, Sequence[str]]) -> Render:
    base = call.link("/projects/")

    def render(row: Record) -> dict[str, Any]:
        project_id, name, domain_id, parent_id, description, enabled, is_domain, options, extra = row
        return {
            **extra,
            "id": project_id,
            "name": name,
            "domain_id": domain_id or None,
            "parent_id": parent_id,
            "description": description,
            "enabled": enabled,
            "is_domain": is_domain,
            "options": options,
            "tags": list(tags.get(project_id, ())),
            "links": {"self": base + project_id},
        }

    return render


def domains(call: Call, tags: Mapping[str, Sequence[str]]) -> Render:
    base = call.link("/domains/")

    def render(row: Record) -> dict[str, Any]:
        return {
            **row.extra,
            "id": row.id,
            "name": row.name,
            "description": row.description,
            "enabled": row.enabled,
            "options": row.options,
            "tags": list(tags.get(row.id, ())),
            "links": {"self": base + row.id},
        }

    return render


def roles(call: Call) -> Render:
    base = call.link("/roles/")

    def render(row: Record) -> dict[str, Any]:
        role_id, name, domain_id, description, options, extra = row
        return {
            **extra,
            "id": role_id,
            "name": name,
            "domain_id": domain_id or None,
            "description": description,
            "options": options,
            "links": {"self": base + role_id},
        }

    return render


def regions(call: Call) -> Render:
    base = call.link("/regions/")

    def render(row: Record) -> dict[str, Any]:
        region_id, description, parent_region_id, extra = row
        return {
            **extra,
            "id": region_id,
            "description": description,
            "parent_region_id": parent_region_id,
            "links": {"self": base + region_id},
        }

    return render


def services(call: Call) -> Render:
    base = call.link("/services/")

    def render(row: Record) -> dict[str, Any]:
        service_id, kind, name, description, enabled, extra = row
        shown = {**extra, "id": service_id, "type": kind, "enabled": enabled, "links": {"self": base + service_id}}
        if name is not None:
            shown["name"] = name
        if description is not None:
            shown["description"] = description
        return shown

    return render


def endpoints(call: Call) -> Render:
    base = call.link("/endpoints/")

    def render(row: Record) -> dict[str, Any]:
        endpoint_id, service_id, interface, region_id, url, enabled, extra = row
        return {
            **extra,
            "id": endpoint_id,
            "service_id": service_id,
            "interface": interface,
            "region_id": region_id,
            "region": region_id,
            "url": url,
            "enabled": enabled,
            "links": {"self": base + endpoint_id},
        }

    return render
