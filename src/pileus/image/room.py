"""The image service as `server` sees it."""

from __future__ import annotations

from pileus.kernel.room import Room

ROOM = Room(
    name="image",
    service_type="image",
    service_name="glance",
    prefix="/image",
    base="/v2",
    catalog="/image",
    port=9292,
    options="pileus.image.options:Options",
    tables="pileus.image.store.tables:METADATA",
    policy="pileus.image.policy:RULES",
    fault="image",
    api=(
        "pileus.image.api.images",
        "pileus.image.api.patches",
        "pileus.image.api.data",
        "pileus.image.api.members",
        "pileus.image.api.info",
    ),
    loops="pileus.image.loops:LOOPS",
    explain="pileus.image.logic.explain:explain",
)
