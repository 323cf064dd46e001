"""OAuth 2.0: an application credential is a client, and gets a token like any other."""

from __future__ import annotations

import base64
from urllib.parse import urlencode

import pytest

from pileus.kernel.testing import NOBODY
from tests.api.identity.world import roles_of

FORM = "application/x-www-form-urlencoded"
GRANT = {"grant_type": "client_credentials"}


@pytest.fixture
def client(identity):
    """Id and secret of an application credential."""
    user, project, token = identity.member("app", "member")
    made = identity("POST", f"/users/{user['id']}/application_credentials", {"application_credential": {"name": "a", "secret": "s3 cret&"}}, token=token, ok=201)
    credential = made.json["application_credential"]
    return credential["id"], credential["secret"], project["id"]


def ask(identity, form, *, basic=None, kind=FORM):
    headers = {"Content-Type": kind}
    if basic is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(basic.encode()).decode()
    return identity.client.request("POST", "/v3/OS-OAUTH2/token", body=urlencode(form).encode(), headers=headers, as_=NOBODY)


@pytest.mark.parametrize("how", ["basic", "form"])
def test_a_client_gets_a_token_by_its_secret(identity, client, how):
    name, secret, project = client
    sent = {"client_id": name, "client_secret": secret} if how == "form" else {}
    answer = ask(identity, GRANT | sent, basic=f"{name}:{secret}" if how == "basic" else None)
    assert answer.status == 200, answer.text
    assert (answer.json["token_type"], answer.headers["cache-control"]) == ("Bearer", "no-store")
    assert 3590 <= answer.json["expires_in"] <= 3600
    token = identity.validate(answer.json["access_token"]).json["token"]
    assert (token["project"]["id"], token["methods"]) == (project, ["application_credential"])
    assert roles_of(identity.validate(answer.json["access_token"])) == {"member", "reader"}


@pytest.mark.parametrize(
    ("form", "error"),
    [({}, "invalid_request"), ({"grant_type": "password"}, "unsupported_grant_type")],
)
def test_what_is_asked_for_has_to_be_a_grant_to_a_client(identity, client, form, error):
    name, secret, _ = client
    answer = ask(identity, form, basic=f"{name}:{secret}")
    assert (answer.status, answer.json["error"]) == (400, error)
    assert answer.json["error_description"]


@pytest.mark.parametrize("basic", [None, "", "{name}", "{name}:wrong", "nobody:{secret}", ":{secret}"])
def test_who_does_not_prove_to_be_a_client_is_refused_in_the_same_words(identity, client, basic):
    name, secret, _ = client
    answer = ask(identity, GRANT, basic=basic and basic.format(name=name, secret=secret))
    assert answer.status == 401
    assert answer.json == {"error": "invalid_client", "error_description": "Client authentication failed."}
    assert answer.headers["www-authenticate"].startswith("Basic ")


def test_a_body_that_is_no_form_names_no_grant(identity, client):
    name, secret, _ = client
    assert ask(identity, GRANT, basic=f"{name}:{secret}", kind="application/json").json["error"] == "invalid_request"
    assert ask(identity, {"x": "y" * 20000}, basic=f"{name}:{secret}").status == 413
    headers = {"Content-Type": FORM, "Authorization": "Basic ?"}
    bad = identity.client.request("POST", "/v3/OS-OAUTH2/token", body=urlencode(GRANT).encode(), headers=headers, as_=NOBODY)
    assert bad.status == 401
