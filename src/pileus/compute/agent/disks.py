"""Disks of a server on their way from its host to the next, over HTTPS between the two.

The source listens on its own address from the first offer to the last, with a certificate made for that; the controller carries its fingerprint and the
flow's token to the destination, which talks to nobody else. So no host has keys to another, and nothing listens while nothing moves.
Holes are not sent: a disk is a row of pieces, each with its place, and a last one without bytes at the disk's size.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import http.client
import http.server
import logging
import pathlib
import socket
import ssl
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pileus.compute.agent import tunnel
from pileus.compute.agent.jobs import Job
from pileus.compute.drivers.base import ComputeDriver, DriverFailed, Gangway
from pileus.compute.wire import ServerDoc
from pileus.kernel import clock

_log = logging.getLogger(__name__)

_PIECE = 1 << 20
_HEAD = struct.Struct("!QI")
_SECONDS = 60.0
_WAITS = (0.5, 2.0, 5.0)
"""Between tries while the source does not answer."""


class Carrier(Protocol):
    """How disks get from host to host."""

    def offer(self, server_id: str, token: str) -> dict[str, Any]:
        """Give the server's disks to who knows the token; what that host has to be told."""
        ...

    def withdraw(self, server_id: str) -> None:
        """Give them to nobody any more."""
        ...

    def fetch(self, job: Job, doc: ServerDoc, offer: Mapping[str, Any]) -> None:
        """Fetch the disks that another host offers. Slow; raises `DriverFailed`."""
        ...

    def ends(self, gangway: Gangway, server_id: str, offer: Mapping[str, Any]) -> AbstractContextManager[pathlib.Path]:
        """Local sockets by the gangway's names that lead to those of the host that made the offer; their directory."""
        ...

    def stop(self) -> None:
        """Listen no longer."""
        ...


class HttpsCarrier:
    """See the module. `address` is where other hosts reach this one, `port` 0 any free one, `home` a place for the key."""

    def __init__(self, driver: ComputeDriver, address: str, port: int, home: pathlib.Path) -> None:
        self._driver = driver
        self._address = address
        self._port = port
        self._home = home
        self._lock = threading.Lock()
        self._tokens: dict[str, str] = {}
        self._server: http.server.ThreadingHTTPServer | None = None
        self._fingerprint = ""

    def offer(self, server_id: str, token: str) -> dict[str, Any]:
        with self._lock:
            self._tokens[server_id] = token
            if self._server is None:
                self._server = self._listen()
            port = self._server.server_address[1]
        return {"address": self._address, "port": port, "fingerprint": self._fingerprint, "token": token}

    def withdraw(self, server_id: str) -> None:
        with self._lock:
            self._tokens.pop(server_id, None)
            if self._tokens or self._server is None:
                return
            server, self._server = self._server, None
        server.shutdown()
        server.server_close()

    def stop(self) -> None:
        for server_id in list(self._tokens):
            self.withdraw(server_id)

    def allows(self, server_id: str, token: str) -> bool:
        known = self._tokens.get(server_id)
        return known is not None and hmac.compare_digest(known.encode(), token.encode())

    def fetch(self, job: Job, doc: ServerDoc, offer: Mapping[str, Any]) -> None:
        with _patiently(job, lambda: self._open(offer, f"/{doc.id}")) as answer:
            sizes = [line.split(" ") for line in answer.read().decode().splitlines()]
        for name, size in sizes:
            with _patiently(job, lambda name=name: self._open(offer, f"/{doc.id}/{name}")) as answer:
                self._driver.write_disk(doc, name, int(size), _pieces(job, answer, int(size)))

    def ends(self, gangway: Gangway, server_id: str, offer: Mapping[str, Any]) -> AbstractContextManager[pathlib.Path]:
        def connect(name: str) -> socket.socket:
            connection = self._reach(offer)
            head = f"CONNECT /{server_id}/{name} HTTP/1.0\r\nAuthorization: Bearer {offer['token']}\r\n\r\n"
            connection.sendall(head.encode())
            said = b""
            while not said.endswith(b"\r\n\r\n"):
                byte = connection.recv(1)  # not one byte of what follows
                if not byte:
                    break
                said += byte
            if b" 200 " not in said.partition(b"\r\n")[0]:
                connection.close()
                raise DriverFailed(f"{offer['address']} does not take the server: {said.decode(errors='replace')[:80]}")
            return connection

        return tunnel.local_ends(gangway, connect)

    def _reach(self, offer: Mapping[str, Any]) -> ssl.SSLSocket:
        """A connection to the host that made the offer, and to nobody else."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # who it is the fingerprint says, which came over the bus
        plain = socket.create_connection((offer["address"], offer["port"]), timeout=_SECONDS)
        connection = context.wrap_socket(plain)
        shown = connection.getpeercert(binary_form=True) or b""
        if not hmac.compare_digest(hashlib.sha256(shown).hexdigest(), offer["fingerprint"]):
            connection.close()
            raise DriverFailed(f"{offer['address']} is not the host that made the offer.")
        return connection

    def _open(self, offer: Mapping[str, Any], path: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(offer["address"], offer["port"], timeout=_SECONDS)
        connection.sock = self._reach(offer)
        connection.request("GET", path, headers={"Authorization": f"Bearer {offer['token']}", "Connection": "close"})
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise DriverFailed(f"{offer['address']} does not give the disks: status {answer.status}.")
        return answer

    def _listen(self) -> http.server.ThreadingHTTPServer:
        certificate, key = _self_signed()
        self._fingerprint = hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()
        server = http.server.ThreadingHTTPServer((self._address, self._port), _handler(self, self._driver))
        server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._home / "moves.pem"
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + key)
        context.load_cert_chain(path)
        path.unlink()
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, name="disks for other hosts", daemon=True).start()
        return server


def _self_signed() -> tuple[x509.Certificate, bytes]:
    """A certificate for as long as this process lives, and its key as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pileus moves")])
    now = clock.utcnow()
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate, key.private_bytes(*form)


def _patiently(job: Job, ask: Any) -> Any:
    """Ask, again while nobody answers."""
    for seconds in (*_WAITS, None):
        if job.cancelled.is_set():
            raise DriverFailed("The disks are not needed any more.")
        try:
            return ask()
        except (OSError, http.client.HTTPException) as error:
            if seconds is None:
                raise DriverFailed(f"The host that has the disks does not answer: {error}.") from error
            clock.sleep(seconds)
    raise AssertionError  # the last try returns or raises


def _pieces(job: Job, answer: http.client.HTTPResponse, size: int) -> Iterator[tuple[int, bytes]]:
    """The pieces of one disk; DriverFailed when they end too early."""
    try:
        while True:
            at, length = _HEAD.unpack(_exactly(answer, _HEAD.size))
            if not length:
                break
            yield at, _exactly(answer, length)
            if job.cancelled.is_set():
                raise DriverFailed("The disks are not needed any more.")
    except (OSError, http.client.HTTPException) as error:
        raise DriverFailed(f"The disk did not arrive whole: {error}.") from error
    if at != size:
        raise DriverFailed("The disk did not arrive whole: its end is missing.")


def _exactly(answer: http.client.HTTPResponse, count: int) -> bytes:
    data = answer.read(count)
    if len(data) < count:
        raise DriverFailed("The disk did not arrive whole: the connection was closed.")
    return data


def _handler(carrier: HttpsCarrier, driver: ComputeDriver) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        """GET /<server> names the disks, GET /<server>/<disk> is one, CONNECT /<server>/<socket> leads to a socket of the hypervisor."""

        timeout = _SECONDS

        def do_GET(self) -> None:
            server_id, _, name = self.path.strip("/").partition("/")
            if not self._allowed(server_id):
                self.send_error(http.client.FORBIDDEN)
                return
            sizes = driver.disks(server_id)
            if name and name not in sizes:
                self.send_error(http.client.NOT_FOUND)
                return
            self.send_response(http.client.OK)
            self.end_headers()
            if not name:
                self.wfile.write("\n".join(f"{disk} {size}" for disk, size in sizes.items()).encode())
                return
            offset = 0
            while self._allowed(server_id):
                at, data = driver.read_disk(server_id, name, offset, _PIECE)
                self.wfile.write(_HEAD.pack(at if data else sizes[name], len(data)) + data)
                if not data:
                    return
                offset = at + len(data)

        def do_CONNECT(self) -> None:
            server_id, _, name = self.path.strip("/").partition("/")
            path = driver.gangway(server_id).sockets.get(name) if self._allowed(server_id) else None
            if path is None:
                self.send_error(http.client.FORBIDDEN)
                return
            try:
                inside = tunnel.reach(path)
            except OSError as error:
                _log.warning("what comes for server %s finds no %s: %s", server_id, name, error)
                self.send_error(http.client.BAD_GATEWAY)
                return
            self.send_response_only(http.client.OK)
            self.end_headers()
            tunnel.join(self.connection, inside)
            self.close_connection = True

        def _allowed(self, server_id: str) -> bool:
            scheme, _, token = self.headers.get("Authorization", "").partition(" ")
            return scheme == "Bearer" and carrier.allows(server_id, token)

        def log_message(self, format: str, *arguments: Any) -> None:
            _log.debug(format, *arguments)

    return Handler
