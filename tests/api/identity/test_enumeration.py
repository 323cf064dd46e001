"""Who fails to prove who they are learns nothing of who exists: the same answer, for the same work, whatever was wrong."""

from __future__ import annotations

import base64
import contextlib
from urllib.parse import urlencode

import msgspec
import pytest

from pileus.identity.logic import passwords, state
from pileus.identity.options import Options
from pileus.kernel.testing import NOBODY
from tests.api.identity.test_oauth2 import FORM, GRANT, ask
from tests.api.identity.world import Identity

LOCKOUT = "lockout_failure_attempts"
LOCKS = LOCKOUT in {field.name for field in msgspec.structs.fields(Options)}


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    made = Identity(home=tmp_path_factory.mktemp("enumeration"), options={LOCKOUT: 2} if LOCKS else {})
    made.user("ann")
    made.user("off", enabled=False)
    made.make("user", name="without")  # has no password
    closed = made.make("domain", name="closed")
    made.user("inside", domain_id=closed["id"])
    made("PATCH", f"/domains/{closed['id']}", {"domain": {"enabled": False}}, ok=200)
    if LOCKS:
        made.user("locked")
        for _ in range(2):
            assert made.login("locked", "wrong").status == 401
    yield made
    made.client.close()


@pytest.fixture
def work(identity, monkeypatch):
    """How many hashes of passwords, each of milliseconds, were computed since it was last asked."""
    done = [0]
    hasher = state.of(identity.service).hasher
    slow = hasher._argon2

    class Counted:
        def verify(self, *arguments):
            done[0] += 1
            return slow.verify(*arguments)

        def hash(self, *arguments):
            done[0] += 1
            return slow.hash(*arguments)

    monkeypatch.setattr(hasher, "_argon2", Counted())

    def taken():
        found, done[0] = done[0], 0
        return found

    return taken


def seen_of(answer):
    """All that a client sees, but for the id of the request and the moment."""
    headers = {name: value for name, value in answer.headers.items() if name not in {"x-openstack-request-id", "date"}}
    return answer.status, headers, answer.body


def all_alike(work, attempts):
    """Plays `(name, call)` and asserts that nobody could tell them apart; the answer."""
    work()
    found = {}
    for name, attempt in attempts:
        answer = attempt()
        found[name] = (*seen_of(answer), work())
    first = next(iter(found.values()))
    for name, one in found.items():
        assert one == first, f"{name} is told apart: {one} and {first}"
    return first


def by_id(identity, user_id, password):
    body = {"auth": {"identity": {"methods": ["password"], "password": {"user": {"id": user_id, "password": password}}}}}
    return identity("POST", "/auth/tokens", body, token=None)


def users(identity):
    return {user["name"]: user["id"] for user in identity("GET", "/users").json["users"]}


def test_every_failed_login_is_like_every_other(identity, work):
    ids = users(identity)
    attempts = [
        ("an unknown user", lambda: identity.login("nobody-there", "secret")),
        ("a wrong password", lambda: identity.login("ann", "wrong")),
        ("an empty password", lambda: identity.login("ann", "")),
        ("a disabled user with the right password", lambda: identity.login("off", "off-secret")),
        ("a disabled user with a wrong one", lambda: identity.login("off", "wrong")),
        ("a user without a password", lambda: identity.login("without", "secret")),
        ("an unknown domain", lambda: identity.login("ann", "ann-secret", domain="nowhere")),
        ("a disabled domain", lambda: identity.login("inside", "inside-secret", domain=identity("GET", f"/users/{ids['inside']}").json["user"]["domain_id"])),
        ("an unknown id", lambda: by_id(identity, "f" * 32, "secret")),
        ("a known id", lambda: by_id(identity, ids["off"], "off-secret")),
        ("no role for the scope", lambda: identity.login("ann", "ann-secret", {"project": {"name": "admin", "domain": {"id": "default"}}})),
        ("an unknown project", lambda: identity.login("ann", "ann-secret", {"project": {"id": "f" * 32}})),
        ("an unknown domain as scope", lambda: identity.login("ann", "ann-secret", {"domain": {"name": "nowhere"}})),
        ("no role on the system", lambda: identity.login("ann", "ann-secret", {"system": {"all": True}})),
    ]
    if LOCKS:
        attempts.append(("a locked user with the right password", lambda: identity.login("locked", "locked-secret")))
        attempts = [(name, one) for name, one in attempts if name not in {"a wrong password", "an empty password"}]  # would lock ann
    status, headers, _body, done = all_alike(work, attempts)
    assert status == 401 and done == 1
    assert headers["www-authenticate"].startswith("Keystone uri=")


def test_the_first_login_of_a_process_does_no_more_work_than_later_ones(identity, work):
    hasher = passwords.Hasher(1, 8)
    calls = []
    slow = hasher._argon2

    class Counted:
        def verify(self, *arguments):
            calls.append("verify")
            return slow.verify(*arguments)

        def hash(self, *arguments):
            calls.append("hash")
            return slow.hash(*arguments)

    hasher._argon2 = Counted()
    assert not hasher.verify("x", None) and not hasher.verify("x", "")
    assert calls == ["verify", "verify"]


def test_what_stands_for_nobody_costs_what_the_hash_of_somebody_costs():
    hasher = passwords.Hasher(2, 64)
    made, nobody = hasher.hash("x").split("$"), hasher._nobody.split("$")
    assert made[:4] == nobody[:4] and [len(part) for part in made] == [len(part) for part in nobody]


def test_every_failed_change_of_a_password_is_like_every_other(identity, work):
    ids = users(identity)

    def change(user_id, original):
        return identity("POST", f"/users/{user_id}/password", {"user": {"original_password": original, "password": "a new one"}}, token=None)

    status, _headers, _body, done = all_alike(
        work,
        [
            ("an unknown user", lambda: change("f" * 32, "secret")),
            ("a wrong password", lambda: change(ids["ann"], "wrong")),
            ("a disabled user", lambda: change(ids["off"], "off-secret")),
            ("a disabled domain", lambda: change(ids["inside"], "inside-secret")),
            ("a user without a password", lambda: change(ids["without"], "secret")),
        ],
    )
    assert status == 401 and done == 1


@pytest.fixture(scope="module")
def holder(identity):
    """A user with two application credentials: one of a secret of their own, one of a made one; and one of a disabled user."""
    user, _project, token = identity.member("holder")
    path = f"/users/{user['id']}/application_credentials"
    own = identity("POST", path, {"application_credential": {"name": "own", "secret": "my-secret"}}, token=token, ok=201).json["application_credential"]
    made = identity("POST", path, {"application_credential": {"name": "made"}}, token=token, ok=201).json["application_credential"]
    return user, own, made


def with_credential(identity, **section):
    body = {"auth": {"identity": {"methods": ["application_credential"], "application_credential": section}}}
    return identity("POST", "/auth/tokens", body, token=None)


def test_every_failed_application_credential_is_like_every_other(identity, work, holder):
    user, own, made = holder
    named = {"id": user["id"]}

    def by_name(name, who=named, secret="wrong"):
        return lambda: with_credential(identity, name=name, user=who, secret=secret)

    status, _headers, _body, done = all_alike(
        work,
        [
            ("an unknown user", by_name("own", {"id": "f" * 32})),
            ("an unknown user by name", by_name("own", {"name": "nobody-there", "domain": {"id": "default"}})),
            ("an unknown domain", by_name("own", {"name": "holder", "domain": {"name": "nowhere"}})),
            ("an unknown name", by_name("unknown")),
            ("a wrong secret", by_name("own")),
            ("a wrong secret where one was made", by_name("made")),
        ],
    )
    assert status == 401 and done == 1
    answers = {seen_of(with_credential(identity, id=one, secret="wrong"))[0::2] for one in ("f" * 32, own["id"], made["id"])}
    assert len(answers) == 1, "ids are not to be guessed, but an answer tells nothing either"


def test_every_failed_oauth2_client_is_like_every_other(identity, work, holder):
    _user, own, made = holder

    def with_form(name, secret="wrong"):
        return lambda: ask(identity, {**GRANT, "client_id": name, "client_secret": secret})

    def with_basic(text):
        header = {"Authorization": "Basic " + base64.b64encode(text).decode(), "Content-Type": FORM}
        return lambda: identity.client.request("POST", "/v3/OS-OAUTH2/token", body=urlencode(GRANT).encode(), headers=header, as_=NOBODY)

    found = []
    for attempt in (with_form("f" * 32), with_form(own["id"]), with_form(made["id"]), with_basic(f"{own['id']}:wrong".encode()), with_basic(b"\xff:\xff"), with_form("\0")):
        found.append(seen_of(attempt()))
    assert found[0][0] == 401 and all(one == found[0] for one in found)


def test_ec2_keys_are_asked_for_by_services_alone(identity, holder):
    """They hear 404 for an unknown key, as upstream's do; nobody else hears anything."""
    token = identity.token("holder", "holder-secret", "unscoped")
    for path in ("/ec2tokens", "/s3tokens"):
        for access in ("f" * 32, "known"):
            body = {"credentials": {"access": access, "signature": "x", "token": "eA=="}}
            assert identity("POST", path, body, token=None).status == 401
            assert identity("POST", path, body, token=token).status == 403


def test_a_hash_waits_for_a_slot_and_leaves_it_whatever_happens(identity):
    hasher = state.of(identity.service).hasher
    free = hasher._slots._value
    for stored in (None, "", "$argon2id$broken", "$2b$broken", "$scrypt$x", "$bcrypt-sha256$x", "plain"):
        with contextlib.suppress(Exception):
            assert not hasher.verify("x", stored)
    assert hasher._slots._value == free


def test_a_wrong_guess_takes_as_many_statements_whether_or_not_somebody_is_there(identity):
    ids = users(identity)
    counts = {}
    for name, attempt in (
        ("an unknown user", lambda: identity.login("nobody-there", "secret")),
        ("a wrong password", lambda: identity.login("off", "wrong")),
        ("an unknown domain", lambda: identity.login("ann", "x", domain="nowhere")),
        ("an unknown id", lambda: by_id(identity, "f" * 32, "x")),
        ("a known id", lambda: by_id(identity, ids["without"], "x")),
    ):
        with identity.client.count_queries() as statements:
            assert attempt().status == 401
        counts[name] = len(statements)
    assert len(set(counts.values())) == 1, counts


def with_passcode(identity, passcode, **user):
    body = {"auth": {"identity": {"methods": ["totp"], "totp": {"user": {**user, "passcode": passcode}}}}}
    return identity("POST", "/auth/tokens", body, token=None)


def test_every_failed_passcode_is_like_every_other(identity, work):
    name, off = "with-totp", users(identity)["off"]
    who = identity.user(name)["id"]
    for one in (who, off):
        identity("POST", "/credentials", {"credential": {"type": "totp", "user_id": one, "blob": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"}}, ok=201)
    domain = {"id": "default"}
    status, _headers, _body, done = all_alike(
        work,
        [
            ("an unknown user", lambda: with_passcode(identity, "123456", name="nobody-there", domain=domain)),
            ("an unknown domain", lambda: with_passcode(identity, "123456", name=name, domain={"name": "nowhere"})),
            ("a wrong passcode", lambda: with_passcode(identity, "no code", name=name, domain=domain)),
            ("a user without a key", lambda: with_passcode(identity, "123456", name="without", domain=domain)),
            ("a disabled user", lambda: with_passcode(identity, "no code", id=off)),
            ("an unknown id", lambda: with_passcode(identity, "123456", id="f" * 32)),
        ],
    )
    assert status == 401 and done == 0
