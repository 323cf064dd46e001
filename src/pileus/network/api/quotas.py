"""/v2.0/quotas."""

from __future__ import annotations

from typing import Any

from pileus.kernel.web import Call, Operations
from pileus.network import errors
from pileus.network.api import attributes as a
from pileus.network.logic import quotas as logic
from pileus.network.logic.change import RESOURCES

operations = Operations()

_LIMIT = a.integer(-1, 2**31 - 1)


@operations("GET", "/quotas", rule="get_quota")
def list_quotas(call: Call) -> dict[str, Any]:
    """List the projects that have limits of their own, with all their limits."""
    return {"quotas": logic.projects_with_limits(call.service)}


def _authorize(call: Call) -> str:
    project = call.params["project_id"]
    call.authorize({"project_id": project, "tenant_id": project})
    return project


@operations("GET", "/quotas/{project_id}", rule="get_own_quota", late=True)
def show_quota(call: Call) -> dict[str, Any]:
    """Show the limits of a project."""
    if call.params["project_id"] in {"tenant", "project"}:  # who is asking (used by older clients)
        call.mark_authorized()
        return {call.params["project_id"]: {"tenant_id": call.context.project_id, "project_id": call.context.project_id}}
    return {"quota": logic.limits(call.service, _authorize(call))}


@operations("GET", "/quotas/{project_id}/default", rule="get_own_quota", late=True)
def show_default_quota(call: Call) -> dict[str, Any]:
    """Show the limits a project has when none are set for it."""
    _authorize(call)
    return {"quota": logic.default_limits(call.service)}


@operations("GET", "/quotas/{project_id}/details.json", rule="get_own_quota", late=True, aliases=("/quotas/{project_id}/details",))
def show_quota_details(call: Call) -> dict[str, Any]:
    """Show limits and usage of a project."""
    return {"quota": logic.details(call.service, _authorize(call))}


@operations("PUT", "/quotas/{project_id}", rule="update_quota")
def update_quota(call: Call) -> dict[str, Any]:
    """Set limits of a project; those not named stay."""
    body = call.body.get("quota") if isinstance(call.body, dict) else None
    if not isinstance(body, dict):
        raise errors.HTTPBadRequest("Unable to find 'quota' in request body")
    values: dict[str, int] = {}
    for name, value in body.items():
        if name in {"tenant_id", "project_id", "force", "check_limit"}:
            continue
        if name not in RESOURCES:
            raise errors.HTTPBadRequest(f"Unrecognized attribute(s) '{name}'")
        try:
            values[name] = _LIMIT(value)
        except ValueError as error:
            raise errors.HTTPBadRequest(f"Invalid input for {name}. Reason: {error}.") from None
    check = str(body.get("check_limit", "")).lower() in {"true", "1"}
    return {"quota": logic.set_limits(call.service, call.params["project_id"], values, check=check)}


@operations("DELETE", "/quotas/{project_id}", rule="delete_quota", status=204)
def delete_quota(call: Call) -> None:
    """Forget a project's own limits."""
    logic.reset(call.service, call.params["project_id"])
