"""The bus: calls and nudges between the processes of a cloud."""

from pileus.kernel.bus.base import Bus, BusTimeout, BusUnavailable, Handler, RemoteError
from pileus.kernel.bus.local import LocalBus

__all__ = ["Bus", "BusTimeout", "BusUnavailable", "Handler", "LocalBus", "RemoteError"]
