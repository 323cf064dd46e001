"""What identity looks after all the time."""

from __future__ import annotations

from pileus.identity.logic.nodes import agree
from pileus.kernel.loops import Loop

LOOPS = (Loop("broker_users", every=60.0, run=agree),)
