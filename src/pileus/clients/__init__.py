"""The one client of each service, and the set of them that an assembled process holds."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pileus.clients.base import Binding
from pileus.kernel.context import Context

if TYPE_CHECKING:
    from pileus.clients.compute import ComputeClient
    from pileus.clients.identity import IdentityClient
    from pileus.clients.image import ImageClient
    from pileus.clients.network import NetworkClient
    from pileus.clients.placement import PlacementClient


class Clients:
    """Clients by service name, each bound to its peer; `clients.network(context)` acts as that context."""

    def __init__(self, bindings: Mapping[str, Binding]) -> None:
        self._bindings = dict(bindings)
        self._classes: dict[str, Any] = {}

    def has(self, service: str) -> bool:
        """Whether that service is part of this cloud."""
        return service in self._bindings

    def _client(self, service: str, context: Context) -> Any:
        kind = self._classes.get(service)
        if kind is None:
            module = importlib.import_module(f"pileus.clients.{service}")
            name = "".join(part.capitalize() for part in service.split("_")) + "Client"
            kind = self._classes[service] = getattr(module, name)
        return kind(self._bindings[service], context)

    def identity(self, context: Context) -> IdentityClient:
        client: IdentityClient = self._client("identity", context)
        return client

    def image(self, context: Context) -> ImageClient:
        client: ImageClient = self._client("image", context)
        return client

    def placement(self, context: Context) -> PlacementClient:
        client: PlacementClient = self._client("placement", context)
        return client

    def network(self, context: Context) -> NetworkClient:
        client: NetworkClient = self._client("network", context)
        return client

    def compute(self, context: Context) -> ComputeClient:
        client: ComputeClient = self._client("compute", context)
        return client
