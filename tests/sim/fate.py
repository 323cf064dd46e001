"""What goes wrong in the simulation, and when: all of it from one seed, so that the same history happens again.

The bus, the bindings between services and the databases of the simulated cloud ask `Fate` around each of their calls. A worker of flows
dies where a real one can: before or after anything that it asks of others, and around each step. Death is an exception that nothing
catches: what it had recorded stays, what it had not is lost.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from pileus.clients.base import Answer, LocalBinding, PeerUnavailable
from pileus.kernel import clock
from pileus.kernel.bus import Bus, BusTimeout, BusUnavailable
from pileus.kernel.bus.base import Handler, Request, Response, Server, encoded
from pileus.kernel.bus.local import _responses
from pileus.kernel.context import Context
from pileus.kernel.db import Database


class Died(BaseException):
    """The worker of a flow was killed here."""


class Fate:
    """Decides. `harm` is how often something goes wrong (1.0: about every tenth call), 0 in quiet times."""

    def __init__(self) -> None:
        self.chance = random.Random(0)
        self.harm = 0.0
        self.happened: collections.Counter[str] = collections.Counter()
        self.working = False
        self.overtake: Callable[[], None] = lambda: None
        self._depth = 0

    def strikes(self, what: str, often: float) -> bool:
        """Whether it happens now."""
        if not self.harm or self.chance.random() >= often * self.harm:
            return False
        self.happened[what] += 1
        return True

    @contextlib.contextmanager
    def asking(self) -> Iterator[bool]:
        """Around a call of somebody else; whether it is the worker's own, not one that is made on its behalf."""
        self._depth += 1
        own = self.working and self._depth == 1
        try:
            if own:
                self.may_die("a worker dies before a call")
            yield own
            if own:
                self.may_die("a worker dies after a call")
        finally:
            self._depth -= 1

    def may_die(self, where: str) -> None:
        if self.strikes(where, 0.01):
            raise Died(where)
        if self.strikes("a worker is overtaken", 0.005):
            self._be_overtaken()

    def _be_overtaken(self) -> None:
        """The lease runs out while the worker lives; others do its work meanwhile, in a thread of their own as in life."""
        before = (self.working, self._depth, self.harm)
        self.working, self._depth, self.harm = False, 0, 0.0
        try:
            with concurrent.futures.ThreadPoolExecutor(1) as other:
                other.submit(self.overtake).result()
        finally:
            self.working, self._depth, self.harm = before

    def disturb(self, db: Database) -> None:
        """Let transactions of a database fail before they begin and after they were committed."""
        begin = db.write

        @contextlib.contextmanager
        def write(*, durable: bool = True) -> Iterator[sa.Connection]:
            if self.strikes("a database is away", 0.01):
                raise sa.exc.OperationalError("BEGIN", None, Exception("the database is away"))
            with begin(durable=durable) as conn:
                yield conn
            if self.strikes("the answer to a commit is lost", 0.01):
                raise sa.exc.OperationalError("COMMIT", None, Exception("the connection is lost"))

        db.write = write  # type: ignore[method-assign]


class SimBinding(LocalBinding):
    """A peer in process that may not answer, or answer into the void."""

    def __init__(self, fate: Fate, app: Callable[[], Any], prefix: str) -> None:
        super().__init__(app, prefix, "http://localhost:5000")
        self._fate = fate

    def send(self, method: str, path: str, query: str, headers: Mapping[str, str], body: Any, context: Context, timeout: float) -> Answer:
        fate = self._fate
        with fate.asking():
            if fate.strikes("a peer is away", 0.03):
                raise PeerUnavailable("The peer does not answer.", status=503)
            answer = super().send(method, path, query, headers, body, context, timeout)
            if fate.strikes("a peer's answer is lost", 0.03):
                answer.close()
                raise PeerUnavailable("The peer's answer broke off.", status=503)
        return answer


class SimBus(Bus):
    """Calls are answered at once in the caller's thread; casts wait until somebody delivers them, or are lost."""

    def __init__(self, fate: Fate) -> None:
        super().__init__("sim")
        self._fate = fate
        self._servers: dict[str, Server] = {}
        self._methods: dict[str, Mapping[str, Handler]] = {}
        self._waiting: list[tuple[str, Request, float]] = []
        self._echoes: collections.deque[tuple[str, Request, float]] = collections.deque(maxlen=50)

    def serve(self, topic: str, methods: Mapping[str, Handler]) -> None:
        known = self._servers.get(topic)
        if known is None:
            self._servers[topic] = Server(topic, methods)
        else:
            known.methods.update(methods)

    def leave(self, topic: str) -> None:
        """Nobody serves it any more; who comes next remembers no request."""
        self._servers.pop(topic, None)

    def close(self) -> None:
        self._servers.clear()

    def _call(self, topic: str, request: Request) -> Response:
        fate = self._fate
        with fate.asking():
            server = self._servers.get(topic)
            if server is None or fate.strikes("the bus is away", 0.03):
                raise BusUnavailable(f"nobody serves {topic}")
            sent = clock.monotonic()
            self._echoes.append((topic, request, sent))
            response = server.handle(_copy(request), sent)
            if fate.strikes("a message comes twice", 0.03):
                server.handle(_copy(request), sent)
            if fate.strikes("an answer of the bus is lost", 0.03):
                clock.sleep(request.remaining)
                raise BusTimeout(f"{topic} {request.method}: no answer")
        assert response is not None
        return _responses.decode(encoded(response))

    def _cast(self, topic: str, request: Request) -> None:
        if not self._fate.strikes("a nudge is lost", 0.1):
            self._waiting.append((topic, request, clock.monotonic()))

    _fanout = _cast

    def deliver(self) -> int:
        """Hand over what waits; how much it was."""
        waiting, self._waiting = self._waiting, []
        for topic, request, sent in waiting:
            server = self._servers.get(topic)
            if server is not None:
                server.handle(_copy(request), sent)
        return len(waiting)

    def echo(self, chance: random.Random) -> None:
        """An old request arrives once more, as a broker may deliver it when a connection broke."""
        if self._echoes:
            topic, request, sent = chance.choice(list(self._echoes))
            server = self._servers.get(topic)
            if server is not None:
                server.handle(_copy(request), sent)


def _copy(request: Request) -> Request:
    import msgspec

    return msgspec.msgpack.decode(msgspec.msgpack.encode(request), type=Request)
