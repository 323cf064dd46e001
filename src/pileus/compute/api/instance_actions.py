"""The diary of a server: /servers/{id}/os-instance-actions."""

from __future__ import annotations

from typing import Any

from pileus.compute.api import schemas as s
from pileus.compute.api.common import check_visible, target
from pileus.compute.api.server_view import host_id
from pileus.compute.errors import BadRequest
from pileus.compute.logic import actions
from pileus.compute.store import servers as store
from pileus.kernel import clock
from pileus.kernel.errors import NotFound
from pileus.kernel.web import Call, Operations

operations = Operations()

_PATH = "/servers/{server_id}/os-instance-actions"
_RULE = "os_compute_api:os-instance-actions"
_MOMENT = s.many({"type": "string", "format": "date-time"})
_QUERY = [
    ("2.1", s.query({})),
    ("2.58", s.query({**s.PAGING, "changes-since": _MOMENT}, additional=False)),
    ("2.66", s.query({**s.PAGING, "changes-since": _MOMENT, "changes-before": _MOMENT}, additional=False)),
]


def _server(call: Call) -> dict[str, Any]:
    """The server of the path; from 2.21 on also one that is deleted."""
    server_id = call.params["server_id"]
    with call.service.db.read() as conn:
        deleted_too = call.at_least(2, 21)
        found = store.get_even_deleted(conn, server_id) if deleted_too else store.get(conn, server_id)
    row = check_visible(call, found, server_id)
    call.authorize(target(row))
    return row


def _view(call: Call, action: dict[str, Any]) -> dict[str, Any]:
    view = {
        "action": action["action"],
        "instance_uuid": action["server_id"],
        "request_id": action["request_id"],
        "user_id": action["user_id"],
        "project_id": action["project_id"],
        "start_time": clock.iso_micro(action["start_time"]),
        "message": action["message"],
    }
    if call.at_least(2, 58):
        view["updated_at"] = clock.iso_micro(action["updated_at"])
    return view


@operations("GET", _PATH, rule=f"{_RULE}:list", late=True, query=_QUERY)
def list_actions(call: Call) -> dict[str, Any]:
    """List what was done with a server"""
    row = _server(call)
    paged = call.at_least(2, 58)
    limit = s.limit_of(call) if paged else None
    since = call.query.one("changes-since") if paged else None
    before = call.query.one("changes-before") if call.at_least(2, 66) else None
    if since and before and clock.parse(since) > clock.parse(before):
        raise BadRequest("The value of changes-since must be less than or equal to changes-before.")
    with call.service.db.read() as conn:
        marker = None
        if paged and (given := call.query.one("marker")) is not None:
            marker = actions.by_request(conn, row["id"], given)
            if marker is None:
                raise BadRequest(f"marker [{given}] not found")
        rows = actions.listing(
            conn,
            row["id"],
            marker=marker,
            limit=limit,
            since=clock.parse(since) if since else None,
            before=clock.parse(before) if before else None,
        )
    answer: dict[str, Any] = {"instanceActions": [_view(call, action) for action in rows]}
    if rows and len(rows) == limit:
        href = call.link(f"/servers/{row['id']}/os-instance-actions")
        answer["links"] = s.next_link(call, href, rows[-1]["request_id"])
    return answer


@operations("GET", _PATH + "/{request_id}", rule=f"{_RULE}:show", late=True)
def show_action(call: Call) -> dict[str, Any]:
    """Show one action with its events"""
    row, request_id = _server(call), call.params["request_id"]
    with call.service.db.read() as conn:
        action = actions.by_request(conn, row["id"], request_id)
        if action is None:
            raise NotFound(f"Action for request_id {request_id} on instance {row['id']} not found")
        events = actions.events(conn, action["id"])
    view = _view(call, action)
    traces = call.allows(f"{_RULE}:events", target(row))
    if traces or call.at_least(2, 51):
        view["events"] = [_event(call, row, event, traces=traces) for event in events]
    return {"instanceAction": view}


def _event(call: Call, row: dict[str, Any], event: dict[str, Any], *, traces: bool) -> dict[str, Any]:
    view = {
        "event": event["event"],
        "start_time": clock.iso_micro(event["start_time"]),
        "finish_time": clock.iso_micro(event["finish_time"]),
        "result": event["result"],
    }
    if traces:
        view["traceback"] = event["traceback"]
    if call.at_least(2, 62):
        if call.context.is_admin:
            view["host"] = event["host"]
        view["hostId"] = host_id(row["project_id"], event["host"])
    if call.at_least(2, 84):
        allowed = call.allows(f"{_RULE}:events:details", target(row))
        view["details"] = event["details"] if allowed or event["result"] != "Error" else None
    return view
