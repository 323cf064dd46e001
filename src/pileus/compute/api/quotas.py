"""Limits and quotas: /limits, /os-quota-sets, /os-quota-class-sets."""

from __future__ import annotations

from typing import Any

from pileus.compute.api import schemas as s
from pileus.compute.errors import BadRequest
from pileus.compute.logic import projects, quotas
from pileus.compute.logic import quota_sets as logic
from pileus.kernel.errors import Forbidden
from pileus.kernel.web import Call, Operations

operations = Operations()

_FILES = ("injected_files", "injected_file_content_bytes", "injected_file_path_bytes")
_NUMBER = {"type": ["integer", "string"], "pattern": r"^-?[0-9]+$", "minimum": -1, "maximum": s.MAX_INT}


def _shown(call: Call) -> tuple[str, ...]:
    """The resources that a microversion knows."""
    if call.at_least(2, 57):
        return tuple(r for r in quotas.RESOURCES if r not in _FILES)
    if call.at_least(2, 36):
        return quotas.RESOURCES
    return (*quotas.RESOURCES, "fixed_ips", "floating_ips", "security_groups", "security_group_rules")


def _with_gone(call: Call, found: dict[str, Any], empty: Any) -> dict[str, Any]:
    return {name: found.get(name, empty) for name in _shown(call)}


def _set_body(call_since: str) -> s.Schema:
    names = {
        "2.1": (*quotas.RESOURCES, "fixed_ips", "floating_ips", "security_groups", "security_group_rules", "networks"),
        "2.36": quotas.RESOURCES,
        "2.57": tuple(r for r in quotas.RESOURCES if r not in _FILES),
    }[call_since]
    return s.wrap("quota_set", s.obj({**dict.fromkeys(names, _NUMBER), "force": s.BOOLEAN, "tenant_id": s.ANY_TEXT}))


_UPDATE = [(since, _set_body(since)) for since in ("2.1", "2.36", "2.57")]
_USER = {"user_id": s.many({"type": "string", "minLength": 1})}
_QUERY = [("2.1", s.query(_USER)), ("2.75", s.query(_USER, additional=False))]
_PATH = "/os-quota-sets/{project_id}"
_RULE = "os_compute_api:os-quota-sets"


def _target(call: Call) -> dict[str, Any]:
    return {"project_id": call.params["project_id"], "user_id": call.context.user_id}


def _no_user(call: Call) -> None:
    if "user_id" in call.query:
        raise BadRequest("Limits of single users are not supported; set those of the project.")


@operations("GET", _PATH, rule=f"{_RULE}:show", late=True, query=_QUERY)
def show_quota(call: Call) -> dict[str, Any]:
    """Show a project's limits"""
    call.authorize(_target(call))
    project_id = call.params["project_id"]
    projects.check_exists(call.service, call.context, project_id)
    with call.service.db.read() as conn:
        found = quotas.limits(call.service, conn, project_id)
    return {"quota_set": {"id": project_id, **_with_gone(call, found, -1)}}


@operations("GET", _PATH + "/detail", rule=f"{_RULE}:detail", late=True, query=_QUERY)
def show_quota_detail(call: Call) -> dict[str, Any]:
    """Show a project's limits and what is used"""
    call.authorize(_target(call))
    project_id = call.params["project_id"]
    projects.check_exists(call.service, call.context, project_id)
    with call.service.db.read() as conn:
        found = quotas.usage_report(call.service, conn, project_id)
    empty = {"limit": -1, "in_use": 0, "reserved": 0}
    return {"quota_set": {"id": project_id, **_with_gone(call, found, empty)}}


@operations("GET", _PATH + "/defaults", rule=f"{_RULE}:defaults")
def show_defaults(call: Call) -> dict[str, Any]:
    """Show the limits of a project for which none were set"""
    project_id = call.params["project_id"]
    projects.check_exists(call.service, call.context, project_id)
    with call.service.db.read() as conn:
        found = quotas.defaults(call.service, conn)
    return {"quota_set": {"id": project_id, **_with_gone(call, found, -1)}}


@operations("PUT", _PATH, rule=f"{_RULE}:update", late=True, body=_UPDATE, query=_QUERY)
def update_quota(call: Call) -> dict[str, Any]:
    """Set a project's limits"""
    call.authorize(_target(call))
    _no_user(call)
    project_id = call.params["project_id"]
    projects.check_exists(call.service, call.context, project_id)
    given = dict(call.body["quota_set"])
    force = s.boolean(given.pop("force", False))
    given.pop("tenant_id", None)
    values = {name: s.integer(value, name, -1) for name, value in given.items()}
    foreign = sorted(set(values) - set(quotas.RESOURCES))
    if foreign:
        raise BadRequest(f"Quota of {', '.join(foreign)} is kept by the network service; set it there.")
    found = logic.set_limits(call.service, project_id, values, force=force)
    return {"quota_set": _with_gone(call, found, -1)}


@operations("DELETE", _PATH, rule=f"{_RULE}:delete", late=True, status=202, query=_QUERY)
def reset_quota(call: Call) -> None:
    """Go back to the default limits"""
    call.authorize(_target(call))
    _no_user(call)
    logic.reset_limits(call.service, call.params["project_id"])


_CLASS = "/os-quota-class-sets/{class_name}"
_CLASS_UPDATE = [
    (since, s.wrap("quota_class_set", s.obj(dict.fromkeys(names, _NUMBER))))
    for since, names in (
        ("2.1", (*quotas.RESOURCES, "fixed_ips", "floating_ips", "security_groups", "security_group_rules")),
        ("2.50", quotas.RESOURCES),
        ("2.57", tuple(r for r in quotas.RESOURCES if r not in _FILES)),
    )
]


def _class_view(call: Call, found: dict[str, int]) -> dict[str, Any]:
    names: tuple[str, ...] = quotas.RESOURCES
    if not call.at_least(2, 50):
        names = tuple(n for n in names if n not in {"server_groups", "server_group_members"})
        names = (*names, "fixed_ips", "floating_ips", "security_groups", "security_group_rules")
    if call.at_least(2, 57):
        names = tuple(n for n in names if n not in _FILES)
    return {name: found.get(name, -1) for name in names}


@operations("GET", _CLASS, rule="os_compute_api:os-quota-class-sets:show")
def show_class(call: Call) -> dict[str, Any]:
    """Show the limits of a quota class"""
    class_name = call.params["class_name"]
    with call.service.db.read() as conn:
        found = {**quotas.option_defaults(call.service.options), **quotas.class_limits(conn, class_name)}
    return {"quota_class_set": {"id": class_name, **_class_view(call, found)}}


@operations("PUT", _CLASS, rule="os_compute_api:os-quota-class-sets:update", body=_CLASS_UPDATE)
def update_class(call: Call) -> dict[str, Any]:
    """Set the limits of a quota class; class default holds for every project without limits of its own"""
    class_name = call.params["class_name"]
    if class_name != "default":
        raise BadRequest("Only the quota class 'default' has an effect.")
    given = call.body["quota_class_set"]
    values = {name: s.integer(value, name, -1) for name, value in given.items() if name in quotas.RESOURCES}
    foreign = sorted(set(given) - set(values))
    if foreign:
        raise BadRequest(f"Quota of {', '.join(foreign)} is kept by the network service; set it there.")
    found = logic.set_class(call.service, class_name, values)
    return {"quota_class_set": _class_view(call, found)}


_LIMITS = {
    "maxServerMeta": "metadata_items",
    "maxTotalInstances": "instances",
    "maxTotalCores": "cores",
    "maxTotalRAMSize": "ram",
    "maxTotalKeypairs": "key_pairs",
    "maxServerGroups": "server_groups",
    "maxServerGroupMembers": "server_group_members",
}
_USED = {
    "totalInstancesUsed": "instances",
    "totalCoresUsed": "cores",
    "totalRAMUsed": "ram",
    "totalServerGroupsUsed": "server_groups",
}
_TENANT = {"tenant_id": s.many(s.ANY_TEXT), "reserved": s.many(s.ANY_TEXT)}


@operations(
    "GET",
    "/limits",
    rule="os_compute_api:limits",
    query=[("2.1", s.query(_TENANT)), ("2.57", s.query(_TENANT)), ("2.75", s.query(_TENANT, additional=False))],
)
def show_limits(call: Call) -> dict[str, Any]:
    """Show the limits that hold for the caller, and what is used"""
    project_id = call.context.project_id or ""
    other = call.query.one("tenant_id")
    if other is not None and other != project_id:
        rule = "os_compute_api:limits:other_project"
        if not call.allows(rule):
            raise Forbidden(f"Policy doesn't allow {rule} to be performed.", code="PolicyNotAuthorized")
        projects.check_exists(call.service, call.context, other)
        project_id = other
    with call.service.db.read() as conn:
        found = quotas.usage_report(call.service, conn, project_id)
    absolute = {name: found[resource]["limit"] for name, resource in _LIMITS.items()}
    absolute |= {name: found[resource]["in_use"] for name, resource in _USED.items()}
    if not call.at_least(2, 39):
        absolute["maxImageMeta"] = absolute["maxServerMeta"]
    if not call.at_least(2, 57):
        absolute["maxPersonality"] = found["injected_files"]["limit"]
        absolute["maxPersonalitySize"] = found["injected_file_content_bytes"]["limit"]
    if not call.at_least(2, 36):
        absolute |= {
            "maxTotalFloatingIps": -1,
            "maxSecurityGroups": -1,
            "maxSecurityGroupRules": -1,
            "totalFloatingIpsUsed": 0,
            "totalSecurityGroupsUsed": 0,
        }
    return {"limits": {"rate": [], "absolute": absolute}}
