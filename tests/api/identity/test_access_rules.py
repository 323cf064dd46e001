"""Access rules of application credentials: kept, shown, and obeyed."""

from __future__ import annotations

import pytest

from tests.api.identity.test_credentials import ann, create, login  # noqa: F401 - a fixture and its helpers
from tests.api.identity.world import PASSWORD, message

USERS = {"service": "identity", "method": "GET", "path": "/v3/users/*"}
PROJECTS = {"service": "identity", "method": "GET", "path": "/v3/auth/projects"}
KNOWS = {"OpenStack-Identity-Access-Rules": "1.0"}


def without_ids(rules):
    return [{name: value for name, value in rule.items() if name not in {"id", "links"}} for rule in rules]


def token_of(identity, made):
    return login(identity, made["secret"], id=made["id"]).headers["x-subject-token"]


@pytest.fixture
def rules(ann):  # noqa: F811
    return f"/users/{ann['id']}/access_rules"


def test_access_rules_from_creation_to_deletion(identity, ann, rules):
    made = create(identity, ann, name="ci", access_rules=[USERS, PROJECTS, USERS])
    kept = made["access_rules"]
    assert sorted(without_ids(kept), key=str) == sorted([USERS, PROJECTS], key=str)
    assert identity("GET", f"{ann['path']}/{made['id']}").json["application_credential"]["access_rules"] == kept
    assert identity("GET", ann["path"]).json["application_credentials"][0]["access_rules"] == kept
    listed = identity("GET", rules, token=ann["token"]).json["access_rules"]
    assert {rule["id"] for rule in listed} == {rule["id"] for rule in kept}
    users = next(rule for rule in listed if rule["path"] == USERS["path"])
    one = f"{rules}/{users['id']}"
    assert users == {**USERS, "id": users["id"], "links": {"self": f"http://localhost:5000/identity/v3{one}"}}
    assert identity("GET", one, token=ann["token"]).json == {"access_rule": users}
    filtered = identity("GET", f"{rules}?service=identity&method=GET&path={USERS['path']}", token=ann["token"]).json["access_rules"]
    assert filtered == [users]
    assert identity("DELETE", one, token=ann["token"]).status == 403
    identity("DELETE", f"{ann['path']}/{made['id']}", ok=204)
    assert identity("DELETE", one, token=ann["token"]).status == 204
    assert message(identity("GET", one, token=ann["token"])) == f"Could not find Access Rule: {users['id']}."
    assert len(identity("GET", rules, token=ann["token"]).json["access_rules"]) == 1


def test_credentials_share_rules_by_content_and_by_id(identity, ann, rules):
    first = create(identity, ann, name="a", access_rules=[USERS])["access_rules"]
    again = create(identity, ann, name="b", access_rules=[USERS])["access_rules"]
    by_id = create(identity, ann, name="c", access_rules=[{"id": first[0]["id"]}])["access_rules"]
    assert first == again == by_id
    assert len(identity("GET", rules, token=ann["token"]).json["access_rules"]) == 1


def test_refusals(identity, ann, rules):
    _who, _project, bobs = identity.member("bob")
    made = create(identity, ann, name="a", access_rules=[USERS])["access_rules"][0]
    for path in (rules, f"{rules}/{made['id']}"):
        assert identity("GET", path, token=bobs).status == 403
    assert identity("DELETE", f"{rules}/{made['id']}", token=bobs).status == 403
    for bad in (
        {**USERS, "method": "get"},
        {**USERS, "path": "v3"},
        {**USERS, "path": "/" + "x" * 128},
        {**USERS, "extra": 1},
        {"service": "identity", "path": "/v3"},
    ):
        create(identity, ann, ok=400, name="x", access_rules=[bad])
    create(identity, ann, ok=404, name="x", access_rules=[{"id": "0" * 32}])
    assert len(identity("GET", ann["path"]).json["application_credentials"]) == 1
    assert len(identity("GET", rules, token=ann["token"]).json["access_rules"]) == 1


def test_another_users_rule_is_not_found(identity, ann):
    made = create(identity, ann, name="a", access_rules=[USERS])["access_rules"][0]
    who, project, token = identity.member("bob")
    bob = {"id": who["id"], "path": f"/users/{who['id']}/application_credentials", "token": token}
    create(identity, bob, ok=404, name="x", access_rules=[{"id": made["id"]}])
    assert identity("GET", f"/users/{who['id']}/access_rules/{made['id']}", token=token).status == 404


def test_a_token_is_good_for_what_its_rules_say_and_nothing_else(identity, ann):
    confined = token_of(identity, create(identity, ann, name="ci", access_rules=[USERS]))
    assert identity("GET", f"/users/{ann['id']}", token=confined).status == 200
    for method, path in (
        ("GET", f"/users/{ann['id']}/projects"),
        ("HEAD", f"/users/{ann['id']}"),
        ("GET", "/auth/projects"),
        ("GET", "/nowhere"),
        ("DELETE", "/auth/tokens"),
    ):
        refused = identity(method, path, token=confined)
        assert refused.status == 401, (method, path)
        assert "www-authenticate" in refused.headers
    exchanged = identity.exchange(confined).headers["x-subject-token"]
    assert identity("GET", "/auth/projects", token=exchanged).status == 401
    free = token_of(identity, create(identity, ann, name="free"))
    assert identity("GET", "/auth/projects", token=free).status == 200


def test_a_path_may_name_the_prefix_of_its_service(identity, ann):
    rule = {**PROJECTS, "path": "/identity" + PROJECTS["path"]}
    confined = token_of(identity, create(identity, ann, name="ci", access_rules=[rule]))
    assert identity("GET", "/auth/projects", token=confined).status == 200


def test_rules_of_other_services_open_nothing_here(identity, ann):
    rule = {"service": "compute", "method": "GET", "path": "/**"}
    confined = token_of(identity, create(identity, ann, name="ci", access_rules=[rule]))
    assert identity("GET", "/auth/projects", token=confined).status == 401


def test_only_who_obeys_rules_sees_such_a_token_as_valid(identity, ann):
    made = create(identity, ann, name="ci", access_rules=[USERS])
    confined = token_of(identity, made)
    assert identity.validate(confined).status == 404
    seen = identity("GET", "/auth/tokens", headers={"X-Subject-Token": confined, **KNOWS})
    assert seen.json["token"]["application_credential"]["access_rules"] == made["access_rules"]
    itself = identity("GET", "/auth/tokens", token=confined, headers={"X-Subject-Token": confined, **KNOWS})
    assert itself.status == 200
    assert identity("DELETE", "/auth/tokens", headers={"X-Subject-Token": confined}).status == 204


def test_what_a_service_asks_on_behalf_of_the_holder_passes(identity, ann):
    confined = token_of(identity, create(identity, ann, name="ci", access_rules=[USERS]))
    service = identity.token("nova", "nova-secret", {"project": {"name": "service", "domain": {"id": "default"}}})
    passed_on = {"X-Service-Token": service}
    assert identity("GET", "/auth/projects", token=confined, headers=passed_on).status == 200
    own = {"X-Service-Token": ann["token"]}
    assert identity("GET", "/auth/projects", token=confined, headers=own).status == 401


def test_rules_go_with_their_user(identity, ann, rules):
    create(identity, ann, name="ci", access_rules=[USERS])
    identity("DELETE", f"/users/{ann['id']}", ok=204)
    on_system = identity.token("admin", PASSWORD, {"system": {"all": True}})
    assert identity("GET", rules, token=on_system).json["access_rules"] == []
