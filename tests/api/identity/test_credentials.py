"""Credentials and application credentials on the wire."""

from __future__ import annotations

import datetime as dt
import hashlib

import pytest
import sqlalchemy as sa

from pileus.identity.store.tables import application_credentials, credentials
from pileus.kernel import clock
from tests.api.identity.world import message, roles_of


def test_a_credential_from_creation_to_deletion(identity):
    who, _project, token = identity.member("ann")
    body = {"type": "cert", "blob": "secret-blob", "user_id": who["id"]}
    made = identity("POST", "/credentials", {"credential": body}, token=token, ok=201).json["credential"]
    assert made == {
        **body,
        "id": made["id"],
        "project_id": None,
        "links": {"self": f"http://localhost:5000/identity/v3/credentials/{made['id']}"},
    }
    path = f"/credentials/{made['id']}"
    assert identity("GET", path, token=token).json["credential"] == made
    changed = identity("PATCH", path, {"credential": {"blob": "new"}}, token=token, ok=200).json["credential"]
    assert changed == {**made, "blob": "new"}
    assert identity("DELETE", path, token=token).status == 204
    assert identity("GET", path).status == 404


def test_blobs_are_encrypted_at_rest(identity):
    identity("POST", "/credentials", {"credential": {"type": "x", "blob": "plain-text", "user_id": "u"}}, ok=201)
    with identity.service.db.read() as conn:
        assert "plain-text" not in conn.execute(sa.select(credentials.c.blob)).scalar_one()
    folder = identity.service.home / "keys" / "credentials"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in folder.iterdir())


def test_users_see_and_make_their_own_only(identity):
    ann, _project, anns = identity.member("ann")
    bob, _project, bobs = identity.member("bob")
    body = {"type": "cert", "blob": "b", "user_id": ann["id"]}
    made = identity("POST", "/credentials", {"credential": body}, token=anns, ok=201).json["credential"]
    assert identity("POST", "/credentials", {"credential": body}, token=bobs).status == 403
    path = f"/credentials/{made['id']}"
    for method, given in (("GET", None), ("PATCH", {"credential": {"blob": "x"}}), ("DELETE", None)):
        assert identity(method, path, given, token=bobs).status == 403
    assert identity("PATCH", path, {"credential": {"user_id": bob["id"]}}, token=anns).status == 403
    assert identity("GET", "/credentials", token=bobs).json["credentials"] == []
    assert [one["id"] for one in identity("GET", "/credentials", token=anns).json["credentials"]] == [made["id"]]
    assert [one["id"] for one in identity("GET", f"/credentials?user_id={ann['id']}&type=cert").json["credentials"]] == [
        made["id"]
    ]


def test_an_ec2_credential_is_named_after_its_access_key(identity):
    body = {"type": "ec2", "blob": '{"access": "AK", "secret": "s"}', "user_id": "u", "project_id": "p"}
    made = identity("POST", "/credentials", {"credential": body}, ok=201).json["credential"]
    assert made["id"] == hashlib.sha256(b"AK").hexdigest()
    assert identity("POST", "/credentials", {"credential": body}).status == 409
    for change in ({"blob": "no json"}, {"blob": "{}"}, {"blob": "[]"}, {"project_id": None}):
        assert identity("POST", "/credentials", {"credential": {**body, **change}}).status == 400
    path = f"/credentials/{made['id']}"
    assert identity("PATCH", path, {"credential": {"blob": "no json"}}).status == 400
    other = {"blob": '{"access": "AK", "secret": "other"}'}
    assert identity("PATCH", path, {"credential": other}, ok=200).json["credential"]["blob"] == other["blob"]


def test_bad_credentials_are_400(identity):
    for body in ({}, {"type": "x", "blob": "b"}, {"type": "", "blob": "b", "user_id": "u"}, {"type": "x", "blob": {}, "user_id": "u"}):
        assert identity("POST", "/credentials", {"credential": body}).status == 400


def test_ec2_keys_of_a_user(identity):
    who, project, token = identity.member("ann")
    path = f"/users/{who['id']}/credentials/OS-EC2"
    made = identity("POST", path, {"tenant_id": project["id"]}, token=token, ok=201).json["credential"]
    assert made == {
        "user_id": who["id"],
        "tenant_id": project["id"],
        "access": made["access"],
        "secret": made["secret"],
        "trust_id": None,
        "links": {"self": f"http://localhost:5000/identity/v3{path}/{made['access']}"},
    }
    one = f"{path}/{made['access']}"
    assert identity("GET", path, token=token).json["credentials"] == [made]
    assert identity("GET", one, token=token).json["credential"] == made
    stored = identity("GET", f"/credentials/{hashlib.sha256(made['access'].encode()).hexdigest()}", token=token)
    assert stored.json["credential"]["type"] == "ec2"
    other, _project, others = identity.member("bob")
    assert identity("GET", path, token=others).status == 403
    assert identity("GET", one, token=others).status == 403
    assert identity("POST", path, {"tenant_id": project["id"]}, token=others).status == 403
    assert identity("GET", f"/users/{other['id']}/credentials/OS-EC2/{made['access']}").status == 404
    for body, status in (({}, 400), ({"tenant_id": 1}, 400), ({"tenant_id": "0" * 32}, 404)):
        assert identity("POST", path, body, token=token).status == status
    assert identity("DELETE", one, token=token).status == 204
    assert identity("GET", one).status == 404


# Application credentials ----------------------------------------------------------------------------------------------


@pytest.fixture
def ann(identity):
    who, project, token = identity.member("ann", "manager")
    return {"id": who["id"], "project": project["id"], "token": token, "path": f"/users/{who['id']}/application_credentials"}


def create(identity, ann, ok=201, token=None, **body):
    answer = identity("POST", ann["path"], {"application_credential": body}, token=token or ann["token"], ok=ok)
    return answer.json["application_credential"] if ok == 201 else answer


def login(identity, secret, scope=None, **which):
    auth = {"identity": {"methods": ["application_credential"], "application_credential": {"secret": secret, **which}}}
    if scope is not None:
        auth["scope"] = scope
    return identity("POST", "/auth/tokens", {"auth": auth}, token=None)


def test_an_application_credential_from_creation_to_deletion(identity, ann):
    made = create(identity, ann, name="ci", description="d")
    secret = made.pop("secret")
    assert len(secret) == 86
    assert made == {
        "id": made["id"],
        "name": "ci",
        "description": "d",
        "user_id": ann["id"],
        "project_id": ann["project"],
        "system": None,
        "expires_at": None,
        "unrestricted": False,
        "roles": made["roles"],
        "links": {"self": f"http://localhost:5000/identity/v3{ann['path']}/{made['id']}"},
    }
    assert {role["name"] for role in made["roles"]} == {"manager", "member", "reader"}
    path = f"{ann['path']}/{made['id']}"
    assert identity("GET", path, token=ann["token"]).json["application_credential"] == made
    assert identity("GET", ann["path"] + "?name=ci", token=ann["token"]).json["application_credentials"] == [made]
    with identity.service.db.read() as conn:
        assert secret not in conn.execute(sa.select(application_credentials.c.secret_hash)).scalar_one()
    answer = login(identity, secret, id=made["id"])
    assert answer.status == 201
    body = answer.json["token"]
    assert body["methods"] == ["application_credential"]
    assert body["project"]["id"] == ann["project"]
    assert body["application_credential"] == {"id": made["id"], "name": "ci", "restricted": True}
    assert len(answer.headers["x-subject-token"]) < 250
    assert identity("DELETE", path, token=ann["token"]).status == 204
    assert identity.validate(answer.headers["x-subject-token"]).status == 404
    assert login(identity, secret, id=made["id"]).status == 401


def test_by_name_with_chosen_secret_and_fewer_roles(identity, ann):
    made = create(identity, ann, name="ci", secret="s3cret", roles=[{"name": "reader"}])
    assert made["secret"] == "s3cret"
    user = {"name": "ann", "domain": {"id": "default"}}
    answer = login(identity, "s3cret", name="ci", user=user)
    assert roles_of(answer) == {"reader"}
    assert login(identity, "wrong", name="ci", user=user).status == 401
    assert login(identity, "s3cret", name="other", user=user).status == 401
    assert login(identity, "s3cret", id=made["id"], scope={"project": {"id": ann["project"]}}).status == 201
    assert login(identity, "s3cret", id=made["id"], scope={"system": {"all": True}}).status == 401
    assert identity.exchange(answer.headers["x-subject-token"], {"project": {"id": "0" * 32}}).status == 401
    again = identity.exchange(answer.headers["x-subject-token"])
    assert roles_of(again) == {"reader"}


def test_a_role_lost_is_lost_for_the_credential_too(identity, ann):
    made = create(identity, ann, name="ci", roles=[{"name": "manager"}])
    token = login(identity, made["secret"], id=made["id"]).headers["x-subject-token"]
    identity.grant("reader", user=ann["id"], project=ann["project"])
    identity("DELETE", f"/projects/{ann['project']}/users/{ann['id']}/roles/{identity.role('manager')}", ok=204)
    assert identity.validate(token).status == 404
    assert login(identity, made["secret"], id=made["id"]).status == 401


def test_it_ends(identity, ann):
    soon = (clock.utcnow() + dt.timedelta(seconds=600)).isoformat()
    made = create(identity, ann, name="ci", expires_at=soon)
    body = login(identity, made["secret"], id=made["id"]).json["token"]
    assert body["expires_at"] == soon + "Z" == made["expires_at"] + "Z"
    for bad in ("2001-01-01T00:00:00", "tomorrow", "9999-12-31T23:59:59-12:00"):
        assert create(identity, ann, ok=400, name="x", expires_at=bad)


def test_refusals(identity, ann):
    create(identity, ann, name="ci")
    assert "Duplicate entry" in message(create(identity, ann, ok=409, name="ci"))
    create(identity, ann, ok=400, name="x", roles=[{"name": "admin"}])
    create(identity, ann, ok=400, name="x", roles=[{"id": "0" * 32}])
    create(identity, ann, ok=400, name="")
    create(identity, ann, ok=403, name="x", token=identity.admin)
    create(identity, ann, ok=403, name="x", token=identity.token("ann", "ann-secret", "unscoped"))
    _who, _project, bobs = identity.member("bob")
    assert identity("GET", ann["path"], token=bobs).status == 403


def test_a_restricted_one_manages_no_others(identity, ann):
    restricted, free = create(identity, ann, name="a"), create(identity, ann, name="b", unrestricted=True)
    tokens = [login(identity, made["secret"], id=made["id"]).headers["x-subject-token"] for made in (restricted, free)]
    create(identity, ann, ok=403, name="c", token=tokens[0])
    assert identity("DELETE", f"{ann['path']}/{free['id']}", token=tokens[0]).status == 403
    create(identity, ann, name="d", token=tokens[1])


def test_there_can_be_a_limit(tmp_path):
    from tests.api.identity.world import Identity

    identity = Identity(home=tmp_path, options={"application_credential_limit": 1})
    who, project, token = identity.member("ann")
    ann = {"path": f"/users/{who['id']}/application_credentials", "token": token}
    create(identity, ann, name="one")
    create(identity, ann, ok=403, name="two")
    identity.client.close()
