"""Secrets stay where they belong: not in the log at its most talkative, not in an answer that did not make them, not in the database in clear."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
from urllib.parse import quote, urlencode

import pytest
import sqlalchemy as sa

from pileus.identity.logic import totp
from pileus.identity.store.tables import METADATA
from pileus.kernel import clock, log
from pileus.kernel.testing import NOBODY
from tests.api.identity.test_oauth2 import FORM, GRANT
from tests.api.identity.test_signed import request_of
from tests.api.identity.world import Identity
from tests.databases import KINDS, database_url

CHOSEN = {
    "password": "Chosen-Passw0rd-1111",
    "new password": "Chosen-Passw0rd-2222",
    "reset password": "Chosen-Passw0rd-3333",
    "refused password": "Chosen-Passw0rd-4444",
    "secret of an application credential": "Chosen-Secret-5555",
    "blob": "Chosen-Blob-6666",
    "new blob": "Chosen-Blob-7777",
    "wrong password": "Chosen-Wrong-8888",
    "key of passcodes": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ",
    "password of several methods": "Chosen-Passw0rd-9999",
}


class Everything(logging.Handler):
    """All records of all loggers, with their arguments, as text."""

    def __init__(self):
        super().__init__(logging.NOTSET)
        self.lines = []

    def emit(self, record):
        self.lines.append(f"{record.getMessage()} {vars(record)!r}")


@pytest.fixture
def logged(tmp_path):
    """The root logger at DEBUG, into a file as a worker writes it and into a list; puts back what was there."""
    root, handler = logging.getLogger(), Everything()
    before = (list(root.handlers), root.level, {name: logging.getLogger(name).level for name in ("alembic", "urllib3", "uvicorn", "asyncio")})
    for old in before[0]:
        root.removeHandler(old)
    path = tmp_path / "log" / "worker.log"
    log.to_file(path, "worker", logging.DEBUG)
    root.addHandler(handler)
    yield path, handler.lines
    for one in list(root.handlers):
        root.removeHandler(one)
        if one not in before[0]:
            one.close()
    for old in before[0]:
        root.addHandler(old)
    root.setLevel(before[1])
    for name, level in before[2].items():
        logging.getLogger(name).setLevel(level)


class Story:
    """Requests of every kind that carries a secret; what answered, and which secrets were made on the way."""

    def __init__(self, identity):
        self.identity = identity
        self.answers = []  # (what may be in it, answer)
        self.made = dict(CHOSEN)
        self.made["token of the administrator"] = identity.admin

    def __call__(self, method, path, body=None, *, shows=(), raw=None, kind="application/json", headers=None, token=None):
        sent = dict(headers or {})
        if token:
            sent["X-Auth-Token"] = token
        if raw is not None:
            sent["Content-Type"] = kind
        answer = self.identity.client.request(method, "/v3" + path, json=body, body=raw, headers=sent, as_=NOBODY)
        assert answer.status < 500, answer.text
        self.answers.append((shows, answer))
        return answer

    def login(self, password, **user):
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": {**user, "password": password}}}}}
        answer = self("POST", "/auth/tokens", body)
        token = answer.headers.get("x-subject-token")
        if token:
            self.made[f"token {len(self.made)}"] = token
        return token


def play(identity):
    story = Story(identity)
    admin, ann = identity.admin, {"name": "ann", "domain": {"id": "default"}}
    user = story("POST", "/users", {"user": {"name": "ann", "password": CHOSEN["password"], "colour": "red"}}, token=admin).json["user"]
    project = identity.make("project", name="p")["id"]
    identity.grant("member", user=user["id"], project=project)
    for password in (CHOSEN["password"], CHOSEN["wrong password"]):
        story.login(password, **ann)
        story.login(password, id=user["id"])
        story.login(password, name="nobody", domain={"id": "default"})
    _passwords(story, user, admin)
    token = story.login(CHOSEN["reset password"], **ann)
    scoped = story("POST", "/auth/tokens", {"auth": {"identity": {"methods": ["token"], "token": {"id": token}}, "scope": {"project": {"id": project}}}})
    mine = story.made["scoped token"] = scoped.headers["x-subject-token"]
    _tokens(story, admin, mine)
    _credentials(story, user, project, mine)
    _bad_requests(story, user, mine, admin)
    _several_methods(story, admin)
    return story


def _passwords(story, user, admin):
    path = f"/users/{user['id']}"
    for original, new in (("wrong password", "refused password"), ("password", "new password")):
        story("POST", f"{path}/password", {"user": {"original_password": CHOSEN[original], "password": CHOSEN[new]}})
    story("PATCH", path, {"user": {"password": CHOSEN["reset password"]}}, token=admin)
    story("POST", "/users", {"user": {"name": "ann", "password": CHOSEN["refused password"]}}, token=admin)  # the name is taken
    story("GET", path, token=admin)
    story("GET", "/users", token=admin)


def _tokens(story, admin, mine):
    for method in ("GET", "HEAD"):
        story(method, "/auth/tokens", headers={"X-Subject-Token": mine}, token=admin, shows=("scoped token",))
        story(method, "/auth/tokens", headers={"X-Subject-Token": mine[:-3]}, token=admin)
        story(method, "/auth/tokens", headers={"X-Subject-Token": mine}, token=mine[:-3])
    gone = story.made["revoked token"] = story.login(CHOSEN["reset password"], name="ann", domain={"id": "default"})
    story("DELETE", "/auth/tokens", headers={"X-Subject-Token": gone}, token=admin)
    story("GET", "/auth/tokens", headers={"X-Subject-Token": gone}, token=admin)
    story("GET", "/users", token=gone)


def _credentials(story, user, project, mine):
    path = f"/users/{user['id']}/application_credentials"
    chosen = {"name": "own", "secret": CHOSEN["secret of an application credential"]}
    own = story("POST", path, {"application_credential": chosen}, token=mine, shows=("secret of an application credential",)).json["application_credential"]
    made = story("POST", path, {"application_credential": {"name": "made"}}, token=mine, shows=("made secret",)).json["application_credential"]
    story.made["made secret"] = made["secret"]
    story("POST", path, {"application_credential": chosen}, token=mine)  # the name is taken
    story("GET", path, token=mine)
    for one, secret in ((own, chosen["secret"]), (made, made["secret"]), (own, CHOSEN["wrong password"])):
        section = {"id": one["id"], "secret": secret}
        answer = story("POST", "/auth/tokens", {"auth": {"identity": {"methods": ["application_credential"], "application_credential": section}}})
        story.made[f"token of a credential {len(story.made)}"] = answer.headers.get("x-subject-token", "")
        form = {**GRANT, "client_id": one["id"], "client_secret": secret}
        answer = story("POST", "/OS-OAUTH2/token", raw=urlencode(form).encode(), kind=FORM, shows=("access token",))
        if answer.status == 200:
            story.made["access token"] = answer.json["access_token"]
        basic = base64.b64encode(f"{one['id']}:{secret}".encode()).decode()
        story("POST", "/OS-OAUTH2/token", raw=urlencode(GRANT).encode(), kind=FORM, headers={"Authorization": f"Basic {basic}"}, shows=("access token",))
        if story.answers[-1][1].status == 200:
            story.answers[-1] = (("*",), story.answers[-1][1])
            story.made[f"access token {len(story.made)}"] = story.answers[-1][1].json["access_token"]
    blob = {"type": "cert", "blob": CHOSEN["blob"], "user_id": user["id"]}
    credential = story("POST", "/credentials", {"credential": blob}, token=mine, shows=("blob",)).json["credential"]
    story("PATCH", f"/credentials/{credential['id']}", {"credential": {"blob": CHOSEN["new blob"]}}, token=mine, shows=("new blob",))
    story("POST", "/credentials", {"credential": {**blob, "type": "ec2"}}, token=mine)  # no JSON
    key = story("POST", f"/users/{user['id']}/credentials/OS-EC2", {"tenant_id": project}, token=story.identity.admin, shows=("EC2 secret",)).json["credential"]
    story.made["EC2 secret"] = key["secret"]
    _signed(story, key)


def _signed(story, key):
    service = story.made["token of a service"] = story.identity.token("nova", "nova-secret", {"project": {"name": "service", "domain": {"id": "default"}}})
    for given in (request_of(key), request_of({**key, "secret": "wrong"}), request_of(key, age=60)):
        answer = story("POST", "/ec2tokens", {"credentials": given}, token=service)
        story.made[f"token of a key {len(story.made)}"] = answer.headers.get("x-subject-token", "")
    text = base64.urlsafe_b64encode(b"GET\n\n\n\n/x").decode()
    signature = base64.b64encode(hmac.new(key["secret"].encode(), b"GET\n\n\n\n/x", hashlib.sha1).digest()).decode()
    for one in (signature, "wrong"):
        answer = story("POST", "/s3tokens", {"credentials": {"access": key["access"], "signature": one, "token": text}}, token=service)
        story.made[f"token of a key {len(story.made)}"] = answer.headers.get("x-subject-token", "")


def _several_methods(story, admin):
    """A login in two steps: the receipt of the first is worth half a login."""
    password, key = CHOSEN["password of several methods"], CHOSEN["key of passcodes"]
    options = {"multi_factor_auth_enabled": True, "multi_factor_auth_rules": [["password", "totp"]]}
    user = story("POST", "/users", {"user": {"name": "several", "password": password, "options": options}}, token=admin).json["user"]
    story("POST", "/credentials", {"credential": {"type": "totp", "user_id": user["id"], "blob": key}}, token=admin, shows=("key of passcodes",))
    first = {"methods": ["password"], "password": {"user": {"id": user["id"], "password": password}}}
    half = story("POST", "/auth/tokens", {"auth": {"identity": first}})
    receipt = story.made["receipt"] = half.headers["openstack-auth-receipt"]
    for passcode in ("000000", totp.passcode(totp.key_of(key), totp.step_at(clock.time()))):
        second = {"methods": ["totp"], "totp": {"user": {"id": user["id"], "passcode": passcode}}}
        answer = story("POST", "/auth/tokens", {"auth": {"identity": second}}, headers={"OpenStack-Auth-Receipt": receipt})
    story.made["token of several methods"] = answer.headers["x-subject-token"]
    story("POST", "/auth/tokens", {"auth": {"identity": first}}, headers={"OpenStack-Auth-Receipt": receipt[:-3]})


def _bad_requests(story, user, mine, admin):
    """Secrets where they do not belong, of a wrong type, too long, in broken JSON: the answer names the place alone."""
    password, secret = CHOSEN["password"], CHOSEN["secret of an application credential"]
    long = password * 500
    for wrong in ([password], {"x": password}, long):
        story("POST", "/users", {"user": {"name": "bob", "password": wrong}}, token=admin)
        story("PATCH", f"/users/{user['id']}", {"user": {"password": wrong}}, token=admin)
        story("POST", f"/users/{user['id']}/password", {"user": {"original_password": wrong, "password": wrong}})
        story.login(wrong, name="ann", domain={"id": "default"})
        story("POST", f"/users/{user['id']}/application_credentials", {"application_credential": {"name": "x", "secret": [secret]}}, token=mine)
        story("POST", "/credentials", {"credential": {"type": "cert", "blob": [CHOSEN["blob"]], "user_id": user["id"]}}, token=mine)
        story("POST", "/auth/tokens", {"auth": {"identity": {"methods": ["token"], "token": {"id": [mine]}}}})
        story("POST", "/auth/tokens", {"auth": {"identity": {"methods": ["password"], "password": password}}})
        story("POST", "/auth/tokens", {"auth": {"identity": {"methods": [["password"]], "password": {"user": {"password": password}}}}})
        story("POST", "/auth/tokens", {"auth": [password]})
    broken = f'{{"auth": {{"identity": {{"methods": ["password"], "password": {{"user": {{"password": "{password}"'.encode()
    story("POST", "/auth/tokens", raw=broken)
    story("POST", "/auth/tokens", raw=broken, kind="text/plain")
    story("POST", f"/users/{user['id']}/password", raw=broken)
    story("POST", "/OS-OAUTH2/token", raw=urlencode({**GRANT, "grant_type": "password", "client_secret": secret}).encode(), kind=FORM)


def forms(secret):
    """A secret as it may look in a log."""
    found = {secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode().rstrip("=")}
    return {one for one in found if len(one) >= 8}


def leaks(text, secrets):
    return [name for name, secret in secrets.items() if secret and any(form in text for form in forms(secret))]


@pytest.mark.parametrize("kind", KINDS)
def test_no_secret_is_logged_told_or_kept_in_clear(tmp_path, logged, kind):
    path, lines = logged
    with database_url(kind, tmp_path) as url:
        identity = Identity(home=tmp_path / "home", db_url=url)
        story = play(identity)
        secrets = {name: secret for name, secret in story.made.items() if secret}
        assert len(secrets) > 20
        for line in lines:
            assert not leaks(line, secrets), line[:2000]
        assert lines and not leaks(path.read_text(), secrets)
        _nothing_is_told(story, secrets)
        _nothing_is_kept(identity, secrets)
        identity.client.close()


def _nothing_is_told(story, secrets):
    for shows, answer in story.answers:
        found = [] if "*" in shows else leaks(answer.text, {name: value for name, value in secrets.items() if name not in shows})
        assert not found or (answer.status < 300 and set(found) <= set(shows)), (found, answer.status, answer.text[:500])


def _nothing_is_kept(identity, secrets):
    with identity.service.db.read() as conn:
        for table in METADATA.sorted_tables:
            for row in conn.execute(sa.select(table)).all():
                found = leaks(repr(tuple(row)), secrets)
                assert not found, (table.name, found)


def test_an_unexpected_error_of_the_database_does_not_log_the_values(identity, logged, monkeypatch):
    """The text of such an error would name all parameters of the statement: hashes and names of users among them."""
    _path, lines = logged
    before = identity.make("user", name="ann", password="x")
    with identity.service.db.write() as conn:
        conn.execute(sa.text("DROP TABLE memberships"))
        conn.execute(sa.text("ALTER TABLE users DROP COLUMN created_at"))
    answer = identity("POST", "/users", {"user": {"name": "the-name-of-bob", "password": "y"}})
    assert answer.status == 503 and before
    assert "created_at" in "".join(lines)
    assert not [line for line in lines if "$argon2" in line or "the-name-of-bob" in line]
