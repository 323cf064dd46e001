"""A tiny service on which the kernel is tested."""

import msgspec
import sqlalchemy as sa

from pileus.kernel import desired, flows, quota
from pileus.kernel.db import NAMING
from pileus.kernel.errors import NotFound
from pileus.kernel.room import Room
from pileus.kernel.web import Call, Microversions, Operations, Reply


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    color: str = "blue"


METADATA = sa.MetaData(naming_convention=NAMING)
THINGS = sa.Table("things", METADATA, sa.Column("id", sa.String(36), primary_key=True), sa.Column("name", sa.String(255)))
flows.tables(METADATA)
quota.tables(METADATA)
desired.tables(METADATA)

RULES = {"things:list": "role:reader", "things:create": "role:member", "things:show": "project_id:%(project_id)s"}

CREATE = {
    "type": "object",
    "properties": {
        "thing": {
            "type": "object",
            "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 255}},
            "required": ["name"],
            "additionalProperties": False,
        }
    },
    "required": ["thing"],
    "additionalProperties": False,
}

operations = Operations()


@operations("GET", "/things", rule="things:list")
def list_things(call: Call):
    return {"things": [], "version": list(call.version), "link": call.link("/things")}


@operations("POST", "/things", rule="things:create", status=202, body=CREATE)
def create_thing(call: Call):
    return {"thing": call.body["thing"]}


@operations("GET", "/things/{thing_id}", rule="things:show", late=True)
def show_thing(call: Call):
    thing_id = call.params["thing_id"]
    if thing_id == "none":
        raise NotFound("Thing none could not be found.")
    if thing_id == "forgot":
        return {}
    if thing_id == "broken":
        raise RuntimeError("secret text")
    call.authorize({"project_id": thing_id}, hidden=NotFound("Thing could not be found.") if thing_id == "hidden" else None)
    return {"thing": thing_id}


@operations("GET", "/things/{id}/parts/{part}", rule="things:list", versions="2.5-")
def show_part(call: Call):
    return {"params": call.params}


@operations("POST", "/things/{thing_id}/action", rule="things:create", action="start", status=202)
def start_thing(call: Call):
    return None


@operations("POST", "/things/{thing_id}/action", rule="things:create", action="stop", status=202, versions="2.3-")
def stop_thing(call: Call):
    return Reply({"stopped": True}, status=200, headers={"X-Thing": "1"})


@operations("PUT", "/things/{thing_id}/file", rule="things:create", raw=True, status=204)
def upload(call: Call):
    size = 0
    while chunk := call.stream.read(1000):
        size += len(chunk)
    return Reply(headers={"X-Size": str(size)})


@operations("GET", "", public="discovery", root=True)
def versions(call: Call):
    return Reply({"versions": [{"links": [{"href": call.link()}]}]}, status=300)


ROOM = Room(
    name="things",
    service_type="things",
    service_name="things",
    prefix="/things-api",
    base="/v2.1",
    catalog="/things-api",
    port=9999,
    options="room_for_tests:Options",
    tables="room_for_tests:METADATA",
    policy="room_for_tests:RULES",
    fault="compute",
    api=("room_for_tests",),
    microversions=Microversions("compute", (2, 1), (2, 10), legacy="X-OpenStack-Nova-API-Version"),
)
