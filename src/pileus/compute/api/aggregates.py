"""Aggregates: /os-aggregates."""

from __future__ import annotations

from typing import Any

from pileus.compute.api import schemas as s
from pileus.compute.errors import BadRequest
from pileus.compute.logic import aggregates as logic
from pileus.compute.store.hosts import Aggregate
from pileus.kernel import clock
from pileus.kernel.web import Call, Operations

operations = Operations()

_RULE = "os_compute_api:os-aggregates"
_PATH = "/os-aggregates/{aggregate_id}"
_ZONE = {"type": ["string", "null"], "minLength": 1, "maxLength": 255, "pattern": "^[^:]*$"}
CREATE = s.wrap("aggregate", s.obj({"name": s.NAME, "availability_zone": _ZONE}, ["name"]))
UPDATE = s.wrap("aggregate", {**s.obj({"name": s.NAME, "availability_zone": _ZONE}), "minProperties": 1})
_HOST = s.obj({"host": s.HOSTNAME}, ["host"])


def _id(call: Call) -> int:
    text = call.params["aggregate_id"]
    if not text.removeprefix("-").isdigit() or abs(int(text)) > s.MAX_INT:
        raise BadRequest(f"Invalid input for field/attribute id. Value: {text}. id must be an integer")
    return int(text)


def _view(call: Call, aggregate: Aggregate) -> dict[str, Any]:
    view: dict[str, Any] = {
        "id": aggregate.id,
        "name": aggregate.name,
        "hosts": aggregate.hosts,
        "availability_zone": aggregate.zone,
        "metadata": aggregate.metadata,
        "created_at": clock.iso_micro(aggregate.created_at),
        "updated_at": clock.iso_micro(aggregate.updated_at),
        "deleted_at": None,
        "deleted": False,
    }
    if call.at_least(2, 41):
        view["uuid"] = aggregate.uuid
    return view


@operations("GET", "/os-aggregates", rule=f"{_RULE}:index")
def list_aggregates(call: Call) -> dict[str, Any]:
    """List aggregates"""
    return {"aggregates": [_view(call, aggregate) for aggregate in logic.list_aggregates(call.service)]}


@operations("POST", "/os-aggregates", rule=f"{_RULE}:create", body=CREATE)
def create_aggregate(call: Call) -> dict[str, Any]:
    """Create an aggregate"""
    given = call.body["aggregate"]
    aggregate = logic.create_aggregate(call.service, given["name"].strip(), given.get("availability_zone"))
    view = _view(call, aggregate)
    # The first answer has neither hosts nor metadata.
    del view["hosts"], view["metadata"]
    return {"aggregate": view}


@operations("GET", _PATH, rule=f"{_RULE}:show")
def show_aggregate(call: Call) -> dict[str, Any]:
    """Show an aggregate"""
    with call.service.db.read() as conn:
        aggregate = logic.get_aggregate(conn, _id(call))
    return {"aggregate": _view(call, aggregate)}


@operations("PUT", _PATH, rule=f"{_RULE}:update", body=UPDATE)
def update_aggregate(call: Call) -> dict[str, Any]:
    """Change name or zone of an aggregate"""
    return {"aggregate": _view(call, logic.update_aggregate(call.service, _id(call), call.body["aggregate"]))}


@operations("DELETE", _PATH, rule=f"{_RULE}:delete")
def delete_aggregate(call: Call) -> None:
    """Delete an empty aggregate"""
    logic.delete_aggregate(call.service, _id(call))


@operations("POST", _PATH + "/action", action="add_host", rule=f"{_RULE}:add_host", body=s.wrap("add_host", _HOST))
def add_host(call: Call) -> dict[str, Any]:
    """Put a host into an aggregate"""
    return {"aggregate": _view(call, logic.add_host(call.service, _id(call), call.body["add_host"]["host"]))}


@operations(
    "POST", _PATH + "/action", action="remove_host", rule=f"{_RULE}:remove_host", body=s.wrap("remove_host", _HOST)
)
def remove_host(call: Call) -> dict[str, Any]:
    """Take a host out of an aggregate"""
    return {"aggregate": _view(call, logic.remove_host(call.service, _id(call), call.body["remove_host"]["host"]))}


@operations(
    "POST",
    _PATH + "/action",
    action="set_metadata",
    rule=f"{_RULE}:set_metadata",
    body=s.wrap("set_metadata", s.obj({"metadata": s.METADATA_OR_NULL}, ["metadata"])),
)
def set_metadata(call: Call) -> dict[str, Any]:
    """Set or, with null, remove metadata of an aggregate"""
    changes = call.body["set_metadata"]["metadata"]
    if logic.ZONE in changes and changes[logic.ZONE] == "":
        raise BadRequest("Aggregate metadata availability_zone is invalid: it must not be empty.")
    return {"aggregate": _view(call, logic.set_metadata(call.service, _id(call), changes))}
