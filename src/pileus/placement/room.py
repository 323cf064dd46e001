"""The placement service as `server` sees it."""

from __future__ import annotations

from pileus.kernel.room import Room
from pileus.placement.api.root import MICROVERSIONS

ROOM = Room(
    name="placement",
    service_type="placement",
    service_name="placement",
    prefix="/placement",
    base="",
    catalog="/placement",
    port=8778,
    options="pileus.placement.options:Options",
    tables="pileus.placement.store.tables:METADATA",
    policy="pileus.placement.policy:RULES",
    fault="placement",
    api=(
        "pileus.placement.api.root",
        "pileus.placement.api.providers",
        "pileus.placement.api.inventories",
        "pileus.placement.api.traits",
        "pileus.placement.api.aggregates",
        "pileus.placement.api.usages",
        "pileus.placement.api.allocations",
        "pileus.placement.api.resource_classes",
        "pileus.placement.api.allocation_candidates",
        "pileus.placement.api.reshaper",
    ),
    microversions=MICROVERSIONS,
)
