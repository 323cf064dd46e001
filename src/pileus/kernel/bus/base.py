"""What a bus offers, whatever carries it.

A request has an id, its sender, a version of the message format and the seconds it has left: a late one is dropped, a
repeated one is answered once. `call` waits for an answer, `cast` reaches one server at most once, `fanout` all of them.
A cast or fanout is a nudge: never the only carrier of a fact.
"""

from __future__ import annotations

import abc
import collections
import dataclasses
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from pileus.kernel import clock, ids, metrics
from pileus.kernel.bus.sender import Members, check, everyone
from pileus.kernel.errors import Failure, Forbidden
from pileus.kernel.waiting import forbid_in_transaction, forbid_while_serving, serving

_log = logging.getLogger(__name__)

Payload = Mapping[str, Any]
Handler = Callable[[dict[str, Any]], Any]
MESSAGE_VERSION = 1


class BusUnavailable(Exception):
    """Nobody serves the topic now; trying again may help."""


class BusTimeout(Exception):
    """No answer in time; the request may or may not have been done."""


class RemoteError(Exception):
    """The server refused or failed: `kind` is the name of its error class."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class Request(msgspec.Struct, frozen=True, array_like=True):
    """One request on the wire."""

    id: str
    sender: str
    version: int
    kind: str  # call, cast
    method: str
    remaining: float  # seconds
    payload: dict[str, Any]


class Response(msgspec.Struct, frozen=True, array_like=True):
    """Its answer: a result, or the kind and the message of an error."""

    id: str
    result: Any = None
    error: tuple[str, str] | None = None


_encoder = msgspec.msgpack.Encoder()


def encoded(response: Response) -> bytes:
    """An answer on the wire; when its result cannot be sent the caller has to hear that."""
    try:
        return _encoder.encode(response)
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
        return _encoder.encode(Response(response.id, error=("NotSendable", f"the result cannot be sent: {error}")))


class Server:
    """The methods of one topic in one process: drops what is late, answers a repeated request from memory, and refuses
    what its sender may not ask for.
    """

    def __init__(
        self, topic: str, methods: Mapping[str, Handler], remember: int = 1024, members: Members = everyone
    ) -> None:
        self.topic = topic
        self.methods = dict(methods)
        self._members = members
        self._remember = remember
        self._answers: collections.OrderedDict[str, Response] = collections.OrderedDict()
        self._working: set[str] = set()
        self._changed = threading.Condition()

    def handle(self, request: Request, sent: float, user: str | None = None) -> Response | None:
        """Do what is asked and give the answer; None for a cast or a late request.

        `sent` is when the time began to run, `user` whom the carrier has authenticated (see `sender`).
        """
        if clock.monotonic() - sent > request.remaining:
            return None
        try:
            check(user, self.topic, request.payload, self._members)
        except Forbidden as refusal:
            _log.warning("%s of %s is refused: %s", request.method, self.topic, refusal.message)
            return None if request.kind == "cast" else Response(request.id, error=("Forbidden", refusal.message))
        if request.kind == "cast":
            self._perform(request)
            return None
        with self._changed:
            self._changed.wait_for(lambda: request.id not in self._working, timeout=request.remaining)
            if request.id in self._working or request.id in self._answers:
                return self._answers.get(request.id)
            self._working.add(request.id)
        response = self._perform(request)
        with self._changed:
            self._working.discard(request.id)
            self._answers[request.id] = response
            while len(self._answers) > self._remember:
                self._answers.popitem(last=False)
            self._changed.notify_all()
        return response

    def knows(self, request_id: str) -> bool:
        """Whether this process does or has done a call."""
        with self._changed:
            return request_id in self._working or request_id in self._answers

    def _perform(self, request: Request) -> Response:
        handler = self.methods.get(request.method)
        if handler is None:
            return Response(request.id, error=("UnknownMethod", f"{self.topic} has no method {request.method}"))
        try:
            with serving(request.method):
                return Response(request.id, result=handler(request.payload))
        except Failure as failure:
            return Response(request.id, error=(type(failure).__name__, failure.message))
        except Exception as error:
            _log.exception("bus method %s failed", request.method)
            kind = getattr(error, "kind", type(error).__name__)
            return Response(request.id, error=(str(kind), str(error)))


@dataclasses.dataclass
class _Envelope:
    """oslo.messaging's notification envelope, so that outside consumers can read ours."""

    publisher_id: str
    event_type: str
    payload: Payload

    def wire(self) -> dict[str, Any]:
        message = {
            "message_id": ids.new_uuid(),
            "publisher_id": self.publisher_id,
            "event_type": self.event_type,
            "priority": "INFO",
            "payload": dict(self.payload),
            "timestamp": str(clock.utcnow()),
        }
        return {"oslo.version": "2.0", "oslo.message": msgspec.json.encode(message).decode()}


class Bus(abc.ABC):
    """The four verbs. `node` is this process's name toward others; `members`, set before `serve`, knows the cloud's nodes."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.members: Members = everyone

    def call(self, topic: str, method: str, payload: Payload | None = None, timeout: float = 10.0) -> Any:
        """Ask one server of the topic and wait for its answer.

        Raises BusUnavailable, BusTimeout, RemoteError; ProgrammingError inside a transaction or while serving a call.
        """
        forbid_in_transaction(f"bus call {method}")
        forbid_while_serving(f"bus call {method}")
        request = Request(ids.new_id(), self.node, MESSAGE_VERSION, "call", method, timeout, dict(payload or {}))
        began = clock.monotonic()
        result = "answered"
        try:
            response = self._call(topic, request)
            if response.error is not None:
                result = "refused"
                raise RemoteError(*response.error)
        except BusTimeout:
            result = "timeout"
            raise
        except BusUnavailable:
            result = "unavailable"
            raise
        finally:
            metrics.bus_call(method, result, clock.monotonic() - began)
        return response.result

    def cast(self, topic: str, method: str, payload: Payload | None = None) -> None:
        """Tell one server of the topic, if there is one. Never raises for want of one."""
        forbid_in_transaction(f"bus cast {method}")
        request = Request(ids.new_id(), self.node, MESSAGE_VERSION, "cast", method, 30.0, dict(payload or {}))
        self._cast(topic, request)

    def fanout(self, topic: str, method: str, payload: Payload | None = None) -> None:
        """Tell every server of the topic."""
        forbid_in_transaction(f"bus fanout {method}")
        request = Request(ids.new_id(), self.node, MESSAGE_VERSION, "cast", method, 30.0, dict(payload or {}))
        self._fanout(topic, request)

    def notify(self, event_type: str, payload: Payload) -> None:
        """Publish a notification for outside consumers."""
        self.fanout("notifications", "notify", _Envelope(self.node, event_type, payload).wire())

    @abc.abstractmethod
    def serve(self, topic: str, methods: Mapping[str, Handler]) -> None:
        """Answer requests of a topic in this process, until `close`. Methods of one topic may be given in parts."""

    @abc.abstractmethod
    def close(self) -> None: ...

    @abc.abstractmethod
    def _call(self, topic: str, request: Request) -> Response: ...

    @abc.abstractmethod
    def _cast(self, topic: str, request: Request) -> None: ...

    @abc.abstractmethod
    def _fanout(self, topic: str, request: Request) -> None: ...
