"""The edge as clients meet it: a real listener on loopback, spoken to with sockets where a library would behave too well."""

import http.client
import json
import socket

import pytest

from tests.contracts import served
from tests.contracts.served import MEMBER, TOKEN, configuration, running, until


@pytest.fixture
def api():
    """Options of section [api]; tests parametrize it."""
    return {}


@pytest.fixture
def port(tmp_path, api):
    served.held.clear()
    served.read_so_far.clear()
    served.closed.clear()
    with running(configuration(tmp_path, **api)) as port:
        yield port


class Raw:
    """One connection, written and read by hand."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.reader = self.socket.makefile("rb")

    def send(self, text):
        self.socket.sendall(text.encode() if isinstance(text, str) else text)

    def request(self, method, path, *headers, body=b""):
        lines = [f"{method} {path} HTTP/1.1", "Host: cloud:5000", f"X-Auth-Token: {TOKEN}", *headers]
        self.send("\r\n".join(lines) + "\r\n\r\n")
        if body:
            self.send(body)

    def answer(self, *, head=False):
        status = self.reader.readline()
        if not status:
            return None
        headers = {}
        while (line := self.reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        return int(status.split()[1]), headers, b"" if head else self._body(headers)

    def _body(self, headers):
        if headers.get("transfer-encoding") == "chunked":
            data = b""
            while size := int(self.reader.readline() or b"0", 16):
                data += self.reader.read(size)
                self.reader.readline()
            self.reader.readline()
            return data
        return self.reader.read(int(headers.get("content-length", 0)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.reader.close()
        self.socket.close()


def get(port, path, *headers, method="GET", body=b""):
    with Raw(port) as raw:
        raw.request(method, path, *headers, body=body)
        return raw.answer()


def test_requests_are_answered_one_after_another_on_one_connection(port):
    with Raw(port) as raw:
        for number in range(3):
            raw.request("GET", f"/served/v1/echo?n={number}")
            status, _, body = raw.answer()
            assert (status, json.loads(body)["query"]) == (200, {"n": [str(number)]})


def test_pipelined_requests_are_answered_in_order(port):
    with Raw(port) as raw:
        body = b'{"a": 1}'
        raw.request("POST", "/served/v1/echo", "Content-Type: application/json", f"Content-Length: {len(body)}", body=body)
        raw.request("GET", "/served/v1/echo?n=2")
        raw.request("DELETE", "/served/v1/thing")
        raw.request("GET", "/served/v1/echo?n=4")
        first, second, third, fourth = (raw.answer() for _ in range(4))
    assert (first[0], json.loads(first[2])) == (201, {"body": {"a": 1}})
    assert json.loads(second[2])["query"] == {"n": ["2"]}
    assert (third[0], third[2]) == (204, b"")
    assert json.loads(fourth[2])["query"] == {"n": ["4"]}


def test_head_has_the_headers_of_get_and_no_body(port):
    with Raw(port) as raw:
        raw.request("HEAD", "/served/v1/echo")
        status, headers, _ = raw.answer(head=True)
        assert status == 200
        assert int(headers["content-length"]) > 0
        raw.request("GET", "/served/v1/echo")
        assert raw.answer()[0] == 200, "nothing of a body stood between"


def test_head_of_a_stream_reads_nothing_and_closes_it(port):
    with Raw(port) as raw:
        raw.request("HEAD", "/served/v1/download/1000")
        status, headers, _ = raw.answer(head=True)
        assert (status, headers["content-length"]) == (200, str(1000 * 65536))
    until(lambda: served.closed == ["1000 left"], "the stream is closed")


def test_a_chunked_json_body_is_read(port):
    with Raw(port) as raw:
        raw.request("POST", "/served/v1/echo", "Content-Type: application/json", "Transfer-Encoding: chunked")
        for part in (b'{"a":', b" [1, 2]", b"}"):
            raw.send(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        raw.send("0\r\n\r\n")
        status, _, body = raw.answer()
    assert (status, json.loads(body)) == (201, {"body": {"a": [1, 2]}})


@pytest.mark.parametrize("size", [0, 1, 100_000, 20_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_an_upload_arrives_whole(port, size, chunked):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    body = (b"x" * min(131072, size - done) for done in range(0, size, 131072))
    headers = {"X-Auth-Token": TOKEN}
    if not chunked:
        headers["Content-Length"] = str(size)
    connection.request("PUT", "/served/v1/upload", body=body, headers=headers, encode_chunked=chunked)
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())) == (200, {"size": size})
    connection.close()


@pytest.mark.parametrize("api", [{"threads": 1, "stream_threads": 2}])
def test_stalled_requests_block_no_others(port):
    """Small bodies, headers and idle connections that stop in the middle hold no thread at all."""
    stalled = []
    for number in range(20):
        raw = Raw(port)
        stalled.append(raw)
        if number % 3 == 0:
            raw.send("POST /served/v1/echo HTTP/1.1\r\nHost: x\r\nX-Auth-")
        elif number % 3 == 1:
            raw.request("POST", "/served/v1/echo", "Content-Type: application/json", "Content-Length: 1000", body=b'{"a"')
    assert get(port, "/served/v1/echo")[0] == 200
    for raw in stalled:
        raw.__exit__()


@pytest.mark.parametrize("api", [{"threads": 2, "stream_threads": 1}])
def test_a_stalled_upload_blocks_no_ordinary_request(port):
    with Raw(port) as raw:
        raw.request("PUT", "/served/v1/upload", "Content-Length: 30000000", body=b"x" * 1000)
        until(lambda: served.read_so_far, "the upload is being read")
        for _ in range(5):
            assert get(port, "/served/v1/echo")[0] == 200


@pytest.mark.parametrize("api", [{"idle_timeout": 0.2, "stream_threads": 1}])
def test_an_upload_that_stalls_for_too_long_is_given_up(port):
    with Raw(port) as raw:
        raw.request("PUT", "/served/v1/upload", "Content-Length: 30000000", body=b"x" * 1000)
        answer = raw.answer()
        assert answer is None or answer[0] == 408
    status, _, body = get(port, "/served/v1/upload", "Transfer-Encoding: chunked", method="PUT", body=b"3\r\nabc\r\n0\r\n\r\n")
    assert (status, json.loads(body)) == (200, {"size": 3}), "its thread is free again"


@pytest.mark.parametrize("api", [{"stream_threads": 1}])
def test_a_broken_off_upload_frees_its_thread_and_is_no_fault_of_ours(port, caplog):
    with Raw(port) as raw:
        raw.request("PUT", "/served/v1/upload", "Content-Length: 30000000", body=b"x" * 1000)
        until(lambda: served.read_so_far, "the upload is being read")
    status, _, body = get(port, "/served/v1/upload", "Transfer-Encoding: chunked", method="PUT", body=b"3\r\nabc\r\n0\r\n\r\n")
    assert (status, json.loads(body)) == (200, {"size": 3})
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_broken_off_small_body_is_no_fault_of_ours(port, caplog):
    with Raw(port) as raw:
        raw.request("POST", "/served/v1/echo", "Content-Type: application/json", "Content-Length: 1000", body=b'{"a"')
    assert get(port, "/served/v1/echo")[0] == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_an_upload_is_not_read_far_ahead_of_its_reader(port):
    """20 MB that nobody reads must not lie in memory: the client is held back, and is answered all the same."""
    body = b"x" * 20_000_000
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("PUT", "/served/v1/refused", body=body, headers={"X-Auth-Token": TOKEN})
    answer = connection.getresponse()
    assert answer.status == 409
    assert json.loads(answer.read())["error"]["message"] == "It has data already."
    connection.close()


def test_a_refused_upload_without_a_token_is_answered_before_its_body_has_come(port):
    with Raw(port) as raw:
        raw.send("PUT /served/v1/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 30000000\r\n\r\n")
        raw.send(b"x" * 1000)
        assert raw.answer()[0] == 401
    assert served.read_so_far == []


def test_a_body_that_is_too_large_is_refused_in_the_services_format(port):
    body = b'{"a": "' + b"x" * 200_000 + b'"}'
    status, _, answer = get(port, "/served/v1/echo", "Content-Type: application/json", f"Content-Length: {len(body)}", method="POST", body=body)
    assert status == 413
    assert json.loads(answer)["error"]["code"] == 413


@pytest.mark.parametrize("size", [70_000, 1_000_000])
def test_headers_that_are_too_large_are_refused(port, size):
    with Raw(port) as raw:
        try:
            raw.request("GET", "/served/v1/echo", "X-Long: " + "x" * size)
            answer = raw.answer()
        except ConnectionError:
            answer = None
        assert answer is None or answer[0] in {400, 431}
    assert get(port, "/served/v1/echo")[0] == 200


def test_a_download_is_streamed_and_closed(port):
    status, headers, body = get(port, "/served/v1/download/40")
    assert (status, len(body)) == (200, 40 * 65536)
    assert headers["content-length"] == str(40 * 65536)
    until(lambda: served.closed == ["0 left"], "the stream is closed")


@pytest.mark.parametrize("api", [{"stream_threads": 1}])
def test_a_download_that_its_client_leaves_is_not_read_to_the_end(port):
    with Raw(port) as raw:
        raw.request("GET", "/served/v1/download/100000")
        raw.reader.read(100_000)
    until(lambda: served.closed, "the stream is closed")
    assert served.closed[0] != "0 left"


@pytest.mark.parametrize("api", [{"stream_threads": 1, "threads": 1}])
def test_a_client_that_reads_slowly_holds_no_thread(port):
    with Raw(port) as slow:
        slow.request("GET", "/served/v1/download/10000")
        slow.reader.read(1000)
        assert len(get(port, "/served/v1/download/20")[2]) == 20 * 65536
        assert get(port, "/served/v1/echo")[0] == 200


def test_a_download_that_breaks_is_seen_to_be_broken(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/served/v1/broken", headers={"X-Auth-Token": TOKEN})
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        connection.getresponse().read()
    connection.close()
    until(lambda: served.closed == ["0 left"], "the stream is closed")


FORWARDED = ("X-Forwarded-Proto: https", "X-Forwarded-Host: cloud.example.org", "X-Forwarded-For: 1.2.3.4")


def link(port, *headers):
    return json.loads(get(port, "/served/v1/echo", *headers)[2])["link"]


def test_links_are_as_the_client_reached_us_and_forwarded_headers_of_strangers_do_not_count(port):
    assert link(port) == "http://cloud:5000/served/v1/x"
    assert link(port, *FORWARDED) == "http://cloud:5000/served/v1/x"


@pytest.mark.parametrize("api", [{"trusted_proxies": ["10.0.0.0/8", "127.0.0.0/8"]}])
def test_forwarded_headers_of_a_trusted_proxy_count(port):
    assert link(port, *FORWARDED) == "https://cloud.example.org/served/v1/x"
    assert link(port, "X-Forwarded-Proto: https, http") == "https://cloud:5000/served/v1/x"
    assert link(port, "X-Forwarded-Proto: javascript") == "http://cloud:5000/served/v1/x"


_SAID = ("OIDC-sub: bob", "OIDC_CLAIM_email: b\u00f6b@x", "remote_user: bob", "X-Other: kept", "Shib-A: 1")
_SECRET = "abcdefgh12345678"
_VOUCHER = f"X-Assertion: {_SECRET} OIDC- Remote-User SHIB-"
_TRUSTED = {"trusted_proxies": ["127.0.0.1"], "assertion_secret": _SECRET}


def _seen(port, *headers):
    """What a service is told apart from headers, and those of the headers that it still sees."""
    _, _, body = get(port, "/served/v1/echo", *headers)
    seen = json.loads(body)
    return seen["assertion"], {name for name in seen["headers"] if name.startswith(("oidc", "remote", "shib", "x-other", "x-ass"))}


@pytest.mark.parametrize("api", [{}, {"trusted_proxies": ["10.0.0.0/8"], "assertion_secret": _SECRET}, {"trusted_proxies": ["127.0.0.1"]}])
def test_assertions_of_anybody_are_dropped(port, api):
    for voucher in (_VOUCHER, "X-Assertion:  OIDC-", "X-Assertion:", "X-Nothing: x"):
        assert _seen(port, *_SAID, voucher, "X-Forwarded-For: 10.0.0.1", "Forwarded: for=10.0.0.1") == ({}, {"x-other"})


@pytest.mark.parametrize("api", [_TRUSTED])
def test_assertions_of_a_trusted_proxy_are_handed_over_apart_from_headers(port):
    said = {"HTTP_OIDC_SUB": "bob", "HTTP_OIDC_CLAIM_EMAIL": "b\u00f6b@x", "HTTP_REMOTE_USER": "bob", "HTTP_SHIB_A": "1"}
    assert _seen(port, *_SAID, _VOUCHER) == (said, {"x-other"})


@pytest.mark.parametrize("api", [_TRUSTED])
def test_a_proxy_that_does_not_vouch_for_a_header_has_only_passed_it_on(port):
    for voucher in ("X-Nothing: x", "X-Assertion: another-secret-1 OIDC-", f"X-Assertion: {_SECRET}", f"X-Assertion: OIDC- {_SECRET}"):
        assert _seen(port, *_SAID, voucher) == ({}, {"x-other"}), voucher
    assert _seen(port, *_SAID, _VOUCHER, "X_Assertion: x OIDC-") == ({}, {"x-other"}), "two of them say nothing"
    assert _seen(port, *_SAID, f"X-Assertion: {_SECRET} remote-user OIDC-s") == ({"HTTP_REMOTE_USER": "bob"}, {"x-other"})


@pytest.mark.parametrize("api", [{**_TRUSTED, "assertion_headers": ["AUTH-", "who"]}])
def test_which_headers_are_assertions_is_an_option(port):
    said, _ = _seen(port, "Auth-Name: bob", "Who: bob", "Whoever: x", "OIDC-sub: bob", f"X-Assertion: {_SECRET} AUTH- WHO OIDC-")
    assert said == {"HTTP_AUTH_NAME": "bob", "HTTP_WHO": "bob"}


@pytest.mark.parametrize("api", [_TRUSTED])
def test_what_is_said_twice_is_not_said(port):
    """The client sent one of the two, and the proxy did not take it away."""
    assert _seen(port, "OIDC-sub: (null)", "OIDC-email:", _VOUCHER)[0] == {}, "nothing has been said"
    said, _ = _seen(port, "OIDC_sub: admin", "OIDC-sub: bob", "OIDC-iss: a", "OIDC-iss: b", "OIDC-email: b@x", _VOUCHER)
    assert said == {"HTTP_OIDC_EMAIL": "b@x"}


@pytest.mark.parametrize("api", [{"public_url": "https://public.example.org/cloud/", "trusted_proxies": ["127.0.0.1"]}])
def test_the_public_url_stands_above_everything(port):
    assert link(port, *FORWARDED) == "https://public.example.org/cloud/served/v1/x"


def test_forged_identity_headers_have_no_effect(port):
    forged = (
        "X-User-Id: root", "X-Roles: admin", "X-Identity-Status: Confirmed", "X-Project-Id: x", "X-Is-Admin-Project: True",
        "Pileus.Context: x", "pileus_context: x", "X_Auth_Token: other", "X-Service-Roles: service", "pileus.base_url: http://evil",
    )  # fmt: skip
    status, _, body = get(port, "/served/v1/echo", *forged)
    answer = json.loads(body)
    assert status == 200
    assert (answer["user"], answer["roles"]) == (MEMBER.user_id, ["member", "reader"])
    assert answer["link"] == "http://cloud:5000/served/v1/x"
    with Raw(port) as raw:
        raw.send("GET /served/v1/echo HTTP/1.1\r\nHost: x\r\n" + "\r\n".join(forged) + "\r\n\r\n")
        assert raw.answer()[0] == 401


def test_a_wrong_token_or_service_token_is_refused(port):
    for headers in ("X-Auth-Token: wrong", f"X-Auth-Token: {TOKEN}\r\nX-Service-Token: wrong"):
        with Raw(port) as raw:
            raw.send(f"GET /served/v1/echo HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n")
            assert raw.answer()[0] == 401


def test_a_global_request_id_is_taken_over_only_if_it_is_one(port):
    good = "req-11111111-1111-4111-8111-111111111111"
    answer = json.loads(get(port, "/served/v1/echo", f"X-OpenStack-Request-ID: {good}")[2])
    assert answer["global_request_id"] == good
    assert answer["request_id"] != good
    assert json.loads(get(port, "/served/v1/echo", "X-OpenStack-Request-ID: \"; DROP")[2])["global_request_id"] is None


def test_paths_without_a_service_are_refused_and_escapes_are_decoded_once(port):
    assert get(port, "/nowhere/x")[0] == 404
    assert get(port, "/served/v1/echo?a=%2Fb%20c&d=%C3%B6")[0] == 200
    assert json.loads(get(port, "/served/v1/echo?a=%2Fb%20c&d=%C3%B6")[2])["query"] == {"a": ["/b c"], "d": ["ö"]}
    assert get(port, "/%73erved/v1/echo")[0] == 200
    assert get(port, "/served/v1/fail/%2e%2e%2f")[0] in {404, 500}


def test_nonsense_is_answered_with_400_and_harms_nobody(port):
    for nonsense in ("NONSENSE\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET /served HTTP/1.1\r\nContent-Length: x\r\n\r\n"):
        with Raw(port) as raw:
            raw.send(nonsense)
            answer = raw.answer()
            assert answer is None or answer[0] == 400
    smuggled = "POST /served/v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    with Raw(port) as raw:
        raw.send(smuggled)
        answer = raw.answer()
        assert answer is None or answer[0] in {400, 401}
    assert get(port, "/served/v1/echo")[0] == 200


def test_requests_under_way_are_answered_when_the_worker_stops(tmp_path):
    served.held.clear()
    with running(configuration(tmp_path)) as port:
        raw = Raw(port)
        raw.request("GET", "/served/v1/hold")
        until(lambda: get(port, "/served/v1/echo")[0] == 200, "the worker has read what came before")
    assert raw.answer()[0] == 200
    raw.__exit__()


def test_a_stream_may_answer_an_upload_that_was_not_read(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("PUT", "/served/v1/early", body=b"x" * 5_000_000, headers={"X-Auth-Token": TOKEN})
    answer = connection.getresponse()
    assert (answer.status, len(answer.read())) == (200, 3 * 65536)
    connection.close()


def test_an_endless_header_is_cut_off(port):
    with Raw(port) as raw:
        raw.send("GET /served/v1/echo HTTP/1.1\r\nHost: x\r\nX-Long: ")
        with pytest.raises(ConnectionError):
            for _ in range(10_000):
                raw.send(b"x" * 65536)
    assert get(port, "/served/v1/echo")[0] == 200


@pytest.mark.parametrize("api", [{"idle_timeout": 0.2}])
def test_a_head_that_does_not_come_is_not_waited_for(port):
    for beginning in ("", "GET /served", "GET /served/v1/echo HTTP/1.1\r\nHost: x\r\nX-Auth"):
        with Raw(port) as raw:
            raw.send(beginning)
            assert raw.answer() is None
    with Raw(port) as raw:
        raw.request("GET", "/served/v1/echo")
        assert raw.answer()[0] == 200
        raw.send("GET /served/v1/e")
        assert raw.answer() is None, "the second request of a connection too"


@pytest.mark.parametrize("api", [{"idle_timeout": 0.2}])
def test_a_slow_answer_is_given_though_the_next_head_is_begun(port):
    with Raw(port) as raw:
        raw.request("GET", "/served/v1/hold")
        raw.send("GET /served")
        for _ in range(3):
            get(port, "/served/v1/download/100")
        served.held.set()
        assert raw.answer()[0] == 200


def test_logins_wait_in_a_pool_of_their_own(tmp_path):
    from pileus.identity.room import ROOM
    from pileus.kernel.config import load
    from pileus.server.edge import Gateway

    class App:
        logins = ROOM.logins

    gateway = Gateway({}, load(tmp_path, {}, environ={}))
    login = gateway._pool_of("POST", App(), "/v3/auth/tokens")
    assert login is gateway._pool_of("POST", App(), "/v3/auth/tokens/")
    assert login is gateway._pool_of("POST", App(), f"/v3/users/{'a' * 32}/password")
    assert login is not gateway._pool_of("POST", App(), "/v3/users/a/b/password")
    assert login is not gateway._pool_of("GET", App(), "/v3/auth/tokens")
    assert gateway._pool_of("GET", App(), "/v3/users") is gateway._pool_of("POST", object(), "/v3/auth/tokens")
    gateway.close()


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", "1.2.3.4", "203.0.113.9"),  # a stranger says what it likes
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "1.2.3.4", "1.2.3.4"),
        ("::ffff:10.0.0.1", "1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", "6.6.6.6, 1.2.3.4, 10.0.0.2", "1.2.3.4"),  # what was made up stands before
        ("10.0.0.1", "10.0.0.3,10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "nonsense", "nonsense"),
        ("10.0.0.1", "1.2.3.4:4711", "1.2.3.4"),
        ("10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
        ("10.0.0.1", "2001:db8::1, 10.0.0.2:80", "2001:db8::1"),
    ],
)
def test_the_address_of_who_asks_is_the_last_that_is_no_proxy(tmp_path, peer, forwarded, expected):
    from pileus.kernel.config import load
    from pileus.server.edge import Gateway

    config = load(tmp_path, {}, environ={}, overrides={"api": {"trusted_proxies": ["10.0.0.0/8"]}})
    gateway = Gateway({}, config)
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    scope = {"method": "GET", "query_string": b"", "http_version": "1.1", "scheme": "http", "client": (peer, 1), "headers": headers}
    assert gateway._environ(scope, "", "/")["pileus.client"] == expected
    gateway.close()
