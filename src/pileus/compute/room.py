"""The compute service as `server` sees it."""

from __future__ import annotations

from pileus.compute.api.versions import MICROVERSIONS
from pileus.kernel.room import Room

ROOM = Room(
    name="compute",
    service_type="compute",
    service_name="nova",
    prefix="/compute",
    base="/v2.1",
    catalog="/compute/v2.1",
    port=8774,
    options="pileus.compute.options:Options",
    tables="pileus.compute.store.tables:METADATA",
    policy="pileus.compute.policy:RULES",
    fault="compute",
    api=(
        "pileus.compute.api.versions",
        "pileus.compute.api.extensions",
        "pileus.compute.api.flavors",
        "pileus.compute.api.keypairs",
        "pileus.compute.api.servers",
        "pileus.compute.api.server_actions",
        "pileus.compute.api.server_moves",
        "pileus.compute.api.migrations",
        "pileus.compute.api.server_metadata",
        "pileus.compute.api.server_tags",
        "pileus.compute.api.server_network",
        "pileus.compute.api.network_proxies",
        "pileus.compute.api.instance_actions",
        "pileus.compute.api.server_groups",
        "pileus.compute.api.quotas",
        "pileus.compute.api.usage",
        "pileus.compute.api.hypervisors",
        "pileus.compute.api.services",
        "pileus.compute.api.aggregates",
        "pileus.compute.api.external_events",
        "pileus.compute.api.small",
        "pileus.compute.api.metadata",
    ),
    microversions=MICROVERSIONS,
    flows="pileus.compute.flows:FLOWS",
    loops="pileus.compute.loops:LOOPS",
    explain="pileus.compute.logic.explain:explain",
    calls="pileus.compute.logic.calls:CALLS",
    agent="pileus.compute.agent:agent",
)
