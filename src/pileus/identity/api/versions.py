"""Version documents, and the home document of the v3 API."""

from __future__ import annotations

import re
from typing import Any

from pileus.kernel.web import Call, Operations, Reply

from . import home

operations = Operations()


def _version(call: Call) -> dict[str, Any]:
    return {
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": call.link("/")}],
        "media-types": [
            {"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"},
        ],
    }


def _wants_home(call: Call) -> bool:
    """Whether application/json-home is what the client likes best."""
    best, liked = "", -1.0
    for part in (call.headers.get("Accept") or "").split(","):
        kind, *settings = (piece.strip() for piece in part.split(";"))
        found = [re.fullmatch(r"q=([0-9.]+)", setting) for setting in settings]
        quality = next((float(match.group(1)) for match in found if match), 1.0)
        if quality > liked:
            best, liked = kind, quality
    return best == "application/json-home"


@operations(
    "GET", "/", root=True, public="clients look here before they have a token", status=300, summary="List versions"
)
def list_versions(call: Call) -> Reply | dict[str, Any]:
    if _wants_home(call):
        return Reply(home.document(call.service.base), status=200, content_type="application/json-home")
    return Reply({"versions": {"values": [_version(call)]}}, headers={"Location": call.link("/")})


@operations("GET", "", public="clients look here before they have a token", summary="Show version 3")
def show_version(call: Call) -> Reply | dict[str, Any]:
    if _wants_home(call):
        return Reply(home.document(""), content_type="application/json-home")
    return {"version": _version(call)}
