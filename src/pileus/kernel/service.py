"""What a room's handlers, logic, flows and loops get: its database, options, policy, peers and means of work."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Any

from pileus.kernel.pace import Pace
from pileus.kernel.pulse import Pulse

if TYPE_CHECKING:
    from pileus.kernel.bus import Bus
    from pileus.kernel.config import Config
    from pileus.kernel.db import Database
    from pileus.kernel.flows import FlowStarter
    from pileus.kernel.loops import Nudger
    from pileus.kernel.policy import Policy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Service:
    """One assembled service of this process.

    `clients` is `pileus.clients.Clients`: `service.clients.network(context)` acts at the network service as `context`.
    """

    name: str
    base: str
    config: Config
    options: Any
    db: Database
    policy: Policy
    clients: Any
    bus: Bus
    flows: FlowStarter
    loops: Nudger
    pace: Pace = dataclasses.field(default_factory=Pace)
    pulse: Pulse = dataclasses.field(default_factory=Pulse)

    @property
    def home(self) -> pathlib.Path:
        return self.config.home

    @property
    def host(self) -> str:
        return self.config.host
