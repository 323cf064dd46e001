"""Users and groups on the wire."""

from __future__ import annotations

import pytest

from tests.api.identity.world import message


def test_a_user_from_creation_to_deletion(identity):
    body = {"name": "ann", "password": "pw", "email": "ann@example.org", "description": "Ann", "favourite": ["x"]}
    made = identity("POST", "/users", {"user": body})
    assert made.status == 201
    user = made.json["user"]
    assert user == {
        "id": user["id"],
        "name": "ann",
        "domain_id": "default",
        "enabled": True,
        "options": {},
        "password_expires_at": None,
        "email": "ann@example.org",
        "description": "Ann",
        "favourite": ["x"],
        "links": {"self": f"http://localhost:5000/identity/v3/users/{user['id']}"},
    }
    assert len(user["id"]) == 32
    path = f"/users/{user['id']}"
    assert identity("GET", path).json == {"user": user}
    changed = identity("PATCH", path, {"user": {"name": "anna", "email": "new", "enabled": False}}, ok=200).json["user"]
    assert changed == {**user, "name": "anna", "email": "new", "enabled": False}
    assert identity("DELETE", path).status == 204
    gone = identity("GET", path)
    assert gone.json == {"error": {"code": 404, "message": f"Could not find user: {user['id']}.", "title": "Not Found"}}
    assert identity("DELETE", path).status == 404
    assert identity("PATCH", path, {"user": {"name": "x"}}).status == 404


def test_no_answer_holds_a_password(identity):
    user = identity.user("ann")
    for answer in (identity("GET", f"/users/{user['id']}"), identity("GET", "/users")):
        assert "password\"" not in answer.text and "$argon2" not in answer.text
    assert "password" not in user


def test_names_are_unique_in_their_domain(identity):
    other = identity.make("domain", name="other")
    identity.user("ann")
    identity.user("ann", domain_id=other["id"])
    again = identity("POST", "/users", {"user": {"name": "ann"}})
    assert again.status == 409
    assert message(again) == (
        "Conflict occurred attempting to store user - Duplicate entry found with name ann at domain ID default."
    )
    bob = identity.user("bob")
    assert identity("PATCH", f"/users/{bob['id']}", {"user": {"name": "ann"}}).status == 409


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "   "},
        {"name": "x" * 256},
        {"name": 7},
        {"name": "x", "enabled": "yes"},
        {"name": "x", "password": 7},
        {"name": "x", "password": "p" * 4097},
        {"name": "x", "domain_id": "no/such"},
        {"name": "x", "options": {"unknown": True}},
        {"name": "x", "options": {"multi_factor_auth_enabled": "yes"}},
        {"name": "x", "options": {"multi_factor_auth_rules": ["password"]}},
        {"name": "x", "options": {"multi_factor_auth_rules": [[]]}},
        {"name": "x", "options": {"multi_factor_auth_rules": [["password", "password"]]}},
        {"name": "x", "options": {"multi_factor_auth_rules": [["password"], ["password"]]}},
        {"name": "x", "options": {"multi_factor_auth_rules": [["password", 7]]}},
        {"name": "x", "options": {"multi_factor_auth_rules": [["password", "fingerprint"]]}},
        {"name": "x", "default_project_id": "default"},
    ],
)
def test_bad_users_are_400(identity, body):
    answer = identity("POST", "/users", {"user": body})
    assert answer.status == 400, answer.text
    assert answer.json["error"]["title"] == "Bad Request" and message(answer)


def test_a_user_needs_a_domain_that_exists(identity):
    assert identity("POST", "/users", {"user": {"name": "x", "domain_id": "none"}}).status == 404


def test_a_user_stays_in_the_domain_and_keeps_the_id(identity):
    user = identity.user("ann")
    other = identity.make("domain", name="other")
    assert identity("PATCH", f"/users/{user['id']}", {"user": {"domain_id": other["id"]}}).status == 400
    assert identity("PATCH", f"/users/{user['id']}", {"user": {"id": "0" * 32}}).status == 400
    assert identity("PATCH", f"/users/{user['id']}", {"user": {}}).status == 400


def test_bodies_that_are_no_documents(identity):
    for body in (None, [], {"user": []}, {"users": {}}, "text"):
        assert identity("POST", "/users", body).status == 400
    answer = identity.client.request(
        "POST", "/v3/users", body=b"{", headers={"X-Auth-Token": identity.admin, "Content-Type": "application/json"}, as_=None
    )
    assert answer.status == 400


def names(answer):
    return {entry["name"] for key, entries in answer.json.items() if isinstance(entries, list) for entry in entries}


def test_filters(identity):
    domain = identity.make("domain", name="acme")
    for name in ("Alpha", "alphabet", "beta", "100%", "ünïcode"):
        identity.user(name, domain_id=domain["id"])
    identity.make("user", name="off", domain_id=domain["id"], enabled=False)
    base = f"/users?domain_id={domain['id']}&"
    for query, expected in {
        "name=beta": {"beta"},
        "name=Beta": set(),
        "enabled=false": {"off"},
        "enabled=0": {"off"},
        "enabled=true&name__startswith=al": {"alphabet"},
        "name__istartswith=AL": {"Alpha", "alphabet"},
        "name__contains=lpha": {"Alpha", "alphabet"},
        "name__contains=LPHA": set(),
        "name__icontains=LPHA": {"Alpha", "alphabet"},
        "name__endswith=a": {"Alpha", "beta"},
        "name__iendswith=ETA": {"beta"},
        "name__endswith=ïcode": {"ünïcode"},
        "name__contains=%25": {"100%"},
        "name__startswith=_": set(),
        "name__contains=": {"Alpha", "alphabet", "beta", "100%", "ünïcode", "off"},
        "unknown=x&name=beta": {"beta"},
    }.items():
        assert names(identity("GET", base + query, ok=200)) == expected, query


def test_pages(identity):
    made = {identity.user(f"u{n}")["id"] for n in range(5)}
    seen, path, pages = set(), "/users?limit=2&name__startswith=u", 0
    while path:
        answer = identity("GET", path, ok=200).json
        assert len(answer["users"]) <= 2
        seen |= {user["id"] for user in answer["users"]}
        following = answer["links"]["next"]
        assert answer.get("truncated", False) == bool(following)
        path = following and following.split("/v3")[1]
        pages += 1
    assert seen == made and pages == 3
    assert identity("GET", "/users?limit=x").status == 400
    assert identity("GET", "/users?limit=-1").status == 400


def test_a_list_takes_one_statement_however_long(identity):
    identity("GET", "/users")
    for n in range(8):
        identity.user(f"u{n}")
    with identity.client.count_queries() as statements:
        assert len(identity("GET", "/users", ok=200).json["users"]) == 10
    assert len(statements) == 1  # the list; the revision of a remembered token is read past the counter


# Passwords ------------------------------------------------------------------------------------------------------------


def change(identity, user_id, old, new):
    return identity("POST", f"/users/{user_id}/password", {"user": {"original_password": old, "password": new}}, token=None)


def test_a_user_changes_the_password(identity):
    user = identity.user("ann")
    token = identity.token("ann", "ann-secret", "unscoped")
    assert change(identity, user["id"], "ann-secret", "next").status == 204
    assert identity.validate(token).status == 404
    assert identity.login("ann", "ann-secret").status == 401
    assert identity.login("ann", "next").status == 201


def test_a_password_change_needs_the_old_one(identity):
    user = identity.user("ann")
    assert change(identity, user["id"], "wrong", "next").status == 401
    assert change(identity, "0" * 32, "wrong", "next").status == 401
    assert change(identity, user["id"], "ann-secret", "").status == 400
    assert identity("POST", f"/users/{user['id']}/password", {"user": {"password": "x"}}, token=None).status == 400
    assert identity.login("ann", "ann-secret").status == 201


def test_a_locked_password_is_changed_by_administrators_only(identity):
    user = identity.user("ann", options={"lock_password": True})
    refused = change(identity, user["id"], "ann-secret", "next")
    assert refused.status == 400
    assert message(refused) == "The password of this user is locked: only an administrator can change it."
    identity("PATCH", f"/users/{user['id']}", {"user": {"password": "next", "options": {"lock_password": None}}}, ok=200)
    assert change(identity, user["id"], "next", "again").status == 204


def test_a_user_without_password_cannot_log_in(identity):
    identity.make("user", name="ann")
    assert identity.login("ann", "").status == 401
    assert identity.login("ann", "None").status == 401


# Groups ---------------------------------------------------------------------------------------------------------------


def test_a_group_from_creation_to_deletion(identity):
    group = identity.make("group", name="crew", description="All of them")
    assert group == {
        "id": group["id"],
        "name": "crew",
        "domain_id": "default",
        "description": "All of them",
        "links": {"self": f"http://localhost:5000/identity/v3/groups/{group['id']}"},
    }
    path = f"/groups/{group['id']}"
    changed = identity("PATCH", path, {"group": {"name": "team", "description": None}}, ok=200).json["group"]
    assert changed == {**group, "name": "team", "description": ""}
    assert identity("GET", path).json["group"] == changed
    assert identity("POST", "/groups", {"group": {"name": "team"}}).status == 409
    assert names(identity("GET", "/groups?name__contains=ea")) == {"team"}
    assert identity("DELETE", path).status == 204
    assert identity("GET", path).status == 404


def test_members(identity):
    group, ann, bob = identity.make("group", name="crew"), identity.user("ann"), identity.user("bob")
    member = f"/groups/{group['id']}/users/"
    assert identity("HEAD", member + ann["id"]).status == 404
    for _ in range(2):
        assert identity("PUT", member + ann["id"]).status == 204
    assert identity("HEAD", member + ann["id"]).status == 204
    assert identity("GET", member + ann["id"]).status == 204
    assert names(identity("GET", f"/groups/{group['id']}/users")) == {"ann"}
    assert names(identity("GET", f"/users/{ann['id']}/groups")) == {"crew"}
    assert names(identity("GET", f"/users/{bob['id']}/groups")) == set()
    assert identity("DELETE", member + bob["id"]).status == 404
    assert identity("PUT", member + "0" * 32).status == 404
    assert identity("PUT", f"/groups/{'0' * 32}/users/{ann['id']}").status == 404
    assert identity("DELETE", member + ann["id"]).status == 204
    assert names(identity("GET", f"/groups/{group['id']}/users")) == set()


def test_roles_come_and_go_with_the_group(identity):
    group, ann = identity.make("group", name="crew"), identity.user("ann")
    project = identity.make("project", name="p")
    scope = {"project": {"id": project["id"]}}
    identity.grant("member", group=group["id"], project=project["id"])
    assert identity.login("ann", "ann-secret", scope).status == 401
    identity("PUT", f"/groups/{group['id']}/users/{ann['id']}", ok=204)
    token = identity.token("ann", "ann-secret", scope)
    identity("DELETE", f"/groups/{group['id']}/users/{ann['id']}", ok=204)
    assert identity.validate(token).status == 404
    identity("PUT", f"/groups/{group['id']}/users/{ann['id']}", ok=204)
    token = identity.token("ann", "ann-secret", scope)
    identity("DELETE", f"/groups/{group['id']}", ok=204)
    assert identity.validate(token).status == 404


def test_projects_of_a_user(identity):
    who, project, token = identity.member("ann")
    path = f"/users/{who['id']}/projects"
    assert names(identity("GET", path, token=token)) == {"project-of-ann"}
    assert names(identity("GET", path + "?name=other")) == set()
    assert identity("GET", f"/users/{'0' * 32}/projects").status == 404


# What belongs to a user -----------------------------------------------------------------------------------------------


def test_projects_of_a_user_are_filtered_like_other_lists(identity):
    ann = identity.user("ann")
    for name in ("Alpha", "alphabet", "beta"):
        identity.grant("member", user=ann["id"], project=identity.make("project", name=name)["id"])
    base = f"/users/{ann['id']}/projects?"
    for query, expected in {
        "": {"Alpha", "alphabet", "beta"},
        "name=beta": {"beta"},
        "name=Beta": set(),
        "name__contains=lpha": {"Alpha", "alphabet"},
        "name__icontains=ALPHA": {"Alpha", "alphabet"},
        "name__startswith=al": {"alphabet"},
        "name__endswith=a": {"Alpha", "beta"},
        "name__iequals=ALPHA": {"Alpha"},
        "domain_id=default&enabled=true": {"Alpha", "alphabet", "beta"},
        "domain_id=other": set(),
        "enabled=false": set(),
    }.items():
        assert names(identity("GET", base + query, ok=200)) == expected, query


def test_who_looks_from_a_domain_sees_its_groups_alone(identity):
    domain = identity.make("domain", name="acme")
    boss = identity.user("boss", domain_id=domain["id"])
    ann = identity.user("ann", domain_id=domain["id"])
    identity.grant("reader", user=boss["id"], domain=domain["id"])
    for name, where in (("here", domain["id"]), ("there", "default")):
        group = identity.make("group", name=name, domain_id=where)
        identity("PUT", f"/groups/{group['id']}/users/{ann['id']}", ok=204)
    token = identity.token("boss", "boss-secret", {"domain": {"id": domain["id"]}}, domain=domain["id"])
    assert names(identity("GET", f"/users/{ann['id']}/groups", token=token, ok=200)) == {"here"}
    assert names(identity("GET", f"/users/{ann['id']}/groups", ok=200)) == {"here", "there"}


def test_a_default_project_gives_the_scope_of_a_login_that_names_none(identity):
    ann, project, _token = identity.member("ann")
    path = f"/users/{ann['id']}"
    assert "default_project_id" not in identity("GET", path).json["user"]
    changed = identity("PATCH", path, {"user": {"default_project_id": project["id"]}}, ok=200).json["user"]
    assert changed["default_project_id"] == project["id"]
    assert identity.login("ann", "ann-secret").json["token"]["project"]["id"] == project["id"]
    assert "project" not in identity.login("ann", "ann-secret", "unscoped").json["token"]
    identity("PATCH", path, {"user": {"default_project_id": "0" * 32}}, ok=200)
    assert "project" not in identity.login("ann", "ann-secret").json["token"], "one that cannot be used is passed over"
    assert "default_project_id" not in identity("PATCH", path, {"user": {"default_project_id": None}}, ok=200).json["user"]
