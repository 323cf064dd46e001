"""OAuth 2.0 by client certificates: whose certificate it is, and tokens that are worth nothing without it."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
from urllib.parse import quote, urlencode

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pileus.identity.store.tables import users
from pileus.kernel import clock
from pileus.kernel.testing import NOBODY
from tests.api.identity.world import Identity, message

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
RULES = [
    {
        "local": [{"user": {"name": "{0}", "id": "{1}", "email": "{2}", "domain": {"name": "{3}", "id": "{4}"}}}],
        "remote": [
            *({"type": f"SSL_CLIENT_SUBJECT_DN_{kind}"} for kind in ("CN", "UID", "EMAILADDRESS", "O", "DC")),
            {"type": "SSL_CLIENT_ISSUER_DN_CN", "any_one_of": ["the-ca"]},
        ],
    }
]


def certificate(*subject, issuer="the-ca", begin=-1, end=1):
    """DER of a certificate; times in days from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(x509.Name([x509.NameAttribute(kind, value) for kind, value in subject]))
    builder = builder.issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)])).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now + dt.timedelta(days=begin)).not_valid_after(now + dt.timedelta(days=end))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def of_user(user, **changes):
    parts = {NameOID.COMMON_NAME: user["name"], NameOID.USER_ID: user["id"], NameOID.EMAIL_ADDRESS: user["email"], NameOID.ORGANIZATION_NAME: "Default", NameOID.DOMAIN_COMPONENT: "default"}
    options = {name: changes.pop(name) for name in ("issuer", "begin", "end") if name in changes}
    parts.update({getattr(NameOID, name): value for name, value in changes.items()})
    return certificate(*((kind, value) for kind, value in parts.items() if value is not None), **options)


def pem(der):
    return x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM).decode()


def shown(der):
    return {"HTTP_SSL_CLIENT_CERT": pem(der).replace("\n", " ")}


@pytest.fixture
def user(identity):
    """A user with an e-mail address and a default project."""
    who, project, _token = identity.member("robot")
    body = {"email": "robot@example.org", "default_project_id": project["id"]}
    identity("PUT", "/OS-FEDERATION/mappings/oauth2_mapping", {"mapping": {"rules": RULES}}, ok=201)
    return identity("PATCH", f"/users/{who['id']}", {"user": body}, ok=200).json["user"]


def ask(identity, user, assertion, **more):
    form = {"grant_type": "client_credentials", "client_id": user["id"], **more}
    return identity.client.request("POST", "/v3/OS-OAUTH2/token", body=urlencode(form).encode(), headers=FORM, as_=NOBODY, assertion=assertion)


def test_a_certificate_is_exchanged_for_a_token_that_is_bound_to_it(identity, user):
    der = of_user(user)
    answer = ask(identity, user, shown(der))
    assert (answer.status, answer.json["token_type"]) == (200, "Bearer"), answer.text
    token = answer.json["access_token"]
    body = identity.validate(token).json["token"]
    thumbprint = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).decode()
    assert (body["oauth2_credential"], body["methods"]) == ({"x5t#S256": thumbprint}, ["oauth2_credential"])
    assert (body["user"]["id"], body["project"]["id"]) == (user["id"], user["default_project_id"])
    assert identity("GET", "/auth/catalog", token=token, assertion=shown(der)).status == 200
    assert identity.client.request("GET", "/v3/auth/tokens", headers={"X-Auth-Token": token, "X-Subject-Token": token}, as_=NOBODY, assertion=shown(der)).status == 200


def test_a_bound_token_is_worth_nothing_without_its_certificate(identity, user):
    token = ask(identity, user, shown(of_user(user))).json["access_token"]
    for assertion in (None, {}, shown(of_user(user)), {"HTTP_SSL_CLIENT_CERT": "(null)"}, {"HTTP_SSL_CLIENT_CERT": "rubbish"}):
        assert identity("GET", "/auth/catalog", token=token, assertion=assertion).status == 401, assertion
    assert identity("GET", "/auth/catalog", token=token, headers={"SSL-Client-Cert": pem(of_user(user)).replace("\n", " ")}).status == 401
    exchanged = identity.exchange(token)
    assert (exchanged.status, message(exchanged)) == (403, "A token that is bound to a certificate cannot be used to get another token.")


def test_other_services_ask_on_behalf_of_the_caller(identity, user):
    token = ask(identity, user, shown(of_user(user))).json["access_token"]
    service = identity.token("nova", "nova-secret", {"project": {"name": "service", "domain": {"id": "default"}}})
    assert identity("GET", "/auth/catalog", token=token, headers={"X-Service-Token": service}).status == 200
    assert identity("GET", "/auth/catalog", token=token, headers={"X-Service-Token": identity.admin}).status == 401


@pytest.mark.parametrize("written", [pem, lambda der: quote(pem(der)), lambda der: base64.b64encode(der).decode(), lambda der: pem(der).replace("\n", " ")])
def test_proxies_write_certificates_in_their_own_ways(identity, user, written):
    assert ask(identity, user, {"HTTP_SSL_CLIENT_CERT": written(of_user(user))}).status == 200


WRONG = [
    {"COMMON_NAME": "other"},
    {"USER_ID": "f" * 32},
    {"EMAIL_ADDRESS": "other@example.org"},
    {"ORGANIZATION_NAME": "Other"},
    {"DOMAIN_COMPONENT": "other"},
    {"COMMON_NAME": "robot;x"},
    {"EMAIL_ADDRESS": None},
    {"issuer": "another-ca"},
    {"end": -0.5},
    {"begin": 0.5},
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_certificate_of_somebody_else_is_refused(identity, user, wrong):
    refused = ask(identity, user, shown(of_user(user, **wrong)))
    assert (refused.status, refused.json) == (401, {"error": "invalid_client", "error_description": "Client authentication failed."})


def test_other_reasons_to_refuse(identity, user):
    der = of_user(user)
    assert ask(identity, {"id": "f" * 32}, shown(der)).status == 401
    assert ask(identity, {"id": ""}, shown(der)).status == 401
    for text in ("rubbish", "MAAA", "%zz", "x" * 40000, base64.b64encode(der[:-9]).decode()):
        assert ask(identity, user, {"HTTP_SSL_CLIENT_CERT": text}).status == 401
    rules = [{"local": [{"user": {"name": "{0}"}}], "remote": [{"type": "SSL_CLIENT_SUBJECT_DN_CN"}]}]
    identity("PATCH", "/OS-FEDERATION/mappings/oauth2_mapping", {"mapping": {"rules": rules}}, ok=200)
    assert ask(identity, user, shown(der)).status == 401, "a name alone is not one user's"
    identity("DELETE", "/OS-FEDERATION/mappings/oauth2_mapping", ok=204)
    assert ask(identity, user, shown(der)).status == 401


@pytest.mark.parametrize("change", [{"enabled": False}, {"default_project_id": None}])
def test_the_user_must_be_able_to_use_a_token(identity, user, change):
    identity("PATCH", f"/users/{user['id']}", {"user": change}, ok=200)
    assert ask(identity, user, shown(of_user(user))).status == 401


def test_a_certificate_is_one_method_of_those_that_the_user_needs(identity, user):
    path = f"/users/{user['id']}"
    for rules, status in (([["password", "totp"]], 401), ([["oauth2_credential", "totp"]], 401), ([["password", "totp"], ["oauth2_credential"]], 200)):
        identity("PATCH", path, {"user": {"options": {"multi_factor_auth_rules": rules}}}, ok=200)
        answer = ask(identity, user, shown(of_user(user)))
        assert answer.status == status, rules
        assert "openstack-auth-receipt" not in answer.headers
        if status == 401:
            assert answer.json == {"error": "invalid_client", "error_description": "Client authentication failed."}


def test_who_shows_a_certificate_is_active(tmp_path):
    identity = Identity(home=tmp_path, options={"disable_user_account_days_inactive": 2})
    who, project, _token = identity.member("robot")
    identity("PUT", "/OS-FEDERATION/mappings/oauth2_mapping", {"mapping": {"rules": RULES}}, ok=201)
    body = {"email": "robot@example.org", "default_project_id": project["id"]}
    user = identity("PATCH", f"/users/{who['id']}", {"user": body}, ok=200).json["user"]

    def last_active(day=None):
        mine = users.c.id == user["id"]
        with identity.service.db.write() as conn:
            if day is not None:
                conn.execute(sa.update(users).where(mine).values(last_active_at=day))
            return conn.execute(sa.select(users.c.last_active_at).where(mine)).scalar_one()

    today = clock.utcnow().date()
    last_active(today - dt.timedelta(days=1))
    assert ask(identity, user, shown(of_user(user))).status == 200
    assert last_active() == today
    last_active(today - dt.timedelta(days=2))
    assert ask(identity, user, shown(of_user(user))).status == 401, "too late: the user counts as disabled"
    assert last_active() == today - dt.timedelta(days=2)
    identity.client.close()


@pytest.mark.parametrize("methods", [["tls_client_auth"], ["client_secret_basic"]])
def test_which_proofs_are_allowed_is_an_option(tmp_path, methods):
    identity = Identity(home=tmp_path, options={"oauth2_authn_methods": methods})
    who, project, token = identity.member("robot")
    identity("PUT", "/OS-FEDERATION/mappings/oauth2_mapping", {"mapping": {"rules": RULES}}, ok=201)
    body = {"email": "robot@example.org", "default_project_id": project["id"]}
    user = identity("PATCH", f"/users/{who['id']}", {"user": body}, ok=200).json["user"]
    made = identity("POST", f"/users/{who['id']}/application_credentials", {"application_credential": {"name": "a"}}, token=token, ok=201).json["application_credential"]
    by_certificate = ask(identity, user, shown(of_user(user))).status
    by_secret = ask(identity, made, None, client_secret=made["secret"]).status
    assert (by_certificate, by_secret) == ((200, 401) if methods == ["tls_client_auth"] else (401, 200))
    identity.client.close()
