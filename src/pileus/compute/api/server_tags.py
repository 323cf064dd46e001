"""Tags of servers: /servers/{id}/tags."""

from __future__ import annotations

from typing import Any

from pileus.compute.api import schemas as s
from pileus.compute.api.common import server_of
from pileus.compute.api.server_schemas import TAGS
from pileus.compute.errors import BadRequest
from pileus.compute.logic import servers as logic
from pileus.compute.store import servers as store
from pileus.kernel.errors import NotFound
from pileus.kernel.web import Call, Operations, Reply

operations = Operations()

_PATH = "/servers/{server_id}/tags"
_RULE = "os_compute_api:os-server-tags"
_SINCE = "2.26-"


def _tags(call: Call) -> list[str]:
    row = server_of(call)
    with call.service.db.read() as conn:
        return store.tags_of(conn, row["id"])


@operations("GET", _PATH, rule=f"{_RULE}:index", late=True, versions=_SINCE)
def list_tags(call: Call) -> dict[str, Any]:
    """List a server's tags"""
    return {"tags": _tags(call)}


@operations("PUT", _PATH, rule=f"{_RULE}:update_all", late=True, versions=_SINCE, body=s.wrap("tags", TAGS))
def set_tags(call: Call) -> dict[str, Any]:
    """Set all tags"""
    return {"tags": logic.set_tags(call.service, server_of(call)["id"], call.body["tags"])}


@operations("DELETE", _PATH, rule=f"{_RULE}:delete_all", late=True, versions=_SINCE, status=204)
def clear_tags(call: Call) -> None:
    """Remove all tags"""
    logic.clear_tags(call.service, server_of(call)["id"])


@operations("GET", _PATH + "/{tag}", rule=f"{_RULE}:show", late=True, versions=_SINCE, status=204)
def check_tag(call: Call) -> None:
    """Check whether a server has a tag"""
    tag = call.params["tag"]
    if tag not in _tags(call):
        raise NotFound(f"Server {call.params['server_id']} has no tag '{tag}'")


@operations("PUT", _PATH + "/{tag}", rule=f"{_RULE}:update", late=True, versions=_SINCE, status=201)
def add_tag(call: Call) -> Reply:
    """Add a tag"""
    row, tag = server_of(call), call.params["tag"]
    if not 1 <= len(tag) <= 60 or "," in tag or "/" in tag:
        raise BadRequest(f"Tag '{tag}' is invalid. It must be a non empty string without characters '/' and ','.")
    if logic.add_tag(call.service, row["id"], tag):
        return Reply(None, status=201, headers={"Location": call.link(f"/servers/{row['id']}/tags/{tag}")})
    return Reply(None, status=204)


@operations("DELETE", _PATH + "/{tag}", rule=f"{_RULE}:delete", late=True, versions=_SINCE, status=204)
def remove_tag(call: Call) -> None:
    """Remove a tag"""
    logic.remove_tag(call.service, server_of(call)["id"], call.params["tag"])
