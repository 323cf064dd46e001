"""What identity looks after all the time."""

from __future__ import annotations

from pileus.identity.logic.federated_users import forget_ended
from pileus.identity.logic.nodes import agree
from pileus.identity.logic.shadows import compare
from pileus.kernel.loops import Loop

LOOPS = (
    Loop("broker_users", every=60.0, run=agree),
    Loop("federated_memberships", every=3600.0, run=forget_ended),
    Loop("directories", every=60.0, run=compare),
)
