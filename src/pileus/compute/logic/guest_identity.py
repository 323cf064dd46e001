"""Which server a metadata request speaks for: named and signed by a proxy of the network service."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, Protocol

from pileus.compute.errors import BadRequest
from pileus.compute.store import servers as store
from pileus.kernel.errors import Forbidden, NotFound, Unavailable
from pileus.kernel.service import Service


class Headers(Protocol):
    """Request headers."""

    def get(self, name: str, default: str | None = None) -> str | None: ...


def sign(secret: bytes, server_id: str) -> str:
    """HMAC-SHA256 in hexadecimal digits."""
    return hmac.new(secret, server_id.encode(), hashlib.sha256).hexdigest()


def _secret(service: Service) -> bytes:
    """The secret that the network agents share; they make it when they first start."""
    try:
        secret = (service.home / "keys" / "metadata-secret").read_bytes().strip()
    except FileNotFoundError:
        secret = b""
    if not secret:
        raise Unavailable("The metadata secret is not there yet.")
    return secret


def server_that_asks(service: Service, headers: Headers) -> dict[str, Any]:
    """The row of the server. Raises `BadRequest`, `Forbidden` for a wrong signature, `NotFound` for a server that is not there or not that project's."""
    server_id, _project_id = _named(headers)
    expected = sign(_secret(service), server_id)
    if not hmac.compare_digest(expected.encode(), (headers.get("X-Instance-ID-Signature") or "").encode()):
        raise Forbidden("Invalid proxy request signature.")
    return server_named(service, headers)


def server_named(service: Service, headers: Headers) -> dict[str, Any]:
    """The row of the server that a proxy names whose right to ask is known. Raises `BadRequest`, `NotFound`."""
    server_id, project_id = _named(headers)
    with service.db.read() as conn:
        row = store.get(conn, server_id)
    if row is None or row["project_id"] != project_id:
        raise NotFound("There is no such server.")
    return row


def _named(headers: Headers) -> tuple[str, str]:
    """Server and project."""
    server_id = headers.get("X-Instance-ID")
    project_id = headers.get("X-Tenant-ID")
    if not server_id:
        raise BadRequest("X-Instance-ID header is missing from request.")
    if not project_id:
        raise BadRequest("X-Tenant-ID header is missing from request.")
    return server_id, project_id
