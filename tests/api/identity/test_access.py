"""Who may call what: every declared operation, by every kind of caller, with real tokens."""

from __future__ import annotations

import re

import pytest

from pileus.identity.policy import SCOPES
from pileus.identity.room import ROOM
from tests.api.identity.world import PASSWORD, Identity

OPERATIONS = [op for op in ROOM.operations() if op.rule is not None]
# Ids nobody can guess: what does not exist is 404 for every caller.
UNGUESSABLE = ("/OS-TRUST/trusts/{", "/users/{user_id}/credentials/OS-EC2/{")
GUARDED = [op for op in OPERATIONS if op.path != "/auth/tokens" and not op.path.startswith(UNGUESSABLE)]

# What a caller without any special right may do: look at the open parts of the catalog and at oneself.
EVERYBODY = {
    "identity:get_auth_catalog",
    "identity:get_auth_projects",
    "identity:get_auth_domains",
    "identity:get_auth_system",
    "identity:get_region",
    "identity:list_regions",
    "identity:list_credentials",  # of their own
    "identity:get_registered_limit",
    "identity:list_registered_limits",
    "identity:get_limit_model",
    "identity:list_limits",  # of their own
    "identity:get_security_compliance_domain_config",
}
SERVICES = EVERYBODY | {"identity:get_revision", "identity:list_nodes", "identity:list_revoke_events", "identity:ec2tokens_validate", "identity:s3tokens_validate"}
WRITES = re.compile(r"identity:(ec2_)?(create|update|delete|revoke|add|remove|authorize)_|identity:(ec2|s3)tokens_validate")
# Upstream's rules for these name no reader.
UNREAD = {"identity:list_revoke_events", "identity:get_access_token", "identity:list_access_tokens", "identity:get_access_token_role", "identity:list_access_token_roles"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """One identity with a token of every kind of caller."""
    made = Identity(home=tmp_path_factory.mktemp("access"))
    domain = made.make("domain", name="acme")
    tokens = {"admin": made.admin, "nobody": None}
    tokens["system admin"] = made.token("admin", PASSWORD, {"system": {"all": True}})
    for role in ("manager", "member", "reader"):
        _who, _project, tokens[role] = made.member(f"a-{role}", role)
    looker = made.user("looker")
    made.grant("reader", user=looker["id"])
    tokens["system reader"] = made.token("looker", "looker-secret", {"system": {"all": True}})
    for role in ("manager", "reader"):
        user = made.user(f"d-{role}", domain_id=domain["id"])
        made.grant(role, user=user["id"], domain=domain["id"])
        scope = {"domain": {"id": domain["id"]}}
        tokens[f"domain {role}"] = made.token(f"d-{role}", f"d-{role}-secret", scope, domain=domain["id"])
    tokens["unscoped"] = made.token("a-member", "a-member-secret", "unscoped")
    tokens["service"] = made.token("nova", "nova-secret", {"project": {"name": "service", "domain": {"id": "default"}}})
    yield made, tokens
    made.client.close()


def smallest(schema):
    """A document that fits, so that the policy and not the schema decides."""
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if "enum" in schema:
        return schema["enum"][0]
    if kind == "object":
        wanted = schema.get("required") or (list(schema.get("properties", ()))[:1] if schema.get("minProperties") else [])
        return {name: smallest(schema["properties"][name]) for name in wanted}
    if kind == "string":
        return "http://x" if "4000" in str(schema.get("maxLength")) else "name-of-something"
    if kind == "array":
        return [smallest(schema["items"])] if schema.get("minItems") else []
    return {"boolean": True, "integer": 1}[kind]


NAMED = {"group": "ldap", "option": "url"}  # of the configuration of domains: others are refused to everybody


def call(world, operation, who):
    made, tokens = world
    path = re.sub(r"\{([^}]+)\}", lambda part: NAMED.get(part[1], "f" * 32), operation.path)
    body = None
    if operation.bodies:
        body = smallest(operation.bodies[0][1].schema)
        if operation.path == "/roles":
            body["role"].pop("domain_id", None)
    headers = {"X-Subject-Token": made.admin} if operation.path == "/auth/tokens" else {}
    if operation.method == "POST" and who in {"admin", "system admin"}:
        return None  # would really make something; the stories do that
    return made(operation.method, path, body, token=tokens[who], headers=headers)


def allowed(world, operation, who):
    answer = call(world, operation, who)
    if answer is None:
        return True
    assert answer.status < 500, answer.text
    if who == "nobody":
        assert answer.status == 401
    return answer.status not in {401, 403}


def name_of(operation):
    return f"{operation.method} {operation.path}"


@pytest.mark.parametrize("operation", OPERATIONS, ids=name_of)
def test_nobody_is_let_in_without_a_token(world, operation):
    assert not allowed(world, operation, "nobody")


@pytest.mark.parametrize("operation", GUARDED, ids=name_of)
def test_project_members_change_and_see_nothing_of_others(world, operation):
    for who in ("manager", "member", "reader"):
        assert allowed(world, operation, who) == (operation.rule in EVERYBODY), who
    unscoped = EVERYBODY - {"identity:get_auth_catalog"}
    assert allowed(world, operation, "unscoped") == (operation.rule in unscoped)


@pytest.mark.parametrize("operation", GUARDED, ids=name_of)
def test_services_validate_and_no_more(world, operation):
    assert allowed(world, operation, "service") == (operation.rule in SERVICES)


@pytest.mark.parametrize("operation", GUARDED, ids=name_of)
def test_a_system_reader_sees_everything_and_changes_nothing(world, operation):
    writes = bool(WRITES.match(operation.rule))
    assert allowed(world, operation, "system reader") == (not writes and operation.rule not in UNREAD)


@pytest.mark.parametrize("operation", GUARDED, ids=name_of)
def test_administrators_may_do_everything_but_what_is_personal(world, operation):
    for who in ("admin", "system admin"):
        personal = operation.rule == "identity:create_application_credential"
        personal |= "access_rule" in operation.rule and who == "admin"  # upstream leaves them to the system's administrators
        personal |= SCOPES.get(operation.rule) == {"project"} and who == "system admin"  # what consumers of OAuth 1.0 are granted
        assert allowed(world, operation, who) or personal, who


@pytest.mark.parametrize("operation", GUARDED, ids=name_of)
def test_a_domain_manager_changes_only_people_and_projects(world, operation):
    if not WRITES.match(operation.rule):
        return
    may = operation.rule in {"identity:create_user", "identity:create_group", "identity:create_project"}
    if operation.method == "POST" and may:
        answer = call(world, operation, "domain manager")
        assert answer.status in {201, 409} and answer.json, answer.text
    else:
        assert not allowed(world, operation, "domain manager")
    assert not allowed(world, operation, "domain reader")


@pytest.mark.parametrize("operation", [op for op in OPERATIONS if op.path.startswith(UNGUESSABLE)], ids=name_of)
def test_what_has_an_unguessable_id_is_404_for_everybody(world, operation):
    for who in ("admin", "member", "service", "unscoped"):
        assert call(world, operation, who).status == 404


def test_a_refusal_names_the_rule(world):
    made, tokens = world
    refused = made("GET", "/users", token=tokens["member"])
    assert refused.json["error"] == {
        "code": 403,
        "message": "You are not authorized to perform the requested action: identity:list_users.",
        "title": "Forbidden",
    }


def test_who_may_not_see_does_not_learn_what_exists(world):
    made, tokens = world
    for path in ("/users/", "/groups/", "/projects/", "/domains/", "/roles/", "/credentials/"):
        assert made("GET", path + "f" * 32, token=tokens["member"]).status == 403
        assert made("GET", path + "f" * 32).status == 404
