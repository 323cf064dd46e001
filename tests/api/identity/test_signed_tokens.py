"""Signed tokens on the wire (`identity.token_provider`), and what becomes of the tokens of the other kind. Their life is told in
`test_tokens`, for both kinds.
"""

from __future__ import annotations

import base64
import json
import shutil

import pytest

from pileus.identity.logic import keys, state
from pileus.kernel import jws
from tests import databases
from tests.api.identity.test_credentials import create
from tests.api.identity.test_oauth1 import Consumer
from tests.api.identity.world import PASSWORD, Identity, roles_of

JWS = {"token_provider": "jws"}


@pytest.fixture
def identity(tmp_path):
    made = Identity(home=tmp_path, options=JWS)
    yield made
    made.client.close()


def claims_of(token):
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


def test_everybody_can_read_who_it_is_for_and_nobody_what_it_is_worth(identity):
    who, project, token = identity.member("ann")
    found = claims_of(token)
    assert (found["sub"], found["openstack_project_id"], found["openstack_methods"]) == (who["id"], project["id"], ["password"])
    assert set(found) == {"sub", "iat", "exp", "openstack_methods", "openstack_audit_ids", "openstack_project_id"}
    body = identity.validate(token).json["token"]
    assert body["audit_ids"] == found["openstack_audit_ids"]


def test_each_kind_of_delegation(identity):
    who, project, token = identity.member("ann", "admin")
    ann = {"id": who["id"], "project": project["id"], "token": token, "path": f"/users/{who['id']}/application_credentials"}
    consumer = Consumer(identity)
    access = consumer.granted(project["id"], token, "member")
    signed = consumer.login(access)
    assert signed.status == 201 and claims_of(signed.headers["x-subject-token"])["openstack_access_token_id"] == access[0]
    made = create(identity, ann, name="a", roles=[{"name": "member"}])
    auth = {"identity": {"methods": ["application_credential"], "application_credential": {"id": made["id"], "secret": made["secret"]}}}
    by_credential = identity("POST", "/auth/tokens", {"auth": auth}, token=None, ok=201)
    assert claims_of(by_credential.headers["x-subject-token"])["openstack_app_cred_id"] == made["id"]
    trust = {"trustor_user_id": who["id"], "trustee_user_id": identity.user("bob")["id"], "project_id": project["id"], "impersonation": True, "roles": [{"name": "member"}]}
    trust = identity("POST", "/OS-TRUST/trusts", {"trust": trust}, token=token, ok=201).json["trust"]
    entrusted = identity.login("bob", "bob-secret", {"OS-TRUST:trust": {"id": trust["id"]}})
    assert claims_of(entrusted.headers["x-subject-token"])["openstack_trust_id"] == trust["id"]
    for answer in (signed, by_credential, entrusted):
        assert roles_of(answer) == {"member", "reader"}
        assert identity.validate(answer.headers["x-subject-token"]).json == answer.json
    system = identity.token("admin", PASSWORD, {"system": {"all": True}})
    assert claims_of(system)["openstack_system"] == "all" and identity.validate(system).status == 200


def test_a_token_of_a_stranger_is_none(identity):
    claims = jws.decode(identity.admin, state.of(identity.service).signing.loaded())
    stranger = jws.P256.load(jws.P256.new())
    forged = jws.encode(claims, (stranger,))
    assert identity.validate(forged).status == 404
    assert identity("GET", "/users", token=forged).status == 401
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode() + "." + identity.admin.split(".")[1] + "."
    assert identity("GET", "/users", token=unsigned).status == 401


def test_tokens_of_the_other_kind_go_on_until_they_end(tmp_path):
    def with_provider(name):
        return Identity(home=tmp_path, db_url=f"sqlite:///{tmp_path}/identity.db", options={"token_provider": name})

    before = with_provider("fernet")
    old = before.admin
    assert before.validate("a.b.c").status == 404, "nobody here has ever signed"
    before.client.close()
    after = with_provider("jws")
    new = after.admin
    assert "." in new and "." not in old
    assert after.validate(old).status == after.validate(new).status == 200
    assert after.exchange(old).status == 201
    after.client.close()
    again = with_provider("fernet")
    assert again.validate(old).status == again.validate(new).status == 200
    for _ in range(2):
        keys.rotate(again.service)
    fresh = again.token("admin", PASSWORD)
    again("POST", "/projects", {"project": {"name": "x"}}, token=fresh, ok=201)
    again("DELETE", f"/auth/tokens", token=fresh, headers={"X-Subject-Token": fresh}, ok=204)
    fresh = again.token("admin", PASSWORD)
    assert again.validate(old, by=fresh).status == again.validate(new, by=fresh).status == 404, "both kinds of keys are rotated"
    again.client.close()


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_two_machines_through_rotations(kind, tmp_path):
    with databases.database_url(kind, tmp_path) as url:
        here = Identity(db_url=url, home=tmp_path / "here", options=JWS)
        (tmp_path / "there" / "keys").mkdir(parents=True)
        shutil.copy(tmp_path / "here" / "keys" / "installation-secret", tmp_path / "there" / "keys")
        there = Identity(db_url=url, home=tmp_path / "there", options=JWS)
        assert not (tmp_path / "here" / "keys" / "jws").exists(), "the keys are in the database alone"
        before = here.token("admin", PASSWORD)
        for rotating, signing, reading in ((here, here, there), (here, there, here), (there, here, there)):
            old = reading.token("admin", PASSWORD)
            keys.rotate(rotating.service)
            new = signing.token("admin", PASSWORD)
            assert reading.validate(new, by=new).status == signing.validate(old, by=new).status == 200
        assert here.validate(before, by=new).status == there.validate(before, by=new).status == 404
        for made in (here, there):
            made.service.db.close()
            made.client.close()


def test_without_keys_nobody_is_told_that_a_token_is_wrong(identity):
    shutil.rmtree(identity.service.home / "keys" / "jws")
    identity("GET", "/auth/tokens", token=identity.admin, headers={"X-Subject-Token": identity.admin})
    assert identity.login("admin", PASSWORD).status == 503
    assert identity("GET", "/users", token="a.b.c").status == 503
