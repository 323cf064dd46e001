"""The nodes that belong to the cloud, as the controllers of all services know them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pileus.clients.base import PeerError
from pileus.kernel.loops import Loop

_SECONDS = 5.0


class Members:
    """Asks identity every few seconds. Who is not known yet is refused, asks again, and has made us ask again.

    Nothing is asked while a request is served: what was last heard decides. A node that was removed has no user at the
    broker any more, so that this is the second lock of the same door.
    """

    def __init__(self, nodes: Callable[[], list[dict[str, Any]]]) -> None:
        self._nodes = nodes
        self._known: frozenset[str] = frozenset()
        self.wake: Callable[[str], object] = lambda _loop: None
        self.loop = Loop("nodes", _SECONDS, lambda _subject: self.look())

    def look(self) -> None:
        """Learn who belongs to the cloud now."""
        found = self._nodes()
        self._known = frozenset(node["principal"] for node in found if node["principal"] and node["state"] in {"active", "draining"})

    def begin(self) -> None:
        """The same before the first request, where identity answers already."""
        try:
            self.look()
        except PeerError:
            return  # the loop looks again

    def __contains__(self, user: str) -> bool:
        if user in self._known:
            return True
        self.wake(self.loop.name)
        return False
