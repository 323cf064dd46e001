"""A client cannot tell whether its peer runs in the same process or behind HTTP."""

import io
import socket
import threading

import pytest

from pileus.clients.base import (
    Client,
    HttpBinding,
    LocalBinding,
    PeerConflict,
    PeerForbidden,
    PeerInvalid,
    PeerNotFound,
    PeerUnauthorized,
    PeerUnavailable,
)
from pileus.kernel.context import Context, service_context
from pileus.kernel.errors import ProgrammingError
from pileus.kernel.waiting import serving, transaction
from tests.contracts import served
from tests.contracts.served import MEMBER, TOKEN, application, configuration, running, until

REQUEST = "req-11111111-1111-4111-8111-111111111111"
CALLER = MEMBER.with_request(REQUEST)


@pytest.fixture(params=["in process", "over http"])
def binding(request, tmp_path):
    served.held.clear()
    served.closed.clear()
    served.read_so_far.clear()
    config = configuration(tmp_path)
    if request.param == "in process":
        app = application(config)
        yield LocalBinding(lambda: app, "/served", "http://cloud:5000")
        return
    with running(config) as port:
        yield HttpBinding(f"http://127.0.0.1:{port}/served", lambda context: (TOKEN if context is not None and context.user_id else None, None))


@pytest.fixture
def client(binding):
    return Client(binding, CALLER)


def test_json_goes_both_ways(client):
    assert client.post("/v1/echo", {"a": [1, "ö"]}) == {"body": {"a": [1, "ö"]}}
    assert client.get("/v1/echo", {"n": [1, 2], "text": "a b&c/ö"})["query"] == {"n": ["1", "2"], "text": ["a b&c/ö"]}


def test_the_peer_sees_who_asks_and_on_whose_request(client):
    answer = client.get("/v1/echo")
    assert answer["user"] == MEMBER.user_id
    assert "member" in answer["roles"]
    assert answer["global_request_id"] == REQUEST
    assert answer["request_id"] != REQUEST


def test_nobody_is_refused(binding):
    with pytest.raises((PeerUnauthorized, PeerForbidden)):
        Client(binding, Context.anonymous()).get("/v1/echo")


def test_an_answer_without_a_body_is_none(client):
    assert client.delete("/v1/thing") is None


@pytest.mark.parametrize(
    ("how", "kind", "status", "message"),
    [
        ("400", PeerInvalid, 400, "Not like this."),
        ("403", PeerForbidden, 403, "Too many."),
        ("404", PeerNotFound, 404, "No such thing."),
        ("409", PeerConflict, 409, "It is in use."),
        ("503", PeerUnavailable, 503, "Not now."),
    ],
)
def test_errors_are_mapped_with_their_sentence_and_body(client, how, kind, status, message):
    with pytest.raises(kind) as caught:
        client.get(f"/v1/fail/{how}")
    assert (caught.value.status, caught.value.message) == (status, message)
    assert caught.value.body["error"]["code"] == status


def test_a_fault_of_the_peer_is_unavailable_and_keeps_its_secrets(client):
    with pytest.raises(PeerUnavailable) as caught:
        client.get("/v1/fail/bug")
    assert caught.value.status == 500
    assert "secret" not in str(caught.value.body)


def test_an_unknown_path_is_not_found(client):
    with pytest.raises(PeerNotFound):
        client.get("/v1/nowhere")


@pytest.mark.parametrize("size", [0, 10, 3_000_000])
@pytest.mark.parametrize("form", ["bytes", "generator", "file"])
def test_bodies_stream_in(client, size, form):
    data = b"x" * size
    body = {
        "bytes": lambda: data,
        "generator": lambda: (data[start : start + 65536] for start in range(0, size, 65536)),
        "file": lambda: io.BytesIO(data),
    }[form]()
    assert client.put("/v1/upload", body, headers={"Content-Type": "application/octet-stream"}) == {"size": size}


def test_an_early_refusal_of_a_stream_is_heard(client):
    body = (b"x" * 65536 for _ in range(100))
    with pytest.raises(PeerConflict, match="It has data already"):
        client.put("/v1/refused", body, headers={"Content-Type": "application/octet-stream"})


def test_bodies_stream_out_and_are_closed(client):
    answer = client.stream("/v1/download/40")
    assert answer.headers["content-length"] == str(40 * 65536)
    assert sum(len(part) for part in answer.body) == 40 * 65536
    until(lambda: served.closed == ["0 left"], "the stream is closed")


def test_a_stream_that_is_not_read_to_the_end_is_closed(client):
    answer = client.stream("/v1/download/100000")
    next(answer.body)
    answer.close()
    until(lambda: served.closed, "the stream is closed")
    assert served.closed != ["0 left"]


def test_a_stream_that_breaks_is_unavailable_and_never_looks_complete(client):
    with pytest.raises(PeerUnavailable):
        client.stream("/v1/broken").read()


def test_no_peer_is_asked_inside_a_transaction_or_while_serving_the_bus(client):
    with transaction("test"), pytest.raises(ProgrammingError, match="GET /v1/echo"):
        client.get("/v1/echo")
    with serving("compute.create"), pytest.raises(ProgrammingError):
        client.get("/v1/echo")


def test_links_of_the_answer_are_usable(client):
    assert client.get("/v1/echo")["link"].endswith("/served/v1/x")


# --- what only a network can do -----------------------------------------------------------------------------------------


def test_a_peer_that_is_not_there_is_unavailable():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(PeerUnavailable):
            Client(HttpBinding(f"http://127.0.0.1:{port}", lambda _: (None, None)), CALLER, timeout=5).get("/")


def test_a_peer_that_does_not_answer_is_unavailable(tmp_path):
    served.held.clear()
    with running(configuration(tmp_path)) as port:
        binding = HttpBinding(f"http://127.0.0.1:{port}/served", lambda _: (TOKEN, None))
        with pytest.raises(PeerUnavailable):
            Client(binding, CALLER, timeout=0.2).get("/v1/hold")


def test_a_connection_that_the_peer_closed_meanwhile_is_no_error():
    """A restarted peer: the pooled connection is dead, and the request has not been seen by anybody."""
    listener = socket.create_server(("127.0.0.1", 0))
    count = []
    closed = threading.Semaphore(0)

    def answer_once_each():
        for _ in range(3):
            connection, _ = listener.accept()
            with connection:
                if connection.recv(65536):
                    count.append(1)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
            closed.release()

    thread = threading.Thread(target=answer_once_each, daemon=True)
    thread.start()
    client = Client(HttpBinding(f"http://127.0.0.1:{listener.getsockname()[1]}", lambda _: (None, None)), CALLER, timeout=10)
    for _ in range(3):
        assert client.get("/") == {}
        assert closed.acquire(timeout=30)
    thread.join(10)
    listener.close()
    assert len(count) == 3


def test_both_tokens_are_sent(tmp_path):
    with running(configuration(tmp_path)) as port:
        binding = HttpBinding(f"http://127.0.0.1:{port}/served", lambda _: (TOKEN, TOKEN))
        headers = Client(binding, CALLER).get("/v1/echo")["headers"]
    assert (headers["x-auth-token"], headers["x-service-token"]) == (TOKEN, TOKEN)


def test_a_stream_that_was_left_does_not_spoil_the_next_request(tmp_path):
    with running(configuration(tmp_path)) as port:
        client = Client(HttpBinding(f"http://127.0.0.1:{port}/served", lambda _: (TOKEN, None)), CALLER)
        for leave in (lambda answer: answer.close(), lambda answer: next(answer.body), lambda answer: None):
            leave(client.stream("/v1/download/1000"))
            assert client.get("/v1/echo")["user"] == MEMBER.user_id


def test_a_services_own_token_that_was_refused_is_replaced_at_once(tmp_path):
    """Its key was rotated out, say. What a person's token is refused for the person hears."""
    known = ["an old token"]

    def forget(token):
        assert token == "an old token"
        known[0] = TOKEN

    with running(configuration(tmp_path)) as port:
        binding = HttpBinding(f"http://127.0.0.1:{port}/served", lambda _: (known[0], None), forget=forget)
        with pytest.raises(PeerUnauthorized):
            Client(binding, CALLER).get("/v1/echo")
        assert Client(binding, service_context("compute")).get("/v1/echo")["user"] == MEMBER.user_id
