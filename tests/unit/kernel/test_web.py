import pytest
from room_for_tests import ROOM

from pileus.kernel.testing import NOBODY, PROJECT, READER, make_client

VERSION = "OpenStack-API-Version"


@pytest.fixture
def client():
    client = make_client(ROOM)
    yield client
    client.close()


def test_a_list_answers_in_json_with_request_ids_and_version_headers(client):
    answer = client.get("/v2.1/things")
    assert answer.status == 200
    assert answer.json == {"things": [], "version": [2, 1], "link": "http://localhost:5000/things-api/v2.1/things"}
    assert answer.headers["x-openstack-request-id"] == answer.headers["x-compute-request-id"]
    assert answer.headers["openstack-api-version"] == "compute 2.1"
    assert answer.headers["vary"] == "OpenStack-API-Version, X-OpenStack-Nova-API-Version"
    assert answer.headers["content-type"] == "application/json"


def test_nobody_gets_the_token_middlewares_401_on_known_and_unknown_routes(client):
    for method, path in (("GET", "/v2.1/things"), ("GET", "/v2.1/nowhere"), ("DELETE", "/v2.1/things")):
        answer = client.request(method, path, as_=NOBODY)
        assert answer.status == 401, path
        assert answer.json["error"]["message"] == "The request you have made requires authentication."
        assert answer.headers["www-authenticate"].startswith("Keystone uri=")


def test_unknown_routes_and_methods_are_refused_in_the_services_format(client):
    assert client.get("/v2.1/nowhere").json == {
        "itemNotFound": {"code": 404, "message": "The resource could not be found."}
    }
    answer = client.delete("/v2.1/things")
    assert answer.status == 405
    assert "GET" in answer.headers["allow"]
    assert answer.json["badMethod"]["code"] == 405


def test_a_wrong_body_is_named_with_field_and_value(client):
    answer = client.post("/v2.1/things", {"thing": {"name": 7}})
    assert answer.status == 400
    message = answer.json["badRequest"]["message"]
    assert message == "Invalid input for field/attribute name. Value: 7. 7 is not of type 'string'"
    unknown = client.post("/v2.1/things", {"thing": {"name": "a", "colour": "b"}})
    assert "Additional properties are not allowed ('colour' was unexpected)" in unknown.json["badRequest"]["message"]
    assert client.request("POST", "/v2.1/things", body=b"{nonsense").status == 400
    assert client.request("POST", "/v2.1/things", body=b"").status == 400


def test_a_large_or_foreign_body_is_refused(client):
    assert client.post("/v2.1/things", {"thing": {"name": "x" * 200_000}}).status == 413
    answer = client.request("POST", "/v2.1/things", body=b"<x/>", headers={"Content-Type": "application/xml"})
    assert answer.status == 415


def test_policy_decides_before_and_in_the_handler(client):
    assert client.post("/v2.1/things", {"thing": {"name": "a"}}, as_=READER).status == 403
    assert client.get(f"/v2.1/things/{PROJECT}").json == {"thing": PROJECT}
    assert client.get("/v2.1/things/other").status == 403
    assert client.get("/v2.1/things/hidden").status == 404


def test_a_handler_that_forgets_to_authorize_fails_closed_and_says_nothing(client):
    answer = client.get("/v2.1/things/forgot")
    assert answer.status == 500
    answer = client.get("/v2.1/things/broken")
    assert answer.status == 500
    assert "secret" not in answer.text


def test_microversions_select_operations_and_unknown_ones_are_refused(client):
    assert client.get("/v2.1/things/a/parts/b").status == 404
    answer = client.get("/v2.1/things/a/parts/b", headers={VERSION: "compute 2.5"})
    assert answer.json == {"params": {"id": "a", "part": "b"}}
    assert client.get("/v2.1/things", headers={"X-OpenStack-Nova-API-Version": "latest"}).json["version"] == [2, 10]
    refused = client.get("/v2.1/things", headers={VERSION: "compute 2.11"})
    assert refused.status == 406
    assert refused.json["errors"][0]["status"] == 406
    assert client.get("/v2.1/things", headers={VERSION: "compute x"}).status == 400
    assert client.get("/v2.1/things", headers={VERSION: "volume 3.60"}).status == 200


def test_actions_are_chosen_by_the_key_of_the_body(client):
    answer = client.post("/v2.1/things/a/action", {"start": None})
    assert (answer.status, answer.body) == (202, b"")
    assert client.post("/v2.1/things/a/action", {"stop": None}).status == 400
    answer = client.post("/v2.1/things/a/action", {"stop": None}, headers={VERSION: "compute 2.3"})
    assert (answer.status, answer.headers["x-thing"]) == (200, "1")
    assert client.post("/v2.1/things/a/action", {"start": None, "stop": None}).status == 400


def test_raw_bodies_are_streamed(client):
    answer = client.request("PUT", "/v2.1/things/a/file", body=b"x" * 5000)
    assert (answer.status, answer.headers["x-size"]) == (204, "5000")


def test_version_documents_need_no_token_and_no_slash(client):
    for path in ("", "/"):
        answer = client.get(path, as_=NOBODY)
        assert answer.status == 300
        assert answer.json["versions"][0]["links"][0]["href"] == "http://localhost:5000/things-api/v2.1"


def test_head_is_get_without_a_body(client):
    answer = client.request("HEAD", "/v2.1/things")
    assert (answer.status, answer.body) == (200, b"")


def test_a_database_that_is_away_is_503_with_a_time_to_come_back(client, monkeypatch):
    import sqlalchemy as sa

    def gone(*_arguments, **_options):
        raise sa.exc.OperationalError("SELECT secret", {}, Exception("server closed the connection"))

    monkeypatch.setattr(client.service.policy, "check", gone)
    answer = client.get("/v2.1/things")
    assert answer.status == 503
    assert "database" in answer.json["serviceUnavailable"]["message"]
    assert "retry-after" in answer.headers
    assert "secret" not in answer.text


def test_a_broken_upload_is_the_clients_fault(client, monkeypatch):
    from pileus.kernel.errors import UploadBroken

    class Broken:
        def read(self, _size):
            raise UploadBroken("The body was broken off.")

    import io

    monkeypatch.setattr(io, "BytesIO", lambda _data=b"": Broken())
    assert client.request("PUT", "/v2.1/things/a/file", body=b"x").status == 408


def test_a_body_that_is_nested_too_deeply_is_refused(client):
    from pileus.kernel.web.call import MOST_LEVELS

    for levels, status in ((MOST_LEVELS - 1, 202), (MOST_LEVELS, 400), (900, 400)):  # besides the object itself
        body = b'{"thing": {"name": "x", "more": ' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}}"
        answer = client.request("POST", "/v2.1/things", body=body, headers={"Content-Type": "application/json"})
        assert (answer.status == 400 and "levels deep" in answer.text) == (status == 400), (levels, answer.text)


def test_a_value_that_the_database_cannot_store_is_the_clients_fault_and_is_logged(client, monkeypatch, caplog):
    import sqlalchemy as sa

    def refuse(*_arguments, **_options):
        raise sa.exc.DataError("INSERT", {}, Exception("out of range"))

    monkeypatch.setattr(client.service.policy, "check", refuse)
    answer = client.get("/v2.1/things")
    assert (answer.status, answer.json["badRequest"]["message"]) == (400, "The request holds a value that cannot be stored.")
    assert "GET /v2.1/things failed" in caplog.text


@pytest.mark.parametrize(
    ("value", "sent"),
    [("http://x/a%20b", "http://x/a%20b"), ("http://x/\u00fc\U0001f4a5", "http://x/%C3%BC%F0%9F%92%A5"), ("a\r\nX-Evil: 1", "a%0D%0AX-Evil: 1"), ("a\x7fb", "a%7Fb")],
)
def test_no_header_ends_early_or_cannot_be_sent(value, sent):
    from pileus.kernel.web.app import _on_the_wire

    assert _on_the_wire(value) == sent


@pytest.mark.parametrize(
    ("document", "path", "message"),
    [
        ({"user": {"password": ["s3cret"]}}, "user/password", "The value is not of type 'string'"),
        ({"user": {"password": "s3cret" * 9}}, "user/password", "The value is too long"),
        ({"user": {"name": 7}}, "user/name", "7 is not of type 'string'"),
        ({"user": {"more": {"deep": [{"secret": "s3cret"}]}}}, "user/more", "The value is not of type 'string'"),
        ({"auth": ["s3cret"]}, "auth", "The value is not of type 'object'"),
        ({"user": {}}, "user", "{} should be non-empty"),
    ],
)
def test_the_sentence_about_a_wrong_secret_does_not_repeat_it(document, path, message):
    from pileus.kernel.web.schema import SchemaError, Validator

    text = {"type": "string", "maxLength": 20}
    user = {"type": "object", "properties": {"name": text, "password": text, "more": text}, "minProperties": 1}
    with pytest.raises(SchemaError) as refused:
        Validator({"type": "object", "properties": {"user": user, "auth": {"type": "object"}}})(document)
    assert (refused.value.path, str(refused.value)) == (path, message)
    assert "s3cret" not in str(refused.value.value)
