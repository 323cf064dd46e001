"""Service providers: other clouds, by ids that the administrator chooses; tokens name those that are enabled."""

from __future__ import annotations

import pytest

from pileus.identity.logic import tokens
from tests.api.identity.world import PASSWORD, Identity, message

PATH = "/OS-FEDERATION/service_providers"
URLS = {"auth_url": "https://b.example/v3/OS-FEDERATION/identity_providers/a/protocols/saml2/auth", "sp_url": "https://b.example/mellon/paosResponse"}


def provider(identity, name="b", **body):
    return identity("PUT", f"{PATH}/{name}", {"service_provider": {**URLS, **body}}, ok=201).json["service_provider"]


def in_token(identity, token=""):
    return identity.validate(token or identity.admin).json["token"].get("service_providers")


def test_a_service_provider_from_creation_to_deletion(identity):
    made = provider(identity)
    link = {"self": f"http://localhost:5000/identity/v3{PATH}/b"}
    assert made == {"id": "b", **URLS, "relay_state_prefix": "ss:mem:", "enabled": False, "description": None, "links": link}
    assert identity("GET", f"{PATH}/b", ok=200).json == {"service_provider": made}
    assert identity("HEAD", f"{PATH}/b").status == 200
    change = {"enabled": True, "description": "the other cloud", "relay_state_prefix": "https://b/#"}
    changed = identity("PATCH", f"{PATH}/b", {"service_provider": change}, ok=200).json["service_provider"]
    assert changed == {**made, **change}
    reset = identity("PATCH", f"{PATH}/b", {"service_provider": {"relay_state_prefix": None}}, ok=200).json["service_provider"]
    assert reset["relay_state_prefix"] == "ss:mem:"
    assert identity("DELETE", f"{PATH}/b").status == 204
    for method, body in (("GET", None), ("PATCH", {"service_provider": {"enabled": True}}), ("DELETE", None)):
        gone = identity(method, f"{PATH}/b", body)
        assert (gone.status, message(gone)) == (404, "Could not find service provider: b.")


def test_an_id_is_taken_once(database_url):
    identity = Identity(db_url=database_url)
    provider(identity)
    again = identity("PUT", f"{PATH}/b", {"service_provider": URLS})
    assert (again.status, message(again)) == (409, "Conflict occurred attempting to store service_provider - Duplicate entry found with ID b.")
    identity.client.close()


def test_the_list_and_its_filters(identity):
    assert identity("GET", PATH).json == {"service_providers": [], "links": {"next": None, "self": f"http://localhost:5000/identity/v3{PATH}", "previous": None}}
    made = [provider(identity, name, enabled=name != "c") for name in ("b", "c", "d")]

    def ids(query=""):
        return sorted(one["id"] for one in identity("GET", PATH + query, ok=200).json["service_providers"])

    assert sorted(identity("GET", PATH).json["service_providers"], key=lambda one: one["id"]) == made
    assert (ids("?enabled=true"), ids("?enabled=False"), ids("?id=c"), ids("?id=x")) == (["b", "d"], ["c"], ["c"], [])
    assert (ids("?limit=2"), ids("?limit=2&marker=c")) == (["b", "c"], ["d"])
    with identity.client.count_queries() as queries:
        identity("GET", PATH)
    assert len(queries) == 1, "the caller is known already"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"auth_url": URLS["auth_url"]},
        {"sp_url": URLS["sp_url"]},
        {**URLS, "sp_url": "not a url"},
        {**URLS, "sp_url": "javascript:alert(1)"},
        {**URLS, "sp_url": "https://b\r\nX-Evil: 1"},
        {**URLS, "sp_url": "https://b\n"},
        {**URLS, "auth_url": "https://bücher.example/"},
        {**URLS, "auth_url": "https://b/" + "x" * 250},
        {**URLS, "auth_url": None},
        {**URLS, "enabled": "perhaps"},
        {**URLS, "description": 7},
        {**URLS, "relay_state_prefix": "a\x01b"},
        {**URLS, "relay_state_prefix": "x" * 257},
        {**URLS, "unknown": 1},
        {**URLS, "id": "b"},
    ],
)
def test_what_cannot_be_a_service_provider_is_refused(identity, body):
    assert identity("PUT", f"{PATH}/b", {"service_provider": body}).status == 400
    assert identity("GET", f"{PATH}/b").status == 404


def test_other_bad_requests(identity):
    assert identity("PUT", f"{PATH}/{'x' * 65}", {"service_provider": URLS}).status == 400
    assert identity("PUT", f"{PATH}/a\x7fb", {"service_provider": URLS}).status == 400
    assert identity("PUT", f"{PATH}/b", {"service_provider": URLS, "more": 1}).status == 400
    assert identity("PUT", f"{PATH}/b", URLS).status == 400
    provider(identity)
    for body in ({}, {"sp_url": None}, {"unknown": 1}, {"id": "c"}):
        assert identity("PATCH", f"{PATH}/b", {"service_provider": body}).status == 400
    assert identity("GET", f"{PATH}?limit=many").status == 400


def test_tokens_name_the_enabled_ones_at_once(identity):
    assert in_token(identity) is None
    provider(identity, "c", enabled=True)
    provider(identity, "b", enabled=True)
    provider(identity, "d")
    shown = [{"id": name, **URLS} for name in ("b", "c")]
    assert in_token(identity) == shown
    login = {"project": {"name": "admin", "domain": {"id": "default"}}}
    for scope in (login, {"system": {"all": True}}, {"domain": {"id": "default"}}, "unscoped"):
        assert identity.login("admin", PASSWORD, scope).json["token"]["service_providers"] == shown, scope
    assert identity.validate(identity.admin, query="?nocatalog").json["token"]["service_providers"] == shown
    identity("PATCH", f"{PATH}/b", {"service_provider": {"enabled": False}}, ok=200)
    assert in_token(identity) == shown[1:]
    identity("DELETE", f"{PATH}/c", ok=204)
    assert in_token(identity) is None


def test_they_cost_a_validation_nothing(identity):
    counts = []
    for name in ("b", "c"):
        provider(identity, name, enabled=True)
        identity.validate(identity.admin)  # somebody has to read them once
        fresh = identity.token("admin", PASSWORD)
        with identity.client.count_queries() as queries:
            tokens.validate(identity.service, fresh)
        counts.append([text.split()[0] for text in queries])
    assert counts[0] == counts[1] == ["SELECT"] * 3, "the revision, the state and the roles"
