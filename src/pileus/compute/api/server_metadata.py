"""Metadata of servers: /servers/{id}/metadata."""

from __future__ import annotations

from typing import Any

from pileus.compute.api import schemas as s
from pileus.compute.api.common import passes_lock, server_of
from pileus.compute.errors import BadRequest
from pileus.compute.logic import servers as logic
from pileus.compute.store import servers as store
from pileus.kernel.errors import NotFound
from pileus.kernel.web import Call, Operations

operations = Operations()

_PATH = "/servers/{server_id}/metadata"
_RULE = "os_compute_api:server-metadata"
_ALL = s.wrap("metadata", s.METADATA)
_ONE = s.wrap("meta", {**s.METADATA, "minProperties": 1, "maxProperties": 1})


def _items(call: Call) -> dict[str, str]:
    row = server_of(call)
    with call.service.db.read() as conn:
        return store.metadata_of(conn, row["id"])


def _change(call: Call, items: dict[str, str], *, replace: bool) -> dict[str, str]:
    row = server_of(call)
    return logic.change_metadata(call.service, row["id"], items, replace=replace, unlocked=passes_lock(call, row))


@operations("GET", _PATH, rule=f"{_RULE}:index", late=True)
def list_metadata(call: Call) -> dict[str, Any]:
    """List a server's metadata"""
    return {"metadata": _items(call)}


@operations("POST", _PATH, rule=f"{_RULE}:create", late=True, body=_ALL)
def add_metadata(call: Call) -> dict[str, Any]:
    """Add or replace metadata items"""
    return {"metadata": _change(call, call.body["metadata"], replace=False)}


@operations("PUT", _PATH, rule=f"{_RULE}:update_all", late=True, body=_ALL)
def replace_metadata(call: Call) -> dict[str, Any]:
    """Set all metadata"""
    return {"metadata": _change(call, call.body["metadata"], replace=True)}


@operations("GET", _PATH + "/{key}", rule=f"{_RULE}:show", late=True)
def show_item(call: Call) -> dict[str, Any]:
    """Show one metadata item"""
    items, key = _items(call), call.params["key"]
    if key not in items:
        raise NotFound("Metadata item was not found")
    return {"meta": {key: items[key]}}


@operations("PUT", _PATH + "/{key}", rule=f"{_RULE}:update", late=True, body=_ONE)
def set_item(call: Call) -> dict[str, Any]:
    """Set one metadata item"""
    item = call.body["meta"]
    if call.params["key"] not in item:
        raise BadRequest("Request body and URI mismatch")
    _change(call, item, replace=False)
    return {"meta": item}


@operations("DELETE", _PATH + "/{key}", rule=f"{_RULE}:delete", late=True, status=204)
def delete_item(call: Call) -> None:
    """Remove one metadata item"""
    row = server_of(call)
    logic.remove_metadata(call.service, row["id"], call.params["key"], unlocked=passes_lock(call, row))
