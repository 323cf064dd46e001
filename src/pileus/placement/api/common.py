"""What the answers of placement's resources have in common."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from email.utils import format_datetime
from typing import Any
from urllib.parse import urlsplit

from pileus.kernel import clock
from pileus.kernel.web import Call, Reply
from pileus.placement.store import standard

UUID = {"type": "string", "format": "uuid"}
UUID_KEY = "^[0-9a-fA-F-]{36}$"
NAME_KEY = "^[A-Z0-9_]+$"
CUSTOM_NAME = {"type": "string", "pattern": f"^{standard.CUSTOM}[A-Z0-9_]+$", "minLength": 1, "maxLength": 255}


def prefix(call: Call) -> str:
    """The path at which this client reaches the service, for links without host."""
    return urlsplit(call.base_url).path.rstrip("/")


def fresh(
    call: Call,
    body: Any = None,
    changed: Iterable[dt.datetime | None] = (),
    *,
    status: int | None = None,
    headers: dict[str, str] | None = None,
) -> Reply:
    """An answer that says from 1.15 on when its content last changed (now, where nothing tells) and that nobody may keep it."""
    shown = dict(headers or {})
    if call.at_least(1, 15):
        moments = list(changed)
        known = [moment for moment in moments if moment is not None]
        newest = max(known) if known and len(known) == len(moments) else clock.utcnow()
        shown["Last-Modified"] = format_datetime(newest.replace(tzinfo=dt.UTC), usegmt=True)
        shown["Cache-Control"] = "no-cache"
    return Reply(body=body, status=status, headers=shown)


def strings(**properties: dict[str, Any]) -> dict[str, Any]:
    """A query schema: each key's values must be of the given kind; no other keys."""
    return {
        "type": "object",
        "properties": {name: {"type": "array", "items": kind} for name, kind in properties.items()},
        "additionalProperties": False,
    }


TEXT: dict[str, Any] = {"type": "string"}
