"""Projects, tags and domains on the wire."""

from __future__ import annotations

import pytest

from tests.api.identity.world import PASSWORD, message


def names(answer):
    return {entry["name"] for key, entries in answer.json.items() if isinstance(entries, list) for entry in entries}


def test_a_project_from_creation_to_deletion(identity):
    project = identity.make("project", name="p", description="Of mine", colour="red", tags=["b", "a"])
    assert project == {
        "id": project["id"],
        "name": "p",
        "domain_id": "default",
        "parent_id": "default",
        "description": "Of mine",
        "enabled": True,
        "is_domain": False,
        "options": {},
        "tags": ["a", "b"],
        "colour": "red",
        "links": {"self": f"http://localhost:5000/identity/v3/projects/{project['id']}"},
    }
    path = f"/projects/{project['id']}"
    assert identity("GET", path).json == {"project": project}
    changed = identity("PATCH", path, {"project": {"name": "q", "enabled": False, "tags": ["c"]}}, ok=200).json["project"]
    assert changed == {**project, "name": "q", "enabled": False, "tags": ["c"]}
    assert identity("DELETE", path).status == 204
    assert identity("GET", path).status == 404
    assert message(identity("DELETE", path)) == f"Could not find project: {project['id']}."


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"name": "x" * 65}, 400),
        ({"name": "x", "tags": ["a,b"]}, 400),
        ({"name": "x", "tags": ["a/b"]}, 400),
        ({"name": "x", "tags": [""]}, 400),
        ({"name": "x", "tags": [f"t{n}" for n in range(81)]}, 400),
        ({"name": "x", "enabled": 1}, 400),
        ({"name": "x", "options": {"other": 1}}, 400),
        ({"name": "x", "parent_id": "0" * 32}, 404),
        ({"name": "x", "domain_id": "none"}, 404),
        ({"name": "x", "is_domain": True, "parent_id": "default"}, 400),
        ({"name": "admin"}, 409),
    ],
)
def test_bad_projects(identity, body, status):
    assert identity("POST", "/projects", {"project": body}).status == status


def test_the_tree(identity):
    domain = identity.make("domain", name="acme")
    one = identity.make("project", name="one", domain_id=domain["id"])
    two = identity.make("project", name="two", parent_id=one["id"])
    three = identity.make("project", name="three", parent_id=two["id"])
    assert two["domain_id"] == domain["id"] and one["parent_id"] == domain["id"]
    assert names(identity("GET", f"/projects?parent_id={one['id']}")) == {"two"}
    shown = identity("GET", f"/projects/{two['id']}?parents_as_ids&subtree_as_ids", ok=200).json["project"]
    assert shown["parents"] == {one["id"]: None}
    assert shown["subtree"] == {three["id"]: None}
    top = identity("GET", f"/projects/{one['id']}?parents_as_ids&subtree_as_ids").json["project"]
    assert top["parents"] is None and top["subtree"] == {two["id"]: {three["id"]: None}}
    assert identity("GET", f"/projects/{two['id']}?parents_as_ids&parents_as_list").status == 400
    assert identity("DELETE", f"/projects/{one['id']}").status == 403
    other = identity("POST", "/projects", {"project": {"name": "x", "domain_id": "default", "parent_id": one["id"]}})
    assert other.status == 400


def test_lists_of_relatives_hold_what_the_caller_has_a_role_on(identity):
    one = identity.make("project", name="one")
    two = identity.make("project", name="two", parent_id=one["id"])
    three = identity.make("project", name="three", parent_id=two["id"])
    path = f"/projects/{two['id']}?parents_as_list&subtree_as_list"
    assert identity("GET", path).json["project"]["parents"] == []
    identity.grant("member", user=identity.ids["admin_user"], project=one["id"])
    identity.grant("member", user=identity.ids["admin_user"], project=three["id"])
    shown = identity("GET", path).json["project"]
    assert [entry["project"]["id"] for entry in shown["parents"]] == [one["id"]]
    assert [entry["project"]["id"] for entry in shown["subtree"]] == [three["id"]]


def test_the_tree_has_a_limit(identity):
    parent = "default"
    for level in range(5):
        parent = identity.make("project", name=f"level{level}", parent_id=parent)["id"]
    answer = identity("POST", "/projects", {"project": {"name": "level5", "parent_id": parent}})
    assert answer.status == 403 and "Max hierarchy depth" in message(answer)


def test_a_branch_is_enabled_from_the_top_and_disabled_from_below(identity):
    one = identity.make("project", name="one")
    two = identity.make("project", name="two", parent_id=one["id"])
    off, on = {"project": {"enabled": False}}, {"project": {"enabled": True}}
    assert identity("PATCH", f"/projects/{one['id']}", off).status == 403
    assert identity("PATCH", f"/projects/{two['id']}", off).status == 200
    assert identity("PATCH", f"/projects/{one['id']}", off).status == 200
    assert identity("PATCH", f"/projects/{two['id']}", on).status == 403
    assert identity("POST", "/projects", {"project": {"name": "x", "parent_id": one["id"]}}).status == 403
    assert identity("PATCH", f"/projects/{one['id']}", on).status == 200
    assert identity("PATCH", f"/projects/{two['id']}", on).status == 200


def test_what_cannot_be_changed(identity):
    one, other = identity.make("project", name="one"), identity.make("project", name="other")
    domain = identity.make("domain", name="acme")
    for body, status in (
        ({"parent_id": other["id"]}, 403),
        ({"domain_id": domain["id"]}, 400),
        ({"is_domain": True}, 400),
        ({"id": other["id"]}, 400),
        ({"name": "other"}, 409),
        ({"parent_id": "default", "domain_id": "default", "is_domain": False, "id": one["id"]}, 200),
    ):
        assert identity("PATCH", f"/projects/{one['id']}", {"project": body}).status == status, body


def test_immutable_projects(identity):
    project = identity.make("project", name="p", options={"immutable": True})
    path = f"/projects/{project['id']}"
    assert project["options"] == {"immutable": True}
    assert identity("PATCH", path, {"project": {"name": "q"}}).status == 403
    assert identity("PUT", path + "/tags/x").status == 403
    assert identity("DELETE", path).status == 403
    assert identity("PATCH", path, {"project": {"options": {"immutable": None}}}).status == 200
    assert identity("DELETE", path).status == 204


def test_filters(identity):
    identity.make("project", name="red-one", tags=["red", "one"])
    identity.make("project", name="red-two", tags=["red", "two"], enabled=False)
    identity.make("project", name="blue", tags=["blue"])
    tagless = {"admin", "service"}
    for query, expected in {
        "tags=red": {"red-one", "red-two"},
        "tags=red,two": {"red-two"},
        "tags-any=blue,two": {"red-two", "blue"},
        "not-tags=red,two": {"red-one", "blue"} | tagless,
        "not-tags-any=red,blue": tagless,
        "tags=red&enabled=false": {"red-two"},
        "name=blue": {"blue"},
        "name__startswith=red": {"red-one", "red-two"},
        "is_domain=true": {"Default"},
        "domain_id=none": set(),
    }.items():
        assert names(identity("GET", f"/projects?{query}", ok=200)) == expected, query


def test_tags(identity):
    project = identity.make("project", name="p")
    path = f"/projects/{project['id']}/tags"
    assert identity("GET", path).json["tags"] == []
    put = identity("PUT", path, {"tags": ["b", "a"]})
    assert put.status == 200 and put.json["tags"] == ["a", "b"]
    added = identity("PUT", path + "/c")
    assert added.status == 201 and added.headers["location"].endswith(f"{path}/c")
    assert identity("PUT", path + "/c").status == 201
    assert identity("GET", path).json["tags"] == ["a", "b", "c"]
    assert identity("HEAD", path + "/a").status == 204
    assert identity("GET", path + "/z").status == 404
    assert identity("DELETE", path + "/a").status == 204
    assert identity("DELETE", path + "/a").status == 404
    assert identity("DELETE", path).status == 204
    assert identity("GET", path).json["tags"] == []
    for body in ({"tags": "x"}, {"tags": ["a", "a"]}, {}, {"tags": [], "x": 1}):
        assert identity("PUT", path, body).status == 400
    assert identity("PUT", path, {"tags": [f"t{n}" for n in range(80)]}).status == 200
    assert identity("PUT", path + "/one-more").status == 400


def test_lists_take_a_constant_number_of_statements(identity):
    for n in range(6):
        identity.make("project", name=f"p{n}", tags=[f"t{n}"])
    identity("GET", "/projects")
    with identity.client.count_queries() as statements:
        identity("GET", "/projects", ok=200)
    assert len(statements) == 2  # the projects, their tags; the revision of a remembered token is read past the counter


# Domains --------------------------------------------------------------------------------------------------------------


def test_a_domain_from_creation_to_deletion(identity):
    domain = identity.make("domain", name="acme", description="d")
    assert domain == {
        "id": domain["id"],
        "name": "acme",
        "description": "d",
        "enabled": True,
        "options": {},
        "tags": [],
        "links": {"self": f"http://localhost:5000/identity/v3/domains/{domain['id']}"},
    }
    path = f"/domains/{domain['id']}"
    assert identity("GET", path).json == {"domain": domain}
    assert names(identity("GET", "/domains")) == {"Default", "acme"}
    assert names(identity("GET", "/domains?name=acme&enabled=true")) == {"acme"}
    assert identity("POST", "/domains", {"domain": {"name": "acme"}}).status == 409
    refused = identity("DELETE", path)
    assert refused.status == 403 and "disable it first" in message(refused)
    identity("PATCH", path, {"domain": {"name": "acme2", "enabled": False}}, ok=200)
    assert names(identity("GET", "/domains?enabled=false")) == {"acme2"}
    assert identity("DELETE", path).status == 204
    assert identity("GET", path).status == 404


def test_a_domain_is_a_project_too(identity):
    domain = identity.make("domain", name="acme")
    shown = identity("GET", f"/projects/{domain['id']}", ok=200).json["project"]
    assert (shown["is_domain"], shown["domain_id"], shown["parent_id"]) == (True, None, None)
    assert identity("GET", f"/domains/{identity.ids['admin_project']}").status == 404
    made = identity.make("project", name="acting", is_domain=True)
    assert identity("GET", f"/domains/{made['id']}").status == 200
    assert identity("DELETE", f"/projects/{made['id']}").status == 403
    identity("PATCH", f"/projects/{made['id']}", {"project": {"enabled": False}}, ok=200)
    assert identity("DELETE", f"/projects/{made['id']}").status == 204
    assert identity("GET", f"/domains/{made['id']}").status == 404


def test_a_deleted_domain_takes_everything_along(identity):
    domain = identity.make("domain", name="acme")
    place = {"domain_id": domain["id"]}
    project = identity.make("project", name="p", **place)
    child = identity.make("project", name="c", parent_id=project["id"])
    user, group = identity.user("ann", **place), identity.make("group", name="g", **place)
    role = identity.make("role", name="r", **place)
    identity.grant("member", user=user["id"], project=project["id"])
    identity.grant("member", user=identity.ids["admin_user"], domain=domain["id"])
    identity("PATCH", f"/domains/{domain['id']}", {"domain": {"enabled": False}}, ok=200)
    identity("DELETE", f"/domains/{domain['id']}", ok=204)
    for path in (
        f"/projects/{project['id']}",
        f"/projects/{child['id']}",
        f"/users/{user['id']}",
        f"/groups/{group['id']}",
        f"/roles/{role['id']}",
    ):
        assert identity("GET", path).status == 404, path
    left = identity("GET", "/role_assignments").json["role_assignments"]
    assert all(entry.get("user", {}).get("id") != user["id"] for entry in left)
    assert all(entry["scope"].get("domain", {}).get("id") != domain["id"] for entry in left)


def test_the_default_domain_stays(identity):
    identity("PATCH", "/domains/default", {"domain": {"description": "still here"}}, ok=200)
    assert identity("DELETE", "/domains/default").status == 403


def test_a_domain_scoped_caller_sees_the_own_domain(identity):
    domain = identity.make("domain", name="acme")
    other = identity.make("domain", name="other")
    boss = identity.user("boss", domain_id=domain["id"])
    identity.user("stranger", domain_id=other["id"])
    identity.make("project", name="p", domain_id=domain["id"])
    identity.grant("manager", user=boss["id"], domain=domain["id"])
    token = identity.token("boss", "boss-secret", {"domain": {"id": domain["id"]}}, domain=domain["id"])
    assert names(identity("GET", "/users", token=token)) == {"boss"}
    assert names(identity("GET", "/projects", token=token)) == {"p"}
    assert names(identity("GET", "/domains", token=token)) == {"acme"}
    made = identity("POST", "/users", {"user": {"name": "new"}}, token=token)
    assert made.status == 201 and made.json["user"]["domain_id"] == domain["id"]
    project = identity("POST", "/projects", {"project": {"name": "q"}}, token=token, ok=201).json["project"]
    assert project["domain_id"] == domain["id"]
    base = f"/projects/{project['id']}/users/{made.json['user']['id']}/roles/"
    assert identity("PUT", base + identity.role("member"), token=token).status == 204
    assert identity("PUT", base + identity.role("admin"), token=token).status == 403
    assert identity("POST", "/users", {"user": {"name": "x", "domain_id": other["id"]}}, token=token).status == 403
    assert identity("PATCH", f"/users/{identity.ids['admin_user']}", {"user": {"password": "x"}}, token=token).status == 403
    outside = f"/projects/{identity.ids['admin_project']}/users/{boss['id']}/roles/{identity.role('member')}"
    assert identity("PUT", outside, token=token).status == 403


def test_a_domain_can_have_a_chosen_id(identity):
    made = identity.make("domain", name="acme", explicit_domain_id="a" * 32)
    assert made["id"] == "a" * 32 and "explicit_domain_id" not in made
    assert identity("POST", "/domains", {"domain": {"name": "x", "explicit_domain_id": "a" * 32}}).status == 409


def test_an_explicit_scope_of_a_project_acting_as_domain(identity):
    domain = identity.make("domain", name="acme")
    identity.grant("member", user=identity.ids["admin_user"], project=domain["id"])
    body = identity.login("admin", PASSWORD, {"project": {"id": domain["id"]}}).json["token"]
    assert body["is_domain"] is True and body["project"]["id"] == domain["id"]


def test_the_location_of_a_tag_is_a_url_whatever_its_name(identity):
    project = identity.make("project", name="p")["id"]
    for sent, told in (("a%20b", "a%20b"), ("%C3%BC", "%C3%BC"), ("a%25", "a%25")):
        answer = identity("PUT", f"/projects/{project}/tags/{sent}", ok=201)
        assert answer.headers["location"].endswith(f"/v3/projects/{project}/tags/{told}")
    for wrong in ("x" * 256, "a,b"):
        assert message(identity("PUT", f"/projects/{project}/tags/{wrong}", ok=400)).startswith("A tag has 1 to 255 characters")
