"""What must stay true, looked at again and again by the controller."""

from __future__ import annotations

from pileus.kernel.loops import Loop
from pileus.network.loops.leftovers import collect_leftovers
from pileus.network.loops.placement import keep_placed
from pileus.network.loops.port_events import deliver_events

LOOPS = (
    Loop("port_events", every=5.0, run=deliver_events),
    # Each controller must have heard hosts for itself before it calls one dead: the next to lead shall not begin to listen then.
    Loop("placement", every=10.0, run=keep_placed, everywhere=True),
    Loop("leftovers", every=300.0, run=collect_leftovers),
)
