"""OAuth 1.0: a consumer acts for a user, from its creation to the end of what it was granted. oauthlib signs, as clients do."""

from __future__ import annotations

import time
from urllib.parse import parse_qs, urlencode

import pytest
from oauthlib.oauth1 import Client

from pileus.identity.logic import sealing
from pileus.kernel import clock
from tests.api.identity.world import Identity, message, roles_of

HERE = "http://localhost:5000/identity/v3"
FORM = "application/x-www-form-urlencoded"


class Consumer:
    """A program of somebody else, which signs."""

    def __init__(self, identity, **body):
        self.identity = identity
        made = identity("POST", "/OS-OAUTH1/consumers", {"consumer": body}, ok=201).json["consumer"]
        self.id, self.secret = made["id"], made["secret"]

    def signed(self, path, owner=None, url=None, **options):
        """Headers of a signed POST; `owner` is (token, secret)."""
        more = {"resource_owner_key": owner[0], "resource_owner_secret": owner[1]} if owner else {}
        client = Client(self.id, client_secret=self.secret, **more, **options)
        return client.sign(url or HERE + path, http_method="POST")[1]

    def post(self, path, headers, body=None):
        return self.identity("POST", path, body, token=None, headers=headers)

    def ask(self, project, **options):
        headers = self.signed("/OS-OAUTH1/request_token", callback_uri="oob", **options)
        return self.post("/OS-OAUTH1/request_token", {**headers, "Requested-Project-Id": project})

    def get_access(self, owner, verifier, **options):
        path = "/OS-OAUTH1/access_token"
        return self.post(path, self.signed(path, owner, verifier=verifier, **options))

    def login(self, owner, query="", scope=None, **options):
        auth = {"identity": {"methods": ["oauth1"], "oauth1": {}}}
        if scope is not None:
            auth["scope"] = scope
        headers = self.signed("/auth/tokens", owner, **options)
        return self.post("/auth/tokens" + query, headers, {"auth": auth})

    def granted(self, project, token, *roles):
        """(access token, secret) after all three steps."""
        request = pair(self.ask(project))
        body = {"roles": [{"name": role} for role in roles]}
        done = self.identity("PUT", f"/OS-OAUTH1/authorize/{request[0]}", body, token=token, ok=200)
        return pair(self.get_access(request, done.json["token"]["oauth_verifier"]))


def pair(answer):
    assert answer.status == 201, answer.text
    found = parse_qs(answer.text)
    return found["oauth_token"][0], found["oauth_token_secret"][0]


@pytest.fixture
def consumer(identity):
    return Consumer(identity, description="a robot")


@pytest.fixture
def ann(identity):
    """An administrator of one project: upstream lets nobody else authorize."""
    who, project, token = identity.member("ann", "admin", "member")
    return {"id": who["id"], "project": project["id"], "token": token}


def test_a_consumer_from_creation_to_deletion(identity):
    given = {"description": "d", "some:weird-field": 1}
    made = identity("POST", "/OS-OAUTH1/consumers", {"consumer": given}, ok=201).json["consumer"]
    secret = made.pop("secret")
    path = f"/OS-OAUTH1/consumers/{made['id']}"
    assert made == {"id": made["id"], "description": "d", "some_weird_field": 1, "links": {"self": HERE + path}}
    assert len(secret) == 32
    assert identity("GET", path).json == {"consumer": made}
    listed = identity("GET", "/OS-OAUTH1/consumers").json
    assert listed == {"consumers": [made], "links": {"next": None, "self": HERE + "/OS-OAUTH1/consumers", "previous": None}}
    other = identity("POST", "/OS-OAUTH1/consumers", {"consumer": {}}, ok=201).json["consumer"]
    assert other["description"] is None
    assert [one["id"] for one in identity("GET", f"/OS-OAUTH1/consumers?id={other['id']}").json["consumers"]] == [other["id"]]
    changed = identity("PATCH", path, {"consumer": {"description": None, "more": [1]}}, ok=200).json["consumer"]
    assert changed == {**made, "description": None, "more": [1]}
    assert identity("DELETE", path).status == 204
    for method, body in (("GET", None), ("PATCH", {"consumer": {"description": "x"}}), ("DELETE", None)):
        gone = identity(method, path, body)
        assert (gone.status, message(gone)) == (404, "Consumer not found.")
    with identity.service.db.read() as conn:
        kept = conn.exec_driver_sql("SELECT secret FROM oauth_consumers").scalars().all()
    assert kept and not any(secret in one or other["secret"] in one for one in kept), "secrets are encrypted where they are kept"


@pytest.mark.parametrize("body", [{"secret": "own"}, {"description": 1}, {}, {"id": "x" * 32}])
def test_bad_changes_of_a_consumer(identity, consumer, body):
    assert identity("PATCH", f"/OS-OAUTH1/consumers/{consumer.id}", {"consumer": body}).status == 400
    assert identity("POST", "/OS-OAUTH1/consumers", {"consumer": {"secret": "own"}}).status == 400


def test_from_a_request_token_to_a_token(identity, consumer, ann):
    asked = consumer.ask(ann["project"])
    assert asked.status == 201 and asked.headers["content-type"] == FORM
    request = pair(asked)
    ends = parse_qs(asked.text)["oauth_expires_at"][0]
    assert asked.text == f"oauth_token={request[0]}&oauth_token_secret={request[1]}&oauth_expires_at={ends}"
    left = (clock.parse(ends) - clock.utcnow()).total_seconds()
    assert 28790 < left <= 28800

    member = identity.role("member")
    done = identity("PUT", f"/OS-OAUTH1/authorize/{request[0]}", {"roles": [{"id": member}]}, token=ann["token"], ok=200)
    verifier = done.json["token"]["oauth_verifier"]
    assert done.json == {"token": {"oauth_verifier": verifier}} and len(verifier) == 8

    got = consumer.get_access(request, verifier)
    access = pair(got)
    assert got.headers["content-type"] == FORM
    ends = parse_qs(got.text)["oauth_expires_at"][0]
    assert consumer.get_access(request, verifier).status == 404, "a request token is good once"

    answer = consumer.login(access)
    assert answer.status == 201
    body = answer.json["token"]
    assert body["methods"] == ["oauth1"]
    assert (body["user"]["id"], body["project"]["id"]) == (ann["id"], ann["project"])
    assert body["OS-OAUTH1"] == {"access_token_id": access[0], "consumer_id": consumer.id}
    assert roles_of(answer) == {"member", "reader"}, "what was authorized, not all that ann has"
    token = answer.headers["x-subject-token"]
    assert len(token) < 250
    assert identity.validate(token).json == answer.json
    assert identity("GET", f"/users/{ann['id']}", token=token).status == 200

    path = f"/users/{ann['id']}/OS-OAUTH1/access_tokens"
    shown = {
        "id": access[0],
        "consumer_id": consumer.id,
        "project_id": ann["project"],
        "authorizing_user_id": ann["id"],
        "expires_at": ends,
        "links": {"self": f"{HERE}{path}/{access[0]}", "roles": f"{HERE}{path}/{access[0]}/roles"},
    }
    assert identity("GET", path).json["access_tokens"] == [shown]
    assert identity("GET", f"{path}/{access[0]}").json == {"access_token": shown}
    roles = identity("GET", f"{path}/{access[0]}/roles").json
    assert [role["name"] for role in roles["roles"]] == ["member"]
    assert roles["roles"][0]["links"] == {"self": f"{HERE}/roles/{member}"}
    assert identity("GET", f"{path}/{access[0]}/roles/{member}").json == {"role": roles["roles"][0]}
    for missing in (f"{path}/none", f"{path}/none/roles", f"{path}/{access[0]}/roles/{identity.role('admin')}"):
        assert identity("GET", missing).status == 404
    stranger = f"/users/{identity.user('eve')['id']}/OS-OAUTH1/access_tokens/{access[0]}"
    assert identity("GET", stranger).status == identity("DELETE", stranger).status == 404
    assert identity("DELETE", f"{path}/{access[0]}").status == 204
    assert identity.validate(token).status == 404
    assert consumer.login(access).status == 401
    assert identity("DELETE", f"{path}/{access[0]}").status == 404


@pytest.mark.parametrize("method", ["HMAC-SHA1", "HMAC-SHA256", "HMAC-SHA512"])
def test_methods_of_signing(identity, consumer, ann, method):
    access = consumer.granted(ann["project"], ann["token"], "member")
    assert consumer.login(access, signature_method=method).status == 201


def test_plain_text_is_refused_without_tls(identity, consumer, ann):
    refused = consumer.ask(ann["project"], signature_method="PLAINTEXT")
    assert (refused.status, message(refused)) == (400, "Signatures in plain text are for TLS alone.")


def test_the_url_is_the_one_that_clients_use(identity, consumer, ann):
    """Behind a proxy with TLS, as the edge says it; there plain text is no secret to others."""
    inside = identity.client.app
    identity.client.app = lambda environ, start: inside({**environ, "pileus.base_url": "https://cloud.example"}, start)
    assert consumer.ask(ann["project"]).status == 401, "signed for the URL inside"
    outside = "https://CLOUD.example:443/identity/v3"
    for method in ("HMAC-SHA1", "PLAINTEXT"):
        path = "/OS-OAUTH1/request_token"
        headers = consumer.signed(path, url=outside + path, callback_uri="oob", signature_method=method)
        assert consumer.post(path, {**headers, "Requested-Project-Id": ann["project"]}).status == 201


def test_odd_headers_are_refused_on_every_database(database_url):
    identity = Identity(db_url=database_url)
    consumer = Consumer(identity)
    path = "/OS-OAUTH1/request_token"
    odd = ["%00", "a%00b", "%F0%9F%92%A5", "x" * 3000, "'; DROP TABLE users; --", "%25"]
    names = ("oauth_consumer_key", "oauth_token", "oauth_verifier", "oauth_nonce", "oauth_timestamp", "oauth_signature")
    fine = dict.fromkeys(names, "1") | {"oauth_signature_method": "HMAC-SHA1", "oauth_callback": "oob"}
    for name in names:
        for value in odd:
            header = "OAuth " + ", ".join(f'{key}="{value if key == name else other}"' for key, other in fine.items())
            for where, body in ((path, None), ("/OS-OAUTH1/access_token", None), ("/auth/tokens", {"auth": {"identity": {"methods": ["oauth1"], "oauth1": {}}}})):
                answer = consumer.post(where, {"Authorization": header, "Requested-Project-Id": "p"}, body)
                assert answer.status in {400, 401, 404}, (where, header, answer.text)
    for value in ("a\0b", "x" * 3000, "\xfc"):
        headers = consumer.signed(path, callback_uri="oob")
        assert consumer.post(path, {**headers, "Requested-Project-Id": value}).status in {400, 404}
    identity.client.close()


def test_without_the_catalog(identity, consumer, ann):
    access = consumer.granted(ann["project"], ann["token"], "member")
    answer = consumer.login(access, "?nocatalog")
    assert answer.status == 201 and "catalog" not in answer.json["token"]
    assert consumer.login(access, "?other=1").status == 401, "any other query is signed"


def test_a_signature_is_good_once(identity, consumer, ann):
    access = consumer.granted(ann["project"], ann["token"], "member")
    headers = consumer.signed("/auth/tokens", access)
    body = {"auth": {"identity": {"methods": ["oauth1"], "oauth1": {}}}}
    assert [consumer.post("/auth/tokens", headers, body).status for _ in range(3)] == [201, 401, 401]
    headers = {**consumer.signed("/OS-OAUTH1/request_token", callback_uri="oob"), "Requested-Project-Id": ann["project"]}
    assert [consumer.post("/OS-OAUTH1/request_token", headers).status for _ in range(2)] == [201, 401]


def test_a_signature_is_of_now(identity, consumer, ann):
    access = consumer.granted(ann["project"], ann["token"], "member")
    for away, status in ((-590, 201), (590, 201), (-610, 401), (610, 401)):
        assert consumer.login(access, timestamp=str(int(time.time()) + away)).status == status, away
    for text in ("x", "-1", "9" * 11, "²"):
        assert consumer.login(access, timestamp=text).status == 400
    assert consumer.login(access, nonce="n" * 129).status == 400


def test_used_signatures_are_forgotten_when_they_are_too_old_to_be_used(identity, consumer, ann):
    access = consumer.granted(ann["project"], ann["token"], "member")

    def kept():
        with identity.service.db.read() as conn:
            return conn.exec_driver_sql("SELECT count(*) FROM oauth_nonces").scalar_one()

    before = kept()
    assert before == 2
    moment = clock.time()
    previous = clock.use(clock.VirtualClock(moment + 1300))
    try:
        assert consumer.login(access, timestamp=str(int(moment + 1300))).status == 201
    finally:
        clock.use(previous)
    assert kept() == 1
    wrong = Consumer(identity)
    wrong.secret = "wrong"
    assert wrong.ask(ann["project"]).status == 401
    assert kept() == 1, "what nobody could sign leaves nothing"


def test_secrets_outlive_the_keys_that_they_are_encrypted_with(identity, consumer, ann):
    access, request = consumer.granted(ann["project"], ann["token"], "member"), pair(consumer.ask(ann["project"]))
    for _ in range(4):
        assert sealing.rotate(identity.service) == 3, "of the consumer, of what it asked for, of what it was granted"
    assert consumer.login(access).status == 201
    body = {"roles": [{"name": "member"}]}
    done = identity("PUT", f"/OS-OAUTH1/authorize/{request[0]}", body, token=ann["token"], ok=200)
    assert consumer.get_access(request, done.json["token"]["oauth_verifier"]).status == 201


def test_who_cannot_sign_gets_nothing(identity, consumer, ann):
    stranger = Consumer(identity)
    access = consumer.granted(ann["project"], ann["token"], "member")
    request = pair(consumer.ask(ann["project"]))
    assert stranger.login(access).status == 401, "another consumer's access token"
    assert consumer.login((access[0], "wrong")).status == 401
    assert consumer.login(("f" * 32, access[1])).status == 401
    assert consumer.login(access, url="http://elsewhere/v3/auth/tokens").status == 401
    assert consumer.get_access(request, "verifier").status == 401, "nobody has authorized it"
    body = {"roles": [{"name": "member"}]}
    verifier = identity("PUT", f"/OS-OAUTH1/authorize/{request[0]}", body, token=ann["token"], ok=200).json["token"]["oauth_verifier"]
    assert consumer.get_access(request, verifier + "x").status == 401
    assert consumer.get_access((request[0], "wrong"), verifier).status == 401
    assert stranger.get_access(request, verifier).status == 401
    assert consumer.get_access(("f" * 32, "x"), verifier).status == 404
    again = identity("PUT", f"/OS-OAUTH1/authorize/{request[0]}", body, token=ann["token"], ok=200).json["token"]["oauth_verifier"]
    assert consumer.get_access(request, verifier).status == 401, "authorized anew, the first verifier is worth nothing"
    assert consumer.get_access(request, again).status == 201
    unknown = Consumer(identity)
    identity("DELETE", f"/OS-OAUTH1/consumers/{unknown.id}", ok=204)
    assert unknown.ask(ann["project"]).status == 404
    assert consumer.ask("0" * 32).status == 404


def test_what_a_request_lacks_is_named(identity, consumer, ann):
    def lacking(path, headers, body=None):
        answer = consumer.post(path, headers, body)
        assert answer.status == 400, answer.text
        return message(answer)

    path = "/OS-OAUTH1/request_token"
    project = {"Requested-Project-Id": ann["project"]}
    assert lacking(path, project) == "There is no Authorization header of OAuth."
    assert "oauth_callback" in lacking(path, {**consumer.signed(path), **project})
    assert "oob" in lacking(path, {**consumer.signed(path, callback_uri="http://me"), **project})
    assert "Requested-Project-Id" in lacking(path, consumer.signed(path, callback_uri="oob"))
    assert "oauth_nonce" in lacking(path, {"Authorization": 'OAuth oauth_consumer_key="x", oauth_callback="oob", oauth_signature="x", oauth_signature_method="HMAC-SHA1", oauth_timestamp="1"', **project})
    assert "oauth_token" in lacking("/OS-OAUTH1/access_token", consumer.signed("/OS-OAUTH1/access_token"))
    assert "oauth_verifier" in lacking("/OS-OAUTH1/access_token", consumer.signed("/OS-OAUTH1/access_token", ("a", "b")))
    body = {"auth": {"identity": {"methods": ["oauth1"], "oauth1": {}}}}
    assert lacking("/auth/tokens", {}, body) == "There is no Authorization header of OAuth."
    assert "oauth_token" in lacking("/auth/tokens", consumer.signed("/auth/tokens"), body)
    assert "header" in lacking(path + "?oauth_nonce=1", {**consumer.signed(path, callback_uri="oob"), **project})
    assert "RSA-SHA1" in lacking(
        path, {**{"Authorization": consumer.signed(path, callback_uri="oob")["Authorization"].replace("HMAC-SHA1", "RSA-SHA1")}, **project}
    )


def test_query_and_form_are_signed_too(identity, consumer, ann):
    path = "/OS-OAUTH1/request_token"
    client = Client(consumer.id, client_secret=consumer.secret, callback_uri="oob")
    sent = urlencode({"a b": "c&d", "ü": "="})
    url = f"{HERE}{path}?x=1&x=0&y"
    _, headers, body = client.sign(url, http_method="POST", body=sent, headers={"Content-Type": FORM})
    headers["Requested-Project-Id"] = ann["project"]

    def post(query, body):
        return identity.client.request("POST", f"/v3{path}{query}", body=body.encode(), headers=headers, as_=None)

    assert post("?x=1&x=0&y", body + "&e=f").status == 401
    assert post("?x=1", body).status == 401
    assert post("?x=1&x=0&y", body).status == 201
    headers["Content-Type"] = "application/json"
    assert post("", "{}").status == 400


def test_bad_authorizations(identity, consumer, ann):
    request = pair(consumer.ask(ann["project"]))
    path = f"/OS-OAUTH1/authorize/{request[0]}"
    for body in ({}, {"roles": []}, {"roles": [{}]}, {"roles": [{"id": "a", "name": "b"}]}, {"roles": ["member"]}, {"roles": [{"x": 1}]}):
        assert identity("PUT", path, body, token=ann["token"]).status == 400, body
    assert identity("PUT", path, {"roles": [{"name": "none"}]}, token=ann["token"]).status == 404
    assert identity("PUT", path, {"roles": [{"name": "service"}]}, token=ann["token"]).status == 401, "a role that ann has not"
    assert identity("PUT", "/OS-OAUTH1/authorize/none", {"roles": [{"name": "member"}]}, token=ann["token"]).status == 404
    _who, _project, bobs = identity.member("bob")
    assert identity("PUT", path, {"roles": [{"name": "member"}]}, token=bobs).status == 403


def test_tokens_of_delegation_delegate_no_further(identity, consumer, ann):
    access = consumer.granted(ann["project"], ann["token"], "admin")
    token = consumer.login(access).headers["x-subject-token"]
    assert identity("GET", "/users", token=token).status == 200, "it is an administrator's"
    request = pair(consumer.ask(ann["project"]))
    roles = {"roles": [{"name": "member"}]}
    assert identity.exchange(token).status == 403
    assert identity.exchange(token, {"project": {"id": ann["project"]}}).status == 403
    trust = {"trustor_user_id": ann["id"], "trustee_user_id": ann["id"], "project_id": ann["project"], "impersonation": True, **roles}
    for method, path, body in (
        ("PUT", f"/OS-OAUTH1/authorize/{request[0]}", roles),
        ("GET", f"/users/{ann['id']}/OS-OAUTH1/access_tokens", None),
        ("POST", "/OS-TRUST/trusts", {"trust": trust}),
        ("POST", f"/users/{ann['id']}/application_credentials", {"application_credential": {"name": "x"}}),
        ("POST", f"/users/{ann['id']}/credentials/OS-EC2", {"tenant_id": ann["project"]}),
        ("POST", "/credentials", {"credential": {"type": "cert", "blob": "b", "user_id": ann["id"]}}),
    ):
        assert identity(method, path, body, token=token).status == 403, path
    made = identity("POST", "/OS-TRUST/trusts", {"trust": trust}, token=ann["token"], ok=201).json["trust"]
    scope = {"OS-TRUST:trust": {"id": made["id"]}}
    entrusted = identity.login("ann", "ann-secret", scope).headers["x-subject-token"]
    assert identity("PUT", f"/OS-OAUTH1/authorize/{request[0]}", roles, token=entrusted).status == 403
    assert consumer.login(access, scope=scope).status == 401
    body = {"application_credential": {"name": "a", "roles": [{"name": "admin"}]}}
    app = identity("POST", f"/users/{ann['id']}/application_credentials", body, token=ann["token"], ok=201).json["application_credential"]
    auth = {"identity": {"methods": ["application_credential"], "application_credential": {"id": app["id"], "secret": app["secret"]}}}
    restricted = identity("POST", "/auth/tokens", {"auth": auth}, token=None, ok=201).headers["x-subject-token"]
    assert identity("PUT", f"/OS-OAUTH1/authorize/{request[0]}", roles, token=restricted).status == 403


def test_the_scope_is_the_project_that_was_asked_for(identity, consumer, ann):
    access = consumer.granted(ann["project"], ann["token"], "member")
    assert consumer.login(access, scope={"project": {"id": ann["project"]}}).status == 201
    other = identity.make("project", name="other")["id"]
    identity.grant("member", user=ann["id"], project=other)
    for scope in ({"project": {"id": other}}, {"domain": {"id": "default"}}, "unscoped", {"system": {"all": True}}):
        assert consumer.login(access, scope=scope).status == 401, scope


@pytest.mark.parametrize("gone", ["consumer", "user", "project", "role of the user", "user disabled", "password"])
def test_tokens_end_with_what_they_stand_on(identity, consumer, ann, gone):
    access = consumer.granted(ann["project"], ann["token"], "member")
    token = consumer.login(access).headers["x-subject-token"]
    assert identity.validate(token).status == 200
    if gone == "consumer":
        identity("DELETE", f"/OS-OAUTH1/consumers/{consumer.id}", ok=204)
    elif gone == "user":
        identity("DELETE", f"/users/{ann['id']}", ok=204)
    elif gone == "project":
        identity("DELETE", f"/projects/{ann['project']}", ok=204)
    elif gone == "user disabled":
        identity("PATCH", f"/users/{ann['id']}", {"user": {"enabled": False}}, ok=200)
    elif gone == "password":
        identity("PATCH", f"/users/{ann['id']}", {"user": {"password": "another"}}, ok=200)
    else:
        for role in ("member", "admin"):
            identity("DELETE", f"/projects/{ann['project']}/users/{ann['id']}/roles/{identity.role(role)}", ok=204)
    assert identity.validate(token).status == 404
    assert consumer.login(access).status == (201 if gone == "password" else 401)


def test_a_role_taken_from_the_user_is_taken_from_the_consumer(identity, consumer, ann):
    identity.grant("service", user=ann["id"], project=ann["project"])
    access = consumer.granted(ann["project"], ann["token"], "member", "service")
    token = consumer.login(access).headers["x-subject-token"]
    assert roles_of(identity.validate(token)) == {"member", "reader", "service"}
    identity("DELETE", f"/projects/{ann['project']}/users/{ann['id']}/roles/{identity.role('service')}", ok=204)
    assert roles_of(identity.validate(token)) == {"member", "reader"}


def test_what_is_granted_has_an_end(tmp_path):
    identity = Identity(home=tmp_path, options={"request_token_duration": 60, "access_token_duration": 600})
    consumer = Consumer(identity)
    who, project, token = identity.member("ann", "admin")
    access = consumer.granted(project["id"], token, "admin")
    issued = consumer.login(access)
    ends = identity("GET", f"/users/{who['id']}/OS-OAUTH1/access_tokens").json["access_tokens"][0]["expires_at"]
    assert issued.json["token"]["expires_at"] == ends, "no token outlives the access token"
    request = pair(consumer.ask(project["id"]))
    start = clock.time()
    moving = clock.VirtualClock(start)
    previous = clock.use(moving)
    try:
        moving.advance(61)
        late = identity("PUT", f"/OS-OAUTH1/authorize/{request[0]}", {"roles": [{"name": "admin"}]}, token=token)
        assert late.status == 401
        assert consumer.login(access, timestamp=str(int(moving.time()))).status == 201
        moving.advance(540)
        assert consumer.login(access, timestamp=str(int(moving.time()))).status == 401
        assert identity.validate(issued.headers["x-subject-token"], by=token).status == 404
    finally:
        clock.use(previous)
    identity.client.close()


def test_without_an_end_nothing_says_one(tmp_path):
    identity = Identity(home=tmp_path, options={"request_token_duration": 0, "access_token_duration": 0})
    consumer = Consumer(identity)
    who, project, token = identity.member("ann", "admin")
    assert "oauth_expires_at" not in consumer.ask(project["id"]).text
    consumer.granted(project["id"], token, "admin")
    assert identity("GET", f"/users/{who['id']}/OS-OAUTH1/access_tokens").json["access_tokens"][0]["expires_at"] is None
    identity.client.close()


def test_two_workers_take_one_signature_and_one_request_token_once(database_url):
    import threading

    identity = Identity(db_url=database_url)
    consumer = Consumer(identity)
    _who, project, token = identity.member("ann", "admin")
    access = consumer.granted(project["id"], token, "admin")
    request = pair(consumer.ask(project["id"]))
    verifier = identity("PUT", f"/OS-OAUTH1/authorize/{request[0]}", {"roles": [{"name": "admin"}]}, token=token, ok=200).json["token"]["oauth_verifier"]
    headers = consumer.signed("/auth/tokens", access)
    body = {"auth": {"identity": {"methods": ["oauth1"], "oauth1": {}}}}

    def both(deed):
        found, ready = [], threading.Barrier(2)

        def run():
            ready.wait()
            found.append(deed().status)

        threads = [threading.Thread(target=run) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sorted(found)

    assert both(lambda: consumer.post("/auth/tokens", headers, body)) == [201, 401]
    assert both(lambda: consumer.get_access(request, verifier))[0] == 201
    with identity.service.db.read() as conn:
        assert conn.exec_driver_sql("SELECT count(*) FROM oauth_access_tokens").scalar_one() == 2
    identity.client.close()


def test_lists_cost_the_same_queries_for_any_number(identity, consumer, ann):
    path = f"/users/{ann['id']}/OS-OAUTH1/access_tokens"
    counts = []
    for _ in range(2):
        access = consumer.granted(ann["project"], ann["token"], "member", "admin")
        identity("GET", path, ok=200)  # the caller's token is known from now on
        with identity.client.count_queries() as queries:
            assert identity("GET", path, ok=200).json["access_tokens"]
            assert identity("GET", f"{path}/{access[0]}/roles", ok=200).json["roles"]
            assert identity("GET", "/OS-OAUTH1/consumers", ok=200).json["consumers"]
        counts.append(len(queries))
        Consumer(identity)
    assert counts[0] == counts[1]
