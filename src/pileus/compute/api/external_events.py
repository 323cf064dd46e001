"""Events from other services: /os-server-external-events."""

from __future__ import annotations

from typing import Any

from pileus.compute.api import schemas as s
from pileus.compute.errors import BadRequest
from pileus.compute.logic import external_events as logic
from pileus.compute.logic import servers
from pileus.kernel.errors import NotFound
from pileus.kernel.web import Call, Operations, Reply

operations = Operations()

_NAMES = ["network-changed", "network-vif-plugged", "network-vif-unplugged", "network-vif-deleted"]


def _body(names: list[str]) -> s.Schema:
    event = s.obj(
        {
            "server_uuid": s.UUID,
            "name": {"enum": names},
            "status": {"enum": ["failed", "completed", "in-progress"]},
            "tag": {"type": "string", "maxLength": 255},
        },
        ["server_uuid", "name"],
    )
    return s.obj({"events": {"type": "array", "minItems": 1, "items": event}}, ["events"])


CREATE = [
    ("2.1", _body(_NAMES)),
    ("2.51", _body([*_NAMES, "volume-extended"])),
    ("2.76", _body([*_NAMES, "volume-extended", "power-update"])),
    ("2.82", _body([*_NAMES, "volume-extended", "power-update", "accelerator-request-bound"])),
    ("2.93", _body([*_NAMES, "volume-extended", "power-update", "accelerator-request-bound", "volume-reimaged"])),
]


@operations(
    "POST",
    "/os-server-external-events",
    rule="os_compute_api:os-server-external-events:create",
    body=CREATE,
)
def create_events(call: Call) -> Reply:
    """Tell compute what happened to its servers"""
    given = call.body["events"]
    for event in given:
        if event["name"] not in _NAMES:
            raise BadRequest(f"Events of kind {event['name']} are not known to this release.")
    events, stale = logic.receive(call.service, given)
    for server_id in stale:
        servers.refresh_network_info(call.service, server_id)
    codes = {event["code"] for event in events}
    if codes <= {404, 422} and 404 in codes:
        raise NotFound("No instances found for any event")
    body: dict[str, Any] = {"events": events}
    return Reply(body, status=200 if codes == {200} else 207)
