"""Server groups: /os-server-groups."""

from __future__ import annotations

from typing import Any

from pileus.compute.api import schemas as s
from pileus.compute.errors import BadRequest
from pileus.compute.logic import server_groups as logic
from pileus.kernel.web import Call, Operations

operations = Operations()

_RULE = "os_compute_api:os-server-groups"
_OLD = ["anti-affinity", "affinity"]
_POLICIES = [*_OLD, "soft-anti-affinity", "soft-affinity"]


def _with_policies(names: list[str]) -> s.Schema:
    policies = {"type": "array", "items": {"enum": names}, "minItems": 1, "maxItems": 1, "uniqueItems": True}
    return s.wrap("server_group", s.obj({"name": s.NAME, "policies": policies}, ["name", "policies"]))


_RULES = s.obj({"max_server_per_host": s.text_or_integer(1)})
CREATE = [
    ("2.1", _with_policies(_OLD)),
    ("2.15", _with_policies(_POLICIES)),
    (
        "2.64",
        s.wrap(
            "server_group",
            s.obj({"name": s.NAME, "policy": {"enum": _POLICIES}, "rules": _RULES}, ["name", "policy"]),
        ),
    ),
]
_PAGE = {"limit": s.many(s.NUMBER), "offset": s.many(s.NUMBER), "all_projects": s.many(s.ANY_TEXT)}
LIST = [("2.1", s.query(_PAGE)), ("2.75", s.query(_PAGE, additional=False))]


def _view(call: Call, row: dict[str, Any]) -> dict[str, Any]:
    view: dict[str, Any] = {"id": row["uuid"], "name": row["name"], "members": row["members"]}
    if call.at_least(2, 64):
        view["policy"] = row["policy"]
        view["rules"] = row["rules"]
    else:
        view["policies"] = [row["policy"]]
        view["metadata"] = {}
    if call.at_least(2, 13):
        view["project_id"] = row["project_id"]
        view["user_id"] = row["user_id"]
    return view


@operations("GET", "/os-server-groups", rule=f"{_RULE}:index", query=LIST)
def list_groups(call: Call) -> dict[str, Any]:
    """List server groups"""
    everybody = "all_projects" in call.query and call.context.is_admin
    if everybody:
        call.authorize(rule=f"{_RULE}:index:all_projects")
    offset = s.integer(call.query.one("offset") or 0, "offset")
    rows = logic.list_groups(call.service, call.context, all_projects=everybody, limit=s.limit_of(call), offset=offset)
    return {"server_groups": [_view(call, row) for row in rows]}


@operations("POST", "/os-server-groups", rule=f"{_RULE}:create", body=CREATE)
def create_group(call: Call) -> dict[str, Any]:
    """Create a server group"""
    given = call.body["server_group"]
    policy = given["policy"] if "policy" in given else given["policies"][0]
    rules = {name: s.integer(value, name, 1) for name, value in given.get("rules", {}).items()}
    if rules and policy != "anti-affinity":
        raise BadRequest("Only anti-affinity policy supports rules.")
    row = logic.create_group(call.service, call.context, given["name"].strip(), policy, rules)
    return {"server_group": _view(call, row)}


@operations("GET", "/os-server-groups/{group_id}", rule=f"{_RULE}:show", late=True)
def show_group(call: Call) -> dict[str, Any]:
    """Show a server group"""
    with call.service.db.read() as conn:
        row = logic.get_group(conn, call.context, call.params["group_id"])
    call.authorize({"project_id": row["project_id"], "user_id": row["user_id"]})
    return {"server_group": _view(call, row)}


@operations("DELETE", "/os-server-groups/{group_id}", rule=f"{_RULE}:delete", late=True, status=204)
def delete_group(call: Call) -> None:
    """Delete a server group"""
    group_id = call.params["group_id"]
    with call.service.db.read() as conn:
        row = logic.get_group(conn, call.context, group_id)
    call.authorize({"project_id": row["project_id"], "user_id": row["user_id"]})
    logic.delete_group(call.service, call.context, group_id)
