"""Identity behind a real listener: what a client may send before anybody knows who it is has bounds of size and time."""

from __future__ import annotations

import contextlib
import json
import socket
import threading

import pytest

from pileus.identity.room import ROOM
from pileus.kernel.config import load
from pileus.kernel.room import load as load_object
from pileus.server.edge import Gateway
from pileus.server.listener import make_server
from tests.api.identity.world import PASSWORD, Identity
from tests.contracts.test_edge import Raw

LOGIN = json.dumps(
    {"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "admin", "domain": {"id": "default"}, "password": PASSWORD}}}}}
).encode()


@contextlib.contextmanager
def listening(folder, **api):
    """(identity, port)"""
    made = Identity(home=folder)
    sections = {"identity": load_object(ROOM.options)}
    config = load(folder, sections, environ={}, overrides={"api": api, "pileus": {"host": "host1"}})
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    gateway = Gateway({"/identity": made.client.app}, config)
    server = make_server(gateway, config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield made, listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
        gateway.close()
        listener.close()
        made.client.close()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    with listening(tmp_path_factory.mktemp("identity")) as found:
        yield found


@pytest.fixture
def port(cloud):
    return cloud[1]


def send(port, method, path, *headers, body=b"", raw=None):
    """(status, headers, body); None where the connection was closed without an answer."""
    with Raw(port) as connection:
        head = "\r\n".join([f"{method} {path} HTTP/1.1", "Host: cloud:5000", *headers]) + "\r\n\r\n"
        connection.send(raw if raw is not None else head.encode("latin-1") + body)
        return connection.answer(head=method == "HEAD")


def login(port, *headers, body=LOGIN):
    return send(port, "POST", "/identity/v3/auth/tokens", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers, body=body)


def fault(answer, status):
    assert answer is not None and answer[0] == status, answer
    assert answer[1]["content-type"] == "application/json"
    error = json.loads(answer[2])["error"]
    assert error["code"] == status and error["message"] and error["title"]


def chunked(size):
    return b"%x\r\n" % size + b"x" * size + b"\r\n0\r\n\r\n"


PUBLIC = ["/auth/tokens", "/OS-OAUTH2/token", "/users/f/password", "/pileus/nodes"]
"""Where nobody has to prove anything before the body is read."""


def test_a_login_works_and_the_alias_does_too(port):
    answer = login(port)
    assert answer[0] == 201 and answer[1]["x-subject-token"]
    assert send(port, "POST", "/v3/auth/tokens", "Content-Type: application/json", f"Content-Length: {len(LOGIN)}", body=LOGIN)[0] == 201


@pytest.mark.parametrize("path", PUBLIC)
@pytest.mark.parametrize("size", [200_000, 3_000_000])
def test_a_body_over_the_limit_is_413(port, path, size):
    for kind in ("application/json", "application/x-www-form-urlencoded"):
        fault(send(port, "POST", f"/identity/v3{path}", f"Content-Type: {kind}", f"Content-Length: {size}", body=b"x" * size), 413)


@pytest.mark.parametrize("path", PUBLIC)
def test_a_body_over_the_limit_in_chunks_is_413(port, path):
    fault(send(port, "POST", f"/identity/v3{path}", "Content-Type: application/json", "Transfer-Encoding: chunked", body=chunked(200_000)), 413)


def test_what_has_a_token_has_the_same_limit(cloud):
    made, port = cloud
    for method, path in (("POST", "/users"), ("PATCH", f"/users/{made.ids['admin_user']}" if "admin_user" in made.ids else "/users/x")):
        answer = send(port, method, f"/identity/v3{path}", f"X-Auth-Token: {made.admin}", "Content-Type: application/json", "Content-Length: 200000", body=b"x" * 200_000)
        fault(answer, 413)


def test_a_login_in_chunks_is_read(port):
    body = b"".join(b"%x\r\n%c\r\n" % (1, byte) for byte in LOGIN) + b"0\r\n\r\n"
    assert send(port, "POST", "/identity/v3/auth/tokens", "Content-Type: application/json", "Transfer-Encoding: chunked", body=body)[0] == 201


@pytest.mark.parametrize("name", ["X-Auth-Token", "X-Subject-Token", "X-Service-Token", "Authorization", "Cookie", "X-Anything"])
def test_a_header_over_the_limit_is_431_and_a_long_one_is_no_token(cloud, name):
    made, port = cloud
    token = [] if name == "X-Auth-Token" else [f"X-Auth-Token: {made.admin}"]
    with Raw(port) as connection:
        try:
            connection.request("GET", "/identity/v3/auth/tokens", f"{name}: " + "x" * 200_000)
            answer = connection.answer()
        except ConnectionError:
            answer = None
        assert answer is None or answer[0] in {400, 431}
    answer = send(port, "GET", "/identity/v3/auth/tokens", *token, f"{name}: " + "x" * 60_000)
    assert answer[0] in {401, 404}, "shorter ones are read, and are no tokens"


def test_many_headers_and_a_long_path_and_query_are_answered(cloud):
    made, port = cloud
    token = f"X-Auth-Token: {made.admin}"
    assert send(port, "GET", "/identity/v3/regions", token, *(f"X-H{number}: x" for number in range(3000)))[0] == 200
    assert send(port, "GET", "/identity/v3/users/" + "x" * 30_000, token)[0] in {404, 414}
    assert send(port, "GET", "/identity/v3/users?" + "&".join(f"k{number}=v" for number in range(3000)), token)[0] == 200


def test_two_tokens_and_tokens_of_odd_bytes_are_nobody(cloud):
    made, port = cloud
    fault(send(port, "GET", "/identity/v3/users", f"X-Auth-Token: {made.admin}", f"X-Auth-Token: {made.admin}"), 401)
    for odd in ("\xff\xfe", "gAAAA\xe9", " ", "\t", "'\"", "${jndi:x}", made.admin[:-2], made.admin[:50] + "\xa0" + made.admin[50:], made.admin + "\xa0", made.admin + "AAAA"):
        assert send(port, "GET", "/identity/v3/users", f"X-Auth-Token: {odd}")[0] == 401, odd
        answer = send(port, "GET", "/identity/v3/auth/tokens", f"X-Auth-Token: {made.admin}", f"X-Subject-Token: {odd}")
        assert answer[0] == 404, odd


def test_names_in_paths_are_bytes_of_utf8_and_leave_as_a_url(cloud):
    made, port = cloud
    project, token = made.make("project", name="of-tags")["id"], f"X-Auth-Token: {made.admin}"
    for tag in ("%F0%9F%92%A5", "%C3%BC", "a%20b", "a%0D%0AX-Evil:%201", "%25"):
        status, headers, _ = send(port, "PUT", f"/identity/v3/projects/{project}/tags/{tag}", token)
        assert status == 201 and "x-evil" not in headers
        assert headers["location"].startswith(f"http://cloud:5000/identity/v3/projects/{project}/tags/")
        assert send(port, "GET", headers["location"].removeprefix("http://cloud:5000"), token)[0] == 204
    fault(send(port, "PUT", f"/identity/v3/projects/{project}/tags/a%00b", token), 400)
    assert send(port, "PUT", f"/identity/v3/projects/{project}/tags/%FF%FE", token)[0] in {201, 400}


def test_a_request_that_says_its_length_in_two_ways_is_refused(port):
    for head in ("Content-Length: 5\r\nContent-Length: 6", "Content-Length: 5\r\nTransfer-Encoding: chunked", "Content-Length: -1", "Content-Length: 99999999999999999999999"):
        answer = send(port, "POST", "/", raw=f"POST /identity/v3/auth/tokens HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n0\r\n\r\n".encode())
        assert answer is None or answer[0] in {400, 413}, head
    assert login(port)[0] == 201


def test_a_stalled_login_holds_nobody_up_and_is_given_up(tmp_path):
    head = f"POST /identity/v3/auth/tokens HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(LOGIN)}\r\n\r\n".encode()
    with listening(tmp_path, idle_timeout=0.3) as (_made, port):
        stalled = [Raw(port) for _ in range(50)]
        for connection in stalled:
            connection.send(head + LOGIN[:10])
        assert login(port)[0] == 201
        for connection in stalled:
            fault(connection.answer(), 408)
            assert connection.answer() is None, "and the connection is closed"
            connection.__exit__()
        with Raw(port) as slow:
            slow.send(b"POST /identity/v3/auth/tokens HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")
            fault(slow.answer(), 408)
        assert login(port)[0] == 201
