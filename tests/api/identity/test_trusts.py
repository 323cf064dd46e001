"""Trusts on the wire, and the tokens that come from them."""

from __future__ import annotations

import datetime as dt

import pytest

from pileus.kernel import clock
from tests.api.identity.world import Identity, message, roles_of


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
        "redelegated_trust_id": None,
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
    assert entrusted(identity, trust).status == 401


def test_without_impersonation_the_trustee_acts_in_the_own_name(identity, parties):
    trust = create(identity, parties, impersonation=False)
    body = entrusted(identity, trust).json["token"]
    assert body["user"]["id"] == parties["bob"]
    assert {role["name"] for role in body["roles"]} == {"member", "reader"}


def test_a_token_of_a_trust_manages_no_application_credentials(identity, parties):
    """They would outlive the trust, and an unrestricted one could pass on what the trust does not."""
    path = f"/users/{parties['ann']}/application_credentials"
    own = identity("POST", path, {"application_credential": {"name": "own", "access_rules": [{"service": "image", "method": "GET", "path": "/v2/images"}]}}, token=parties["anns"], ok=201).json
    rule = own["application_credential"]["access_rules"][0]["id"]
    identity("POST", path, {"application_credential": {"name": "other"}}, token=parties["anns"], ok=201)
    token = entrusted(identity, create(identity, parties)).headers["x-subject-token"]
    for body in ({"name": "x", "unrestricted": True}, {"name": "x"}):
        refused = identity("POST", path, {"application_credential": body}, token=token)
        assert (refused.status, message(refused)) == (403, "A token of a trust cannot be used to manage application credentials.")
    assert identity("DELETE", f"{path}/{own['application_credential']['id']}", token=token).status == 403
    assert identity("DELETE", f"/users/{parties['ann']}/access_rules/{rule}", token=token).status == 403
    names = {one["name"] for one in identity("GET", path, token=parties["anns"]).json["application_credentials"]}
    assert names == {"own", "other"}


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
    assert entrusted(identity, trust).status == 403


def test_uses_are_counted(identity, parties):
    trust = create(identity, parties, remaining_uses=2)
    assert entrusted(identity, trust).status == 201
    assert identity("GET", f"/OS-TRUST/trusts/{trust['id']}").json["trust"]["remaining_uses"] == 1
    assert [entrusted(identity, trust).status for _ in range(2)] == [201, 401]
    assert identity("GET", f"/OS-TRUST/trusts/{trust['id']}").status == 404


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
        ({"roles": [{"name": "admin"}]}, 404),
        ({"roles": [{"name": "none"}]}, 404),
        ({"roles": []}, 403),
        ({"trustee_user_id": "0" * 32}, 404),
        ({"project_id": "0" * 32}, 403),
        ({"expires_at": "bad.123Z"}, 400),
        ({"expires_at": "2001-01-01T00:00:00Z"}, 400),
        ({"expires_at": "9999-12-31T23:59:59-12:00"}, 400),
        ({"remaining_uses": 0}, 400),
        ({"remaining_uses": "x"}, 400),
        ({"impersonation": None}, 400),
        ({"allow_redelegation": True, "remaining_uses": 1}, 400),
        ({"allow_redelegation": True, "redelegation_count": 4}, 403),
        ({"allow_redelegation": True, "redelegation_count": -1}, 400),
        ({"allow_redelegation": "yes"}, 400),
        ({"redelegated_trust_id": "0" * 32}, 400),
        ({"roles": [{}]}, 400),
    ],
)
def test_bad_trusts(identity, parties, change, status):
    create(identity, parties, ok=status, **change)


def test_nobody_makes_a_trust_for_another(identity, parties):
    create(identity, parties, ok=403, token=parties["bobs"])
    create(identity, parties, ok=403, token=identity.admin)


# Trusts that are passed on --------------------------------------------------------------------------------------------


@pytest.fixture
def chain(identity, parties):
    """ann trusts bob, who may pass it on to cid, and cid to dan."""
    parties |= {name: identity.user(name)["id"] for name in ("cid", "dan")}
    return parties, create(identity, parties, allow_redelegation=True, roles=[{"name": "member"}, {"name": "reader"}])


def pass_on(identity, parties, trust, by, to, ok=201, **body):
    token = entrusted(identity, trust, by).headers["x-subject-token"]
    return create(identity, parties, ok=ok, token=token, trustee_user_id=parties[to], **body)


def test_a_trust_is_passed_on_as_often_as_it_says(identity, chain):
    parties, first = chain
    assert (first["redelegation_count"], first["redelegated_trust_id"]) == (3, None), "the option's number"
    second = pass_on(identity, parties, first, "bob", "cid", allow_redelegation=True)
    assert (second["redelegation_count"], second["redelegated_trust_id"]) == (2, first["id"])
    assert "allow_redelegation" not in second
    third = pass_on(identity, parties, second, "cid", "dan", allow_redelegation=True, redelegation_count=1)
    assert (third["redelegation_count"], third["redelegated_trust_id"]) == (1, second["id"])
    answer = entrusted(identity, third, "dan")
    assert answer.status == 201 and roles_of(answer) == {"member", "reader"}
    assert answer.json["token"]["user"]["id"] == parties["ann"]
    token = answer.headers["x-subject-token"]
    assert identity.validate(token).json == answer.json
    last = pass_on(identity, parties, third, "dan", "bob", allow_redelegation=True)
    assert last["redelegation_count"] == 0
    refused = pass_on(identity, parties, last, "bob", "cid", ok=403)
    assert message(refused) == "This trust may not be passed on: its redelegation depth 0 is not in 1..3."


def test_who_does_not_say_so_cannot_pass_on(identity, chain):
    parties, first = chain
    for given in ({}, {"allow_redelegation": False, "redelegation_count": 1}, {"allow_redelegation": True, "redelegation_count": 0}):
        made = create(identity, parties, **given)
        assert made["redelegation_count"] == 0
        pass_on(identity, parties, made, "bob", "cid", ok=403)
        second = pass_on(identity, parties, first, "bob", "cid", **given)
        assert second["redelegation_count"] == 0
        pass_on(identity, parties, second, "cid", "dan", ok=403)
    fewer = create(identity, parties, allow_redelegation=True, redelegation_count=1)
    assert pass_on(identity, parties, fewer, "bob", "cid", allow_redelegation=True)["redelegation_count"] == 0


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"roles": [{"name": "manager"}]}, 403),
        ({"roles": [{"name": "admin"}]}, 404),
        ({"remaining_uses": 1}, 403),
        ({"remaining_uses": 1, "allow_redelegation": True}, 400),
        ({"allow_redelegation": True, "redelegation_count": 3}, 403),
        ({"allow_redelegation": True, "redelegation_count": 1}, 403),
        ({"redelegated_trust_id": "0" * 32}, 400),
        ({"trustor_user_id": "bob"}, 403),
        ({"project_id": None, "roles": []}, 201),  # it gives nothing at all
    ],
)
def test_nothing_is_added_on_the_way(identity, chain, change, status):
    parties, first = chain
    change = {name: parties.get(value, value) if isinstance(value, str) else value for name, value in change.items()}
    pass_on(identity, parties, first, "bob", "cid", ok=status, **change)


def test_times_are_those_of_the_trust_before(identity, parties):
    parties["cid"] = identity.user("cid")["id"]
    soon = (clock.utcnow() + dt.timedelta(seconds=600)).replace(microsecond=0)
    first = create(identity, parties, allow_redelegation=True, expires_at=soon.isoformat() + "Z")
    assert pass_on(identity, parties, first, "bob", "cid")["expires_at"] == first["expires_at"]
    earlier, later = (soon + dt.timedelta(seconds=away) for away in (-60, 60))
    assert pass_on(identity, parties, first, "bob", "cid", expires_at=earlier.isoformat() + "Z")["expires_at"] == earlier.isoformat() + ".000000Z"
    pass_on(identity, parties, first, "bob", "cid", ok=403, expires_at=later.isoformat() + "Z")
    endless = create(identity, parties, allow_redelegation=True)
    assert pass_on(identity, parties, endless, "bob", "cid", expires_at=later.isoformat() + "Z")["expires_at"] is not None
    assert pass_on(identity, parties, endless, "bob", "cid")["expires_at"] is None


def test_the_rights_are_those_of_the_first_trustor(identity, chain):
    """Without impersonation too: the trustee needs no roles to pass on those of the first, and adds none to them."""
    parties, _first = chain
    first = create(identity, parties, allow_redelegation=True, impersonation=False)
    own = {"trustor_user_id": parties["bob"], "impersonation": False}
    identity.grant("manager", user=parties["bob"], project=parties["project"])
    pass_on(identity, parties, first, "bob", "cid", ok=403, **own, roles=[{"name": "manager"}])
    identity("DELETE", f"/projects/{parties['project']}/users/{parties['bob']}/roles/{identity.role('manager')}", ok=204)
    pass_on(identity, parties, first, "bob", "cid", ok=403, **{**own, "impersonation": True})
    pass_on(identity, parties, first, "bob", "cid", ok=404, **own, roles=[{"name": "admin"}])
    second = pass_on(identity, parties, first, "bob", "cid", **own, redelegated_trust_id=first["id"])
    identity.grant("member", user=parties["bob"], project=parties["project"])
    answer = entrusted(identity, second, "cid")
    assert answer.json["token"]["user"]["id"] == parties["cid"]
    base = f"/projects/{parties['project']}/users/"
    identity.grant("reader", user=parties["ann"], project=parties["project"])
    identity("DELETE", f"{base}{parties['ann']}/roles/{identity.role('manager')}", ok=204)
    assert identity.validate(answer.headers["x-subject-token"]).status == 404, "bob still has the role, and it was not his to give"
    assert entrusted(identity, second, "cid").status == 403


def impersonating_nobody(identity, parties):
    """What ann lets bob pass on to cid, without impersonation: ann is no party of the trust that cid has."""
    plain = {"impersonation": False}
    first = create(identity, parties, allow_redelegation=True, **plain)
    return pass_on(identity, parties, first, "bob", "cid", trustor_user_id=parties["bob"], **plain)


def test_what_ends_the_tokens_of_the_first_trustor_ends_those_of_the_chain(identity, chain):
    parties, _first = chain
    second = impersonating_nobody(identity, parties)
    token = entrusted(identity, second, "cid").headers["x-subject-token"]
    for enabled, status in ((False, 401), (True, 201)):
        identity("PATCH", f"/users/{parties['ann']}", {"user": {"enabled": enabled}}, ok=200)
        assert identity.validate(token).status == 404
        assert entrusted(identity, second, "cid").status == status


def test_a_chain_rests_while_the_first_trustor_is_inactive(start, time):
    day = 86400
    identity = start(disable_user_account_days_inactive=2, token_expiration=9 * day)
    ann, project, token = identity.member("ann")
    parties = {"ann": ann["id"], "project": project["id"], "anns": token}
    parties |= {name: identity.user(name)["id"] for name in ("bob", "cid")}
    second = impersonating_nobody(identity, parties)
    time.advance(day)
    for name in ("bob", "cid"):
        identity.token(name, f"{name}-secret", "unscoped")
    assert entrusted(identity, second, "cid").status == 201
    time.advance(day)
    assert entrusted(identity, second, "cid").status == 403


@pytest.mark.parametrize("gone", ["first", "bob", "bob disabled", "cid disabled", "ann disabled"])
def test_a_chain_holds_as_long_as_everything_before(identity, chain, gone):
    parties, first = chain
    second = pass_on(identity, parties, first, "bob", "cid", allow_redelegation=True)
    third = pass_on(identity, parties, second, "cid", "dan")
    token = entrusted(identity, third, "dan").headers["x-subject-token"]
    assert identity.validate(token).status == 200
    who, _, disabled = gone.partition(" ")
    if gone == "first":
        identity("DELETE", f"/OS-TRUST/trusts/{first['id']}", token=parties["anns"], ok=204)
        assert identity("GET", "/OS-TRUST/trusts").json["trusts"] == [], "what was made from it goes with it"
    elif disabled:
        identity("PATCH", f"/users/{parties[who]}", {"user": {"enabled": False}}, ok=200)
    else:
        identity("DELETE", f"/users/{parties[who]}", ok=204)
    assert identity.validate(token).status == 404
    assert entrusted(identity, third, "dan").status == 401
    assert identity("GET", f"/OS-TRUST/trusts/{third['id']}").status == 404
    if disabled and who != "ann":
        identity("PATCH", f"/users/{parties[who]}", {"user": {"enabled": True}}, ok=200)
        assert entrusted(identity, third, "dan").status == 201


def test_a_chain_ends_with_the_first_time(identity, parties):
    parties["cid"] = identity.user("cid")["id"]
    soon = (clock.utcnow() + dt.timedelta(seconds=600)).replace(microsecond=0)
    first = create(identity, parties, allow_redelegation=True, expires_at=soon.isoformat() + "Z")
    second = pass_on(identity, parties, first, "bob", "cid")
    previous = clock.use(clock.VirtualClock(clock.time() + 601))
    try:
        assert entrusted(identity, second, "cid").status == 401
    finally:
        clock.use(previous)


def test_the_option_says_how_often(tmp_path):
    identity = Identity(home=tmp_path, options={"max_redelegation_count": 0})
    ann, project, token = identity.member("ann")
    bob = identity.user("bob")["id"]
    known = {"ann": ann["id"], "bob": bob, "project": project["id"], "anns": token}
    made = create(identity, known, allow_redelegation=True)
    assert made["redelegation_count"] == 0
    create(identity, known, ok=403, allow_redelegation=True, redelegation_count=1)
    pass_on(identity, known, made, "bob", "ann", ok=403)
    identity.client.close()


def test_a_chain_costs_two_queries_more(identity, chain):
    parties, first = chain
    second = pass_on(identity, parties, first, "bob", "cid", allow_redelegation=True)
    third = pass_on(identity, parties, second, "cid", "dan")
    counts = []
    for trust, who in ((first, "bob"), (second, "cid"), (third, "dan")):
        token = entrusted(identity, trust, who).headers["x-subject-token"]
        identity("GET", "/OS-TRUST/trusts", ok=200)
        with identity.client.count_queries() as queries:
            assert identity.validate(token).status == 200
        counts.append(len(queries))
    assert counts[1] == counts[2] == counts[0] + 2
