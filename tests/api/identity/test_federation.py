"""Identity providers, their protocols and mappings, as administrators keep them."""

from __future__ import annotations

import pytest

from tests.api.identity.world import Identity, message

BASE = "/OS-FEDERATION"
LINKS = "http://localhost:5000/identity/v3/OS-FEDERATION"
RULES = [
    {
        "local": [{"user": {"name": "{0}"}, "group": {"name": "people", "domain": {"name": "Default"}}}],
        "remote": [{"type": "OIDC-email"}, {"type": "OIDC-iss", "any_one_of": ["https://idp"]}],
    }
]


def provider(identity, name="idp", **body):
    return identity("PUT", f"{BASE}/identity_providers/{name}", {"identity_provider": body})


def mapping(identity, name="map", rules=RULES, **body):
    return identity("PUT", f"{BASE}/mappings/{name}", {"mapping": {"rules": rules, **body}})


def test_an_identity_provider_from_registration_to_removal(identity):
    made = provider(identity, remote_ids=["https://b", "https://a"], description="Ours", authorization_ttl=30)
    shown = made.json["identity_provider"]
    assert (made.status, shown) == (
        201,
        {
            "id": "idp",
            "domain_id": shown["domain_id"],
            "enabled": False,
            "description": "Ours",
            "authorization_ttl": 30,
            "remote_ids": ["https://a", "https://b"],
            "links": {"self": f"{LINKS}/identity_providers/idp", "protocols": f"{LINKS}/identity_providers/idp/protocols"},
        },
    )
    here = f"{BASE}/identity_providers/idp"
    assert identity("GET", here, ok=200).json["identity_provider"] == shown
    assert identity("HEAD", here).status == 200
    domain = identity("GET", f"/domains/{shown['domain_id']}", ok=200).json["domain"]
    assert (domain["name"], domain["enabled"]) == (domain["id"], True)
    changed = identity("PATCH", here, {"identity_provider": {"enabled": True, "remote_ids": ["c"], "description": None}}, ok=200)
    assert changed.json["identity_provider"] == {**shown, "enabled": True, "remote_ids": ["c"], "description": None}
    assert identity("DELETE", here).status == 204
    assert (identity("GET", here).status, identity("DELETE", here).status) == (404, 404)
    assert identity("GET", f"/domains/{shown['domain_id']}").status == 200, "its users may own things there"


def test_a_given_domain_is_used_and_must_exist(identity):
    assert provider(identity, domain_id="default").json["identity_provider"]["domain_id"] == "default"
    assert provider(identity, "other", domain_id=None).status == 201
    refused = provider(identity, "third", domain_id="f" * 32)
    assert (refused.status, message(refused)) == (404, f"Could not find domain: {'f' * 32}.")


def test_what_identity_providers_may_not_have(identity):
    provider(identity, remote_ids=["https://a"])
    again = provider(identity)
    assert (again.status, message(again)) == (
        409,
        "Conflict occurred attempting to store identity_provider - Duplicate entry found with ID idp.",
    )
    taken = provider(identity, "other", remote_ids=["https://a"])
    assert (taken.status, "Duplicate remote ID" in message(taken)) == (409, True)
    assert identity("GET", f"{BASE}/identity_providers/other").status == 404, "nothing of it is left"
    for body in (
        {"remote_ids": ["x", "x"]},
        {"remote_ids": "x"},
        {"remote_ids": ["x" * 256]},
        {"authorization_ttl": -1},
        {"authorization_ttl": "soon"},
        {"enabled": "maybe"},
        {"unknown": 1},
    ):
        assert provider(identity, "wrong", **body).status == 400, body
    assert provider(identity, "x" * 65).status == 400
    assert identity("PATCH", f"{BASE}/identity_providers/idp", {"identity_provider": {"domain_id": "default"}}).status == 400
    assert identity("PATCH", f"{BASE}/identity_providers/idp", {"identity_provider": {}}).status == 400
    assert identity("PATCH", f"{BASE}/identity_providers/none", {"identity_provider": {"enabled": True}}).status == 404


def test_lists_are_filtered_and_cost_the_same_for_any_number(identity):
    counts = []
    for number in range(3):
        provider(identity, f"idp{number}", enabled=number == 1, remote_ids=[f"r{number}"])
        with identity.client.count_queries() as queries:
            found = identity("GET", f"{BASE}/identity_providers", ok=200).json["identity_providers"]
        counts.append(len(queries))
    assert len(set(counts)) == 1
    assert [(one["id"], one["remote_ids"]) for one in found] == [("idp0", ["r0"]), ("idp1", ["r1"]), ("idp2", ["r2"])]
    for query, ids in (("enabled=True", ["idp1"]), ("id=idp2", ["idp2"]), ("limit=1", ["idp0"]), ("marker=idp1", ["idp2"])):
        found = identity("GET", f"{BASE}/identity_providers?{query}").json["identity_providers"]
        assert [one["id"] for one in found] == ids, query


def test_a_protocol_from_creation_to_deletion(identity):
    provider(identity)
    mapping(identity)
    here = f"{BASE}/identity_providers/idp/protocols/openid"
    made = identity("PUT", here, {"protocol": {"mapping_id": "map"}})
    links = {"self": f"{LINKS}/identity_providers/idp/protocols/openid", "identity_provider": f"{LINKS}/identity_providers/idp"}
    shown = {"id": "openid", "mapping_id": "map", "links": links}
    assert (made.status, made.json) == (201, {"protocol": shown})
    assert identity("GET", here).json == {"protocol": shown}
    listed = identity("GET", f"{BASE}/identity_providers/idp/protocols", ok=200).json
    assert listed["protocols"] == [{**shown, "idp_id": "idp", "remote_id_attribute": None}]
    assert identity("PUT", here, {"protocol": {"mapping_id": "map"}}).status == 409
    mapping(identity, "other")
    changed = identity("PATCH", here, {"protocol": {"mapping_id": "other", "remote_id_attribute": "OIDC-iss"}}, ok=200)
    assert changed.json["protocol"] == {**shown, "mapping_id": "other", "remote_id_attribute": "OIDC-iss"}
    assert identity("DELETE", here).status == 204
    assert (identity("GET", here).status, identity("DELETE", here).status) == (404, 404)


def test_a_protocol_needs_its_identity_provider_and_a_mapping(identity):
    here = f"{BASE}/identity_providers/idp/protocols/openid"
    mapping(identity)
    missing = identity("PUT", here, {"protocol": {"mapping_id": "map"}})
    assert (missing.status, message(missing)) == (404, "Could not find Identity Provider: idp.")
    assert identity("GET", f"{BASE}/identity_providers/idp/protocols").status == 404
    provider(identity)
    unknown = identity("PUT", here, {"protocol": {"mapping_id": "none"}})
    assert (unknown.status, message(unknown)) == (400, "Invalid mapping id: none")
    assert identity("PUT", here, {"protocol": {}}).status == 400
    gone = identity("GET", here)
    assert message(gone) == "Could not find federated protocol: openid for Identity Provider: idp."


def test_a_mapping_from_creation_to_deletion(identity):
    made = mapping(identity)
    shown = {"id": "map", "rules": RULES, "schema_version": "1.0", "links": {"self": f"{LINKS}/mappings/map"}}
    assert (made.status, made.json) == (201, {"mapping": shown})
    assert identity("GET", f"{BASE}/mappings/map").json == {"mapping": shown}
    assert identity("GET", f"{BASE}/mappings", ok=200).json["mappings"] == [shown]
    assert mapping(identity).status == 409
    rules = [{"local": [{"user": {"name": "{0}"}, "projects": [{"name": "p", "roles": [{"name": "r"}], "domain": {"name": "d"}}]}], "remote": [{"type": "x"}]}]
    changed = identity("PATCH", f"{BASE}/mappings/map", {"mapping": {"rules": rules, "schema_version": "2.0"}}, ok=200)
    assert changed.json["mapping"] == {**shown, "rules": rules, "schema_version": "2.0"}
    kept = identity("PATCH", f"{BASE}/mappings/map", {"mapping": {"rules": rules}}, ok=200)
    assert kept.json["mapping"]["schema_version"] == "2.0"
    assert identity("DELETE", f"{BASE}/mappings/map").status == 204
    assert (identity("GET", f"{BASE}/mappings/map").status, identity("DELETE", f"{BASE}/mappings/map").status) == (404, 404)
    assert identity("PATCH", f"{BASE}/mappings/map", {"mapping": {"rules": rules}}).status == 404


def local(**parts):
    return [{"local": [parts], "remote": [{"type": "a"}]}]


def remote(**parts):
    return [{"local": [{"user": {"name": "x"}}], "remote": [parts]}]


WRONG = {
    "rules is a list of at least one rule": [],
    "rule 0: 'remote' is missing": [{"local": []}],
    "rule 0: 'more' is unknown here": [{"local": [], "remote": [{"type": "a"}], "more": 1}],
    "rule 0, remote: it is a list of at least one entry": [{"local": [], "remote": []}],
    "rule 0, remote 0: 'type' is missing": remote(any_one_of=["x"]),
    "rule 0, remote 0: any_one_of and whitelist exclude each other": remote(type="a", any_one_of=["x"], whitelist=["y"]),
    "rule 0, remote 0, any_one_of: 1 is not a text": remote(type="a", any_one_of=[1]),
    "rule 0, remote 0, blacklist: it is a list": remote(type="a", blacklist="x"),
    "rule 0, remote 0, whitelist: '(' is no regular expression": remote(type="a", whitelist=["("], regex=True),
    "rule 0, remote 0, any_one_of: a regular expression has at most 512 characters": remote(type="a", any_one_of=["x" * 513], regex=True),
    "rule 0, remote 0: regex needs one of": remote(type="a", regex=True),
    "rule 0, remote 0, regex: 'yes' is neither true nor false": remote(type="a", any_one_of=[], regex="yes"),
    "rule 0, local 0: 'role' is unknown here": local(role="x"),
    "rule 0, local 0, user, name: {1} stands for nothing: 1 conditions": local(user={"name": "{1}"}),
    "rule 0, local 0, user, name: 5 is not a text": local(user={"name": 5}),
    "rule 0, local 0, user, type: 'alien' is neither": local(user={"name": "x", "type": "alien"}),
    "rule 0, local 0, user, domain: it has an id or a name": local(user={"name": "x", "domain": {}}),
    "rule 0, local 0, group: 'domain' is missing": local(group={"name": "x"}),
    "rule 0, local 0, group: 'name' is unknown here": local(group={"id": "x", "name": "y"}),
    "rule 0, local 0: 'groups' needs 'domain' beside it": local(groups="{0}"),
    "rule 0, local 0, group_ids: '[1' is no list of texts": local(group_ids="[1"),
    "rule 0, local 0, projects 0: 'roles' is missing": local(projects=[{"name": "x"}]),
    "rule 0, local 0, projects 0: 'domain' is unknown here": local(projects=[{"name": "x", "roles": [], "domain": {"id": "d"}}]),
    "rule 0, local 0, projects 0, roles 0: 'id' is unknown here": local(projects=[{"name": "x", "roles": [{"id": "r"}]}]),
}  # fmt: skip


@pytest.mark.parametrize("why", WRONG)
def test_a_wrong_mapping_is_refused_with_a_sentence(identity, why):
    refused = mapping(identity, rules=WRONG[why])
    assert (refused.status, message(refused).startswith(f"Invalid mapping: {why}")) == (400, True), message(refused)
    assert identity("GET", f"{BASE}/mappings/map").status == 404


def test_clients_may_repeat_the_id(identity):
    assert mapping(identity, id="map").status == 201
    assert mapping(identity, "other", id="map").status == 400
    assert mapping(identity, "other", more=1).status == 400


def test_an_unknown_schema_version_is_refused(identity):
    refused = mapping(identity, schema_version="9")
    assert (refused.status, message(refused)) == (400, "Invalid mapping: schema_version is one of 1.0, 2.0, not '9'.")


def test_an_identity_provider_goes_with_its_domain(database_url):
    identity = Identity(db_url=database_url)
    domain = provider(identity).json["identity_provider"]["domain_id"]
    identity("PATCH", f"/domains/{domain}", {"domain": {"enabled": False}}, ok=200)
    identity("DELETE", f"/domains/{domain}", ok=204)
    assert identity("GET", f"{BASE}/identity_providers/idp").status == 404
    identity.client.close()


def test_projects_and_domains_by_their_older_names(identity):
    for name in ("projects", "domains"):
        old, new = identity("GET", f"{BASE}/{name}", ok=200).json, identity("GET", f"/auth/{name}", ok=200).json
        assert (old[name], old["links"]["self"]) == (new[name], f"{LINKS}/{name}")
