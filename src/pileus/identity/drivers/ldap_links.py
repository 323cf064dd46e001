"""Connections to an LDAP server: opened with a deadline, kept in pools, and not tried again and again while nobody answers."""

from __future__ import annotations

import contextlib
import logging
import select
import ssl
import threading
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import ldap3
from ldap3.core.exceptions import LDAPException, LDAPInvalidServerError

from pileus.identity.errors import DirectoryUnavailable
from pileus.identity.wire import Ldap
from pileus.kernel import clock

_log = logging.getLogger(__name__)

_PAUSE = 5.0
"""Seconds for which nobody else waits for a directory that has not answered."""
_REFERENCES = {
    "never": ldap3.DEREF_NEVER,
    "default": ldap3.DEREF_NEVER,
    "searching": ldap3.DEREF_SEARCH,
    "finding": ldap3.DEREF_BASE,
    "always": ldap3.DEREF_ALWAYS,
}


class Circuit:
    """Of a directory that does not answer one caller at a time finds out, the others hear it at once."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._reason: str | None = None
        self._again = 0.0
        self._tried = False  # somebody is finding out

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        """Raises DirectoryUnavailable at once while somebody has just waited in vain, or still waits after that."""
        with self._lock:
            tries = self._reason is not None
            if tries and (self._tried or clock.monotonic() < self._again):
                raise DirectoryUnavailable(f"{self._name}, seconds ago: {self._reason}")
            self._tried |= tries
        try:
            yield
        except Broken as error:
            with self._lock:
                if self._reason is None:
                    _log.warning("the directory %s does not answer: %s", self._name, error.inside)
                self._reason, self._again = error.inside, clock.monotonic() + _PAUSE
            raise
        except Unsure:
            raise
        except BaseException:
            self._answered()  # whatever it said
            raise
        else:
            self._answered()
        finally:
            if tries:
                with self._lock:
                    self._tried = False

    def _answered(self) -> None:
        with self._lock:
            if self._reason is not None:
                _log.info("the directory %s answers again", self._name)
                self._reason = None


class Broken(DirectoryUnavailable):
    """The server itself cannot be reached or used."""


class Unsure(DirectoryUnavailable):
    """There is no answer, which says nothing of the server."""


class Pool:
    """At most `size` connections made by `make`, of which those that are at rest are used again for `lifetime` seconds."""

    def __init__(
        self, make: Callable[[], ldap3.Connection], circuit: Circuit, size: int, lifetime: float, wait: float
    ) -> None:
        self._make, self._circuit = make, circuit
        self._lifetime, self._wait = lifetime, wait
        self._slots = threading.BoundedSemaphore(size)
        self._lock = threading.Lock()
        self._idle: list[tuple[ldap3.Connection, float]] = []
        self._closed = False

    @contextlib.contextmanager
    def connection(self) -> Iterator[ldap3.Connection]:
        """A connection for one caller. Whatever the library or the socket raises inside becomes DirectoryUnavailable."""
        with self._circuit.attempt():
            if not self._slots.acquire(timeout=self._wait):
                raise Unsure("all connections of the pool are busy")
            try:
                yield from self._leased()
            finally:
                self._slots.release()

    def _leased(self) -> Iterator[ldap3.Connection]:
        found = self._at_rest()
        link, born = found or (self._make(), clock.monotonic())
        try:
            yield link
        except (LDAPException, OSError) as error:
            _drop(link)
            if found is not None:  # it may have died while it was at rest, which says nothing of the server
                self.clear()
                raise Unsure(f"a connection was lost: {error}") from error
            raise Broken(str(error)) from error
        except BaseException:
            _drop(link)
            raise
        with self._lock:
            keep = not self._closed and clock.monotonic() - born < self._lifetime
            if keep:
                self._idle.append((link, born))
        if not keep:
            _drop(link)

    def _at_rest(self) -> tuple[ldap3.Connection, float] | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                link, born = self._idle.pop()
            if clock.monotonic() - born < self._lifetime and _is_quiet(link):
                return link, born
            _drop(link)

    def clear(self) -> None:
        """Close what is at rest."""
        with self._lock:
            idle, self._idle = self._idle, []
        for link, _born in idle:
            _drop(link)

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self.clear()


class Opener:
    """Opens connections to the first server of the list that takes one."""

    def __init__(self, options: Ldap) -> None:
        self._options = options
        self._urls = [url.strip() for url in options.url.split(",")]

    def unbound(self) -> ldap3.Connection:
        """A connection on which users are bound."""
        return self._first(self._options.connection_timeout, bind=False)

    def bound(self) -> ldap3.Connection:
        """A connection as the account that searches, tried again as the options say, within the time of one attempt."""
        options = self._options
        began, tries = clock.monotonic(), 0
        while True:
            try:
                return self._first(options.pool_connection_timeout, bind=True)
            except Refused as error:
                raise Broken(error.reason) from error
            except Broken:
                tries += 1
                waited = clock.monotonic() - began
                if not options.use_pool or tries > options.pool_retry_max or waited >= options.pool_connection_timeout:
                    raise
                clock.sleep(options.pool_retry_delay)

    def _first(self, timeout: int, *, bind: bool) -> ldap3.Connection:
        reasons = []
        for place, url in enumerate(self._urls):
            try:
                link = self._open(url, timeout, bind=bind)
            except (LDAPException, OSError) as error:
                reasons.append(f"{url}: {error}")
                continue
            if place:  # the next one begins with the server that answers
                self._urls = [url, *(other for other in self._urls if other != url)]
            return link
        raise Broken("; ".join(reasons))

    def _open(self, url: str, timeout: int, *, bind: bool) -> ldap3.Connection:
        options, parts = self._options, urlsplit(url)
        host = parts.hostname or "localhost"
        secure = parts.scheme == "ldaps"
        if parts.scheme not in {"ldap", "ldaps"}:
            raise LDAPInvalidServerError("it is no LDAP URL")
        server = ldap3.Server(
            host,
            port=parts.port or (636 if secure else 389),
            use_ssl=secure,
            get_info=ldap3.NONE,
            tls=_tls(options, host) if secure or options.use_tls else None,
            connect_timeout=timeout,
        )
        link = ldap3.Connection(
            server,
            user=options.user if bind else None,
            password=options.password.encode() if bind and options.user and options.password else None,
            client_strategy=ldap3.SYNC,
            auto_referrals=False,
            auto_range=True,
            check_names=False,
            receive_timeout=timeout,
        )
        try:
            link.open(read_server_info=False)
            if options.use_tls:
                link.start_tls(read_server_info=False)
            taken = not bind or link.bind(read_server_info=False)
        except BaseException:
            _drop(link)
            raise
        if not taken:
            said = link.result.get("description")
            _drop(link)
            raise Refused(f"{options.user or 'an anonymous caller'} is refused: {said}")
        return link


class Refused(Exception):
    """The server answers and does not take the account that searches: no use to try again at once."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _tls(options: Ldap, host: str) -> ldap3.Tls:
    checked = options.tls_req_cert == "demand"
    return ldap3.Tls(
        validate=ssl.CERT_REQUIRED if checked else ssl.CERT_NONE,
        ca_certs_file=options.tls_cacertfile,
        ca_certs_path=options.tls_cacertdir if not options.tls_cacertfile else None,
        sni=host,
    )


def references(options: Ldap) -> str:
    """How aliases are treated, in the library's words."""
    found: str = _REFERENCES[options.alias_dereferencing]
    return found


def _is_quiet(link: ldap3.Connection) -> bool:
    """Whether nothing came while it was at rest: whatever comes unasked is the end of it."""
    if link.closed or link.socket is None:
        return False
    try:
        return not select.select([link.socket], [], [], 0)[0]
    except (OSError, ValueError):
        return False


def _drop(link: ldap3.Connection) -> None:
    with contextlib.suppress(LDAPException, OSError):
        link.unbind()
    if not link.closed:
        with contextlib.suppress(LDAPException, OSError):
            link.strategy.close()
