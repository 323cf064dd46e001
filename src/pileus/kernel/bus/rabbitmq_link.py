"""One connection to RabbitMQ, from its opening to its loss. Used by one thread alone: py-amqp is not safe for more.

Names in the broker, all below "pileus.": a durable queue for each topic, and the direct exchange `pileus.fanout` with the
topic as routing key, to which each server binds a queue of its own that goes with its connection; for the topics of hosts
it is `pileus.agents`, so that a host may hear those and no other. Answers come over direct reply-to, which needs no queue
at all. Every message carries the user of its connection, which the broker checks.
"""

from __future__ import annotations

import contextlib
import logging
import pathlib
import select
import socket
import ssl
import urllib.parse
from collections.abc import Callable
from typing import Any

import amqp
from amqp.exceptions import AMQPError, NotFound, PreconditionFailed
from kombu.connection import Connection

from pileus.kernel import clock
from pileus.kernel.bus.sender import AGENTS, is_node
from pileus.kernel.certificates import common_name
from pileus.kernel.config import BusOptions

_log = logging.getLogger(__name__)
LOST = (AMQPError, OSError)  # what a connection that is no more raises
_FANOUT, _FANOUT_TO_AGENTS = "pileus.fanout", "pileus.agents"
_REPLIES = "amq.rabbitmq.reply-to"
_AGAIN = "pileus-again"
_IDLE_QUEUE = 24 * 3600 * 1000  # milliseconds after which the queue of a topic that nobody serves goes
_STALL = 1.5  # seconds; who did not look for longer than that does not know how old what he reads is
_CONNECT, _READ_WRITE, _HEARTBEAT = 3.0, 10.0, 10.0

Delivered = Callable[["Link", str, Any, float], None]  # link, topic ("" for an answer), message, when it came
Returned = Callable[[str], None]  # correlation id of a request that no queue took
Confirmed = Callable[[Any, bool], None]  # what was given to publish, and whether the broker has it


def queue_of(topic: str) -> str:
    return f"pileus.{topic}"


def fanout_of(topic: str) -> str:
    return _FANOUT_TO_AGENTS if topic.startswith(AGENTS) else _FANOUT


def sender_of(message: Any) -> str:
    """The user that the broker has authenticated; "" for a message without one."""
    return str(message.properties.get("user_id") or "")


def user_of(url: str, options: BusOptions) -> str:
    """Who the broker takes us for: the user of the URL, or the common name of our certificate."""
    parts = urllib.parse.urlsplit(url)
    if by_certificate(url, options):
        return common_name(pathlib.Path(options.certificate).read_bytes())
    return urllib.parse.unquote(parts.username or "guest")


def by_certificate(url: str, options: BusOptions) -> bool:
    """A certificate stands for its owner where the URL names no user."""
    parts = urllib.parse.urlsplit(url)
    return parts.scheme == "amqps" and bool(options.certificate) and "@" not in parts.netloc


def without_password(url: str) -> str:
    """The broker's host and port, for messages."""
    return urllib.parse.urlsplit(url).netloc.rpartition("@")[2]


def _tls(url: str, options: BusOptions) -> dict[str, Any] | bool:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "amqps":
        return False
    settings: dict[str, Any] = {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": parts.hostname}
    if options.ca:
        settings["ca_certs"] = options.ca
    if options.certificate:
        settings |= {"certfile": options.certificate, "keyfile": options.key}
    return settings


def is_repeated(message: Any) -> bool:
    """Whether another process may have done, or may be doing, what a message asks for."""
    headers = message.properties.get("application_headers") or {}
    return bool(message.delivery_info.get("redelivered") or headers.get(_AGAIN))


def why_not(url: str, options: BusOptions) -> str:
    """Why a broker cannot be used now, "" when it can: one connection is made for it, and closed."""

    def nothing(*_: Any) -> None:
        """Nothing is served or asked over this connection."""

    try:
        Link(url, options, nothing, nothing, nothing).drop()
    except LOST as error:
        return str(error) or type(error).__name__
    return ""


class Link:
    """Raises one of LOST from any method once the connection is gone."""

    def __init__(
        self, url: str, options: BusOptions, delivered: Delivered, returned: Returned, confirmed: Confirmed
    ) -> None:
        self._options = options
        self._delivered, self._returned, self._confirmed = delivered, returned, confirmed
        self.unconfirmed: dict[int, Any] = {}  # by delivery tag, in order
        self._published = 0
        self._serving: set[str] = set()
        self._consumers: list[str] = []
        self._unread = False
        self._user = user_of(url, options)
        self._kombu = Connection(  # type: ignore[no-untyped-call]
            url,
            ssl=_tls(url, options),
            connect_timeout=_CONNECT,
            heartbeat=_HEARTBEAT,
            login_method="EXTERNAL" if by_certificate(url, options) else "PLAIN",
            transport_options={"read_timeout": _READ_WRITE, "write_timeout": _READ_WRITE},
        )
        self._connection = self._kombu.transport.establish_connection()
        try:
            self._open()
        except BaseException:
            self.drop()
            raise

    def _open(self) -> None:
        self._talk = self._connection.channel()  # requests, answers
        self._talk.confirm_select()
        self._talk.events["basic_ack"].add(lambda tag, multiple: self._on_confirm(tag, multiple, True))
        self._talk.events["basic_nack"].add(lambda tag, multiple: self._on_confirm(tag, multiple, False))
        self._talk.events["basic_return"].add(self._on_return)
        self._talk.basic_consume(_REPLIES, no_ack=True, callback=lambda message: self._on_message("", message))
        if not is_node(self._user):  # a node may not, and has nobody to talk to before a controller did
            for exchange in (_FANOUT, _FANOUT_TO_AGENTS):
                self._talk.exchange_declare(exchange, "direct", durable=True, auto_delete=False)
        self._work = self._connection.channel()  # what this process serves
        self._work.basic_qos(0, self._options.prefetch, False)
        self._ask = self._connection.channel()  # questions whose answer may close the channel
        self._poll = select.poll()
        self._poll.register(self._connection.sock, select.POLLIN)
        self._looked = clock.monotonic()

    def close(self) -> None:
        """Say goodbye to the broker."""
        with contextlib.suppress(*LOST):
            self._connection.close()
        self.drop()

    def drop(self) -> None:
        """Free the socket; never waits for the broker."""
        with contextlib.suppress(*LOST):
            self._connection.collect()

    # --- both sides ---

    def watch(self, wake: socket.socket) -> None:
        """Let `wait` end when there is something to read here too."""
        self._poll.register(wake, select.POLLIN)

    def wait(self, seconds: float) -> None:
        """Wait until something comes, at most so long, and pass on what has come."""
        self._poll.poll(0 if self._unread else int(seconds * 1000))
        self._unread = True
        for _ in range(200):
            try:
                self._connection.drain_events(timeout=0)
            except TimeoutError:
                self._unread = False
                break
        self._looked = clock.monotonic()
        self._connection.heartbeat_tick(rate=2)

    def _on_message(self, topic: str, message: Any) -> None:
        now = clock.monotonic()
        # After a stop (SIGSTOP, a suspended machine) what lies in the socket may have come at any moment since.
        arrived = now if now - self._looked < _STALL else self._looked
        self._delivered(self, topic, message, arrived)

    def publish(
        self,
        token: Any,
        topic: str,
        body: bytes,
        seconds: float,
        correlation: str = "",
        *,
        fanout: bool = False,
        again: bool = False,
    ) -> None:
        """Send a request; with a correlation it wants an answer. `token` comes back in `confirmed`."""
        properties: dict[str, Any] = {"delivery_mode": 2, "expiration": str(max(1, int(seconds * 1000)))}
        properties["user_id"] = self._user
        if correlation:
            properties |= {"reply_to": _REPLIES, "correlation_id": correlation}
        if again:
            properties["application_headers"] = {_AGAIN: True}
        message = amqp.Message(body, content_type="application/msgpack", **properties)
        self._published += 1
        self.unconfirmed[self._published] = token
        exchange, key = (fanout_of(topic), topic) if fanout else ("", queue_of(topic))
        self._talk.basic_publish(message, exchange, key, mandatory=bool(correlation))

    def _on_confirm(self, tag: int, multiple: bool, taken: bool) -> None:
        tags = [known for known in self.unconfirmed if known <= tag] if multiple else [tag]
        for known in tags:
            token = self.unconfirmed.pop(known, None)
            if token is not None:
                self._confirmed(token, taken)

    def _on_return(self, _error: Exception, _exchange: str, _key: str, message: Any) -> None:
        self._returned(message.properties.get("correlation_id", ""))

    def served(self, topic: str) -> bool:
        """Whether somebody serves the topic now."""
        try:
            found = self._ask.queue_declare(queue_of(topic), passive=True)
        except NotFound:
            self._ask = self._connection.channel()
            return False
        return bool(found.consumer_count)

    # --- the serving side ---

    def serve(self, topic: str) -> None:
        """Take requests of a topic, and its fanouts; once, however often it is asked for."""
        if topic in self._serving:
            return
        self._serving.add(topic)
        queue = queue_of(topic)
        kind = "quorum" if self._options.quorum else "classic"
        try:
            self._ask.queue_declare(
                queue,
                durable=True,
                auto_delete=False,
                arguments={"x-queue-type": kind, "x-expires": _IDLE_QUEUE},
            )
        except PreconditionFailed as error:
            self._ask = self._connection.channel()
            _log.error(
                "the queue %s is there with other properties and is used as it is; delete it in the broker"
                " to have it as the options say: %s",
                queue,
                error,
            )
        own, _, _ = self._work.queue_declare("", exclusive=True, durable=False, auto_delete=True)
        self._work.queue_bind(own, fanout_of(topic), topic)
        for name, certain in ((queue, True), (own, False)):
            tag = self._work.basic_consume(
                name, no_ack=not certain, callback=lambda message: self._on_message(topic, message)
            )
            self._consumers.append(getattr(tag, "consumer_tag", tag))

    def stop_serving(self) -> None:
        """Take no more; what was taken may still be answered."""
        while self._consumers:
            self._work.basic_cancel(self._consumers.pop())

    def acknowledge(self, message: Any) -> None:
        """Take a request off its queue; one of a fanout is on none any more."""
        if not message.delivery_info["exchange"]:
            self._work.basic_ack(message.delivery_info["delivery_tag"])

    def answer(self, message: Any, body: bytes | None) -> None:
        """Send the answer, and only then take the request off its queue."""
        reply_to = message.properties.get("reply_to")
        if body is not None and reply_to:
            correlation = message.properties.get("correlation_id", "")
            self._published += 1
            properties = {"delivery_mode": 1, "correlation_id": correlation, "user_id": self._user}
            reply = amqp.Message(body, content_type="application/msgpack", **properties)
            self._talk.basic_publish(reply, "", reply_to)
        self.acknowledge(message)
