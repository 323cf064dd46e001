"""Every GET of identity takes as many statements with thirty of everything as with three; the counts that users pay for are stated."""

from __future__ import annotations

import re

import pytest

from pileus.identity.room import ROOM
from tests.api.identity.personas import QUERIES
from tests.api.identity.world import Identity

GETS = [operation for operation in ROOM.operations() if operation.method == "GET" and not operation.root]
MORE = {
    **QUERIES,
    "GET /role_assignments": [*QUERIES["GET /role_assignments"], "effective", "effective&include_names", "include_names", "user.id={user_id}&effective", "scope.project.id={project_id}&effective"],
    "GET /projects/{project_id}": ["parents_as_list&subtree_as_list", "parents_as_ids&subtree_as_ids"],
    "GET /projects": ["tags=t&limit=2", "is_domain=true", "parent_id={domain_id}"],
    "GET /users": ["limit=2", "name__contains=a"],
    "GET /auth/tokens": ["nocatalog"],
}
A_LIST = 4
"""At most so many statements for a list, whatever it shows of each entry, but for those that look at roles in effect."""
ROLES_IN_EFFECT = {"GET /auth/projects": 5, "GET /users/{user_id}/projects": 6, "GET /role_assignments": 7}


class World:
    """One user, project, group and so on that has all the others: `grow` adds one of everything."""

    def __init__(self, home):
        self.identity = made = Identity(home=home)
        self.ids = {"domain_id": made.make("domain", name="acme")["id"]}
        self.ids["user_id"] = made.user("ann", domain_id=self.ids["domain_id"])["id"]
        self.ids["group_id"] = made.make("group", name="g", domain_id=self.ids["domain_id"])["id"]
        self.ids["project_id"] = made.make("project", name="p", domain_id=self.ids["domain_id"])["id"]
        self.ids["role_id"] = self.ids["prior_role_id"] = made.make("role", name="r")["id"]
        made.grant(self.ids["role_id"], user=self.ids["user_id"], project=self.ids["project_id"])
        self.ids["service_id"] = made.make("service", type="t", name="s")["id"]
        self.ids["endpoint_id"] = made.make("endpoint", service_id=self.ids["service_id"], interface="public", url="http://x")["id"]
        self.ids["region_id"] = made.make("region", id="r")["id"]
        self.ids["policy_id"] = made("POST", "/policies", {"policy": {"type": "x", "blob": "{}"}}, ok=201).json["policy"]["id"]
        body = {"endpoint_group": {"name": "eg", "filters": {"interface": "public"}}}
        self.ids["endpoint_group_id"] = made("POST", "/OS-EP-FILTER/endpoint_groups", body, ok=201).json["endpoint_group"]["id"]
        self.token = made.token("ann", "ann-secret", {"project": {"id": self.ids["project_id"]}}, domain=self.ids["domain_id"])
        self.count = 0

    def grow(self):
        self.count += 1
        n, ids, made = self.count, self.ids, self.identity
        domain = ids["domain_id"]
        user = made.user(f"user-{n}", domain_id=domain)["id"]
        group = made.make("group", name=f"group-{n}", domain_id=domain)["id"]
        project = made.make("project", name=f"project-{n}", domain_id=domain, parent_id=ids["project_id"], tags=["t", f"t{n}"])["id"]
        self._people(user, group, project)
        self._roles(n, user, group, project)
        self._catalog(n, project)
        self._credentials(n, project)

    def _people(self, user, group, project):
        for one, of in ((user, self.ids["group_id"]), (self.ids["user_id"], group)):
            self.identity("PUT", f"/groups/{of}/users/{one}", ok=204)
        self.identity.grant("member", user=self.ids["user_id"], project=project)
        self.identity.grant("reader", group=group, project=self.ids["project_id"])

    def _roles(self, n, user, group, project):
        made, ids = self.identity, self.ids
        role = made.make("role", name=f"role-{n}")["id"]
        made.make("role", name=f"own-{n}", domain_id=ids["domain_id"])
        made("PUT", f"/roles/{ids['role_id']}/implies/{role}", ok=201)
        made.grant(role, user=ids["user_id"], project=ids["project_id"])
        made.grant(role, group=ids["group_id"], project=ids["project_id"])
        made.grant(role, user=ids["user_id"], domain=ids["domain_id"])
        made.grant(role, group=ids["group_id"], domain=ids["domain_id"], inherited=True)
        made.grant(role, user=ids["user_id"], domain=ids["domain_id"], inherited=True)
        made.grant(role, user=ids["user_id"])
        made.grant(role, group=ids["group_id"])
        made.grant("member", user=user, project=project)
        made.grant("member", group=group, project=project, inherited=True)
        made.grant("member", user=ids["user_id"], domain=made.make("domain", name=f"domain-{n}")["id"])

    def _catalog(self, n, project):
        made, ids = self.identity, self.ids
        service = made.make("service", type=f"type-{n}", name="s")["id"]
        endpoint = made.make("endpoint", service_id=ids["service_id"], interface="public", url=f"http://x/{n}", region_id=made.make("region", id=f"r{n}")["id"])["id"]
        made("PUT", f"/policies/{ids['policy_id']}/OS-ENDPOINT-POLICY/endpoints/{endpoint}", ok=204)
        made("PUT", f"/policies/{ids['policy_id']}/OS-ENDPOINT-POLICY/services/{service}", ok=204)
        made("POST", "/policies", {"policy": {"type": "x", "blob": "{}"}}, ok=201)
        body = {"endpoint_group": {"name": f"eg-{n}", "filters": {"interface": "public"}}}
        group = made("POST", "/OS-EP-FILTER/endpoint_groups", body, ok=201).json["endpoint_group"]["id"]
        for one, of in ((group, ids["project_id"]), (ids["endpoint_group_id"], project)):
            made("PUT", f"/OS-EP-FILTER/endpoint_groups/{one}/projects/{of}", ok=204)
        for one, of in ((endpoint, ids["project_id"]), (ids["endpoint_id"], project)):
            made("PUT", f"/OS-EP-FILTER/projects/{of}/endpoints/{one}", ok=204)
        place = {"service_id": service, "resource_name": "cores"}
        made("POST", "/registered_limits", {"registered_limits": [{**place, "default_limit": 1}]}, ok=201)
        made("POST", "/limits", {"limits": [{**place, "resource_limit": 2, "project_id": ids["project_id"]}]}, ok=201)

    def _credentials(self, n, project):
        made, user = self.identity, self.ids["user_id"]
        made("POST", "/credentials", {"credential": {"type": "cert", "blob": "x", "user_id": user}}, ok=201)
        made("POST", f"/users/{user}/credentials/OS-EC2", {"tenant_id": project}, ok=201)
        rules = [{"service": "compute", "method": "GET", "path": f"/v2.1/{n}"}]
        token = made.token("ann", "ann-secret", {"project": {"id": self.ids["project_id"]}}, domain=self.ids["domain_id"])
        body = {"application_credential": {"name": f"c{n}", "access_rules": rules}}
        made("POST", f"/users/{user}/application_credentials", body, token=token, ok=201)
        role = {"id": self.ids["role_id"]}
        trust = {"trustor_user_id": user, "trustee_user_id": made.ids["admin_user"], "project_id": self.ids["project_id"], "impersonation": False, "roles": [role]}
        made("POST", "/OS-TRUST/trusts", {"trust": trust}, token=token, ok=201)
        ended = made.token("ann", "ann-secret", "unscoped", domain=self.ids["domain_id"])
        made("DELETE", "/auth/tokens", headers={"X-Subject-Token": ended}, ok=204)
        self.token = made.token("ann", "ann-secret", {"project": {"id": self.ids["project_id"]}}, domain=self.ids["domain_id"])

    def measure(self):
        """Statements and entries of each GET, asked for the second time, by the administrator and by the user."""
        found = {}
        for operation in GETS:
            name = f"{operation.method} {operation.path}"
            path = re.sub(r"\{([^}:]+)[^}]*\}", lambda one: self.ids.get(one.group(1), "f" * 32), operation.path)
            for query in ["", *MORE.get(name, ())]:
                for who, token in (("admin", ""), ("user", self.token)):
                    url = path + ("?" + query.format_map(self.ids) if query else "")
                    headers = {"X-Subject-Token": self.token}
                    self.identity("GET", url, token=token, headers=headers)
                    with self.identity.client.count_queries() as statements:
                        answer = self.identity("GET", url, token=token, headers=headers)
                    assert answer.status < 500, answer.text
                    found[f"{name}?{query} as {who}"] = (len(statements), entries(answer), list(statements))
        return found


def entries(answer):
    """The longest list in an answer, and None where there is none."""
    body = answer.json if answer.status == 200 else None
    lists = [value for value in body.values() if isinstance(value, list)] if isinstance(body, dict) else []
    return max(map(len, lists), default=None)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("statements"))
    for _ in range(3):
        world.grow()
    few = world.measure()
    for _ in range(27):
        world.grow()
    many = world.measure()
    yield few, many
    world.identity.client.close()


def test_every_get_takes_as_many_statements_with_thirty_of_everything_as_with_three(measured):
    few, many = measured
    different = {name: (few[name][0], many[name][0], many[name][2][-5:]) for name in few if few[name][0] != many[name][0]}
    assert not different, different


def test_the_lists_have_grown_tenfold_in_between(measured):
    """Otherwise the test above says nothing of them."""
    few, many = measured
    lists = {name: (one[1], many[name][1]) for name, one in few.items() if one[1] is not None and name.endswith(" as admin") and name.partition("?")[2].startswith(" as")}
    grown = {name for name, (before, after) in lists.items() if after >= before + 20}
    assert len(grown) >= 25, sorted(set(lists) - grown)


def test_a_list_takes_a_handful(measured):
    _few, many = measured
    for name, (statements, longest, _) in many.items():
        if longest is not None:
            assert statements <= ROLES_IN_EFFECT.get(name.partition("?")[0], A_LIST), (name, statements)
