"""Users who log in by an identity provider: what the trusted proxy says, who they become, and what ends their rights."""

from __future__ import annotations

import concurrent.futures

import pytest

from pileus.identity.logic.federated_users import forget_ended
from pileus.kernel import clock
from tests.api.identity.federated import ALICE, AUTH, RULES, federate, login, staffed, token
from tests.api.identity.world import Identity, message, roles_of

IDP = "/OS-FEDERATION/identity_providers/idp"
MAPPING = "/OS-FEDERATION/mappings/idp"


def scoped(identity, unscoped, project):
    return identity.exchange(unscoped, {"project": {"id": project["id"]}})


def test_the_first_login_makes_the_user_and_later_ones_find_it(identity):
    domain = federate(identity)
    group, _project = staffed(identity)
    first = login(identity)
    assert (first.status, first.headers["cache-control"]) == (201, "no-store")
    user = first.json["token"]["user"]
    assert user == {
        "id": user["id"],
        "name": "alice",
        "domain": {"id": domain, "name": domain},
        "password_expires_at": None,
        "OS-FEDERATION": {"identity_provider": {"id": "idp"}, "protocol": {"id": "openid"}, "groups": [{"id": group["id"]}]},
    }
    assert set(first.json["token"]) == {"methods", "user", "audit_ids", "expires_at", "issued_at"}
    assert (first.json["token"]["methods"], len(user["id"])) == (["mapped"], 64)
    assert login(identity, method="POST").json["token"]["user"] == user
    shown = identity("GET", f"/users/{user['id']}", ok=200).json["user"]
    assert shown["federated"] == [{"idp_id": "idp", "protocols": [{"protocol_id": "openid", "unique_id": "alice"}]}]
    assert (shown["name"], shown["domain_id"], shown["email"], shown["enabled"]) == ("alice", domain, "alice@example.org", True)
    assert identity.validate(first.headers["x-subject-token"]).json["token"]["user"] == user


def test_the_method_mapped_is_the_same(identity):
    federate(identity)
    _group, project = staffed(identity)
    section = {"identity_provider": "idp", "protocol": "openid"}
    auth = {"identity": {"methods": ["mapped"], "mapped": section}, "scope": {"project": {"id": project["id"]}}}
    answer = identity("POST", "/auth/tokens", {"auth": auth}, token=None, assertion=ALICE, ok=201)
    assert roles_of(answer) == {"member", "reader"}
    assert answer.json["token"]["user"]["OS-FEDERATION"]["protocol"] == {"id": "openid"}
    del section["protocol"]
    refused = identity("POST", "/auth/tokens", {"auth": auth}, token=None, assertion=ALICE)
    assert (refused.status, message(refused)) == (400, "Expecting to find identity_provider and protocol in mapped.")


def test_a_token_is_exchanged_for_a_scope_and_stays_federated(identity):
    federate(identity)
    group, project = staffed(identity)
    unscoped = token(identity)
    answer = scoped(identity, unscoped, project)
    assert (answer.status, roles_of(answer)) == (201, {"member", "reader"})
    assert answer.json["token"]["user"]["OS-FEDERATION"]["groups"] == [{"id": group["id"]}]
    assert (answer.json["token"]["methods"], "catalog" in answer.json["token"]) == (["mapped", "token"], True)
    listed = identity("GET", "/OS-FEDERATION/projects", token=unscoped, ok=200).json["projects"]
    assert [one["id"] for one in listed] == [project["id"]]
    assert identity("GET", "/OS-FEDERATION/domains", token=unscoped, ok=200).json["domains"] == []
    old_way = {"identity": {"methods": ["mapped"], "mapped": {"id": unscoped}}, "scope": {"project": {"id": project["id"]}}}
    assert roles_of(identity("POST", "/auth/tokens", {"auth": old_way}, token=None, ok=201)) == {"member", "reader"}
    old_way["identity"]["mapped"]["id"] = identity.admin
    assert identity("POST", "/auth/tokens", {"auth": old_way}, token=None).status == 401


def test_every_scope_keeps_the_federation(identity):
    federate(identity)
    group, _project = staffed(identity)
    identity.grant("reader", group=group["id"])
    identity.grant("reader", group=group["id"], domain="default")
    unscoped = token(identity)
    for scope in ({"system": {"all": True}}, {"domain": {"id": "default"}}):
        answer = identity.exchange(unscoped, scope)
        checked = identity.validate(answer.headers["x-subject-token"]).json["token"]
        assert checked["user"]["OS-FEDERATION"]["groups"] == [{"id": group["id"]}]
        assert [role["name"] for role in checked["roles"]] == ["reader"]


def test_nobody_without_a_trusted_proxy_gets_in_or_learns_anything(identity):
    federate(identity)
    for headers in ({}, {"OIDC-name": "alice", "OIDC-email": "a", "OIDC-groups": "staff"}):
        for provider in ("idp", "unknown"):
            answer = identity("GET", AUTH.format(provider, "openid"), token=None, headers=headers)
            assert (answer.status, message(answer)) == (401, "The request you have made requires authentication.")


def test_what_stops_a_login(identity):
    federate(identity)
    assert login(identity, name="other").status == 404
    assert login(identity, protocol="saml2").status == 404
    for assertion in ({"HTTP_OIDC_NAME": "alice"}, {"HTTP_X": "y"}, {**ALICE, "HTTP_OIDC_GROUPS": ""}):
        refused = login(identity, assertion)
        assert (refused.status, message(refused)) == (400, "What the identity provider says of the user fits no rule of the mapping.")
    user = login(identity).json["token"]["user"]
    identity("PATCH", f"/users/{user['id']}", {"user": {"enabled": False}}, ok=200)
    assert login(identity).status == 401
    identity("PATCH", IDP, {"identity_provider": {"enabled": False}}, ok=200)
    disabled = login(identity)
    assert (disabled.status, message(disabled)) == (403, "Identity Provider idp is disabled")
    identity("PATCH", IDP, {"identity_provider": {"enabled": True}}, ok=200)
    identity("DELETE", MAPPING, ok=204)
    assert login(identity).status == 404


def test_remote_ids_tell_identity_providers_apart(identity):
    federate(identity, remote_ids=["https://idp.example.org"])
    assert login(identity, {**ALICE, "HTTP_OIDC_ISS": "https://idp.example.org"}).status == 201
    other = login(identity, {**ALICE, "HTTP_OIDC_ISS": "https://other"})
    assert (other.status, message(other)) == (403, "The assertion comes from another identity provider than this one.")
    unsaid = login(identity)
    assert (unsaid.status, message(unsaid)) == (400, "The assertion does not say which identity provider it comes from.")
    identity("PATCH", f"{IDP}/protocols/openid", {"protocol": {"mapping_id": "idp", "remote_id_attribute": "OIDC-from"}}, ok=200)
    assert login(identity, {**ALICE, "HTTP_OIDC_FROM": "https://idp.example.org"}).status == 201
    assert login(identity, {**ALICE, "HTTP_OIDC_ISS": "https://idp.example.org"}).status == 400


def test_remote_ids_count_even_where_nothing_says_how_to_read_them(identity):
    federate(identity, protocol="kerberos", remote_ids=["realm"])
    assert login(identity, protocol="kerberos").status == 401


def test_users_of_two_identity_providers_are_never_the_same(identity):
    for name in ("one", "two"):
        federate(identity, name, domain_id="default")
    users = [login(identity, name=name).json["token"]["user"] for name in ("one", "two")]
    assert users[0]["id"] != users[1]["id"]
    assert [user["name"] for user in users] == ["alice", "alice@two"]
    identity.user("bob")
    assert login(identity, {**ALICE, "HTTP_OIDC_NAME": "bob"}, "one").json["token"]["user"]["name"] == "bob@one"


def test_a_changed_name_is_taken_over(identity):
    rules = [{"local": [{"user": {"id": "{0}", "name": "{1}"}}], "remote": [{"type": "sub"}, {"type": "name"}]}]
    federate(identity, rules=rules)
    before = login(identity, {"HTTP_SUB": "7/a", "HTTP_NAME": "Miller"}).json["token"]["user"]
    after = login(identity, {"HTTP_SUB": "7/a", "HTTP_NAME": "Smith"}).json["token"]["user"]
    assert (before["id"] == after["id"], after["name"]) == (True, "Smith")
    shown = identity("GET", f"/users/{after['id']}").json["user"]
    assert (shown["name"], shown["federated"][0]["protocols"][0]["unique_id"]) == ("Smith", "7/a")


def test_who_is_named_by_the_proxy_alone(identity):
    federate(identity, rules=[{"local": [{"group": {"id": staffed(identity)[0]["id"]}}], "remote": [{"type": "OIDC-email"}]}])
    assert login(identity, {**ALICE, "HTTP_REMOTE_USER": "al"}).json["token"]["user"]["name"] == "al"
    assert login(identity).status == 401


@pytest.mark.parametrize("long", ["name", "id"])
def test_names_that_are_too_long_are_refused(identity, long):
    federate(identity, rules=[{"local": [{"user": {long: "{0}"}}], "remote": [{"type": "OIDC-name"}]}])
    assert login(identity, {**ALICE, "HTTP_OIDC_NAME": "x" * 256}).status == 401


def test_a_local_user_of_the_mapping(identity):
    local = {"user": {"name": "{0}", "type": "local", "domain": {"id": "default"}}}
    federate(identity, rules=[{"local": [local], "remote": [{"type": "OIDC-name"}]}])
    who, project, _token = identity.member("alice")
    answer = login(identity)
    assert (answer.status, answer.json["token"]["user"]["id"]) == (201, who["id"])
    assert "OS-FEDERATION" not in answer.json["token"]["user"]
    identity("PATCH", f"/users/{who['id']}", {"user": {"default_project_id": project["id"]}}, ok=200)
    assert login(identity).json["token"]["project"]["id"] == project["id"]
    assert login(identity, {**ALICE, "HTTP_OIDC_NAME": "nobody"}).status == 401
    identity("PATCH", f"/users/{who['id']}", {"user": {"enabled": False}}, ok=200)
    assert login(identity).status == 401


def test_groups_that_do_not_exist(identity):
    federate(identity)
    assert login(identity).json["token"]["user"]["OS-FEDERATION"]["groups"] == []
    rules = [{"local": [{"user": {"name": "{0}"}, "group_ids": "{1}"}], "remote": [{"type": "OIDC-name"}, {"type": "OIDC-groups"}]}]
    identity("PATCH", MAPPING, {"mapping": {"rules": rules}}, ok=200)
    assert login(identity).status == 401, "a group by id must exist"
    rules[0]["local"][0] = {"user": {"name": "{0}"}, "groups": "{1}", "domain": {"name": "nowhere"}}
    identity("PATCH", MAPPING, {"mapping": {"rules": rules}}, ok=200)
    assert login(identity).status == 401, "and so must a domain"


def test_projects_of_the_mapping_are_made_with_their_roles(identity):
    projects = [{"name": "p-{0}", "roles": [{"name": "member"}]}, {"name": "shared", "roles": [{"name": "reader"}]}]
    rules = [{"local": [{"user": {"name": "{0}"}, "projects": projects}], "remote": [{"type": "OIDC-name"}]}]
    domain = federate(identity, rules=rules)
    shared = identity.make("project", name="shared", domain_id=domain)
    unscoped = token(identity)
    found = {one["name"]: one for one in identity("GET", "/auth/projects", token=unscoped).json["projects"]}
    assert (set(found), found["shared"]["id"], found["p-alice"]["domain_id"]) == ({"p-alice", "shared"}, shared["id"], domain)
    assert roles_of(scoped(identity, unscoped, found["p-alice"])) == {"member", "reader"}
    assert roles_of(scoped(identity, unscoped, shared)) == {"reader"}
    assert len(identity("GET", f"/projects?domain_id={domain}").json["projects"]) == 2
    token(identity)
    assert len(identity("GET", f"/projects?domain_id={domain}").json["projects"]) == 2, "they are made once"
    rules[0]["local"][0]["projects"] = [{"name": "other", "roles": [{"name": "no-such-role"}]}]
    identity("PATCH", MAPPING, {"mapping": {"rules": rules}}, ok=200)
    assert login(identity).status == 401
    assert len(identity("GET", f"/projects?domain_id={domain}").json["projects"]) == 2, "nothing is left of such a login"


def test_domains_of_users_and_projects_since_schema_2(identity):
    acme = identity.make("domain", name="acme")
    local = {"user": {"name": "{0}"}, "domain": {"name": "acme"}, "projects": [{"name": "p", "roles": [{"name": "member"}]}]}
    federate(identity, rules=[{"local": [local], "remote": [{"type": "OIDC-name"}]}], version="2.0")
    answer = login(identity)
    assert answer.json["token"]["user"]["domain"] == {"id": acme["id"], "name": "acme"}
    (project,) = identity("GET", "/auth/projects", token=answer.headers["x-subject-token"]).json["projects"]
    assert project["domain_id"] == acme["id"]


def test_a_user_who_needs_another_method_too_gets_a_receipt(identity):
    federate(identity)
    user = login(identity).json["token"]["user"]["id"]
    options = {"multi_factor_auth_enabled": True, "multi_factor_auth_rules": [["mapped", "password"]]}
    identity("PATCH", f"/users/{user}", {"user": {"options": options, "password": "second"}}, ok=200)
    first = login(identity)
    assert (first.status, "openstack-auth-receipt" in first.headers, "x-subject-token" in first.headers) == (401, True, False)
    both = {"methods": ["mapped", "password"], "mapped": {"identity_provider": "idp", "protocol": "openid"}}
    both["password"] = {"user": {"id": user, "password": "second"}}
    assert identity("POST", "/auth/tokens", {"auth": {"identity": both}}, token=None, assertion=ALICE).status == 201
    both["password"]["user"]["password"] = "wrong"
    assert identity("POST", "/auth/tokens", {"auth": {"identity": both}}, token=None, assertion=ALICE).status == 401


# What ends rights ------------------------------------------------------------------------------------------------------


def test_groups_follow_the_last_login(identity):
    federate(identity)
    group, project = staffed(identity)
    old = scoped(identity, token(identity), project).headers["x-subject-token"]
    assert identity.validate(old).status == 200
    token(identity, {**ALICE, "HTTP_OIDC_GROUPS": "others"})
    assert identity.validate(old).status == 404, "who is no longer of the group has no role by it"
    assert identity("GET", f"/groups/{group['id']}/users").json["users"] == []
    token(identity)
    assert identity.validate(old).status == 200


def test_memberships_end_with_time_and_so_do_tokens_of_them(identity, time):
    federate(identity, authorization_ttl=120)
    group, project = staffed(identity)
    unscoped = token(identity)
    credential = {"application_credential": {"name": "robot"}}
    inside = scoped(identity, unscoped, project).headers["x-subject-token"]
    user = identity.validate(inside, by=inside).json["token"]["user"]["id"]
    made = identity("POST", f"/users/{user}/application_credentials", credential, token=inside, ok=201).json["application_credential"]
    methods = {"methods": ["application_credential"], "application_credential": {"id": made["id"], "secret": made["secret"]}}
    time.advance(90 * 60)
    later = identity("POST", "/auth/tokens", {"auth": {"identity": methods}}, token=None, ok=201)
    assert roles_of(later) == {"member", "reader"}
    left = clock.parse(later.json["token"]["expires_at"]) - clock.utcnow()
    assert left.total_seconds() == 30 * 60, "the token ends with the membership, not after an hour"
    own = later.headers["x-subject-token"]
    assert [one["id"] for one in identity("GET", f"/users/{user}/groups", token=own).json["groups"]] == [group["id"]]
    time.advance(30 * 60)
    assert identity("POST", "/auth/tokens", {"auth": {"identity": methods}}, token=None).status == 401
    token(identity)
    assert identity("POST", "/auth/tokens", {"auth": {"identity": methods}}, token=None).status == 201, "until the next login"


def test_ended_memberships_are_dropped(identity, time):
    federate(identity)
    staffed(identity)
    login(identity)

    def left():
        with identity.service.db.read() as conn:
            return conn.exec_driver_sql("SELECT count(*) FROM federated_memberships").scalar_one()

    for seconds, rows in ((0, 1), (3600, 0)):
        time.advance(seconds)
        forget_ended(identity.service)
        assert left() == rows


def test_memberships_last_as_long_as_a_token_at_least(identity, time):
    federate(identity, authorization_ttl=1)
    _group, project = staffed(identity)
    inside = scoped(identity, token(identity), project).headers["x-subject-token"]
    time.advance(3599)
    assert identity.validate(inside, by=inside).status == 200
    time.advance(2)
    assert identity.validate(inside, by=inside).status == 401


@pytest.mark.parametrize("end", ["disable", "delete", "protocol", "group"])
def test_what_ends_a_token(identity, end):
    federate(identity)
    group, project = staffed(identity)
    unscoped = token(identity)
    inside = scoped(identity, unscoped, project).headers["x-subject-token"]
    assert {identity.validate(one).status for one in (unscoped, inside)} == {200}
    match end:
        case "disable":
            identity("PATCH", IDP, {"identity_provider": {"enabled": False}}, ok=200)
        case "delete":
            identity("DELETE", IDP, ok=204)
        case "protocol":
            identity("DELETE", f"{IDP}/protocols/openid", ok=204)
        case "group":
            identity("DELETE", f"/groups/{group['id']}", ok=204)
    assert identity.validate(inside).status == 404
    assert identity.validate(unscoped).status == (200 if end == "group" else 404)
    assert identity.exchange(unscoped).status == (201 if end == "group" else 404)


@pytest.mark.parametrize(("end", "impersonation"), [("disable", True), ("disable", False), ("delete", True), ("protocol", False)])
def test_tokens_of_trusts_end_with_the_identity_provider_of_the_trustee(database_url, end, impersonation):
    identity = Identity(db_url=database_url)
    federate(identity)
    answer = login(identity)
    who, project, inside = identity.member("giver", "member")
    trust = {"trustor_user_id": who["id"], "trustee_user_id": answer.json["token"]["user"]["id"], "project_id": project["id"]}
    trust |= {"impersonation": impersonation, "roles": [{"name": "member"}]}
    made = identity("POST", "/OS-TRUST/trusts", {"trust": trust}, token=inside, ok=201).json["trust"]["id"]
    taken = identity.exchange(answer.headers["x-subject-token"], {"OS-TRUST:trust": {"id": made}}).headers["x-subject-token"]
    assert identity.validate(taken).status == 200
    match end:
        case "disable":
            identity("PATCH", IDP, {"identity_provider": {"enabled": False}}, ok=200)
        case "delete":
            identity("DELETE", IDP, ok=204)
        case "protocol":
            identity("DELETE", f"{IDP}/protocols/openid", ok=204)
    assert identity.validate(taken).status == 404
    assert identity.validate(inside).status == 200
    if end == "disable":
        identity("PATCH", IDP, {"identity_provider": {"enabled": True}}, ok=200)
        assert identity.validate(taken).status == 404, "older tokens do not come back"
        again = identity.exchange(token(identity), {"OS-TRUST:trust": {"id": made}})
        assert identity.validate(again.headers["x-subject-token"]).status == 200
    identity.client.close()


@pytest.mark.parametrize("change", ["rules", "deletion", "another"])
def test_another_mapping_ends_what_the_former_one_came_to(identity, change):
    federate(identity)
    _group, project = staffed(identity)
    inside = scoped(identity, token(identity), project).headers["x-subject-token"]
    rules = [{"local": [{"user": {"name": "{0}"}}], "remote": [{"type": "OIDC-name"}]}]
    match change:
        case "rules":
            identity("PATCH", MAPPING, {"mapping": {"rules": rules}}, ok=200)
        case "deletion":
            identity("DELETE", MAPPING, ok=204)
        case "another":
            identity("PUT", "/OS-FEDERATION/mappings/new", {"mapping": {"rules": rules}}, ok=201)
            identity("PATCH", f"{IDP}/protocols/openid", {"protocol": {"mapping_id": "new"}}, ok=200)
    assert identity.validate(inside).status == 404


def test_an_administrator_takes_a_user_out_of_a_group(identity):
    federate(identity)
    group, _project = staffed(identity)
    user = login(identity).json["token"]["user"]["id"]
    here = f"/groups/{group['id']}/users/{user}"
    assert identity("HEAD", here).status == 204
    assert [one["id"] for one in identity("GET", f"/groups/{group['id']}/users").json["users"]] == [user]
    assert identity("DELETE", here).status == 204
    assert identity("HEAD", here).status == 404


def test_effective_assignments_show_federated_members(identity):
    federate(identity)
    group, project = staffed(identity)
    user = login(identity).json["token"]["user"]["id"]
    for query in (f"user.id={user}", f"scope.project.id={project['id']}"):
        found = identity("GET", f"/role_assignments?effective&{query}", ok=200).json["role_assignments"]
        assert {(one["user"]["id"], one["scope"]["project"]["id"]) for one in found} == {(user, project["id"])}
        assert any(group["id"] in one["links"].get("membership", "") for one in found)


def test_a_trust_of_a_federated_user_works_while_the_memberships_last(identity, time):
    federate(identity, authorization_ttl=120)
    _group, project = staffed(identity)
    answer = scoped(identity, token(identity), project)
    user, inside = answer.json["token"]["user"]["id"], answer.headers["x-subject-token"]
    friend = identity.user("friend")
    trust = {"trustor_user_id": user, "trustee_user_id": friend["id"], "project_id": project["id"], "impersonation": False, "roles": [{"name": "member"}]}
    made = identity("POST", "/OS-TRUST/trusts", {"trust": trust}, token=inside, ok=201).json["trust"]["id"]
    scope = {"OS-TRUST:trust": {"id": made}}
    time.advance(90 * 60)
    delegated = identity.login("friend", "friend-secret", scope)
    assert (delegated.status, roles_of(delegated)) == (201, {"member", "reader"})
    left = clock.parse(delegated.json["token"]["expires_at"]) - clock.utcnow()
    assert left.total_seconds() == 30 * 60
    time.advance(30 * 60)
    assert identity.login("friend", "friend-secret", scope).status == 403


def test_what_is_passed_on_ends_with_the_memberships_of_the_first_trustor(identity, time):
    federate(identity, authorization_ttl=120)
    _group, project = staffed(identity)
    answer = scoped(identity, token(identity), project)
    inside = answer.headers["x-subject-token"]
    people = [answer.json["token"]["user"]["id"], identity.user("bob")["id"], identity.user("cid")["id"]]
    for trustor, trustee, name in zip(people, people[1:], ("bob", "cid"), strict=False):
        trust = {"trustor_user_id": trustor, "trustee_user_id": trustee, "project_id": project["id"], "impersonation": False}
        trust |= {"roles": [{"name": "member"}], "allow_redelegation": True}
        made = identity("POST", "/OS-TRUST/trusts", {"trust": trust}, token=inside, ok=201).json["trust"]["id"]
        time.advance(30 * 60)
        taken = identity.login(name, f"{name}-secret", {"OS-TRUST:trust": {"id": made}})
        inside = taken.headers["x-subject-token"]
    time.advance(30 * 60)
    taken = identity.login("cid", "cid-secret", {"OS-TRUST:trust": {"id": made}})
    left = clock.parse(taken.json["token"]["expires_at"]) - clock.utcnow()
    assert left.total_seconds() == 30 * 60


def test_a_token_of_a_trust_is_not_federated(identity):
    federate(identity)
    _group, project = staffed(identity)
    who, _own, inside = identity.member("giver", "member")
    identity.grant("member", user=who["id"], project=project["id"])
    inside = identity.token("giver", "giver-secret", {"project": {"id": project["id"]}})
    answer = login(identity)
    trust = {"trustor_user_id": who["id"], "trustee_user_id": answer.json["token"]["user"]["id"], "project_id": project["id"], "impersonation": True, "roles": [{"name": "member"}]}
    made = identity("POST", "/OS-TRUST/trusts", {"trust": trust}, token=inside, ok=201).json["trust"]["id"]
    taken = identity.exchange(answer.headers["x-subject-token"], {"OS-TRUST:trust": {"id": made}})
    assert (taken.status, taken.json["token"]["user"]["id"]) == (201, who["id"])
    assert "OS-FEDERATION" not in taken.json["token"]["user"]
    assert "OS-FEDERATION" not in identity.validate(taken.headers["x-subject-token"]).json["token"]["user"]


# Users with given identities -------------------------------------------------------------------------------------------


def test_an_administrator_gives_a_user_an_identity(identity):
    federate(identity)
    identities = [{"idp_id": "idp", "protocols": [{"protocol_id": "openid", "unique_id": "alice"}]}]
    made = identity.user("anna", federated=identities)
    assert made["federated"] == identities
    answer = login(identity)
    assert (answer.json["token"]["user"]["id"], answer.json["token"]["user"]["name"]) == (made["id"], "anna")
    for query in ("idp_id=idp", "unique_id=alice", "protocol_id=openid&idp_id=idp"):
        assert [one["id"] for one in identity("GET", f"/users?{query}", ok=200).json["users"]] == [made["id"]], query
    assert identity("GET", "/users?unique_id=other").json["users"] == []
    taken = identity("POST", "/users", {"user": {"name": "other", "federated": identities}})
    assert (taken.status, "unique ID alice" in message(taken)) == (409, True)
    identities[0]["protocols"][0]["unique_id"] = "anna"
    changed = identity("PATCH", f"/users/{made['id']}", {"user": {"federated": identities}}, ok=200)
    assert changed.json["user"]["federated"] == identities
    assert login(identity).json["token"]["user"]["id"] != made["id"]
    gone = identity("PATCH", f"/users/{made['id']}", {"user": {"federated": []}}, ok=200)
    assert "federated" not in gone.json["user"]


def manager_of(identity, domain):
    who = identity.user("boss", domain_id=domain)
    identity.grant("manager", user=who["id"], domain=domain)
    return identity.token("boss", "boss-secret", {"domain": {"id": domain}}, domain=domain)


def test_a_domain_manager_gives_identities_of_providers_of_the_domain_alone(identity):
    own = federate(identity)
    federate(identity, "foreign")
    boss = manager_of(identity, own)

    def named(provider, unique_id="alice"):
        return [{"idp_id": provider, "protocols": [{"protocol_id": "openid", "unique_id": unique_id}]}]

    puppet = {"name": "puppet", "password": "s", "domain_id": own}
    refused = identity("POST", "/users", {"user": {**puppet, "federated": named("foreign")}}, token=boss)
    assert refused.status == 403
    assert message(refused) == "Identity Provider foreign is of another domain than the user: only an administrator may give this identity."
    assert identity("GET", "/users?name=puppet").json["users"] == []
    made = identity("POST", "/users", {"user": {**puppet, "federated": named("idp")}}, token=boss, ok=201).json["user"]
    assert identity("PATCH", f"/users/{made['id']}", {"user": {"federated": named("foreign")}}, token=boss).status == 403
    assert login(identity, name="foreign").json["token"]["user"]["id"] != made["id"]
    assert login(identity).json["token"]["user"]["id"] == made["id"]

    both = named("foreign", "puppet") + named("idp")
    identity("PATCH", f"/users/{made['id']}", {"user": {"federated": both}}, ok=200)
    kept = identity("PATCH", f"/users/{made['id']}", {"user": {"federated": both}}, token=boss, ok=200)
    assert kept.json["user"]["federated"] == both, "what an administrator gave may be sent back"
    other = named("foreign", "carol")
    assert identity("PATCH", f"/users/{made['id']}", {"user": {"federated": other}}, token=boss).status == 403
    assert identity("GET", f"/users/{made['id']}").json["user"]["federated"] == both
    identity("PATCH", f"/users/{made['id']}", {"user": {"federated": []}}, token=boss, ok=200)


def test_nobody_in_the_domain_of_the_provider_is_who_the_mapping_puts_elsewhere(identity):
    acme = identity.make("domain", name="acme")
    local = {"user": {"name": "{0}"}, "domain": {"name": "acme"}}
    own = federate(identity, rules=[{"local": [local], "remote": [{"type": "OIDC-name"}]}], version="2.0")
    identities = [{"idp_id": "idp", "protocols": [{"protocol_id": "openid", "unique_id": "alice"}]}]
    puppet = {"name": "puppet", "domain_id": own, "federated": identities}
    made = identity("POST", "/users", {"user": puppet}, token=manager_of(identity, own), ok=201).json["user"]
    assert login(identity).status == 401
    identity("DELETE", f"/users/{made['id']}", ok=204)
    assert login(identity).json["token"]["user"]["domain"]["id"] == acme["id"]


@pytest.mark.parametrize(
    "federated",
    [
        "idp",
        [{"idp_id": "idp"}],
        [{"idp_id": "idp", "protocols": []}],
        [{"idp_id": "idp", "protocols": [{"protocol_id": "openid"}]}],
        [{"idp_id": "none", "protocols": [{"protocol_id": "openid", "unique_id": "x"}]}],
        [{"idp_id": "idp", "protocols": [{"protocol_id": "none", "unique_id": "x"}]}],
        [{"idp_id": "idp", "protocols": [{"protocol_id": "openid", "unique_id": "x" * 256}]}],
    ],
)
def test_identities_that_cannot_be(identity, federated):
    federate(identity)
    assert identity("POST", "/users", {"user": {"name": "x", "federated": federated}}).status == 400
    assert identity("GET", "/users?name=x").json["users"] == []


# Races -----------------------------------------------------------------------------------------------------------------


def test_first_logins_at_once_make_one_user(database_url):
    identity = Identity(db_url=database_url)
    projects = [{"name": "made", "roles": [{"name": "member"}]}]
    local = {**RULES[0]["local"][0], "projects": projects}
    federate(identity, rules=[{**RULES[0], "local": [local]}])
    staffed(identity)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: login(identity), range(12)))
    assert {answer.status for answer in answers} == {201}, [answer.text for answer in answers]
    assert len({answer.json["token"]["user"]["id"] for answer in answers}) == 1
    assert len(identity("GET", "/users?unique_id=alice").json["users"]) == 1
    assert len(identity("GET", "/projects?name=made").json["projects"]) == 1
    inside = identity.exchange(answers[0].headers["x-subject-token"], {"project": {"id": identity("GET", "/projects?name=made").json["projects"][0]["id"]}})
    assert roles_of(inside) == {"member", "reader"}
    identity.client.close()


def test_validation_costs_the_same_statements_for_any_number_of_groups(identity):
    federate(identity)
    _group, project = staffed(identity)
    counts = []
    for groups in ("staff", "staff", "staff;a;b;c"):  # the first time catalog and roles are read too
        for name in groups.split(";")[1:]:
            identity.make("group", name=name)
        inside = scoped(identity, token(identity, {**ALICE, "HTTP_OIDC_GROUPS": groups}), project).headers["x-subject-token"]
        with identity.client.count_queries() as queries:
            assert identity.validate(inside, by=identity.admin).status == 200
        counts.append(len(queries))
    assert counts[1] == counts[2] < counts[0]
