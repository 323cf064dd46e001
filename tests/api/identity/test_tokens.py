"""Tokens on the wire: asking for one, what it shows, and when it ends."""

from __future__ import annotations

import datetime as dt

import pytest

from pileus.kernel import clock
from pileus.kernel.testing import NOBODY, SERVICE
from tests.api.identity.world import PASSWORD, Identity, message, roles_of

ADMIN_PROJECT = {"project": {"name": "admin", "domain": {"id": "default"}}}


@pytest.fixture(params=["fernet", "jws"])
def identity(request, tmp_path):
    made = Identity(home=tmp_path, options={"token_provider": request.param})
    yield made
    made.client.close()



def test_a_project_token_shows_user_project_roles_and_catalog(identity):
    answer = identity.login("admin", PASSWORD, ADMIN_PROJECT)
    assert answer.status == 201
    assert answer.headers["vary"] == "X-Auth-Token"
    assert len(answer.headers["x-subject-token"]) < (250 if identity.service.options.token_provider == "fernet" else 500)
    body = answer.json["token"]
    assert body["methods"] == ["password"]
    assert body["user"] == {
        "domain": {"id": "default", "name": "Default"},
        "id": identity.ids["admin_user"],
        "name": "admin",
        "password_expires_at": None,
    }
    assert body["project"] == {
        "domain": {"id": "default", "name": "Default"},
        "id": identity.ids["admin_project"],
        "name": "admin",
    }
    assert body["is_domain"] is False
    assert roles_of(answer) == {"admin", "manager", "member", "reader"}
    assert len(body["audit_ids"]) == 1
    issued, expires = (dt.datetime.fromisoformat(body[name]) for name in ("issued_at", "expires_at"))
    assert expires - issued == dt.timedelta(hours=1)
    volume = next(service for service in body["catalog"] if service["type"] == "volumev3")
    assert {endpoint["interface"] for endpoint in volume["endpoints"]} == {"public", "internal", "admin"}
    assert {endpoint["url"] for endpoint in volume["endpoints"]} == {f"http://c/volume/v3/{identity.ids['admin_project']}"}
    assert set(volume["endpoints"][0]) == {"id", "interface", "region", "region_id", "url"}
    assert "domain" not in body and "system" not in body


def test_scopes(identity):
    system = identity.login("admin", PASSWORD, {"system": {"all": True}}).json["token"]
    assert system["system"] == {"all": True} and "project" not in system
    domain = identity.login("admin", PASSWORD, {"domain": {"name": "Default"}}).json["token"]
    assert domain["domain"] == {"id": "default", "name": "Default"} and "project" not in domain
    unscoped = identity.login("admin", PASSWORD).json["token"]
    assert not {"project", "domain", "system", "roles", "catalog"} & set(unscoped)


def test_a_catalog_without_project_leaves_out_what_needs_one(identity):
    body = identity.login("admin", PASSWORD, {"system": {"all": True}}).json["token"]
    found = {service["type"]: service["endpoints"] for service in body["catalog"]}
    assert found["volumev3"] == []
    assert len(found["identity"]) == 3


def test_nocatalog_leaves_the_catalog_out(identity):
    answer = identity.login("admin", PASSWORD, ADMIN_PROJECT, query="?nocatalog")
    assert "catalog" not in answer.json["token"]
    shown = identity.validate(answer.headers["x-subject-token"], query="?nocatalog")
    assert "catalog" not in shown.json["token"]


def test_the_default_project_is_the_scope_when_nothing_is_asked_for(identity):
    who, project, _token = identity.member("ann")
    identity("PATCH", f"/users/{who['id']}", {"user": {"default_project_id": project["id"]}}, ok=200)
    assert identity.login("ann", "ann-secret").json["token"]["project"]["id"] == project["id"]
    for unscoped in ("unscoped", {"unscoped": {}}):
        assert "project" not in identity.login("ann", "ann-secret", unscoped).json["token"]


def test_a_default_project_that_cannot_be_used_leaves_the_token_unscoped(identity):
    other = identity.make("project", name="not-mine")
    identity.user("ann", default_project_id=other["id"])
    answer = identity.login("ann", "ann-secret")
    assert answer.status == 201
    assert "project" not in answer.json["token"]


def test_a_user_is_found_by_id_too(identity):
    who = {"id": identity.ids["admin_user"], "password": PASSWORD}
    auth = {"identity": {"methods": ["password"], "password": {"user": who}}, "scope": ADMIN_PROJECT}
    assert identity("POST", "/auth/tokens", {"auth": auth}, token=None).status == 201


@pytest.mark.parametrize(
    ("user", "password", "scope"),
    [
        ("admin", "wrong", ADMIN_PROJECT),
        ("nobody", PASSWORD, ADMIN_PROJECT),
        ("admin", "", ADMIN_PROJECT),
        ("admin", PASSWORD, {"project": {"id": "0" * 32}}),
        ("admin", PASSWORD, {"project": {"name": "none", "domain": {"id": "default"}}}),
        ("admin", PASSWORD, {"domain": {"id": "none"}}),
        ("admin", PASSWORD, {"project": {"name": "service", "domain": {"id": "default"}}}),
        ("nova", "nova-secret", {"system": {"all": True}}),
        ("nova", "nova-secret", {"domain": {"id": "default"}}),
        ("admin", "wrong", {"OS-TRUST:trust": {"id": "x"}}),
    ],
)
def test_every_refused_login_sounds_the_same(identity, user, password, scope):
    answer = identity.login(user, password, scope)
    assert answer.status == 401
    assert answer.json == {
        "error": {
            "code": 401,
            "message": "The request you have made requires authentication.",
            "title": "Unauthorized",
        }
    }
    assert answer.headers["www-authenticate"].startswith("Keystone uri=")


@pytest.mark.parametrize(
    "auth",
    [
        {},
        {"identity": {}},
        {"identity": {"methods": "password"}},
        {"identity": {"methods": ["password"]}},
        {"identity": {"methods": ["password"], "password": {}}},
        {"identity": {"methods": ["password"], "password": {"user": {"name": "admin", "password": "x"}}}},
        {"identity": {"methods": ["password"], "password": {"user": {"password": "x"}}}},
        {"identity": {"methods": ["password"], "password": {"user": {"id": "a", "password": 7}}}},
        {"identity": {"methods": ["token"], "token": {}}},
        {"identity": {"methods": ["password"], "password": {"user": {"id": "a", "password": "x"}}}, "scope": 7},
        {"identity": {"methods": ["application_credential"], "application_credential": {"secret": "x"}}},
    ],
)
def test_a_body_that_says_nothing_usable_is_400(identity, auth):
    answer = identity("POST", "/auth/tokens", {"auth": auth}, token=None)
    assert answer.status == 400, answer.text
    assert answer.json["error"]["title"] == "Bad Request"


@pytest.mark.parametrize("scope", [{}, {"project": {}}, {"project": {"name": "admin"}}, {"domain": {}}, {"system": {}}])
def test_a_scope_that_names_nothing_is_400(identity, scope):
    assert identity.login("admin", PASSWORD, scope).status == 400


def test_unknown_methods_are_401(identity):
    auth = {"identity": {"methods": ["saml2"], "saml2": {}}}
    assert identity("POST", "/auth/tokens", {"auth": auth}, token=None).status == 401
    assert identity("POST", "/auth/tokens", {"auth": {"identity": {"methods": []}}}, token=None).status == 401


def test_a_token_made_from_a_token_keeps_end_and_chain(identity):
    first = identity.login("admin", PASSWORD)
    second = identity.exchange(first.headers["x-subject-token"], ADMIN_PROJECT)
    assert second.status == 201
    one, two = first.json["token"], second.json["token"]
    assert two["expires_at"] == one["expires_at"]
    assert len(two["audit_ids"]) == 2 and two["audit_ids"][1] == one["audit_ids"][0]
    assert set(two["methods"]) == {"password", "token"}
    third = identity.exchange(second.headers["x-subject-token"], {"system": {"all": True}}).json["token"]
    assert third["audit_ids"][1] == one["audit_ids"][0]


def test_a_bad_token_gives_no_token(identity):
    for token in ("junk", "", "gAAAAA" + "x" * 180, identity.admin[:-4] + "AAAA", "ü"):
        answer = identity.exchange(token)
        assert (answer.status, message(answer)) == (404, "Could not find token.")


def test_two_methods_must_prove_the_same_user(identity):
    identity.user("ann")
    who = {"name": "ann", "domain": {"id": "default"}, "password": "ann-secret"}
    both = {"methods": ["password", "token"], "password": {"user": who}, "token": {"id": identity.admin}}
    assert identity("POST", "/auth/tokens", {"auth": {"identity": both}}, token=None).status == 401
    own = identity.token("ann", "ann-secret", "unscoped")
    both["token"] = {"id": own}
    assert identity("POST", "/auth/tokens", {"auth": {"identity": both}}, token=None).status == 201


# Validation -----------------------------------------------------------------------------------------------------------


def test_validation_shows_what_issuing_showed(identity):
    issued = identity.login("admin", PASSWORD, ADMIN_PROJECT)
    token = issued.headers["x-subject-token"]
    shown = identity.validate(token)
    assert shown.status == 200
    assert shown.json == issued.json
    assert shown.headers["x-subject-token"] == token
    assert shown.headers["vary"] == "X-Auth-Token"
    checked = identity("HEAD", "/auth/tokens", headers={"X-Subject-Token": token})
    assert checked.status == 200 and checked.body == b""


def test_who_may_validate(identity):
    _who, _project, mine = identity.member("ann")
    _who, _project, other = identity.member("bob")
    assert identity.validate(mine, by=mine).status == 200
    assert identity.validate(mine, by=other).status == 403
    assert identity.validate(mine, by=None).status == 401
    service = identity.token("nova", "nova-secret", {"project": {"name": "service", "domain": {"id": "default"}}})
    assert identity.validate(mine, by=service).status == 200
    assert identity("HEAD", "/auth/tokens", token=service, headers={"X-Subject-Token": mine}).status == 403
    assert identity("DELETE", "/auth/tokens", token=other, headers={"X-Subject-Token": mine}).status == 403


def test_what_is_no_token_is_404(identity):
    for token in ("junk", identity.admin + "x", identity.admin[:-6]):
        answer = identity.validate(token)
        assert answer.status == 404 and answer.json["error"]["title"] == "Not Found"
    assert identity("GET", "/auth/tokens").status == 404


def test_a_revoked_token_is_gone_at_once_and_its_children_live(identity):
    parent = identity.token("admin", PASSWORD)
    child = identity.exchange(parent, ADMIN_PROJECT).headers["x-subject-token"]
    assert identity("DELETE", "/auth/tokens", headers={"X-Subject-Token": parent}).status == 204
    assert identity.validate(parent).status == 404
    assert identity("GET", "/users", token=parent).status == 401
    assert identity.exchange(parent).status == 404
    assert identity.validate(child).status == 200
    assert identity("DELETE", "/auth/tokens", headers={"X-Subject-Token": parent}).status == 404


def test_a_token_ends_and_services_may_look_a_little_longer(time, identity):
    token = identity.admin
    assert identity.validate(token).status == 200
    time.advance(3601)
    fresh = identity.token("admin", PASSWORD)
    assert identity.validate(token, by=fresh).status == 404
    assert identity("GET", "/users", token=token).status == 401
    assert identity.validate(token, by=fresh, query="?allow_expired=1").status == 200
    time.advance(172800)
    fresh = identity.token("admin", PASSWORD)
    assert identity.validate(token, by=fresh, query="?allow_expired=1").status == 404


def test_a_revoked_token_stays_revoked_when_expired_ones_are_allowed(time, identity):
    token = identity.token("admin", PASSWORD)
    identity("DELETE", "/auth/tokens", headers={"X-Subject-Token": token}, ok=204)
    time.advance(3601)
    fresh = identity.token("admin", PASSWORD)
    assert identity.validate(token, by=fresh, query="?allow_expired=1").status == 404


def test_tokens_outlive_one_rotation_of_the_keys(identity):
    from pileus.identity.logic import keys

    token = identity.admin
    keys.rotate(identity.service)
    fresh = identity.token("admin", PASSWORD)
    assert identity.validate(token, by=fresh).status == 200
    keys.rotate(identity.service)
    identity.user("forget-remembered-answers")
    identity("DELETE", "/auth/tokens", token=fresh, headers={"X-Subject-Token": fresh}, ok=204)
    newest = identity.token("admin", PASSWORD)
    assert identity.validate(token, by=newest).status == 404


# What ends tokens -----------------------------------------------------------------------------------------------------


def change(identity, kind, identifier, **body):
    identity("PATCH", f"/{kind}s/{identifier}", {kind: body}, ok=200)


def test_disabling_a_user_ends_the_tokens_for_good(identity):
    who, _project, token = identity.member("ann")
    change(identity, "user", who["id"], enabled=False)
    assert identity.validate(token).status == 404
    assert identity.login("ann", "ann-secret").status == 401
    change(identity, "user", who["id"], enabled=True)
    assert identity.validate(token).status == 404
    assert identity.login("ann", "ann-secret").status == 201


def test_a_new_password_ends_older_tokens_and_no_newer_one(identity):
    who, project, token = identity.member("ann")
    change(identity, "user", who["id"], password="next")
    assert identity.validate(token).status == 404
    assert identity.login("ann", "ann-secret").status == 401
    newer = identity.token("ann", "next", {"project": {"id": project["id"]}})
    assert identity.validate(newer).status == 200


def test_disabling_a_project_ends_its_tokens_and_leaves_others(identity):
    who, project, token = identity.member("ann")
    unscoped = identity.token("ann", "ann-secret", "unscoped")
    change(identity, "project", project["id"], enabled=False)
    assert identity.validate(token).status == 404
    assert identity.validate(unscoped).status == 200
    assert identity.login("ann", "ann-secret", {"project": {"id": project["id"]}}).status == 401
    change(identity, "project", project["id"], enabled=True)
    assert identity.validate(token).status == 404
    assert identity.login("ann", "ann-secret", {"project": {"id": project["id"]}}).status == 201


def test_disabling_a_domain_ends_the_tokens_of_its_users_and_projects(identity):
    domain = identity.make("domain", name="acme")
    project = identity.make("project", name="p", domain_id=domain["id"])
    who = identity.user("ann", domain_id=domain["id"])
    guest = identity.user("guest")
    for user in (who, guest):
        identity.grant("member", user=user["id"], project=project["id"])
    scope = {"project": {"name": "p", "domain": {"name": "acme"}}}
    tokens = [
        identity.token("ann", "ann-secret", scope, domain=domain["id"]),
        identity.token("guest", "guest-secret", scope),
    ]
    change(identity, "domain", domain["id"], enabled=False)
    assert [identity.validate(token).status for token in tokens] == [404, 404]
    assert identity.login("ann", "ann-secret", domain=domain["id"]).status == 401
    assert identity.login("guest", "guest-secret", scope).status == 401
    assert identity.login("guest", "guest-secret").status == 201


def test_losing_the_last_role_ends_the_token_losing_one_of_two_shrinks_it(identity):
    who, project, token = identity.member("ann", "member", "manager")
    base = f"/projects/{project['id']}/users/{who['id']}/roles/"
    identity("DELETE", base + identity.role("manager"), ok=204)
    assert roles_of(identity.validate(token)) == {"member", "reader"}
    identity("DELETE", base + identity.role("member"), ok=204)
    assert identity.validate(token).status == 404
    assert identity("GET", "/auth/projects", token=token).status == 401


def test_deleting_user_or_project_ends_the_token(identity):
    who, _project, token = identity.member("ann")
    identity("DELETE", f"/users/{who['id']}", ok=204)
    assert identity.validate(token).status == 404
    _who, project, token = identity.member("bob")
    identity("DELETE", f"/projects/{project['id']}", ok=204)
    assert identity.validate(token).status == 404


def test_a_password_changed_while_its_hash_was_checked_wins(identity, monkeypatch):
    from pileus.identity.logic import state, users

    who, project, _token = identity.member("ann")
    hasher = state.of(identity.service).hasher
    verify = hasher.verify

    def slow(password, stored):
        found = verify(password, stored)
        monkeypatch.undo()
        users.update(identity.service, who["id"], {"password": "next"})
        return found

    monkeypatch.setattr(hasher, "verify", slow)
    assert identity.login("ann", "ann-secret", {"project": {"id": project["id"]}}).status == 401


# The revision and the number of statements ----------------------------------------------------------------------------


def revision(identity):
    return identity("GET", "/auth/revision", ok=200).json["revision"]


def test_the_revision_rises_with_what_takes_rights_away_and_not_with_reading(identity):
    who, project, token = identity.member("ann")
    before = revision(identity)
    identity.validate(token)
    identity("GET", "/users", ok=200)
    identity.user("new")
    assert revision(identity) == before
    for act in (
        lambda: change(identity, "user", who["id"], enabled=False),
        lambda: change(identity, "project", project["id"], enabled=False),
        lambda: identity("DELETE", f"/projects/{project['id']}/users/{who['id']}/roles/{identity.role('member')}", ok=204),
        lambda: identity("DELETE", f"/users/{who['id']}", ok=204),
        lambda: identity("DELETE", "/auth/tokens", headers={"X-Subject-Token": identity.token("admin", PASSWORD)}, ok=204),
    ):
        before = revision(identity)
        act()
        assert revision(identity) > before


def test_the_revision_is_for_services_and_admins(identity):
    _who, _project, token = identity.member("ann")
    assert identity("GET", "/auth/revision", token=token).status == 403
    assert identity("GET", "/auth/revision", token=None).status == 401
    assert identity.client.get("/v3/auth/revision", as_=SERVICE).status == 200


def test_statements_per_call(identity):
    headers = {"X-Subject-Token": identity.admin}

    def validate():
        return identity.client.get("/v3/auth/tokens", headers=headers, as_=SERVICE)

    identity.user("x")
    identity("DELETE", "/auth/tokens", headers={"X-Subject-Token": identity.token("admin", PASSWORD)}, ok=204)
    with identity.client.count_queries() as cold:
        validate()
    with identity.client.count_queries() as warm:
        validate()
    with identity.client.count_queries() as revision_read:  # past SQLAlchemy, which counts
        identity.client.get("/v3/auth/revision", as_=SERVICE)
    with identity.client.count_queries() as issue:
        assert identity.login("admin", PASSWORD, ADMIN_PROJECT).status == 201
    assert (len(cold), len(warm), len(revision_read), len(issue)) == (3, 0, 0, 6)


# What a token's holder may see ----------------------------------------------------------------------------------------


def test_own_projects_domains_system_and_catalog(identity):
    who, project, token = identity.member("ann")
    assert [one["id"] for one in identity("GET", "/auth/projects", token=token).json["projects"]] == [project["id"]]
    assert identity("GET", "/auth/domains", token=token).json["domains"] == []
    assert identity("GET", "/auth/system", token=token).json["system"] == []
    assert identity("GET", "/auth/system").json["system"] == [{"all": True}]
    assert [one["id"] for one in identity("GET", "/auth/domains").json["domains"]] == ["default"]
    shown = identity("GET", "/auth/catalog", token=token).json
    assert shown["catalog"] == identity.validate(token).json["token"]["catalog"]
    assert shown["links"]["self"].endswith("/identity/v3/auth/catalog")
    unscoped = identity.token("ann", "ann-secret", "unscoped")
    assert identity("GET", "/auth/projects", token=unscoped).status == 200
    assert identity("GET", "/auth/catalog", token=unscoped).status == 403


def test_nobody_gets_401_everywhere_else(identity):
    answer = identity.client.get("/v3/users", as_=NOBODY)
    assert answer.status == 401 and message(answer)


def test_what_was_revoked_is_listed_for_services_and_administrators(identity):
    token = identity.token("admin", PASSWORD)
    audit = identity.validate(token).json["token"]["audit_ids"][0]
    assert identity("GET", "/OS-REVOKE/events", ok=200).json["events"] == []
    identity("DELETE", "/auth/tokens", headers={"X-Subject-Token": token}, ok=204)
    listed = identity("GET", "/OS-REVOKE/events", ok=200).json
    (event,) = listed["events"]
    assert (event["audit_id"], event["issued_before"]) == (audit, event["revoked_at"])
    assert listed["links"] == {"next": None, "self": "http://localhost:5000/identity/v3/OS-REVOKE/events", "previous": None}
    assert identity("GET", "/OS-REVOKE/events?since=2020-01-01T00:00:00Z").json["events"] == [event]
    assert identity("GET", "/OS-REVOKE/events?since=2999-01-01T00:00:00Z").json["events"] == []
    assert identity("GET", "/OS-REVOKE/events?since=yesterday").status == 400
    for who in (None, ""):
        assert identity("GET", "/auth/tokens/OS-PKI/revoked", token=who).status == 403
