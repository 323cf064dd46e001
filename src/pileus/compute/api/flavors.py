"""Flavors: /flavors, their extra specs and the projects that may use private ones."""

from __future__ import annotations

from typing import Any

from pileus.compute.api import schemas as s
from pileus.compute.errors import BadRequest
from pileus.compute.logic import flavors as logic
from pileus.compute.logic import projects
from pileus.kernel.errors import NotFound
from pileus.kernel.web import Call, Operations

operations = Operations()

_SORT_KEYS = [
    "created_at",
    "description",
    "disabled",
    "ephemeral_gb",
    "flavorid",
    "id",
    "is_public",
    "memory_mb",
    "name",
    "root_gb",
    "rxtx_factor",
    "swap",
    "updated_at",
    "vcpu_weight",
    "vcpus",
]
_LIST_QUERY = {
    **s.PAGING,
    "is_public": s.many(s.ANY_TEXT),
    "minRam": s.many(s.ANY_TEXT),
    "minDisk": s.many(s.ANY_TEXT),
    "sort_key": s.many({"enum": _SORT_KEYS}),
    "sort_dir": s.many({"enum": ["asc", "desc"]}),
}
LIST_QUERY = [("2.1", s.query(_LIST_QUERY)), ("2.75", s.query(_LIST_QUERY, additional=False))]

_FLAVOR = {
    "name": s.NAME,
    "id": {
        "type": ["string", "number", "null"],
        "minLength": 1,
        "maxLength": 255,
        "pattern": r"^(?! )[a-zA-Z0-9. _-]+(?<! )$",
    },
    "ram": s.text_or_integer(1),
    "vcpus": s.text_or_integer(1),
    "disk": s.text_or_integer(),
    "OS-FLV-EXT-DATA:ephemeral": s.text_or_integer(),
    "swap": s.text_or_integer(),
    "rxtx_factor": {
        "type": ["string", "number"],
        "pattern": r"^[0-9]+(\.[0-9]+)?$",
        "minimum": 0,
        "exclusiveMinimum": 0,
    },
    "os-flavor-access:is_public": s.BOOLEAN,
}
_LONG_TEXT = {"type": ["string", "null"], "minLength": 0, "maxLength": 65535}
CREATE = [
    ("2.1", s.wrap("flavor", s.obj(_FLAVOR, ["name", "ram", "vcpus", "disk"]))),
    ("2.55", s.wrap("flavor", s.obj({**_FLAVOR, "description": _LONG_TEXT}, ["name", "ram", "vcpus", "disk"]))),
]
UPDATE = s.wrap("flavor", s.obj({"description": _LONG_TEXT}, ["description"]))
_SPEC_VALUE = {"type": ["string", "number"], "maxLength": 255}
_SPEC_NAME = r"^[a-zA-Z0-9-_:. ]{1,255}$"
SPECS = {"type": "object", "patternProperties": {_SPEC_NAME: _SPEC_VALUE}, "additionalProperties": False}
ONE_SPEC = {**SPECS, "minProperties": 1, "maxProperties": 1}
_TENANT = s.obj({"tenant": {**s.PROJECT_ID}}, ["tenant"])


def brief_view(call: Call, flavor: dict[str, Any]) -> dict[str, Any]:
    path = f"/flavors/{flavor['flavorid']}"
    view = {
        "id": flavor["flavorid"],
        "name": flavor["name"],
        "links": [
            {"rel": "self", "href": call.link(path)},
            {"rel": "bookmark", "href": call.root_link(path)},
        ],
    }
    if call.at_least(2, 55):
        view["description"] = flavor["description"]
    return view


def full_view(call: Call, flavor: dict[str, Any], *, specs: bool) -> dict[str, Any]:
    view = {
        **brief_view(call, flavor),
        "ram": flavor["memory_mb"],
        "disk": flavor["root_gb"],
        "swap": flavor["swap"] or (0 if call.at_least(2, 75) else ""),
        "OS-FLV-EXT-DATA:ephemeral": flavor["ephemeral_gb"],
        "OS-FLV-DISABLED:disabled": flavor["disabled"],
        "vcpus": flavor["vcpus"],
        "os-flavor-access:is_public": flavor["is_public"],
        "rxtx_factor": flavor["rxtx_factor"],
    }
    if specs:
        view["extra_specs"] = flavor["extra_specs"]
    return view


def _shows_specs(call: Call) -> bool:
    return call.at_least(2, 61) and call.allows("os_compute_api:os-flavor-extra-specs:index")


def _whole(call: Call, name: str) -> int:
    text = call.query.one(name)
    if text is None:
        return 0
    try:
        return int(text)
    except ValueError:
        raise BadRequest(f"Invalid {name} filter [{text}]") from None


def _filters(call: Call) -> logic.FlavorFilters:
    public: bool | None = True
    given = call.query.one("is_public")
    if call.context.is_admin and given is not None:
        if given.lower() == "none":
            public = None
        else:
            try:
                public = s.boolean(given)
            except ValueError:
                raise BadRequest(f"Invalid is_public filter [{given}]") from None
    return logic.FlavorFilters(is_public=public, min_ram=_whole(call, "minRam"), min_disk=_whole(call, "minDisk"))


def _page(call: Call, *, specs: bool) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    limit = s.limit_of(call)
    sort = [("flavorid" if key == "vcpu_weight" else key, way) for key, way in s.sorting(call, ("flavorid", "asc"))]
    rows = logic.list_flavors(
        call.service,
        call.context,
        _filters(call),
        sort=sort,
        marker=call.query.one("marker"),
        limit=limit,
        with_specs=specs,
    )
    links = {}
    if rows and len(rows) == limit:
        links["flavors_links"] = s.next_link(call, call.link(call.operation.path), rows[-1]["flavorid"])
    return rows, links


@operations("GET", "/flavors", rule="os_compute_api:flavors", query=LIST_QUERY)
def list_flavors(call: Call) -> dict[str, Any]:
    """List flavors"""
    rows, links = _page(call, specs=False)
    return {"flavors": [brief_view(call, row) for row in rows], **links}


@operations("GET", "/flavors/detail", rule="os_compute_api:flavors", query=LIST_QUERY)
def list_flavors_detail(call: Call) -> dict[str, Any]:
    """List flavors with details"""
    specs = _shows_specs(call)
    rows, links = _page(call, specs=specs)
    return {"flavors": [full_view(call, row, specs=specs) for row in rows], **links}


@operations("POST", "/flavors", rule="os_compute_api:os-flavor-manage:create", body=CREATE)
def create_flavor(call: Call) -> dict[str, Any]:
    """Create a flavor"""
    given = call.body["flavor"]
    flavorid = given.get("id")
    factor = float(given.get("rxtx_factor", 1.0))
    if not 0 < factor <= 3.40282e38:
        raise BadRequest(f"Invalid input received: 'rxtx_factor' argument must be a float between 0 and {3.40282e38:g}")
    values = {
        "flavorid": None if flavorid in {None, "auto"} else str(flavorid),
        "name": given["name"],
        "memory_mb": s.integer(given["ram"], "ram", 1),
        "vcpus": s.integer(given["vcpus"], "vcpus", 1),
        "root_gb": s.integer(given["disk"], "disk"),
        "ephemeral_gb": s.integer(given.get("OS-FLV-EXT-DATA:ephemeral", 0), "OS-FLV-EXT-DATA:ephemeral"),
        "swap": s.integer(given.get("swap", 0), "swap"),
        "rxtx_factor": factor,
        "is_public": s.boolean(given.get("os-flavor-access:is_public", True)),
        "description": given.get("description"),
    }
    flavor = logic.create_flavor(call.service, values)
    return {"flavor": full_view(call, flavor, specs=_shows_specs(call))}


@operations("GET", "/flavors/{flavor_id}", rule="os_compute_api:flavors")
def show_flavor(call: Call) -> dict[str, Any]:
    """Show a flavor"""
    with call.service.db.read() as conn:
        flavor = logic.get_flavor(conn, call.context, call.params["flavor_id"])
    return {"flavor": full_view(call, flavor, specs=_shows_specs(call))}


@operations("PUT", "/flavors/{flavor_id}", rule="os_compute_api:os-flavor-manage:update", body=UPDATE, versions="2.55-")
def update_flavor(call: Call) -> dict[str, Any]:
    """Change a flavor's description"""
    description = call.body["flavor"]["description"]
    flavor = logic.set_description(call.service, call.context, call.params["flavor_id"], description)
    return {"flavor": full_view(call, flavor, specs=_shows_specs(call))}


@operations("DELETE", "/flavors/{flavor_id}", rule="os_compute_api:os-flavor-manage:delete", status=202)
def delete_flavor(call: Call) -> None:
    """Delete a flavor"""
    logic.delete_flavor(call.service, call.context, call.params["flavor_id"])


def _specs_of(call: Call) -> dict[str, str]:
    with call.service.db.read() as conn:
        specs: dict[str, str] = logic.get_flavor(conn, call.context, call.params["flavor_id"])["extra_specs"]
    return specs


def _set_specs(call: Call, given: dict[str, Any]) -> dict[str, str]:
    specs = {key: str(value) for key, value in given.items()}
    if call.at_least(2, 86):
        for key, value in specs.items():
            logic.check_extra_spec(key, value)
    logic.set_extra_specs(call.service, call.context, call.params["flavor_id"], specs)
    return specs


@operations("GET", "/flavors/{flavor_id}/os-extra_specs", rule="os_compute_api:os-flavor-extra-specs:index")
def list_specs(call: Call) -> dict[str, Any]:
    """List a flavor's extra specs"""
    return {"extra_specs": _specs_of(call)}


@operations(
    "POST",
    "/flavors/{flavor_id}/os-extra_specs",
    rule="os_compute_api:os-flavor-extra-specs:create",
    body=s.wrap("extra_specs", SPECS),
)
def create_specs(call: Call) -> dict[str, Any]:
    """Add extra specs to a flavor"""
    return {"extra_specs": _set_specs(call, call.body["extra_specs"])}


@operations("GET", "/flavors/{flavor_id}/os-extra_specs/{key}", rule="os_compute_api:os-flavor-extra-specs:show")
def show_spec(call: Call) -> dict[str, Any]:
    """Show one extra spec of a flavor"""
    key = call.params["key"]
    specs = _specs_of(call)
    if key not in specs:
        raise NotFound(f"Flavor {call.params['flavor_id']} has no extra specs with key {key}.")
    return {key: specs[key]}


@operations(
    "PUT",
    "/flavors/{flavor_id}/os-extra_specs/{key}",
    rule="os_compute_api:os-flavor-extra-specs:update",
    body=ONE_SPEC,
)
def update_spec(call: Call) -> dict[str, Any]:
    """Set one extra spec of a flavor"""
    if call.params["key"] not in call.body:
        raise BadRequest("Request body and URI mismatch")
    return _set_specs(call, call.body)


@operations("DELETE", "/flavors/{flavor_id}/os-extra_specs/{key}", rule="os_compute_api:os-flavor-extra-specs:delete")
def delete_spec(call: Call) -> None:
    """Remove an extra spec from a flavor"""
    logic.delete_extra_spec(call.service, call.context, call.params["flavor_id"], call.params["key"])


def _access_view(call: Call, project_ids: list[str]) -> dict[str, Any]:
    flavor_id = call.params["flavor_id"]
    return {"flavor_access": [{"flavor_id": flavor_id, "tenant_id": project_id} for project_id in project_ids]}


@operations("GET", "/flavors/{flavor_id}/os-flavor-access", rule="os_compute_api:os-flavor-access")
def list_access(call: Call) -> dict[str, Any]:
    """List the projects a private flavor is given to"""
    return _access_view(call, logic.list_access(call.service, call.context, call.params["flavor_id"]))


@operations(
    "POST",
    "/flavors/{flavor_id}/action",
    action="addTenantAccess",
    rule="os_compute_api:os-flavor-access:add_tenant_access",
    body=s.wrap("addTenantAccess", _TENANT),
)
def add_access(call: Call) -> dict[str, Any]:
    """Give a private flavor to a project"""
    project_id = call.body["addTenantAccess"]["tenant"]
    projects.check_exists(call.service, call.context, project_id)
    flavor_id = call.params["flavor_id"]
    found = logic.add_access(call.service, call.context, flavor_id, project_id, refuse_public=call.at_least(2, 7))
    return _access_view(call, found)


@operations(
    "POST",
    "/flavors/{flavor_id}/action",
    action="removeTenantAccess",
    rule="os_compute_api:os-flavor-access:remove_tenant_access",
    body=s.wrap("removeTenantAccess", _TENANT),
)
def remove_access(call: Call) -> dict[str, Any]:
    """Take a private flavor away from a project"""
    project_id = call.body["removeTenantAccess"]["tenant"]
    projects.check_exists(call.service, call.context, project_id)
    return _access_view(call, logic.remove_access(call.service, call.context, call.params["flavor_id"], project_id))
