"""What compute looks after all the time. Every loop compares what is with what shall be; none needs an event."""

from __future__ import annotations

from pileus.compute.loops.leftovers import (
    deleted_retention,
    orphaned_allocations,
    orphaned_ports,
    unfounded_orders,
    unknown_ports,
)
from pileus.compute.loops.moves import evacuated, unconfirmed
from pileus.compute.loops.network_info import network_info
from pileus.compute.loops.providers import providers
from pileus.compute.loops.services import compute_services
from pileus.compute.loops.states import server_states
from pileus.kernel.loops import Loop

LOOPS = (
    Loop("compute_services", every=10.0, run=compute_services, everywhere=True),
    Loop("providers", every=60.0, run=providers),
    Loop("server_states", every=30.0, run=server_states),
    Loop("evacuated", every=30.0, run=evacuated),
    Loop("unconfirmed_resizes", every=60.0, run=unconfirmed),
    Loop("network_info", every=60.0, run=network_info),
    Loop("orphaned_allocations", every=300.0, run=orphaned_allocations),
    Loop("orphaned_ports", every=300.0, run=orphaned_ports),
    Loop("unfounded_orders", every=300.0, run=unfounded_orders),
    Loop("unknown_ports", every=300.0, run=unknown_ports),
    Loop("deleted_retention", every=3600.0, run=deleted_retention),
)
