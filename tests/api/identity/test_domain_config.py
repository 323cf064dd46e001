"""The configuration of domains: whole, by group and by option; secrets are stored encrypted and never shown."""

from __future__ import annotations

import threading

import pytest

from pileus.identity.logic import directories, sealing
from tests.api.identity.world import Identity, message

LDAP = {"url": "ldap://directory.example.org", "user": "cn=admin,dc=example,dc=org", "suffix": "dc=example,dc=org"}
CONFIG = {"identity": {"driver": "ldap"}, "ldap": LDAP}


@pytest.fixture
def domain(identity):
    return identity.make("domain", name="acme")["id"]


@pytest.fixture
def config(identity, domain):
    """Requests to the configuration of the domain."""

    def call(method, path="", body=None, ok=None, **options):
        sent = None if body is None else {"config": body}
        return identity(method, f"/domains/{domain}/config{path}", sent, ok=ok, **options)

    return call


def test_a_configuration_from_creation_to_deletion(config):
    none = config("GET")
    assert none.status == 404
    made = config("PUT", body=CONFIG)
    assert (made.status, made.json) == (201, {"config": CONFIG})
    assert config("GET", ok=200).json == {"config": CONFIG}
    assert config("HEAD").status == 200
    assert config("GET", "/ldap").json == {"config": {"ldap": LDAP}}
    assert config("GET", "/ldap/url").json == {"config": {"url": LDAP["url"]}}
    other = {"ldap": {"url": "ldap://other"}}
    replaced = config("PUT", body=other)
    assert (replaced.status, replaced.json) == (200, {"config": other})
    assert config("DELETE").status == 204
    assert config("GET").status == 404
    assert config("DELETE").status == 204, "once more changes nothing"


def test_changes_add_and_answer_with_everything(config):
    config("PUT", body={"ldap": LDAP}, ok=201)
    changed = config("PATCH", body={"identity": {"list_limit": 5}, "ldap": {"page_size": 100}})
    assert (changed.status, changed.json["config"]) == (200, {"identity": {"list_limit": 5}, "ldap": {**LDAP, "page_size": 100}})
    changed = config("PATCH", "/ldap", {"ldap": {"url": "ldap://b"}}, ok=200)
    assert changed.json["config"]["ldap"]["url"] == "ldap://b"
    changed = config("PATCH", "/ldap/url", {"url": "ldap://c"}, ok=200)
    assert changed.json["config"] == {"identity": {"list_limit": 5}, "ldap": {**LDAP, "page_size": 100, "url": "ldap://c"}}
    config("DELETE", "/ldap/page_size", ok=204)
    config("DELETE", "/identity", ok=204)
    assert config("GET").json["config"] == {"ldap": {**LDAP, "url": "ldap://c"}}
    assert config("GET", "/identity").status == 404


def test_what_is_not_set_is_not_found(identity, config, domain):
    config("PUT", body={"identity": {"driver": "sql"}}, ok=201)
    for method, path, body, what in (
        ("GET", "/ldap", None, "group ldap"),
        ("GET", "/identity/list_limit", None, "option list_limit in group identity"),
        ("PATCH", "/ldap", {"ldap": {"url": "ldap://x"}}, "group ldap"),
        ("PATCH", "/identity/list_limit", {"list_limit": 3}, "option list_limit in group identity"),
        ("DELETE", "/ldap", None, "group ldap"),
        ("DELETE", "/identity/list_limit", None, "option list_limit in group identity"),
    ):
        answer = config(method, path, body)
        assert (answer.status, message(answer)) == (404, f"Could not find {what} in domain configuration for domain {domain}."), path
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        assert identity(method, "/domains/nothing/config", {"config": CONFIG} if method[0] == "P" else None).status == 404


def test_a_change_of_one_group_or_option_names_nothing_else(config):
    config("PUT", body=CONFIG, ok=201)
    for path, body in (
        ("/ldap", {"identity": {"driver": "ldap"}}),
        ("/ldap", CONFIG),
        ("/ldap/url", {"url": "ldap://x", "user": "cn=x"}),
        ("/ldap/url", {"user": "cn=x"}),
        ("/ldap/url", {}),
        ("/ldap", {}),
        ("", {}),
        ("", {"ldap": {}}),
        ("", {"ldap": "url"}),
    ):
        assert config("PATCH", path, body).status == 403, (path, body)
    assert config("GET").json["config"] == CONFIG


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"security_compliance": {"password_regex": "x"}}, 403, "group security_compliance is not supported"),
        ({"token": {"expiration": 1}}, 403, "group token is not supported"),
        ({"ldap": {"debug_level": 1}}, 403, "option debug_level in group ldap is not supported"),
        ({"ldap": {"user_allow_create": True}}, 403, "option user_allow_create in group ldap is not supported"),
        ({"identity": {"password": "x"}}, 403, "option password in group identity is not supported"),
        ({"identity": {"driver": "a b"}}, 400, "identity.driver is the name of a driver: sql or ldap."),
        ({"identity": {"driver": 5}}, 400, "identity.driver"),
        ({"identity": {"list_limit": "many"}}, 400, "identity.list_limit is a whole number"),
        ({"identity": {"list_limit": True}}, 400, "identity.list_limit is a whole number"),
        ({"ldap": {"page_size": -1}}, 400, "ldap.page_size"),
        ({"ldap": {"page_size": "ten"}}, 400, "ldap.page_size"),
        ({"ldap": {"query_scope": "base"}}, 400, "ldap.query_scope"),
        ({"ldap": {"connection_timeout": -1}}, 400, "ldap.connection_timeout"),
        ({"ldap": {"user_id_attribute": "cn)(x=*"}}, 400, "ldap.user_id_attribute"),
        ({"ldap": {"user_attribute_ignore": [1]}}, 400, "ldap.user_attribute_ignore"),
        ({"ldap": {"url": None}}, 400, "delete the option"),
        ({"ldap": {"suffix": "x" * 9000}}, 400, "longer than 8192"),
        ({"ldap": {"chase_referrals": True}}, 400, "ldap.chase_referrals"),
        ({"ldap": {"url": "ldap://cn=admin:%(password)s@host", "password": "s"}}, 400, "ldap.url holds no user and password"),
    ],
)
def test_what_would_have_no_effect_is_refused(config, body, status, says):
    for method in ("PUT", "PATCH"):
        answer = config(method, body=body)
        assert answer.status == status, answer.text
        assert says in message(answer)
    assert config("GET").status == 404


def test_numbers_and_lists_may_come_as_text(config):
    given = {"ldap": {"page_size": "10", "use_pool": "False", "user_attribute_ignore": "email, description", "user_enabled_default": 512}}
    assert config("PUT", body=given, ok=201).json == {"config": given}


def test_a_password_is_stored_encrypted_and_never_shown(identity, config):
    body = {"ldap": {**LDAP, "password": "very-secret"}}
    for answer in (
        config("PUT", body=body, ok=201),
        config("GET"),
        config("GET", "/ldap"),
        config("PATCH", "/ldap/password", {"password": "very-secret-too"}, ok=200),
        config("PATCH", body={"ldap": {"page_size": 1}}, ok=200),
    ):
        assert "very-secret" not in answer.text
        assert answer.json["config"]["ldap"].items() >= LDAP.items()
    assert config("GET", "/ldap/password").status == 404
    with identity.service.db.read() as conn:
        stored = [str(row) for row in conn.exec_driver_sql("SELECT * FROM domain_options")]
    assert not any("very-secret" in row for row in stored)
    assert any("password" in row for row in stored)
    config("DELETE", "/ldap/password", ok=204)
    assert config("DELETE", "/ldap/password").status == 404


def test_a_configuration_of_secrets_alone_shows_nothing(config):
    assert config("PUT", body={"ldap": {"password": "s"}}, ok=201).json == {"config": {}}
    assert config("GET").status == 404
    assert config("PUT", body={"ldap": {"password": "t"}}, ok=200).json == {"config": {}}


def test_the_password_is_put_into_other_options(identity, config, domain):
    given = {"user_tree_dn": "ou=%(password)s,dc=x", "suffix": "dc=100%,dc=%(nothing)s", "user": "cn=%%", "password": "s3"}
    config("PUT", body={"identity": {"driver": "ldap"}, "ldap": given}, ok=201)
    place = directories.of_domain(identity.service, domain)
    found = place.opened._options
    assert (found.user_tree_dn, found.suffix, found.user) == ("ou=s3,dc=x", "dc=100%,dc=%(nothing)s", "cn=%")
    assert config("GET", "/ldap/user_tree_dn").json == {"config": {"user_tree_dn": given["user_tree_dn"]}}


def test_stored_passwords_outlive_rotations_of_their_key(identity, config, domain):
    config("PUT", body={"ldap": {**LDAP, "password": "very-secret"}, "identity": {"driver": "ldap"}}, ok=201)
    before = config("GET").json
    for _ in range(4):
        assert sealing.rotate(identity.service) == 1
        assert directories.of_domain(identity.service, domain).opened._options.password == "very-secret"
    assert config("GET").json == before


def test_defaults_are_those_that_count():
    identity = Identity(options={"list_limit": 77})
    everything = identity("GET", "/domains/config/default", ok=200).json["config"]
    assert everything["identity"] == {"driver": "sql", "list_limit": 77}
    assert everything["ldap"]["url"] == "ldap://localhost"
    assert everything["ldap"]["user_attribute_ignore"] == ["default_project_id"]
    assert everything["ldap"]["connection_timeout"] == 5
    assert not {"password", "debug_level"} & everything["ldap"].keys()
    assert identity("GET", "/domains/config/ldap/default").json["config"] == {"ldap": everything["ldap"]}
    assert identity("GET", "/domains/config/ldap/user_tree_dn/default").json["config"] == {"user_tree_dn": None}
    for path in ("/domains/config/ldap/password/default", "/domains/config/ldap/nothing/default", "/domains/config/token/default"):
        assert identity("GET", path).status == 403
    identity.client.close()


def test_rules_of_passwords_are_for_everybody_to_read(identity, config):
    _who, _project, token = identity.member("a")
    path = "/domains/default/config/security_compliance"
    shown = identity("GET", path, token=token, ok=200).json["config"]["security_compliance"]
    assert set(shown) == {"password_regex", "password_regex_description"}
    for option, value in shown.items():
        assert identity("GET", f"{path}/{option}", token=token, ok=200).json["config"] == {option: value}
    assert identity("GET", f"{path}/lockout_duration", token=token).status == 403
    assert config("GET", "/security_compliance").status == 403, "of the default domain alone"
    assert config("PATCH", "/security_compliance", {"security_compliance": {"password_regex": "x"}}).status == 403
    assert config("DELETE", "/security_compliance").status == 403
    assert identity("GET", "/domains/default/config/ldap", token=token).status == 403


def test_a_domain_with_users_of_its_own_gets_no_directory(identity, config, domain):
    user = identity.user("native", domain_id=domain)
    for method, path, body in (("PUT", "", CONFIG), ("PATCH", "", {"identity": {"driver": "ldap"}})):
        refused = config(method, path, body)
        assert (refused.status, message(refused)) == (
            409,
            "The domain has users or groups of its own: a directory can be set for one that has none.",
        )
    identity("PUT", "/domains/default/config", {"config": CONFIG}, ok=409)
    config("PUT", body={"ldap": LDAP}, ok=201)
    identity("DELETE", f"/users/{user['id']}", ok=204)
    group = identity.make("group", name="native", domain_id=domain)
    config("PATCH", body={"identity": {"driver": "ldap"}}, ok=409)
    identity("DELETE", f"/groups/{group['id']}", ok=204)
    config("PATCH", body={"identity": {"driver": "ldap"}}, ok=200)


def test_a_domain_takes_its_configuration_with_it(identity, config, domain):
    config("PUT", body=CONFIG, ok=201)
    identity("PATCH", f"/domains/{domain}", {"domain": {"enabled": False}}, ok=200)
    identity("DELETE", f"/domains/{domain}", ok=204)
    with identity.service.db.read() as conn:
        assert conn.exec_driver_sql("SELECT count(*) FROM domain_options").scalar_one() == 0


def test_the_limit_of_a_domain_cuts_its_lists(identity, config, domain):
    for number in range(3):
        identity.user(f"u{number}", domain_id=domain)
        identity.make("group", name=f"g{number}", domain_id=domain)
    config("PUT", body={"identity": {"list_limit": 2}}, ok=201)
    for kind in ("users", "groups"):
        cut = identity("GET", f"/{kind}?domain_id={domain}", ok=200).json
        assert (len(cut[kind]), cut["truncated"]) == (2, True)
        more = cut["links"]["next"].partition("/v3")[2]
        assert len(identity("GET", more).json[kind]) == 1
        assert len(identity("GET", f"/{kind}?domain_id={domain}&limit=1").json[kind]) == 1


def test_changes_at_once_are_all_kept(database_url):
    identity = Identity(db_url=database_url)
    domain = identity.make("domain", name="acme")["id"]
    identity("PUT", f"/domains/{domain}/config", {"config": {"identity": {"list_limit": 1}}}, ok=201)
    names = ["user_tree_dn", "group_tree_dn", "suffix", "user"]
    answers = []

    def change(name):
        answers.append(identity("PATCH", f"/domains/{domain}/config", {"config": {"ldap": {name: f"cn={name}"}}}).status)

    threads = [threading.Thread(target=change, args=(name,)) for name in names]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert answers == [200] * 4
    assert identity("GET", f"/domains/{domain}/config/ldap").json["config"]["ldap"] == {name: f"cn={name}" for name in names}
    identity.client.close()
