"""Logins in the browser: the page that hands a token to a dashboard; and users whom the proxy itself names."""

from __future__ import annotations

import base64
import hashlib
import html
import re

import pytest

from tests.api.identity.federated import ALICE, federate
from tests.api.identity.world import Identity, message

DASHBOARD = "https://Dash.example.org/auth/websso/"
SSO = "/auth/OS-FEDERATION/websso/openid"
OF_PROVIDER = "/auth/OS-FEDERATION/identity_providers/idp/protocols/openid/websso"
ASSERTION = {**ALICE, "HTTP_OIDC_ISS": "https://idp"}


@pytest.fixture
def identity(tmp_path):
    made = Identity(home=tmp_path, options={"trusted_dashboard": [DASHBOARD, 'https://odd/?a=1&b="><script>']})
    federate(made, remote_ids=["https://idp"])
    yield made
    made.client.close()


def sign_on(identity, path=SSO, origin=DASHBOARD, method="GET", assertion=ASSERTION):
    return identity(method, f"{path}?origin={origin}" if origin is not None else path, token=None, assertion=assertion)


@pytest.mark.parametrize("path", [SSO, OF_PROVIDER])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_dashboard_is_handed_a_token(identity, path, method):
    answer = sign_on(identity, path, method=method)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    action, token = re.search(r'action="([^"]*)".*name="token" value="([^"]*)"', answer.text, re.S).groups()
    assert html.unescape(action) == DASHBOARD
    assert identity.validate(token).json["token"]["user"]["name"] == "alice"
    (script,) = re.findall(r"<script>(.*?)</script>", answer.text, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in answer.headers["content-security-policy"], "the page may run this and nothing else"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert (answer.headers["cache-control"], answer.headers["referrer-policy"]) == ("no-store", "no-referrer")


def test_hosts_are_compared_without_case_and_paths_with_it(identity):
    assert sign_on(identity, origin=DASHBOARD.lower().replace("dash", "DASH", 1)).status == 200
    assert sign_on(identity, origin=DASHBOARD.replace("websso", "WebSSO")).status == 401


def test_a_place_that_nobody_trusts_gets_nothing(identity):
    for origin in ("https://evil", DASHBOARD + "x", DASHBOARD[:-1], "javascript:alert(1)", "http://[", DASHBOARD + "%0a"):
        refused = sign_on(identity, origin=origin)
        assert (refused.status, "is not a trusted dashboard host" in message(refused)) == (401, True), origin
    for origin in (None, ""):
        missing = sign_on(identity, origin=origin)
        assert (missing.status, message(missing)) == (400, "Request must have an origin query parameter")


def test_whatever_is_configured_cannot_break_out_of_the_page(identity):
    answer = sign_on(identity, origin="https://odd/?a=1%26b=%22%3E%3Cscript%3E")
    assert answer.status == 200
    assert answer.text.count("<script>") == 1


def test_who_is_not_known_is_not_signed_on(identity):
    assert sign_on(identity, assertion=None).status == 401
    assert sign_on(identity, assertion=ALICE).status == 401, "it does not say which identity provider it is from"
    assert sign_on(identity, assertion={**ASSERTION, "HTTP_OIDC_ISS": "https://other"}).status == 404
    assert sign_on(identity, SSO.replace("openid", "saml2")).status == 401
    assert sign_on(identity, OF_PROVIDER.replace("idp", "none")).status == 404
    assert sign_on(identity, OF_PROVIDER, assertion={**ASSERTION, "HTTP_OIDC_ISS": "https://other"}).status == 403


# External --------------------------------------------------------------------------------------------------------------

EXTERNAL = {"identity": {"methods": ["external"], "external": {}}}


@pytest.fixture
def kerberos(tmp_path):
    made = Identity(home=tmp_path, options={"remote_user_header": "Remote-User", "remote_domain_header": "Remote-Domain"})
    yield made
    made.client.close()


@pytest.mark.parametrize("auth", [EXTERNAL, {"identity": {"methods": []}}])
def test_a_proxy_names_the_user(kerberos, auth):
    who, project, _token = kerberos.member("alice")
    auth = {**auth, "scope": {"project": {"id": project["id"]}}}
    answer = kerberos("POST", "/auth/tokens", {"auth": auth}, token=None, assertion={"HTTP_REMOTE_USER": "alice"}, ok=201)
    assert (answer.json["token"]["user"]["id"], answer.json["token"]["methods"]) == (who["id"], ["external"])
    assert {role["name"] for role in answer.json["token"]["roles"]} == {"member", "reader"}


def test_a_proxy_names_the_domain_too(kerberos):
    domain = kerberos.make("domain", name="acme")
    who = kerberos.user("alice", domain_id=domain["id"])
    said = {"HTTP_REMOTE_USER": "alice", "HTTP_REMOTE_DOMAIN": "acme"}
    answer = kerberos("POST", "/auth/tokens", {"auth": EXTERNAL}, token=None, assertion=said, ok=201)
    assert answer.json["token"]["user"]["id"] == who["id"]
    for said in ({"HTTP_REMOTE_USER": "alice"}, {"HTTP_REMOTE_USER": "alice", "HTTP_REMOTE_DOMAIN": "other"}, {"HTTP_REMOTE_DOMAIN": "acme"}, {}, None):
        assert kerberos("POST", "/auth/tokens", {"auth": EXTERNAL}, token=None, assertion=said).status == 401, said
    kerberos("PATCH", f"/users/{who['id']}", {"user": {"enabled": False}}, ok=200)
    said = {"HTTP_REMOTE_USER": "alice", "HTTP_REMOTE_DOMAIN": "acme"}
    assert kerberos("POST", "/auth/tokens", {"auth": EXTERNAL}, token=None, assertion=said).status == 401


def test_the_header_of_a_client_is_nothing(kerberos):
    kerberos.user("alice")
    for auth in (EXTERNAL, {"identity": {"methods": []}}):
        assert kerberos("POST", "/auth/tokens", {"auth": auth}, token=None, headers={"Remote-User": "alice"}).status == 401


def test_without_its_option_the_method_is_off(identity):
    identity.user("alice")
    for auth in (EXTERNAL, {"identity": {"methods": []}}):
        assert identity("POST", "/auth/tokens", {"auth": auth}, token=None, assertion={"HTTP_REMOTE_USER": "alice"}).status == 401
