"""How the metadata proxy reads what guests send: what counts, what is dropped, what is refused."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import stat
from pathlib import Path

import pytest

from pileus.kernel.errors import Unavailable
from pileus.network.agent import metadata
from pileus.network.agent.metadata import MetadataProxy, Refused, Request, by_secret, by_token, read_request
from pileus.network.agent.secret import shared_secret, sign
from pileus.network.wire import MetadataOwner


def read(data: bytes, *, limit: int = metadata.HEADER_LIMIT):
    async def go():
        reader = asyncio.StreamReader(limit=limit)
        reader.feed_data(data)
        reader.feed_eof()
        return await read_request(reader)

    return asyncio.run(go())


def refused(data: bytes) -> int:
    with pytest.raises(Refused) as caught:
        read(data)
    return caught.value.status


def test_headers_that_claim_an_identity_are_dropped() -> None:
    request = read(b"GET /latest/meta-data/ HTTP/1.1\r\nHost: x\r\nX-Instance-ID: other\r\nX-Tenant-ID: t\r\nX-Forwarded-For: 1.2.3.4\r\nAccept: */*\r\n\r\n")
    assert (request.method, request.target, request.headers) == ("GET", "/latest/meta-data/", (("accept", "*/*"),))


def test_a_body_is_read_to_its_length() -> None:
    assert read(b"POST /openstack/latest/password HTTP/1.1\r\nContent-Length: 4\r\n\r\nabcdrest").body == b"abcd"


def test_a_whole_url_is_taken_for_its_path() -> None:
    assert read(b"GET http://169.254.169.254/openstack?a=b HTTP/1.1\r\n\r\n").target == "/openstack?a=b"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"DELETE / HTTP/1.1\r\n\r\n", 405),
        (b"GET latest HTTP/1.1\r\n\r\n", 400),
        (b"GET /../v2.1/servers HTTP/1.1\r\n\r\n", 400),
        (b"GET /%2e%2e/v2.1/servers HTTP/1.1\r\n\r\n", 400),
        (b"GET /\x01 HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nNo colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nAccept: a\nX-Instance-ID: b\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 70000 + b"\r\n\r\n", 431),
    ],
)
def test_what_cannot_be_understood_is_refused(data: bytes, status: int) -> None:
    assert refused(data) == status


def test_the_secret_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    first = shared_secret(tmp_path)
    assert shared_secret(tmp_path) == first
    assert len(first) == 64
    assert stat.S_IMODE((tmp_path / "keys" / "metadata-secret").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["metadata-secret"]


def test_the_signature_is_an_hmac_of_the_instance_id() -> None:
    assert sign(b"key", "id") == hmac.new(b"key", b"id", hashlib.sha256).hexdigest()


class Compute:
    """Compute's metadata service: remembers what it is asked."""

    def __init__(self) -> None:
        self.heads: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nlatest")
        await writer.drain()
        writer.close()


def asked(base: str, proof) -> tuple[bytes, str]:
    """What a guest gets, and what compute was asked."""

    async def ask() -> tuple[bytes, str]:
        compute = Compute()
        server = await asyncio.start_server(compute.serve, "127.0.0.1", 0)
        proxy = MetadataProxy(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{base}", proof, lambda *_: None)
        owner = MetadataOwner(ip="10.0.0.5", port_id="p", device_id="s", project_id="t")
        async with server:
            pieces = [piece async for piece in proxy._answer(Request("GET", "/openstack", ()), owner, owner.ip)]
        return b"".join(pieces), compute.heads[0]

    return asyncio.run(ask())


def test_a_controllers_agent_signs_and_a_node_shows_its_token() -> None:
    answer, head = asked("/compute", by_secret(b"secret"))
    assert answer.endswith(b"latest")
    assert head.startswith("GET /compute/metadata/openstack HTTP/1.0")
    assert f"X-Instance-ID-Signature: {sign(b'secret', 's')}" in head
    answer, head = asked("/compute/nodes", by_token(lambda: "of-the-node"))
    assert answer.endswith(b"latest")
    assert head.startswith("GET /compute/nodes/metadata/openstack HTTP/1.0")
    assert "X-Auth-Token: of-the-node" in head
    assert "Signature" not in head


def test_a_node_that_gets_no_token_says_try_again() -> None:
    def token() -> str:
        raise Unavailable("identity is away")

    with pytest.raises(Refused) as caught:
        asked("/compute/nodes", by_token(token))
    assert caught.value.status == 503
