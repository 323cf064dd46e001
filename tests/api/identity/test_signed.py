"""Requests signed with EC2 keys, and what their tokens may and may not do."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac

import pytest

from pileus.identity.logic.signatures import Signed, of_request
from pileus.kernel import clock
from tests.api.identity.test_credentials import ann, create, login  # noqa: F401 - a fixture and its helpers
from tests.api.identity.world import message, roles_of


@pytest.fixture
def key(identity, ann):  # noqa: F811
    path = f"/users/{ann['id']}/credentials/OS-EC2"
    return identity("POST", path, {"tenant_id": ann["project"]}, token=ann["token"], ok=201).json["credential"]


@pytest.fixture
def service(identity):
    return identity.token("nova", "nova-secret", {"project": {"name": "service", "domain": {"id": "default"}}})


def request_of(key, *, host="ec2:8773", signed_host="ec2:8773", age=0, **changes):
    moment = clock.utcnow() - dt.timedelta(minutes=age)
    params = {"Action": "x y", "SignatureVersion": "2", "Timestamp": moment.isoformat(timespec="seconds") + "Z"}
    request = Signed(verb="GET", host=signed_host, path="/", params=params, headers={}, body_hash=None)
    signature = of_request(key["secret"], request)
    given = {"access": key["access"], "signature": signature, "verb": "GET", "host": host, "path": "/", "params": params}
    return {**given, **changes}


def verify(identity, service, given, name="credentials", path="/ec2tokens"):
    return identity("POST", path, {name: given}, token=service)


def test_a_signed_request_gets_a_token_for_the_project_of_the_key(identity, ann, key, service):
    for name in ("credentials", "credential", "ec2Credentials"):
        answer = verify(identity, service, request_of(key), name)
        assert answer.status == 200
        body = answer.json["token"]
        assert body["methods"] == ["ec2credential"]
        assert (body["user"]["id"], body["project"]["id"]) == (ann["id"], ann["project"])
        assert roles_of(answer) == {"manager", "member", "reader"}
        seen = identity.validate(answer.headers["x-subject-token"])
        assert seen.json["token"] == body


def test_the_port_may_be_left_out_of_what_is_signed(identity, key, service):
    assert verify(identity, service, request_of(key, signed_host="ec2")).status == 200
    assert verify(identity, service, request_of(key, signed_host="other")).status == 401


def test_a_wrong_signature_an_old_one_and_none_are_refused(identity, key, service):
    for given in (
        request_of({**key, "secret": "wrong"}),
        request_of(key, path="/other"),
        request_of(key, age=16),
        request_of(key, age=-16),
        request_of(key, signature=""),
        request_of(key, params={"SignatureVersion": "9"}),
        {"signature": "x"},
        {"access": key["access"]},
    ):
        assert verify(identity, service, given).status == 401, given
    unknown = verify(identity, service, request_of({**key, "access": "unknown"}))
    assert (unknown.status, message(unknown)) == (404, "EC2 access key not found.")
    assert identity("POST", "/ec2tokens", {}, token=service).status == 400


def version_4(key, *, verb="POST", params=None, away=0, **headers):
    """A request of version 4 as the EC2 service hands it on."""
    moment = (clock.utcnow() + dt.timedelta(minutes=away)).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{key['access']}/{moment[:8]}/RegionOne/ec2/aws4_request"
    stated = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host;x-amz-date, Signature=x"
    sent = {"host": "ec2:8773", "x-amz-date": moment, "authorization": stated, **headers}
    body_hash = hashlib.sha256(b"Action=DescribeInstances").hexdigest()
    request = Signed(verb=verb, host="ec2:8773", path="/", params=params or {}, headers=sent, body_hash=body_hash)
    shown = {"X-Amz-Date": moment, "Authorization": stated, "Host": " ec2:8773 "}
    given = {"access": key["access"], "signature": of_request(key["secret"], request), "verb": verb, "host": "ec2:8773", "path": "/"}
    return {**given, "params": params or {}, "headers": shown, "body_hash": body_hash}


def test_version_4_of_a_form_and_of_a_query(identity, key, service):
    params = {"Action": "DescribeInstances"}
    for verb in ("POST", "GET"):
        given = version_4(key, verb=verb, params=params)
        answer = verify(identity, service, given)
        assert answer.status == 200 and answer.json["token"]["methods"] == ["ec2credential"]
        for change in ({"body_hash": "0" * 64}, {"path": "/x"}, {"headers": {**given["headers"], "Host": "other"}}, {"verb": "PUT"}):
            assert verify(identity, service, {**given, **change}).status == 401, change
    assert verify(identity, service, {**version_4(key, verb="GET", params=params), "params": {"Action": "Other"}}).status == 401
    for away in (-16, 16):
        assert verify(identity, service, version_4(key, away=away)).status == 401


def test_only_a_time_that_was_signed_makes_a_signature_a_new_one(identity, key, service):
    now = clock.utcnow().isoformat(timespec="seconds") + "Z"
    for verb in ("POST", "GET"):
        old = version_4(key, verb=verb, params={"Action": "DescribeInstances"}, away=-16)
        assert verify(identity, service, {**old, "params": {**old["params"], "Timestamp": now}}).status == 401
    captured = version_4(key, away=-16)  # a form, of which the signature covers the hash alone
    for added in ({"Timestamp": now}, {"X-Amz-Date": now}, {"Timestamp": now, "SignatureVersion": "2"}):
        assert verify(identity, service, {**captured, "params": added}).status == 401, added
    assert verify(identity, service, {**version_4(key), "params": {"Timestamp": "2001-01-01T00:00:00Z"}}).status == 200
    old = request_of(key, age=16)
    for headers in ({"X-Amz-Date": now}, {"Timestamp": now}):
        assert verify(identity, service, {**old, "headers": headers}).status == 401
    assert verify(identity, service, request_of(key, headers={"X-Amz-Date": "20010101T000000Z"})).status == 200


def test_only_services_and_administrators_may_ask(identity, ann, key):
    assert verify(identity, ann["token"], request_of(key)).status == 403
    assert verify(identity, None, request_of(key)).status == 401
    assert verify(identity, "", request_of(key)).status == 200


def test_s3_services_send_the_signed_text(identity, ann, key, service):
    text = b"GET\n\n\ndate\n/bucket/object"
    signature = base64.b64encode(hmac.digest(key["secret"].encode(), text, "sha1")).decode()
    given = {"access": key["access"], "token": base64.urlsafe_b64encode(text).decode(), "signature": signature}
    answer = verify(identity, service, given, path="/s3tokens")
    assert answer.status == 200
    assert answer.json["token"]["project"]["id"] == ann["project"]
    assert "x-subject-token" not in answer.headers
    for wrong in ({"signature": "x"}, {"token": "a"}, {"token": "AAAA"}):
        assert verify(identity, service, {**given, **wrong}, path="/s3tokens").status == 401


def test_who_has_lost_the_role_or_is_disabled_gets_no_token(identity, ann, key, service):
    identity("PATCH", f"/users/{ann['id']}", {"user": {"enabled": False}}, ok=200)
    assert verify(identity, service, request_of(key)).status == 401
    identity("PATCH", f"/users/{ann['id']}", {"user": {"enabled": True}}, ok=200)
    assert verify(identity, service, request_of(key)).status == 200
    identity("DELETE", f"/projects/{ann['project']}/users/{ann['id']}/roles/{identity.role('manager')}", ok=204)
    assert verify(identity, service, request_of(key)).status == 401


def test_a_key_without_secret_or_bound_to_something_opens_nothing(identity, ann, service):
    for number, blob in enumerate(('{"access": "%s"}', '{"access": "%s", "secret": "s", "trust_id": "t"}')):
        access = f"key-{number}"
        body = {"type": "ec2", "user_id": ann["id"], "project_id": ann["project"], "blob": blob % access}
        identity("POST", "/credentials", {"credential": body}, token=ann["token"], ok=201)
        secret = "s" if "secret" in blob else ""
        assert verify(identity, service, request_of({"access": access, "secret": secret})).status == 401


def test_a_token_of_a_key_cannot_be_exchanged_and_touches_no_credentials(identity, ann, key, service):
    token = verify(identity, service, request_of(key)).headers["x-subject-token"]
    assert identity("GET", f"/users/{ann['id']}", token=token).status == 200
    assert identity.exchange(token, {"project": {"id": ann["project"]}}).status == 403
    own = {"type": "cert", "blob": "b", "user_id": ann["id"]}
    made = identity("POST", "/credentials", {"credential": own}, token=ann["token"], ok=201).json["credential"]
    ec2 = f"/users/{ann['id']}/credentials/OS-EC2"
    for method, path, body in (
        ("GET", "/credentials", None),
        ("GET", f"/credentials/{made['id']}", None),
        ("POST", "/credentials", {"credential": own}),
        ("PATCH", f"/credentials/{made['id']}", {"credential": {"blob": "x"}}),
        ("DELETE", f"/credentials/{made['id']}", None),
        ("GET", ec2, None),
        ("POST", ec2, {"tenant_id": ann["project"]}),
        ("GET", f"{ec2}/{key['access']}", None),
        ("DELETE", f"{ec2}/{key['access']}", None),
        ("POST", ann["path"], {"application_credential": {"name": "x"}}),
    ):
        assert identity(method, path, body, token=token).status == 403, (method, path)


def test_delegated_tokens_read_no_secrets(identity, ann, key):
    """An EC2 secret or the key of a TOTP stands for all that the user may do; a delegated token does not."""
    body = {"type": "totp", "user_id": ann["id"], "blob": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"}
    totp = identity("POST", "/credentials", {"credential": body}, token=ann["token"], ok=201).json["credential"]
    made = create(identity, ann, name="free", unrestricted=True)
    bob, _project, _token = identity.member("bob")
    trusts = []
    for part in ({}, {"project_id": ann["project"], "roles": [{"name": "reader"}]}):
        trust = {"trustor_user_id": ann["id"], "trustee_user_id": bob["id"], "impersonation": True, **part}
        trusts.append(identity("POST", "/OS-TRUST/trusts", {"trust": trust}, token=ann["token"], ok=201).json["trust"]["id"])
    delegated = [login(identity, made["secret"], id=made["id"])]
    delegated += [identity.login("bob", "bob-secret", {"OS-TRUST:trust": {"id": trust}}) for trust in trusts]
    ec2 = f"/users/{ann['id']}/credentials/OS-EC2"
    for answer in delegated:
        for path in ("/credentials", "/credentials?type=totp", f"/credentials/{totp['id']}", ec2, f"{ec2}/{key['access']}"):
            refused = identity("GET", path, token=answer.headers["x-subject-token"])
            told = "Credentials cannot be used with a token of an application credential, a trust, OAuth 1.0 or an EC2 key."
            assert (refused.status, message(refused)) == (403, told), path
            assert identity("GET", path, token=ann["token"]).status == 200


def test_delegated_tokens_make_no_credentials(identity, ann):
    made = create(identity, ann, name="free", unrestricted=True)
    token = login(identity, made["secret"], id=made["id"]).headers["x-subject-token"]
    body = {"type": "ec2", "user_id": ann["id"], "project_id": "0" * 32, "blob": '{"access": "a", "secret": "s"}'}
    assert identity("POST", "/credentials", {"credential": body}, token=token).status == 403
    path = f"/users/{ann['id']}/credentials/OS-EC2"
    assert identity("POST", path, {"tenant_id": ann["project"]}, token=token).status == 403
