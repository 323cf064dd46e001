"""What projects used: /os-simple-tenant-usage."""

from __future__ import annotations

import datetime as dt
from typing import Any

from pileus.compute.api import schemas as s
from pileus.compute.errors import BadRequest
from pileus.compute.logic import usage as logic
from pileus.kernel import clock
from pileus.kernel.web import Call, Operations

operations = Operations()

_RULE = "os_compute_api:os-simple-tenant-usage"
_BASE = {"start": s.many(s.ANY_TEXT), "end": s.many(s.ANY_TEXT), "detailed": s.many(s.ANY_TEXT)}
_LIST = [
    ("2.1", s.query(_BASE)),
    ("2.40", s.query({**_BASE, **s.PAGING})),
    ("2.75", s.query({**_BASE, **s.PAGING}, additional=False)),
]


def _moment(text: str | None, default: dt.datetime) -> dt.datetime:
    if not text:
        return default
    try:
        return clock.parse(text)
    except ValueError:
        raise BadRequest("Datetime is in invalid format") from None


def _period(call: Call) -> tuple[dt.datetime, dt.datetime]:
    now = clock.utcnow()
    start = _moment(call.query.one("start"), now - dt.timedelta(weeks=4))
    end = _moment(call.query.one("end"), now)
    if end < start:
        raise BadRequest("Invalid start time. The start time cannot occur after the end time.")
    return start, end


def _page(call: Call) -> tuple[str | None, int | None]:
    if not call.at_least(2, 40):
        return None, None
    return call.query.one("marker"), s.limit_of(call)


@operations("GET", "/os-simple-tenant-usage", rule=f"{_RULE}:list", query=_LIST)
def list_usage(call: Call) -> dict[str, Any]:
    """List what all projects used"""
    start, end = _period(call)
    marker, limit = _page(call)
    detailed = call.query.one("detailed") == "1"
    found, last = logic.usage(call.service, None, start, end, marker=marker, limit=limit)
    for project in found:
        if not detailed:
            del project["server_usages"]
    answer: dict[str, Any] = {"tenant_usages": found}
    if last is not None:
        answer["tenant_usages_links"] = s.next_link(call, call.link("/os-simple-tenant-usage"), last)
    return answer


@operations("GET", "/os-simple-tenant-usage/{project_id}", rule=f"{_RULE}:show", late=True, query=_LIST)
def show_usage(call: Call) -> dict[str, Any]:
    """Show what a project used"""
    project_id = call.params["project_id"]
    call.authorize({"project_id": project_id, "user_id": call.context.user_id})
    start, end = _period(call)
    marker, limit = _page(call)
    found, last = logic.usage(call.service, project_id, start, end, marker=marker, limit=limit)
    answer: dict[str, Any] = {"tenant_usage": found[0] if found else {}}
    if last is not None:
        path = f"/os-simple-tenant-usage/{project_id}"
        answer["tenant_usage_links"] = s.next_link(call, call.link(path), last)
    return answer
