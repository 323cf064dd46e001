"""Roles, implications, grants and the list of assignments on the wire."""

from __future__ import annotations

import pytest

from tests.api.identity.world import PASSWORD, message, roles_of


def test_a_role_from_creation_to_deletion(identity):
    role = identity.make("role", name="auditor", description="Looks")
    assert role == {
        "id": role["id"],
        "name": "auditor",
        "domain_id": None,
        "description": "Looks",
        "options": {},
        "links": {"self": f"http://localhost:5000/identity/v3/roles/{role['id']}"},
    }
    path = f"/roles/{role['id']}"
    assert identity("PATCH", path, {"role": {"name": "checker"}}, ok=200).json["role"]["name"] == "checker"
    assert identity("POST", "/roles", {"role": {"name": "checker"}}).status == 409
    assert [one["id"] for one in identity("GET", "/roles?name=checker").json["roles"]] == [role["id"]]
    assert identity("DELETE", path).status == 204
    assert identity("GET", path).status == 404
    for body in ({}, {"name": ""}, {"name": "x" * 256}, {"name": "x", "options": {"y": 1}}):
        assert identity("POST", "/roles", {"role": body}).status == 400
    assert identity("POST", "/roles", {"role": {"name": "x", "domain_id": "none"}}).status == 404


def test_the_default_roles_are_immutable(identity):
    path = f"/roles/{identity.role('admin')}"
    assert identity("GET", path).json["role"]["options"] == {"immutable": True}
    assert identity("DELETE", path).status == 403
    assert identity("PATCH", path, {"role": {"name": "x"}}).status == 403


def test_roles_of_a_domain_are_listed_apart(identity):
    domain = identity.make("domain", name="acme")
    role = identity.make("role", name="clerk", domain_id=domain["id"])
    assert [one["name"] for one in identity("GET", f"/roles?domain_id={domain['id']}").json["roles"]] == ["clerk"]
    assert "clerk" not in {one["name"] for one in identity("GET", "/roles").json["roles"]}
    inside, outside = identity.make("project", name="in", domain_id=domain["id"]), identity.make("project", name="out")
    user = identity.user("ann")
    grant = f"/users/{user['id']}/roles/{role['id']}"
    assert identity("PUT", f"/projects/{outside['id']}{grant}").status == 403
    assert identity("PUT", f"/projects/{inside['id']}{grant}").status == 204
    assert identity.login("ann", "ann-secret", {"project": {"id": inside["id"]}}).status == 401
    identity("PUT", f"/roles/{role['id']}/implies/{identity.role('member')}", ok=201)
    answer = identity.login("ann", "ann-secret", {"project": {"id": inside["id"]}})
    assert roles_of(answer) == {"member", "reader"}


# Implications ---------------------------------------------------------------------------------------------------------


def test_implications(identity):
    prior, implied = identity.make("role", name="prior"), identity.make("role", name="implied")
    path = f"/roles/{prior['id']}/implies/{implied['id']}"
    assert identity("GET", path).status == 404
    made = identity("PUT", path, ok=201).json
    assert made["role_inference"]["prior_role"]["id"] == prior["id"]
    assert made["role_inference"]["implies"]["name"] == "implied"
    assert made["links"]["self"].endswith(path)
    assert identity("PUT", path).status == 201
    assert identity("GET", path).json == made
    assert identity("HEAD", path).status == 204
    listed = identity("GET", f"/roles/{prior['id']}/implies", ok=200).json["role_inference"]
    assert [one["id"] for one in listed["implies"]] == [implied["id"]]
    assert identity("DELETE", path).status == 204
    assert identity("DELETE", path).status == 404
    assert identity("HEAD", path).status == 404


def test_rules_must_not_form_a_circle_and_nothing_implies_admin(identity):
    reader, admin, member = (identity.role(name) for name in ("reader", "admin", "member"))
    assert identity("PUT", f"/roles/{reader}/implies/{member}").status == 403
    assert identity("PUT", f"/roles/{reader}/implies/{reader}").status == 403
    other = identity.make("role", name="other")
    assert identity("PUT", f"/roles/{other['id']}/implies/{admin}").status == 403
    assert identity("PUT", f"/roles/{other['id']}/implies/{'0' * 32}").status == 404


def test_all_inferences(identity):
    found = {
        entry["prior_role"]["name"]: [one["name"] for one in entry["implies"]]
        for entry in identity("GET", "/role_inferences", ok=200).json["role_inferences"]
    }
    assert found == {"admin": ["manager"], "manager": ["member"], "member": ["reader"]}


def test_a_new_implication_counts_for_tokens_that_are_out(identity):
    _who, _project, token = identity.member("ann", "reader")
    extra = identity.make("role", name="extra")
    assert roles_of(identity.validate(token)) == {"reader"}
    identity("PUT", f"/roles/{identity.role('reader')}/implies/{extra['id']}", ok=201)
    assert roles_of(identity.validate(token)) == {"reader", "extra"}
    identity("DELETE", f"/roles/{extra['id']}", ok=204)
    assert roles_of(identity.validate(token)) == {"reader"}


def test_roles_of_domains_imply_each_other_and_global_ones_imply_none_of_them(identity):
    one, two = (identity.make("domain", name=name)["id"] for name in ("one", "two"))
    first, second, third = (
        identity.make("role", name=name, domain_id=domain)["id"] for name, domain in (("a", one), ("b", one), ("c", two))
    )
    for implied in (second, third, identity.role("member")):
        assert identity("PUT", f"/roles/{first}/implies/{implied}").status == 201
    assert identity("PUT", f"/roles/{identity.make('role', name='global')['id']}/implies/{first}").status == 403


# Grants ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def people(identity):
    domain = identity.make("domain", name="acme")
    return {
        "user": identity.user("ann"),
        "group": identity.make("group", name="crew"),
        "project": identity.make("project", name="p", domain_id=domain["id"]),
        "domain": domain,
    }


@pytest.mark.parametrize("actor", ["user", "group"])
@pytest.mark.parametrize(
    ("target", "inherited"), [("project", False), ("project", True), ("domain", False), ("domain", True), ("system", False)]
)
def test_a_grant_is_given_checked_listed_and_taken(identity, people, actor, target, inherited):
    base = f"/{actor}s/{people[actor]['id']}/roles"
    base = f"/system{base}" if target == "system" else f"/{target}s/{people[target]['id']}{base}"
    role = identity.role("member")
    one = f"{base}/{role}"
    if inherited:
        base, one = f"/OS-INHERIT{base}/inherited_to_projects", f"/OS-INHERIT{one}/inherited_to_projects"
    assert identity("HEAD", one).status == 404
    for _ in range(2):
        assert identity("PUT", one).status == 204
    assert identity("HEAD", one).status == 204
    assert identity("GET", one).status == 204
    if not inherited or target == "domain":
        assert [found["name"] for found in identity("GET", base, ok=200).json["roles"]] == ["member"]
    assert identity("DELETE", one).status == 204
    refused = identity("DELETE", one)
    assert refused.status == 404 and message(refused).startswith("Could not find role assignment with role: ")
    for path in (
        one.replace(role, "0" * 32),
        one.replace(people[actor]["id"], "0" * 32),
        *([one.replace(people[target]["id"], "0" * 32)] if target != "system" else []),
    ):
        assert identity("PUT", path).status == 404, path


def test_an_inherited_role_counts_below_and_not_on_the_target(identity, people):
    user, project, domain = people["user"]["id"], people["project"], people["domain"]
    child = identity.make("project", name="child", parent_id=project["id"])
    later_scope = {"project": {"name": "later", "domain": {"id": domain["id"]}}}

    def can(scope):
        return identity.login("ann", "ann-secret", scope).status == 201

    on_project, on_child = {"project": {"id": project["id"]}}, {"project": {"id": child["id"]}}
    on_domain = {"domain": {"id": domain["id"]}}
    grant = identity.grant("member", user=user, project=project["id"], inherited=True)
    assert (can(on_project), can(on_child), can(on_domain)) == (False, True, False)
    identity("DELETE", grant, ok=204)
    grant = identity.grant("member", user=user, domain=domain["id"], inherited=True)
    identity.make("project", name="later", domain_id=domain["id"])
    assert (can(on_project), can(on_child), can(on_domain), can(later_scope)) == (True, True, False, True)
    projects = {one["name"] for one in identity("GET", f"/users/{user}/projects").json["projects"]}
    assert projects == {"p", "child", "later"}
    identity("DELETE", grant, ok=204)
    identity.grant("member", user=user, domain=domain["id"])
    assert (can(on_project), can(on_child), can(on_domain)) == (False, False, True)


# The list of assignments ----------------------------------------------------------------------------------------------


def listed(identity, query="", **options):
    return identity("GET", f"/role_assignments?{query}", ok=200, **options).json["role_assignments"]


def brief(entries):
    """(role, actor, target, inherited) with names."""
    found = set()
    for entry in entries:
        actor = entry.get("user") or entry.get("group")
        scope = entry["scope"]
        target = "system" if "system" in scope else (scope.get("project") or scope.get("domain"))["name"]
        found.add((entry["role"]["name"], actor["name"], target, "OS-INHERIT:inherited_to" in scope))
    return found


@pytest.fixture
def assigned(identity, people):
    """ann: member on p, crew (with ann and bob): reader below acme, bob: manager on the system."""
    bob = identity.user("bob")
    for user in (people["user"], bob):
        identity("PUT", f"/groups/{people['group']['id']}/users/{user['id']}", ok=204)
    identity.grant("member", user=people["user"]["id"], project=people["project"]["id"])
    identity.grant("reader", group=people["group"]["id"], domain=people["domain"]["id"], inherited=True)
    identity.grant("manager", user=bob["id"])
    return {**people, "bob": bob, "child": identity.make("project", name="child", parent_id=people["project"]["id"])}


def test_assignments_as_given(identity, assigned):
    found = brief(listed(identity, "include_names"))
    assert {
        ("member", "ann", "p", False),
        ("reader", "crew", "acme", True),
        ("manager", "bob", "system", False),
        ("admin", "admin", "admin", False),
        ("admin", "admin", "system", False),
        ("admin", "admin", "Default", False),
        ("service", "nova", "service", False),
    } == found


def test_assignments_in_effect(identity, assigned):
    acme = f"effective&include_names&scope.project.id={assigned['project']['id']}"
    assert brief(listed(identity, acme)) == {
        ("member", "ann", "p", False),
        ("reader", "ann", "p", False),
        ("reader", "bob", "p", False),
    }
    assert brief(listed(identity, acme + "&include_subtree")) == {
        ("member", "ann", "p", False),
        ("reader", "ann", "p", False),
        ("reader", "bob", "p", False),
        ("reader", "ann", "child", False),
        ("reader", "bob", "child", False),
    }
    bob = f"effective&include_names&user.id={assigned['bob']['id']}"
    assert brief(listed(identity, bob)) == {
        ("manager", "bob", "system", False),
        ("member", "bob", "system", False),
        ("reader", "bob", "system", False),
        ("reader", "bob", "p", False),
        ("reader", "bob", "child", False),
    }
    assert brief(listed(identity, bob + "&scope.system=all")) == {
        ("manager", "bob", "system", False),
        ("member", "bob", "system", False),
        ("reader", "bob", "system", False),
    }
    assert brief(listed(identity, bob + f"&role.id={identity.role('member')}")) == {("member", "bob", "system", False)}
    assert listed(identity, f"effective&scope.domain.id={assigned['domain']['id']}") == []


def test_filters_of_assignments(identity, assigned):
    assert brief(listed(identity, f"include_names&group.id={assigned['group']['id']}")) == {("reader", "crew", "acme", True)}
    assert brief(listed(identity, "include_names&scope.OS-INHERIT:inherited_to=projects")) == {
        ("reader", "crew", "acme", True)
    }
    assert brief(listed(identity, f"include_names&role.id={identity.role('service')}")) == {
        ("service", "nova", "service", False)
    }
    assert listed(identity, f"user.id={'0' * 32}") == []


def test_an_entry_links_to_where_it_comes_from(identity, assigned):
    base = "http://localhost:5000/identity/v3"
    role, user, project = identity.role("member"), assigned["user"]["id"], assigned["project"]["id"]
    (entry,) = listed(identity, f"user.id={user}")
    assert entry == {
        "role": {"id": role},
        "user": {"id": user},
        "scope": {"project": {"id": project}},
        "links": {"assignment": f"{base}/projects/{project}/users/{user}/roles/{role}"},
    }
    found = listed(identity, f"effective&user.id={user}&scope.project.id={project}")
    inherited = next(one for one in found if "membership" in one["links"])
    group, reader = assigned["group"]["id"], identity.role("reader")
    assert inherited["links"] == {
        "assignment": f"{base}/OS-INHERIT/domains/{assigned['domain']['id']}/groups/{group}/roles/{reader}/inherited_to_projects",
        "membership": f"{base}/groups/{group}/users/{user}",
    }
    implied = next(one for one in found if "prior_role" in one["links"])
    assert implied["role"] == {"id": reader}
    assert implied["links"]["prior_role"] == f"{base}/prior_role/{role}/implies/{reader}"


def test_names_of_an_entry(identity, assigned):
    (entry,) = listed(identity, f"include_names&user.id={assigned['user']['id']}")
    assert entry["user"]["domain"] == {"id": "default", "name": "Default"}
    assert entry["scope"]["project"]["domain"] == {"id": assigned["domain"]["id"], "name": "acme"}


@pytest.mark.parametrize(
    "query",
    [
        "user.id=a&group.id=b",
        "scope.project.id=a&scope.domain.id=b",
        "scope.project.id=a&scope.system=all",
        "effective&group.id=a",
        "effective&scope.domain.id=a&scope.OS-INHERIT:inherited_to=projects",
        "include_subtree",
    ],
)
def test_combinations_that_mean_nothing_are_400(identity, query):
    assert identity("GET", f"/role_assignments?{query}").status == 400


def test_a_project_administrator_lists_the_own_tree(identity):
    _who, project, token = identity.member("boss", "admin")
    plain_who, _other, plain = identity.member("ann", "member")
    path = f"/role_assignments?include_subtree=true&scope.project.id={project['id']}"
    assert identity("GET", path, token=token).status == 200
    assert identity("GET", path, token=plain).status == 403
    assert identity("GET", "/role_assignments", token=plain).status == 403


def test_the_list_takes_a_constant_number_of_statements(identity, assigned):
    def count(query):
        with identity.client.count_queries() as statements:
            listed(identity, query)
        return len(statements)

    queries = ("effective&include_names", "include_names", "effective", "")
    before = [count(query) for query in queries]
    for n in range(5):
        user = identity.user(f"u{n}")
        identity.grant("member", user=user["id"], project=assigned["project"]["id"])
        identity("PUT", f"/groups/{assigned['group']['id']}/users/{user['id']}", ok=204)
    identity.validate(identity.admin, query="?nocatalog")
    listed(identity, "effective")
    assert [count(query) for query in queries] == before
    assert max(before) <= 10


def test_a_token_that_is_out_follows_a_renamed_role(identity):
    role = identity.make("role", name="auditor")
    who, project, token = identity.member("ann", role["id"])
    identity("PATCH", f"/roles/{role['id']}", {"role": {"name": "checker"}}, ok=200)
    assert roles_of(identity.validate(token)) == {"checker"}
    assert identity.login("admin", PASSWORD).status == 201
