"""What the controller of identity serves on the bus for the nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pileus.kernel.service import Service

from . import nodes


def seen(service: Service, payload: dict[str, Any]) -> dict[str, Any]:
    """identity.seen {host}: a node is there. {"state"}: what it is to the cloud."""
    return nodes.seen(service, str(payload["host"]))


CALLS: Mapping[str, Callable[[Service, dict[str, Any]], dict[str, Any]]] = {"identity.seen": seen}
