"""Migrations: /os-migrations for all, /servers/{id}/migrations for the live migrations of a server that go on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pileus.compute.api import schemas as s
from pileus.compute.api.common import server_of, target
from pileus.compute.errors import BadRequest, Refused
from pileus.compute.logic import moves
from pileus.compute.store import moves as store
from pileus.compute.store.tables import MIGRATIONS
from pileus.kernel import clock
from pileus.kernel.errors import NotFound
from pileus.kernel.web import Call, Operations

operations = Operations()

Json = dict[str, Any]
_RULE = "os_compute_api:os-migrations:index"
_EQUAL = ("status", "source_compute", "migration_type", "instance_uuid")
_TEXT = s.many(s.ANY_TEXT)
_MOMENT = s.many({"type": "string", "format": "date-time"})
_OLD = {"hidden": _TEXT, "host": _TEXT, **dict.fromkeys(_EQUAL, _TEXT)}
_PAGED = {**_OLD, **s.PAGING, "instance_uuid": s.many(s.UUID), "changes-since": _MOMENT}
_BEFORE = {**_PAGED, "changes-before": _MOMENT}
_OWNED = {**_BEFORE, "user_id": _TEXT, "project_id": _TEXT}
_QUERY = [
    ("2.1", s.query(_OLD)),
    ("2.59", s.query(_PAGED, additional=False)),
    ("2.66", s.query(_BEFORE, additional=False)),
    ("2.80", s.query(_OWNED, additional=False)),
]


@operations("GET", "/os-migrations", rule=_RULE, query=_QUERY, late=True)
def list_migrations(call: Call) -> Json:
    """List migrations, those of all projects for administrators"""
    call.authorize({"project_id": call.context.project_id})
    filters, paged = _filters(call), call.at_least(2, 59)
    limit = s.limit_of(call) if paged else call.service.options.max_limit
    with call.service.db.read() as conn:
        marker = None
        if paged and (given := call.query.one("marker")) is not None:
            marker = store.by_uuid(conn, given)
            if marker is None:
                raise BadRequest(f"Marker {given} could not be found.")
        rows = store.listing(conn, filters, marker=marker, limit=limit)
    placed = call.allows(f"{_RULE}:host")
    answer: Json = {"migrations": [_view(call, row, placed=placed) for row in rows]}
    if paged and rows and len(rows) == limit:
        answer["migrations_links"] = s.next_link(call, call.link("/os-migrations"), rows[-1]["uuid"])
    return answer


def _filters(call: Call) -> store.Filters:
    """What the caller narrows the list to, within what the caller may see."""
    equal: Json = {}
    for name in _EQUAL:
        if (value := call.query.one(name)) is not None:
            equal["server_id" if name == "instance_uuid" else name] = value
    host = call.query.one("host")
    if host is not None or "source_compute" in equal:
        call.authorize({"project_id": call.context.project_id}, rule=f"{_RULE}:host")
    if call.at_least(2, 80):
        equal |= {name: value for name in ("user_id", "project_id") if (value := call.query.one(name)) is not None}
    mine = call.context.project_id
    if not call.allows(f"{_RULE}:all_projects") and equal.setdefault("project_id", mine) != mine:
        raise Refused("Migrations of other projects are for administrators.")
    since = call.query.one("changes-since") if call.at_least(2, 59) else None
    before = call.query.one("changes-before") if call.at_least(2, 66) else None
    if since and before and clock.parse(since) > clock.parse(before):
        raise BadRequest("The value of changes-since must be less than or equal to changes-before.")
    return store.Filters(
        equal=equal,
        host=host,
        since=clock.parse(since) if since else None,
        before=clock.parse(before) if before else None,
    )


_PLACES = ("source_compute", "source_node", "dest_compute", "dest_node", "dest_host")


def _view(call: Call, row: Mapping[str, Any], *, placed: bool) -> Json:
    view: Json = {
        "id": row["id"],
        **{name: row[name] if placed else None for name in _PLACES},
        "status": row["status"],
        "instance_uuid": row["server_id"],
        "old_instance_type_id": row["old_flavor_id"],
        "new_instance_type_id": row["new_flavor_id"],
        "created_at": clock.iso_micro(row["created_at"]),
        "updated_at": clock.iso_micro(row["updated_at"]),
    }
    if call.at_least(2, 23):
        view["migration_type"] = row["migration_type"]
        if row["migration_type"] == store.LIVE and row["status"] in store.IN_PROGRESS:
            path = f"/servers/{row['server_id']}/migrations/{row['id']}"
            view["links"] = [
                {"rel": "self", "href": call.link(path)},
                {"rel": "bookmark", "href": call.root_link(path)},
            ]
    if call.at_least(2, 59):
        view["uuid"] = row["uuid"]
    if call.at_least(2, 80):
        view |= {"user_id": row["user_id"], "project_id": row["project_id"]}
    return view


_OF_SERVER = "/servers/{server_id}/migrations"
_SERVER_RULE = "os_compute_api:servers:migrations"
_GOES_ON = (MIGRATIONS.c.migration_type == store.LIVE, MIGRATIONS.c.status.in_(store.IN_PROGRESS))


@operations("GET", _OF_SERVER, rule=f"{_SERVER_RULE}:index", late=True, versions="2.23-")
def list_server_migrations(call: Call) -> Json:
    """List the live migrations of a server that go on"""
    row = server_of(call)
    placed = call.allows(f"{_SERVER_RULE}:index:host", target(row))
    with call.service.db.read() as conn:
        found = store.of_server(conn, row["id"], *_GOES_ON)
    return {"migrations": [_progress(call, entry, placed=placed) for entry in found]}


@operations("GET", _OF_SERVER + "/{migration_id}", rule=f"{_SERVER_RULE}:show", late=True, versions="2.23-")
def show_server_migration(call: Call) -> Json:
    """Show a live migration of a server that goes on"""
    row = server_of(call)
    number = call.params["migration_id"]
    with call.service.db.read() as conn:
        move = store.get(conn, int(number)) if number.isdigit() and int(number) <= s.MAX_INT else None
    if move is None or move["server_id"] != row["id"]:
        raise NotFound(f"Migration {number} not found for server {row['id']}.")
    if move["migration_type"] != store.LIVE:
        raise NotFound(f"Migration {number} for server {row['id']} is not live-migration.")
    if move["status"] not in store.IN_PROGRESS:
        raise NotFound(f"Live migration {number} for server {row['id']} is not in progress.")
    return {"migration": _progress(call, move, placed=True)}


FORCE = s.wrap("force_complete", {"type": "null"})


@operations(
    "POST",
    _OF_SERVER + "/{migration_id}/action",
    action="force_complete",
    rule=f"{_SERVER_RULE}:force_complete",
    late=True,
    status=202,
    body=FORCE,
    waits=True,
    versions="2.22-",
)
def force_complete(call: Call) -> None:
    """Let a live migration come to its end, at the cost of a pause of the guest"""
    row = server_of(call)
    moves.force_complete(call.service, call.context, row, call.params["migration_id"])


@operations(
    "DELETE",
    _OF_SERVER + "/{migration_id}",
    rule=f"{_SERVER_RULE}:delete",
    late=True,
    status=202,
    versions="2.24-",
)
def abort(call: Call) -> None:
    """Call a live migration off"""
    row = server_of(call)
    moves.abort(call.service, call.context, row, call.params["migration_id"], early=call.at_least(2, 65))


_AMOUNTS = tuple(f"{what}_{part}_bytes" for what in ("memory", "disk") for part in ("total", "processed", "remaining"))


def _progress(call: Call, row: Mapping[str, Any], *, placed: bool) -> Json:
    amounts = row["progress"] or {}
    view: Json = {
        "id": row["id"],
        "status": row["status"],
        "server_uuid": row["server_id"],
        **{name: row[name] if placed else None for name in _PLACES},
        **{name: amounts.get(name) for name in _AMOUNTS},
        "created_at": clock.iso_micro(row["created_at"]),
        "updated_at": clock.iso_micro(row["updated_at"]),
    }
    if call.at_least(2, 59):
        view["uuid"] = row["uuid"]
    if call.at_least(2, 80):
        view |= {"user_id": row["user_id"], "project_id": row["project_id"]}
    return view
