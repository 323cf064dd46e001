"""Trusts on the wire, and the tokens that come from them."""

from __future__ import annotations

import datetime as dt

import pytest

from pileus.kernel import clock
from tests.api.identity.world import roles_of


@pytest.fixture
def parties(identity):
    """ann trusts bob."""
    ann, project, anns = identity.member("ann", "manager")
    bob, _project, bobs = identity.member("bob")
    return {"ann": ann["id"], "bob": bob["id"], "project": project["id"], "anns": anns, "bobs": bobs}


def create(identity, parties, ok=201, token=None, **body):
    given = {
        "trustor_user_id": parties["ann"],
        "trustee_user_id": parties["bob"],
        "project_id": parties["project"],
        "impersonation": True,
        "roles": [{"name": "member"}],
        **body,
    }
    answer = identity("POST", "/OS-TRUST/trusts", {"trust": given}, token=token or parties["anns"], ok=ok)
    return answer.json["trust"] if ok == 201 else answer


def entrusted(identity, trust, user="bob"):
    return identity.login(user, f"{user}-secret", {"OS-TRUST:trust": {"id": trust["id"]}})


def test_a_trust_from_creation_to_deletion(identity, parties):
    trust = create(identity, parties)
    base = "http://localhost:5000/identity/v3"
    role = identity.role("member")
    assert trust == {
        "id": trust["id"],
        "trustor_user_id": parties["ann"],
        "trustee_user_id": parties["bob"],
        "project_id": parties["project"],
        "impersonation": True,
        "expires_at": None,
        "remaining_uses": None,
        "redelegation_count": 0,
        "deleted_at": None,
        "roles": [{"id": role, "name": "member", "links": {"self": f"{base}/roles/{role}"}}],
        "roles_links": {"next": None, "self": f"{base}/OS-TRUST/trusts/{trust['id']}/roles", "previous": None},
        "links": {"self": f"{base}/OS-TRUST/trusts/{trust['id']}"},
    }
    path = f"/OS-TRUST/trusts/{trust['id']}"
    for token in (parties["anns"], parties["bobs"], identity.admin):
        assert identity("GET", path, token=token).json["trust"] == trust
    assert identity("GET", path + "/roles", token=parties["anns"]).json["roles"] == trust["roles"]
    assert identity("GET", f"{path}/roles/{role}", token=parties["anns"]).json["role"]["name"] == "member"
    assert identity("HEAD", f"{path}/roles/{role}", token=parties["anns"]).status == 200
    assert identity("GET", f"{path}/roles/{identity.role('manager')}", token=parties["anns"]).status == 404
    assert identity("DELETE", path, token=parties["bobs"]).status == 403
    assert identity("DELETE", path, token=parties["anns"]).status == 204
    assert identity("GET", path).status == 404


def test_who_lists_what(identity, parties):
    trust = create(identity, parties)

    def listed(query, token):
        answer = identity("GET", f"/OS-TRUST/trusts{query}", token=token)
        return answer.status if answer.status != 200 else [one["id"] for one in answer.json["trusts"]]

    assert listed("", identity.admin) == [trust["id"]]
    assert listed("", parties["anns"]) == 403
    assert listed(f"?trustor_user_id={parties['ann']}", parties["anns"]) == [trust["id"]]
    assert listed(f"?trustee_user_id={parties['bob']}", parties["bobs"]) == [trust["id"]]
    assert listed(f"?trustor_user_id={parties['bob']}", parties["bobs"]) == []
    assert listed(f"?trustor_user_id={parties['ann']}", parties["bobs"]) == 403
    _who, _project, stranger = identity.member("eve")
    assert identity("GET", f"/OS-TRUST/trusts/{trust['id']}", token=stranger).status == 403


def test_a_token_of_a_trust_acts_for_the_trustor(identity, parties):
    trust = create(identity, parties)
    answer = entrusted(identity, trust)
    assert answer.status == 201
    body = answer.json["token"]
    assert body["user"]["id"] == parties["ann"]
    assert body["project"]["id"] == parties["project"]
    assert roles_of(answer) == {"member", "reader"}
    assert body["OS-TRUST:trust"] == {
        "id": trust["id"],
        "impersonation": True,
        "trustor_user": {"id": parties["ann"]},
        "trustee_user": {"id": parties["bob"]},
    }
    token = answer.headers["x-subject-token"]
    assert len(token) < 250
    assert identity.validate(token).json == answer.json
    assert identity.exchange(token).status == 403
    assert create(identity, parties, ok=403, token=token)
    identity("DELETE", f"/OS-TRUST/trusts/{trust['id']}", ok=204)
    assert identity.validate(token).status == 404
    assert entrusted(identity, trust).status == 404


def test_without_impersonation_the_trustee_acts_in_the_own_name(identity, parties):
    trust = create(identity, parties, impersonation=False)
    body = entrusted(identity, trust).json["token"]
    assert body["user"]["id"] == parties["bob"]
    assert {role["name"] for role in body["roles"]} == {"member", "reader"}


def test_only_the_trustee_can_use_it(identity, parties):
    trust = create(identity, parties)
    identity.user("eve")
    assert entrusted(identity, trust, "eve").status == 403
    assert entrusted(identity, trust, "ann").status == 403
    both = {"OS-TRUST:trust": {"id": trust["id"]}, "project": {"id": parties["project"]}}
    assert identity.login("bob", "bob-secret", both).status == 400
    assert identity.login("bob", "bob-secret", {"OS-TRUST:trust": {}}).status == 400


@pytest.mark.parametrize("who", ["ann", "bob"])
def test_it_ends_with_either_party(identity, parties, who):
    trust = create(identity, parties)
    token = entrusted(identity, trust).headers["x-subject-token"]
    identity("PATCH", f"/users/{parties[who]}", {"user": {"enabled": False}}, ok=200)
    assert identity.validate(token).status == 404
    identity("PATCH", f"/users/{parties[who]}", {"user": {"enabled": True}}, ok=200)
    assert identity.validate(token).status == 404
    assert entrusted(identity, trust).status == 201
    identity("DELETE", f"/users/{parties[who]}", ok=204)
    assert identity("GET", f"/OS-TRUST/trusts/{trust['id']}").status == 404


def test_it_passes_on_what_the_trustor_still_has(identity, parties):
    trust = create(identity, parties)
    token = entrusted(identity, trust).headers["x-subject-token"]
    identity.grant("reader", user=parties["ann"], project=parties["project"])
    base = f"/projects/{parties['project']}/users/{parties['ann']}/roles/"
    identity("DELETE", base + identity.role("manager"), ok=204)
    assert identity.validate(token).status == 404
    assert entrusted(identity, trust).status == 401


def test_uses_are_counted(identity, parties):
    trust = create(identity, parties, remaining_uses=2)
    assert [entrusted(identity, trust).status for _ in range(3)] == [201, 201, 404]
    assert identity("GET", f"/OS-TRUST/trusts/{trust['id']}").json["trust"]["remaining_uses"] == 0


def test_it_has_an_end(identity, parties):
    soon = (clock.utcnow() + dt.timedelta(seconds=600)).replace(microsecond=0)
    trust = create(identity, parties, expires_at=soon.isoformat() + "Z")
    assert trust["expires_at"] == soon.isoformat() + ".000000Z"
    assert entrusted(identity, trust).json["token"]["expires_at"] == trust["expires_at"]


def test_a_trust_without_project_gives_an_unscoped_token(identity, parties):
    trust = create(identity, parties, project_id=None, roles=[])
    answer = entrusted(identity, trust)
    assert answer.status == 201 and "project" not in answer.json["token"]
    assert answer.json["token"]["OS-TRUST:trust"]["id"] == trust["id"]
    token = answer.headers["x-subject-token"]
    assert identity.validate(token).status == 200
    identity("DELETE", f"/OS-TRUST/trusts/{trust['id']}", ok=204)
    assert identity.validate(token).status == 404


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"roles": [{"name": "admin"}]}, 403),
        ({"roles": [{"name": "none"}]}, 404),
        ({"roles": []}, 403),
        ({"trustee_user_id": "0" * 32}, 404),
        ({"project_id": "0" * 32}, 403),
        ({"expires_at": "bad.123Z"}, 400),
        ({"expires_at": "2001-01-01T00:00:00Z"}, 400),
        ({"remaining_uses": 0}, 400),
        ({"remaining_uses": "x"}, 400),
        ({"impersonation": None}, 400),
        ({"allow_redelegation": True}, 400),
        ({"roles": [{}]}, 400),
    ],
)
def test_bad_trusts(identity, parties, change, status):
    create(identity, parties, ok=status, **change)


def test_nobody_makes_a_trust_for_another(identity, parties):
    create(identity, parties, ok=403, token=parties["bobs"])
    create(identity, parties, ok=403, token=identity.admin)
