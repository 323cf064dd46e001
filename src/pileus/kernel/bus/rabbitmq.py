"""The bus between machines: RabbitMQ, over kombu and py-amqp (the extra `rabbitmq`).

One thread of each process owns its connection and does all that is said to the broker; callers hand it errands and wait.
It starts with the first use, so that a bus may be made before a fork.

Promises, beyond those of every bus:
- A call is done at most once. Its answer lets it leave its queue, so one whose server died comes to another one, which does
  not do it but says so: the caller gets BusUnavailable. The request of a caller that lost its connection is sent again under
  its id, and answered from memory by the server that did it; another one says the same as above.
- While the broker is away calls fail with BusUnavailable at once; one that was under way then waits a few seconds for it.
- Casts and fanouts are kept in this process while the broker is away, for the seconds they have left and a thousand at
  most; then they are dropped with a line in the log. Once the broker has confirmed a cast it is on disk, survives the
  broker's restart and waits for a server until its seconds are over. A fanout reaches who is connected when it passes.
- Every message names its user, and the broker refuses a name that is not the connection's: `sender` says what follows.
- One whose confirmation was lost is sent again, and a server that knows its id ignores it. Only where several servers share
  a topic may such a cast reach two of them.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import logging
import queue
import random
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from pileus.kernel import clock
from pileus.kernel.bus.base import Bus, BusTimeout, BusUnavailable, Handler, Request, Response, Server, encoded
from pileus.kernel.bus.rabbitmq_link import LOST, Link, is_repeated, sender_of, without_password
from pileus.kernel.bus.sender import may_answer
from pileus.kernel.config import BusOptions

_log = logging.getLogger(__name__)
_encoder = msgspec.msgpack.Encoder()
_requests = msgspec.msgpack.Decoder(Request)
_responses = msgspec.msgpack.Decoder(Response)
_INTERRUPTED = "Interrupted"
_KEPT = 1000  # casts kept while the broker is away
_GRACE = 5.0  # seconds that calls under way wait for a lost broker, and then for its servers
_FRESH = 1.0  # seconds for which a topic that has answered is known to be served
_LOOK = 0.5  # seconds without an answer after which a caller looks whether anybody is there
_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.0)  # seconds between attempts to connect
_CLOSING = 2.0  # seconds in which what is under way may still end
_NEVER = float("inf")


@dataclasses.dataclass(eq=False)
class Errand:
    """A request on its way: a call until its answer is here, another one until the broker has confirmed it."""

    topic: str
    request: Request
    deadline: float
    fanout: bool = False
    correlation: str = ""  # of a call
    look_at: float = 0.0  # when to see whether the topic is still served
    result: Response | Exception | None = None
    done: threading.Event = dataclasses.field(default_factory=threading.Event)

    @property
    def is_call(self) -> bool:
        return self.request.kind == "call"

    def finish(self, result: Response | Exception | None = None) -> None:
        self.result = result
        self.done.set()


def _bytes(message: Any) -> bytes:
    """What came, as it came: an empty or encoded body of a stranger is text to py-amqp, and no message of ours."""
    return message.body if isinstance(message.body, bytes) else b""


class _Seen:
    """The ids of the newest casts of a topic."""

    def __init__(self, remember: int = 1024) -> None:
        self._ids: collections.OrderedDict[str, None] = collections.OrderedDict()
        self._remember = remember

    def first_time(self, request_id: str) -> bool:
        if request_id in self._ids:
            return False
        self._ids[request_id] = None
        if len(self._ids) > self._remember:
            self._ids.popitem(last=False)
        return True


class RabbitBus(Bus):
    """A bus over one connection to one of the brokers that the options name."""

    def __init__(self, node: str, options: BusOptions) -> None:
        super().__init__(node)
        self._options = options
        self._lock = threading.Condition()
        self._state = "trying"  # up; trying: the first attempt is under way; away: it failed
        self._why = "there has been no connection yet"
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._servers: dict[str, Server] = {}
        self._seen: dict[str, _Seen] = {}
        self._outbox: collections.deque[Errand] = collections.deque()
        self._calls: dict[str, Errand] = {}
        self._tasks: collections.deque[Callable[[Link], None]] = collections.deque()
        self._alive: dict[str, float] = {}
        self._working = 0
        self._numbers = itertools.count(1)
        self._casts: queue.SimpleQueue[tuple[Server, Request, float, str] | None] = queue.SimpleQueue()
        self._unsettled = 0  # casts and fanouts that the broker has not confirmed
        self._refused: list[Errand] = []  # casts that it did not take, until there is another connection
        self._renew_at = _NEVER  # when to make one
        self._refusals = 0  # since it last took something

    # --- in the callers' threads ---

    def serve(self, topic: str, methods: Mapping[str, Handler]) -> None:
        with self._lock:
            known = self._servers.get(topic)
            if known is not None:
                known.methods.update(methods)
                return
            if not self._servers:
                threading.Thread(target=self._deliver_casts, name="bus casts", daemon=True).start()
            self._servers[topic] = Server(topic, methods, members=self.members)
            self._seen[topic] = _Seen()
        began = threading.Event()

        def begin(link: Link) -> None:
            link.serve(topic)
            began.set()

        self._start()
        if not self._reachable(_GRACE):
            _log.warning("the topic %s is served as soon as RabbitMQ is back: %s", topic, self._why)
            return  # whoever connects serves all topics
        self._tasks.append(begin)
        self._notice()
        began.wait(_GRACE)

    def close(self) -> None:
        with self._lock:
            started = self._thread
        if started is not None and self._state == "up" and not self._closed.is_set():
            self._tasks.append(lambda link: link.stop_serving())
            self._notice()
            with self._lock:
                self._lock.wait_for(self._settled, timeout=_CLOSING)
        self._closed.set()
        self._notice()
        self._casts.put(None)
        if started is not None:
            started.join(_CLOSING)
        for errand in list(self._calls.values()):
            errand.finish(BusUnavailable("the bus of this process is closed"))

    def settle(self, seconds: float) -> bool:
        """Wait until the broker has confirmed all casts of this process; whether that came about."""
        with self._lock:
            return self._lock.wait_for(lambda: not self._unsettled, timeout=seconds)

    def _settled(self) -> bool:
        return self._state != "up" or not (self._working or self._tasks or self._outbox or self._unsettled)

    def _call(self, topic: str, request: Request) -> Response:
        deadline = clock.monotonic() + request.remaining
        self._start()
        if not self._reachable(request.remaining):
            raise BusUnavailable(f"RabbitMQ is not there: {self._why}")
        errand = Errand(topic, request, deadline, correlation=f"{request.id}.{next(self._numbers)}")
        self._outbox.append(errand)
        self._notice()
        if not errand.done.wait(max(0.0, deadline - clock.monotonic())):
            self._calls.pop(errand.correlation, None)
            errand.finish()
            raise BusTimeout(f"{topic} {request.method}: no answer in {request.remaining:g} s")
        if isinstance(errand.result, Response):
            if errand.result.error is not None and errand.result.error[0] == _INTERRUPTED:
                raise BusUnavailable(errand.result.error[1])
            return errand.result
        raise errand.result or BusUnavailable("the request was given up")

    def _cast(self, topic: str, request: Request) -> None:
        self._send_later(Errand(topic, request, clock.monotonic() + request.remaining))

    def _fanout(self, topic: str, request: Request) -> None:
        self._send_later(Errand(topic, request, clock.monotonic() + request.remaining, fanout=True))

    def _send_later(self, errand: Errand) -> None:
        if self._closed.is_set():
            return
        # Encoded now as well, so that what cannot be sent is the sender's error, and later changes are not sent.
        errand.request = _requests.decode(_encoder.encode(errand.request))
        self._start()
        with self._lock:
            dropped = self._outbox.popleft() if len(self._outbox) >= _KEPT and self._state != "up" else None
            self._outbox.append(errand)
            self._unsettled += 1
        if dropped is not None:
            self._give_up(dropped, f"more than {_KEPT} requests wait for RabbitMQ")
        self._notice()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._closed.is_set():
                self._woken, self._wake = socket.socketpair()
                for end in (self._woken, self._wake):
                    end.setblocking(False)
                self._thread = threading.Thread(target=self._run, name="bus", daemon=True)
                self._thread.start()

    def _reachable(self, seconds: float) -> bool:
        """Whether the broker is there; waits only for an attempt that is under way."""
        with self._lock:
            self._lock.wait_for(lambda: self._state != "trying" or self._closed.is_set(), timeout=seconds)
            return self._state == "up" and not self._closed.is_set()

    def _notice(self) -> None:
        try:
            self._wake.send(b"x")
        except (OSError, AttributeError):
            pass  # full: it is awake; closed or not there: there is nobody

    # --- in the thread of the connection ---

    def _run(self) -> None:
        failed = 0
        lost_at = clock.monotonic()
        urls = self._options.url.split(";")
        chosen = itertools.cycle(random.SystemRandom().sample(urls, len(urls)))  # processes spread over the brokers
        while not self._closed.is_set():
            url = next(chosen)
            try:
                link = Link(url, self._options, self._delivered, self._returned, self._confirmed)
            except Exception as error:  # a wrong URL or certificate too: who corrects it starts the process again
                self._set_state("away", f"{without_password(url)}: {error or type(error).__name__}")
                if failed == 0:
                    _log.warning("no connection to RabbitMQ: %s", self._why)
                self._purge(lost_at + _GRACE)
                self._closed.wait(_PAUSES[min(failed, len(_PAUSES) - 1)])
                failed += 1
                continue
            failed = 0
            try:
                self._work(link)
                link.close()
            except LOST as error:
                link.drop()
                lost_at = clock.monotonic()
                self._lose(link, f"{without_password(url)}: {error or type(error).__name__}")
            except Exception:
                # What is wrong with one message must not end the bus of this process.
                _log.exception("the bus connects again")
                link.drop()
                lost_at = clock.monotonic()
                self._lose(link, "an error in the bus, see the log")
        self._set_state("away", "the bus of this process is closed")
        self._woken.close()

    def _set_state(self, state: str, why: str = "") -> None:
        with self._lock:
            self._state, self._why = state, why
            self._lock.notify_all()

    def _lose(self, link: Link, why: str) -> None:
        """Keep what the broker has not confirmed."""
        if not self._closed.is_set():
            _log.warning("the connection to RabbitMQ is lost: %s", why)
        again = [*self._refused, *(errand for errand in link.unconfirmed.values() if not errand.is_call)]
        self._refused, self._renew_at = [], _NEVER
        with self._lock:
            self._outbox.extendleft(reversed(again))
            self._tasks.clear()  # answers and acknowledgements of that connection
        self._set_state("trying", why)

    def _work(self, link: Link) -> None:
        """Everything, while the connection lasts."""
        link.watch(self._woken)
        for topic in list(self._servers):
            link.serve(topic)
        _log.info("connected to RabbitMQ")
        now = clock.monotonic()
        for errand in list(self._calls.values()):  # under way when the last connection was lost
            errand.look_at = now + _GRACE
            self._publish(link, errand, again=True)
        self._set_state("up")
        while not self._closed.is_set():
            while self._tasks:
                self._tasks.popleft()(link)
            while self._outbox:
                self._send(link, self._outbox.popleft())
            self._look(link)
            if clock.monotonic() >= self._renew_at:
                raise ConnectionError("a message was not taken")
            with self._lock:
                self._lock.notify_all()
            link.wait(_LOOK / 2 if self._calls or self._renew_at < _NEVER else 1.0)
            self._swallow()

    def _swallow(self) -> None:
        try:
            while len(self._woken.recv(4096)) == 4096:
                pass
        except BlockingIOError:
            pass

    def _send(self, link: Link, errand: Errand) -> None:
        now = clock.monotonic()
        if now >= errand.deadline:
            self._give_up(errand, "its time was over before RabbitMQ was there")
            return
        if errand.is_call:
            if errand.done.is_set():
                return
            self._calls[errand.correlation] = errand
            errand.look_at = now + _LOOK
            if now - self._alive.get(errand.topic, -_FRESH) >= _FRESH and not link.served(errand.topic):
                self._fail(errand)
                return
        self._publish(link, errand)

    def _publish(self, link: Link, errand: Errand, *, again: bool = False) -> None:
        seconds = errand.deadline - clock.monotonic()
        if seconds <= 0:
            self._give_up(errand, "its time is over")
            return
        request = msgspec.structs.replace(errand.request, remaining=seconds)
        body = _encoder.encode(request)
        link.publish(errand, errand.topic, body, seconds, errand.correlation, fanout=errand.fanout, again=again)

    def _look(self, link: Link) -> None:
        """Calls that have waited for a while: is anybody there to answer?"""
        now = clock.monotonic()
        late = [errand for errand in list(self._calls.values()) if now >= errand.look_at]
        for topic in {errand.topic for errand in late}:
            served = link.served(topic)
            for errand in late:
                if errand.topic == topic and served:
                    errand.look_at = now + 2 * _LOOK
                elif errand.topic == topic:
                    self._fail(errand)

    def _fail(self, errand: Errand) -> None:
        self._calls.pop(errand.correlation, None)
        self._alive.pop(errand.topic, None)
        errand.finish(BusUnavailable(f"nobody serves {errand.topic}"))

    def _give_up(self, errand: Errand, why: str) -> None:
        if errand.is_call:
            errand.finish(BusUnavailable(why))
        else:
            _log.warning("%s to %s is dropped: %s", errand.request.method, errand.topic, why)
            self._settle_one(errand)

    def _settle_one(self, errand: Errand) -> None:
        errand.finish()
        with self._lock:
            self._unsettled -= 1
            self._lock.notify_all()

    def _purge(self, calls_until: float) -> None:
        """While the broker is away: let go what has no time left."""
        now = clock.monotonic()
        kept: list[Errand] = []
        while self._outbox:
            errand = self._outbox.popleft()
            if errand.is_call and now < calls_until and now < errand.deadline:
                kept.append(errand)
            elif errand.is_call or now >= errand.deadline:
                self._give_up(errand, f"RabbitMQ is not there: {self._why}")
            else:
                kept.append(errand)
        with self._lock:
            self._outbox.extendleft(reversed(kept))
        if now >= calls_until:
            for errand in list(self._calls.values()):
                self._calls.pop(errand.correlation, None)
                errand.finish(BusUnavailable(f"RabbitMQ went away during the call: {self._why}"))

    def _returned(self, correlation: str) -> None:
        errand = self._calls.get(correlation)
        if errand is not None:
            self._fail(errand)

    def _confirmed(self, errand: Errand, taken: bool) -> None:
        """A queue whose leader has died takes nothing, and may go on to over a connection that asked it before there was another."""
        if taken:
            self._refusals = 0
        elif self._renew_at == _NEVER:
            self._renew_at = clock.monotonic() + _PAUSES[min(self._refusals, len(_PAUSES) - 1)]
            self._refusals += 1
        if errand.is_call and not taken:
            self._fail(errand)
        elif taken and not errand.is_call:
            self._settle_one(errand)
        elif not taken:
            self._refused.append(errand)

    def _delivered(self, link: Link, topic: str, message: Any, arrived: float) -> None:
        try:
            if not topic:
                self._answered(message)
                return
            request = _requests.decode(_bytes(message))
        except msgspec.MsgspecError:
            _log.warning("the bus got what is no request or answer, and drops it")
            if topic:
                link.acknowledge(message)
            return
        server = self._servers[topic]
        if request.kind == "cast":
            link.acknowledge(message)  # before it is done: at most once
            if self._seen[topic].first_time(request.id):
                self._casts.put((server, request, arrived, sender_of(message)))
            return
        with self._lock:
            self._working += 1
        argument = (link, server, request, message, arrived)
        threading.Thread(target=self._perform, args=argument, name="bus call", daemon=True).start()

    def _answered(self, message: Any) -> None:
        correlation = message.properties.get("correlation_id", "")
        errand = self._calls.get(correlation)
        response = _responses.decode(_bytes(message))
        if errand is not None and not may_answer(sender_of(message), errand.topic):
            _log.warning("an answer of %r in the name of %s is dropped", sender_of(message), errand.topic)
        elif errand is not None:
            self._calls.pop(correlation, None)
            self._alive[errand.topic] = clock.monotonic()
            errand.finish(response)

    # --- in threads of their own ---

    def _perform(self, link: Link, server: Server, request: Request, message: Any, arrived: float) -> None:
        body: bytes | None = None
        try:
            if is_repeated(message) and not server.knows(request.id):
                sentence = f"{server.topic} {request.method}: its server went away; it may or may not be done"
                body = encoded(Response(request.id, error=(_INTERRUPTED, sentence)))
            else:
                response = server.handle(request, arrived, sender_of(message))
                body = encoded(response) if response is not None else None
        finally:
            self._tasks.append(lambda now: now.answer(message, body) if now is link else None)
            with self._lock:
                self._working -= 1
            self._notice()

    def _deliver_casts(self) -> None:
        while (item := self._casts.get()) is not None:
            server, request, arrived, user = item
            server.handle(request, arrived, user)
