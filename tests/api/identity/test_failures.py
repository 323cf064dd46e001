"""Who fails to log in again and again has to wait; others, and the same user elsewhere, do not."""

from __future__ import annotations

import pytest

from pileus.kernel import clock
from pileus.kernel.testing import NOBODY
from tests.api.identity.world import Identity, message

HERE, THERE = "192.0.2.1", "198.51.100.7"


@pytest.fixture
def identity(tmp_path, time):
    made = Identity(home=tmp_path, options={"failed_logins": 3, "failed_logins_window": 60})
    yield made
    made.client.close()


def send(identity, method, path, body, client):
    return identity.client.request(method, "/v3" + path, json=body, as_=NOBODY, client=client)


def login(identity, password, client=HERE, user=None):
    proof = {"methods": ["password"], "password": {"user": {**(user or {"name": "ann", "domain": {"id": "default"}}), "password": password}}}
    return send(identity, "POST", "/auth/tokens", {"auth": {"identity": proof}}, client)


def test_failures_from_one_address_have_to_wait(identity, time):
    identity.user("ann")
    identity.user("bob")
    for _ in range(3):
        assert login(identity, "wrong").status == 401
    time.advance(15)
    for password in ("wrong", "ann-secret"):
        slowed = login(identity, password)
        assert slowed.status == 429
        assert slowed.headers["retry-after"] == "45"
        assert slowed.json["error"] == {
            "code": 429,
            "message": "Too many failed logins of this user from this address. Try again later.",
            "title": "Too Many Requests",
        }
    assert login(identity, "ann-secret", THERE).status == 201, "nobody locks ann out of elsewhere"
    assert login(identity, "bob-secret", user={"name": "bob", "domain": {"id": "default"}}).status == 201
    time.advance(45)
    assert login(identity, "ann-secret").status == 201


def test_users_who_do_not_exist_have_to_wait_just_the_same(identity):
    unknown = {"name": "nobody", "domain": {"name": "Default"}}
    for _ in range(3):
        assert login(identity, "x", user=unknown).status == 401
    assert login(identity, "x", user=unknown).status == 429


def test_right_logins_and_unreadable_ones_do_not_count(identity):
    identity.user("ann")
    for _ in range(5):
        assert login(identity, "ann-secret").status == 201
        assert login(identity, 7).status == 400
    assert login(identity, "ann-secret").status == 201


def test_a_part_of_a_login_is_no_failure(identity):
    identity.user("ann", options={"multi_factor_auth_rules": [["password", "totp"]]})
    for _ in range(5):
        assert "openstack-auth-receipt" in login(identity, "ann-secret").headers


def test_every_user_that_a_login_names_counts(identity):
    ann, bob = identity.user("ann"), identity.user("bob")
    for _ in range(3):
        proof = {
            "methods": ["password", "totp"],
            "password": {"user": {"id": ann["id"], "password": "ann-secret"}},
            "totp": {"user": {"id": bob["id"], "passcode": "000000"}},
        }
        assert send(identity, "POST", "/auth/tokens", {"auth": {"identity": proof}}, HERE).status == 401
    assert login(identity, "bob-secret", user={"id": bob["id"]}).status == 429
    assert login(identity, "ann-secret", user={"id": ann["id"]}).status == 429


def test_password_changes_count_too(identity):
    ann = identity.user("ann")
    body = {"user": {"original_password": "wrong", "password": "next"}}
    for _ in range(3):
        assert send(identity, "POST", f"/users/{ann['id']}/password", body, HERE).status == 401
    assert send(identity, "POST", f"/users/{ann['id']}/password", body, HERE).status == 429
    assert login(identity, "ann-secret", user={"id": ann["id"]}).status == 429
    body["user"]["original_password"] = "ann-secret"
    assert send(identity, "POST", f"/users/{ann['id']}/password", body, THERE).status == 204


def test_secrets_of_application_credentials_cannot_be_guessed_either(identity):
    proof = {"methods": ["application_credential"], "application_credential": {"id": "0" * 32, "secret": "x"}}
    for _ in range(3):
        assert send(identity, "POST", "/auth/tokens", {"auth": {"identity": proof}}, HERE).status == 401
    assert send(identity, "POST", "/auth/tokens", {"auth": {"identity": proof}}, HERE).status == 429
    form = f"grant_type=client_credentials&client_id={'0' * 32}&client_secret=x".encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    slowed = identity.client.request("POST", "/v3/OS-OAUTH2/token", body=form, headers=headers, as_=NOBODY, client=HERE)
    assert slowed.status == 429 and int(slowed.headers["retry-after"]) == 60


@pytest.mark.parametrize("method, secret", [("password", "password"), ("totp", "passcode")])
def test_what_else_a_section_says_hides_nobody(identity, method, secret):
    ann = identity.user("ann")
    proof = {"methods": [method], method: {"user": {"id": ann["id"], secret: "wrong"}, "secret": "", "id": "x", "name": "y"}}
    for _ in range(3):
        assert send(identity, "POST", "/auth/tokens", {"auth": {"identity": proof}}, HERE).status == 401
    assert send(identity, "POST", "/auth/tokens", {"auth": {"identity": proof}}, HERE).status == 429
    assert login(identity, "ann-secret", user={"id": ann["id"]}).status == 429


def test_tokens_are_not_slowed(identity):
    for _ in range(10):
        assert identity.exchange("x" * 100).status == 404


def test_by_default_the_limit_is_wide(tmp_path, time):
    made = Identity(home=tmp_path)
    made.user("ann")
    assert [login(made, "wrong").status for _ in range(31)] == [401] * 30 + [429]
    assert message(login(made, "ann-secret")).startswith("Too many failed logins")
    made.client.close()
