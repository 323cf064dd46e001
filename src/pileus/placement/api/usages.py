"""Usages: how much is allocated, by provider and by project."""

from __future__ import annotations

from pileus.kernel.web import Call, Operations, Reply
from pileus.placement.api.common import fresh, strings
from pileus.placement.logic import allocations as logic

operations = Operations()

_ID = {"type": "string", "minLength": 1, "maxLength": 255}
_TYPE = {"type": "string", "pattern": "^[A-Z0-9_]+$|^all$|^unknown$", "minLength": 1, "maxLength": 255}
_QUERY = {**strings(project_id=_ID, user_id=_ID), "required": ["project_id"]}
_TYPED_QUERY = {**strings(project_id=_ID, user_id=_ID, consumer_type=_TYPE), "required": ["project_id"]}


@operations("GET", "/resource_providers/{uuid}/usages", rule="placement:resource_providers:usages")
def list_provider_usages(call: Call) -> Reply:
    """Show how much of each of a provider's inventories is allocated."""
    generation, usages = logic.usages_of_provider(call.service, call.params["uuid"])
    return fresh(call, {"resource_provider_generation": generation, "usages": usages})


@operations(
    "GET",
    "/usages",
    rule="placement:usages",
    late=True,
    versions="1.9-",
    query=[("1.9", _QUERY), ("1.38", _TYPED_QUERY)],
)
def list_usages(call: Call) -> Reply:
    """Show how much a project, or one of its users, has allocated."""
    project_id, user_id = str(call.query.one("project_id")), call.query.one("user_id")
    call.authorize({"project_id": project_id})
    if call.at_least(1, 38):
        kind = call.query.one("consumer_type")
        return fresh(call, {"usages": logic.usages_by_type(call.service, project_id, user_id, kind)})
    return fresh(call, {"usages": logic.total_usages(call.service, project_id, user_id)})
