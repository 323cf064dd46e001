"""The declaration of the network service (OpenStack Networking API v2.0)."""

from __future__ import annotations

from pileus.kernel.room import Room

ROOM = Room(
    name="network",
    service_type="network",
    service_name="neutron",
    prefix="/networking",
    base="/v2.0",
    catalog="/networking",
    port=9696,
    options="pileus.network.options:Options",
    tables="pileus.network.store.tables:METADATA",
    policy="pileus.network.policy:RULES",
    fault="network",
    api=(
        "pileus.network.api.versions",
        "pileus.network.api.networks",
        "pileus.network.api.subnets",
        "pileus.network.api.subnetpools",
        "pileus.network.api.ports",
        "pileus.network.api.port_bindings",
        "pileus.network.api.routers",
        "pileus.network.api.floatingips",
        "pileus.network.api.security_groups",
        "pileus.network.api.rbac_policies",
        "pileus.network.api.tags",
        "pileus.network.api.agents",
        "pileus.network.api.quotas",
        "pileus.network.api.ip_availability",
        "pileus.network.api.extensions",
    ),
    loops="pileus.network.loops:LOOPS",
    explain="pileus.network.logic.explain:explain",
    calls="pileus.network.logic.calls:CALLS",
    agent="pileus.network.agent:agent",
)
