"""Keystone-to-keystone, the side of the identity provider: metadata, and tokens that become signed assertions."""

from __future__ import annotations

import base64
import datetime as dt
import shutil

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree
from signxml import XMLVerifier
from signxml.exceptions import InvalidDigest, InvalidSignature

from pileus.identity.logic import totp
from pileus.kernel import clock
from pileus.kernel.xml_signatures import new_pair
from tests import databases
from tests.api.identity.world import PASSWORD, Identity, message

ENTITY, SSO = "https://a.example/v3/OS-FEDERATION/saml2/idp", "https://a.example/v3/OS-FEDERATION/saml2/sso"
SP_URL, AUTH_URL = "https://b.example/mellon/paosResponse", "https://b.example/v3/OS-FEDERATION/identity_providers/a/protocols/saml2/auth"
METADATA, SAML, ECP = "/OS-FEDERATION/saml2/metadata", "/auth/OS-FEDERATION/saml2", "/auth/OS-FEDERATION/saml2/ecp"
NS = {
    "saml": "urn:oasis:names:tc:SAML:2.0:assertion",
    "samlp": "urn:oasis:names:tc:SAML:2.0:protocol",
    "md": "urn:oasis:names:tc:SAML:2.0:metadata",
    "ecp": "urn:oasis:names:tc:SAML:2.0:profiles:SSO:ecp",
    "soap": "http://schemas.xmlsoap.org/soap/envelope/",
    "ds": "http://www.w3.org/2000/09/xmldsig#",
}
OPTIONS = {"saml_idp_entity_id": ENTITY, "saml_idp_sso_endpoint": SSO}


@pytest.fixture
def cloud(tmp_path):
    made = configured(home=tmp_path)
    yield made
    made.client.close()


def configured(**more):
    made = Identity(options={**OPTIONS, **more.pop("options", {})}, **more)
    body = {"service_provider": {"sp_url": SP_URL, "auth_url": AUTH_URL, "enabled": True}}
    made("PUT", "/OS-FEDERATION/service_providers/b", body, ok=201)
    return made


def asked(token, provider="b"):
    return {"auth": {"identity": {"methods": ["token"], "token": {"id": token}}, "scope": {"service_provider": {"id": provider}}}}


def exchange(cloud, token, provider="b", path=SAML):
    return cloud("POST", path, asked(token, provider), token=None)


def certificate(cloud):
    answer = cloud("GET", METADATA, token=None, ok=200)
    return x509.load_der_x509_certificate(base64.b64decode(etree.fromstring(answer.body).findtext(".//ds:X509Certificate", namespaces=NS)))


def signed(cloud, answer):
    """The assertion of an answer as its signature covers it."""
    return XMLVerifier().verify(answer.body, x509_cert=certificate(cloud), id_attribute="ID").signed_xml


def attributes(assertion):
    return {one.get("Name"): [value.text for value in one] for one in assertion.iterfind(".//saml:Attribute", NS)}


def test_an_assertion_says_who_has_the_token(cloud):
    user, project, token = cloud.member("bob", "member", "manager")
    group = cloud.make("group", name='ops"; <admins>')
    cloud("PUT", f"/groups/{group['id']}/users/{user['id']}", ok=204)
    answer = exchange(cloud, token)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/xml")
    assert (answer.headers["x-sp-url"], answer.headers["x-auth-url"]) == (SP_URL, AUTH_URL)
    assertion = signed(cloud, answer)
    assert assertion.findtext("saml:Issuer", namespaces=NS) == ENTITY
    assert assertion.findtext("saml:Subject/saml:NameID", namespaces=NS) == "bob"
    assert attributes(assertion) == {
        "openstack_user": ["bob"],
        "openstack_user_domain": ["Default"],
        "openstack_roles": ["manager", "member", "reader"],
        "openstack_project": [project["name"]],
        "openstack_project_domain": ["Default"],
        "openstack_groups": ['JSON:{"name":"ops\\"\\u003b <admins>","domain":{"name":"Default"}}'],
    }
    assert assertion.findtext(".//saml:AuthnContextClassRef", namespaces=NS) == "urn:oasis:names:tc:SAML:2.0:ac:classes:Password"


@pytest.fixture
def virtual():
    made = clock.VirtualClock(1_800_000_000.25)
    before = clock.use(made)
    yield made
    clock.use(before)


def test_the_response_is_for_one_place_and_a_short_time(virtual, cloud):
    token = cloud.token("admin", PASSWORD)
    virtual.advance(100)
    answer = exchange(cloud, token)
    root = etree.fromstring(answer.body)
    assert root.tag == f"{{{NS['samlp']}}}Response"
    assert root.get("Destination") == SP_URL
    assert root.findtext("saml:Issuer", namespaces=NS) == ENTITY
    assert root.find("samlp:Status/samlp:StatusCode", NS).get("Value") == "urn:oasis:names:tc:SAML:2.0:status:Success"
    assert [one.tag.partition("}")[2] for one in root] == ["Issuer", "Status", "Assertion"], "the schema's order"
    assertion = root.find("saml:Assertion", NS)
    order = ["Issuer", "Signature", "Subject", "Conditions", "AuthnStatement", "AttributeStatement"]
    assert [one.tag.partition("}")[2] for one in assertion] == order
    end = "2027-01-15T09:00:00.250Z"
    about = assertion.find(".//saml:SubjectConfirmationData", NS)
    assert dict(about.attrib) == {"NotOnOrAfter": end, "Recipient": SP_URL}, "no longer than the token"
    assert dict(assertion.find("saml:Conditions", NS).attrib) == {"NotBefore": "2027-01-15T08:01:40.250Z", "NotOnOrAfter": end}
    login = assertion.find("saml:AuthnStatement", NS)
    assert (login.get("AuthnInstant"), login.get("SessionNotOnOrAfter")) == ("2027-01-15T08:00:00.250Z", end)
    assert root.get("ID")[0] == assertion.get("ID")[0] == "_"
    again = etree.fromstring(exchange(cloud, cloud.admin).body)
    assert again.find("saml:Assertion", NS).get("ID") != assertion.get("ID")


def test_a_change_on_the_way_breaks_the_signature(cloud):
    answer = exchange(cloud, cloud.admin)
    for body, error in (
        (answer.body.replace(b">member<", b">admins<"), InvalidDigest),
        (answer.body.replace(SP_URL.encode(), b"https://c.example/mellon/paosResponse"), InvalidDigest),
    ):
        assert body != answer.body
        with pytest.raises(error):
            XMLVerifier().verify(body, x509_cert=certificate(cloud), id_attribute="ID")
    stranger = x509.load_pem_x509_certificate(new_pair("stranger"))
    with pytest.raises(InvalidSignature):
        XMLVerifier().verify(answer.body, x509_cert=stranger, id_attribute="ID")


def test_the_envelope_of_ecp(cloud):
    answer = exchange(cloud, cloud.admin, path=ECP)
    assert (answer.status, answer.headers["content-type"], answer.headers["x-sp-url"]) == (200, "text/xml", SP_URL)
    root = etree.fromstring(answer.body)
    state = root.find("soap:Header/ecp:RelayState", NS)
    assert state.text.startswith("ss:mem:")
    assert len(state.text) == len("ss:mem:") + 32
    assert state.get(f"{{{NS['soap']}}}mustUnderstand") == "1"
    assert state.get(f"{{{NS['soap']}}}actor") == "http://schemas.xmlsoap.org/soap/actor/next"
    response = root.find("soap:Body/samlp:Response", NS)
    assert attributes(response)["openstack_user"] == ["admin"]
    assert signed(cloud, answer).findtext("saml:Subject/saml:NameID", namespaces=NS) == "admin"
    cloud("PATCH", "/OS-FEDERATION/service_providers/b", {"service_provider": {"relay_state_prefix": "https://b/#"}}, ok=200)
    again = etree.fromstring(exchange(cloud, cloud.admin, path=ECP).body)
    assert again.findtext("soap:Header/ecp:RelayState", namespaces=NS).startswith("https://b/#")


def test_service_providers_that_cannot_be_used(cloud):
    for path in (SAML, ECP):
        unknown = exchange(cloud, cloud.admin, "nothing", path)
        assert (unknown.status, message(unknown)) == (404, "Could not find service provider: nothing.")
    cloud("PATCH", "/OS-FEDERATION/service_providers/b", {"service_provider": {"enabled": False}}, ok=200)
    for path in (SAML, ECP):
        disabled = exchange(cloud, cloud.admin, path=path)
        assert (disabled.status, message(disabled)) == (403, "Service Provider b is disabled")


def test_tokens_that_are_none_or_of_no_project(cloud):
    for token in ("nonsense", "", cloud.admin + "x"):
        answer = exchange(cloud, token)
        assert (answer.status, message(answer)) == (404, "Could not find token.")
    for scope in ("unscoped", {"system": {"all": True}}, {"domain": {"id": "default"}}):
        answer = exchange(cloud, cloud.token("admin", PASSWORD, scope))
        assert (answer.status, message(answer)) == (403, "Use a project scoped token when attempting to create a SAML assertion.")
    cloud("DELETE", "/auth/tokens", headers={"X-Subject-Token": (gone := cloud.token("admin", PASSWORD))}, ok=204)
    assert exchange(cloud, gone).status == 404


def test_what_was_lent_becomes_no_assertion(cloud):
    user, project, token = cloud.member("bob")
    other, _, others = cloud.member("eve")
    trust = {"trustor_user_id": user["id"], "trustee_user_id": other["id"], "project_id": project["id"], "impersonation": True, "roles": [{"name": "member"}]}
    trust_id = cloud("POST", "/OS-TRUST/trusts", {"trust": trust}, token=token, ok=201).json["trust"]["id"]
    lent = cloud.exchange(others, {"OS-TRUST:trust": {"id": trust_id}}).headers["x-subject-token"]
    assert message(exchange(cloud, lent)) == "A token of a trust cannot be used to get an assertion."
    for name, unrestricted in (("restricted", False), ("unrestricted", True)):
        body = {"application_credential": {"name": name, "roles": [{"name": "reader"}], "unrestricted": unrestricted}}
        made = cloud("POST", f"/users/{user['id']}/application_credentials", body, token=token, ok=201).json["application_credential"]
        auth = {"methods": ["application_credential"], "application_credential": {"id": made["id"], "secret": made["secret"]}}
        its = cloud("POST", "/auth/tokens", {"auth": {"identity": auth}}, token=None, ok=201).headers["x-subject-token"]
        answer = exchange(cloud, its)
        assert (answer.status, message(answer)) == (403, "A token of an application credential cannot be used to get an assertion.")


def test_an_assertion_says_of_a_password_only_when_there_was_one(cloud):
    user, project, _token = cloud.member("bob")
    key = base64.b32encode(b"k" * 20).decode()
    cloud("POST", "/credentials", {"credential": {"type": "totp", "blob": key, "user_id": user["id"]}}, ok=201)
    code = totp.passcode(totp.key_of(key), totp.step_at(clock.time()))
    proof = {"methods": ["totp"], "totp": {"user": {"id": user["id"], "passcode": code}}}
    auth = {"identity": proof, "scope": {"project": {"id": project["id"]}}}
    token = cloud("POST", "/auth/tokens", {"auth": auth}, token=None, ok=201).headers["x-subject-token"]
    context = signed(cloud, exchange(cloud, token)).findtext(".//saml:AuthnContextClassRef", namespaces=NS)
    assert context == "urn:oasis:names:tc:SAML:2.0:ac:classes:unspecified"


@pytest.mark.parametrize("name", ["a;admin", "bell\x07", "\ufffe", "esc\x1b[0m"])
def test_names_that_others_would_read_as_something_else(cloud, name):
    who = cloud.user("bob")
    project = cloud.make("project", name="p")
    cloud.grant("member", user=who["id"], project=project["id"])
    cloud("PATCH", f"/users/{who['id']}", {"user": {"name": name}}, ok=200)
    answer = exchange(cloud, cloud.token(name, "bob-secret", {"project": {"id": project["id"]}}))
    assert (answer.status, message(answer)) == (403, f"{name!r} has characters in it that an assertion cannot carry.")


def test_names_are_text_and_no_xml(cloud):
    name = "<b>&amp\"'>]]> Жанна 🦋"
    who = cloud.user(name, password="secret-of-zhanna")
    project = cloud.make("project", name="<!DOCTYPE x>")
    cloud.grant("member", user=who["id"], project=project["id"])
    answer = exchange(cloud, cloud.token(name, "secret-of-zhanna", {"project": {"id": project["id"]}}))
    found = attributes(signed(cloud, answer))
    assert (found["openstack_user"], found["openstack_project"]) == ([name], ["<!DOCTYPE x>"])


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"auth": {}},
        {"auth": None},
        {"auth": {"identity": {"token": {"id": "x"}}}},
        {"auth": {"scope": {"service_provider": {"id": "b"}}}},
        {"auth": {"identity": {"token": {}}, "scope": {"service_provider": {"id": "b"}}}},
        {"auth": {"identity": {"token": {"id": 7}}, "scope": {"service_provider": {"id": "b"}}}},
        {"auth": {"identity": {"methods": ["password"], "token": {"id": "x"}}, "scope": {"service_provider": {"id": "b"}}}},
        {"auth": {"identity": {"token": {"id": "x"}}, "scope": {"service_provider": {"id": ["b"]}}}},
        {"auth": {"identity": {"token": {"id": "x"}}, "scope": {"project": {"id": "b"}}}},
        {"auth": {"identity": {"token": {"id": "x", "more": 1}}, "scope": {"service_provider": {"id": "b"}}}},
    ],
)
def test_bad_requests(cloud, body):
    for path in (SAML, ECP):
        assert cloud("POST", path, body, token=None).status == 400
    assert cloud("POST", SAML, None, token=None).status == 400


def test_metadata_says_what_the_options_say(tmp_path):
    about = {
        "saml_idp_lang": "de",
        "saml_idp_organization_name": "Wolke & Söhne",
        "saml_idp_organization_display_name": "Die Wolke",
        "saml_idp_organization_url": "https://wolke.example/",
        "saml_idp_contact_company": "Wolke",
        "saml_idp_contact_email": "hilfe@wolke.example",
        "saml_idp_contact_type": "support",
    }
    cloud = configured(home=tmp_path, options=about)
    answer = cloud("GET", METADATA, token=None, ok=200)
    assert answer.headers["content-type"] == "text/xml"
    assert cloud("HEAD", METADATA, token=None).status == 200
    root = etree.fromstring(answer.body)
    assert root.get("entityID") == ENTITY
    provider = root.find("md:IDPSSODescriptor", NS)
    order = ["KeyDescriptor", "Organization", "ContactPerson", "NameIDFormat", "SingleSignOnService"]
    assert [one.tag.partition("}")[2] for one in provider] == order, "the schema's order"
    assert provider.find("md:SingleSignOnService", NS).get("Location") == SSO
    organization = provider.find("md:Organization", NS)
    assert [(one.text, one.get("{http://www.w3.org/XML/1998/namespace}lang")) for one in organization] == [
        ("Wolke & Söhne", "de"),
        ("Die Wolke", "de"),
        ("https://wolke.example/", "de"),
    ]
    contact = provider.find("md:ContactPerson", NS)
    assert contact.get("contactType") == "support"
    assert [one.text for one in contact] == ["Wolke", "hilfe@wolke.example"]
    cloud.client.close()


def test_without_an_entity_id_the_cloud_is_no_identity_provider(identity):
    for method, path, body in (("GET", METADATA, None), ("POST", SAML, asked(identity.admin)), ("POST", ECP, asked(identity.admin))):
        answer = identity(method, path, body, token=None)
        assert (answer.status, message(answer)) == (403, "This cloud is no SAML identity provider: the option identity.saml_idp_entity_id is not set.")
    assert not (identity.service.home / "keys" / "saml.pem").exists()


def test_metadata_needs_an_endpoint_too(tmp_path):
    cloud = configured(home=tmp_path, options={"saml_idp_sso_endpoint": ""})
    answer = cloud("GET", METADATA, token=None)
    assert (answer.status, message(answer)) == (403, "This cloud is no SAML identity provider: the option identity.saml_idp_sso_endpoint is not set.")
    assert exchange(cloud, cloud.admin).status == 200
    cloud.client.close()


def test_the_key_of_a_machine_is_private_and_stays(tmp_path):
    first = configured(home=tmp_path)
    before = certificate(first)
    first.client.close()
    path = tmp_path / "keys" / "saml.pem"
    assert (path.stat().st_mode & 0o777, [one.name for one in path.parent.glob(".saml*")]) == (0o600, [])
    assert before.not_valid_after_utc - before.not_valid_before_utc > dt.timedelta(days=3650)
    second = Identity(home=tmp_path, options=OPTIONS)
    assert certificate(second) == before
    second.client.close()


def test_the_key_is_the_operators_when_there_is_one(tmp_path):
    pair = new_pair("operator")
    (tmp_path / "idp.pem").write_bytes(pair)
    files = {"saml_certfile": str(tmp_path / "idp.pem"), "saml_keyfile": str(tmp_path / "idp.pem")}
    cloud = configured(home=tmp_path, options=files)
    assert certificate(cloud).public_bytes(Encoding.PEM) in pair
    signed(cloud, exchange(cloud, cloud.admin))
    assert not (tmp_path / "keys" / "saml.pem").exists()
    cloud.client.close()


@pytest.mark.parametrize("content", [None, b"nonsense", "another"])
def test_files_that_are_no_key_are_said_to_be_missing(tmp_path, content):
    certfile, keyfile = tmp_path / "cert.pem", tmp_path / "key.pem"
    certfile.write_bytes(new_pair("one"))
    if content is not None:
        keyfile.write_bytes(new_pair("two") if content == "another" else content)
    cloud = configured(home=tmp_path, options={"saml_certfile": str(certfile), "saml_keyfile": str(keyfile)})
    for answer in (cloud("GET", METADATA, token=None), exchange(cloud, cloud.admin)):
        assert (answer.status, message(answer)) == (503, "The key that signs assertions cannot be read.")
    cloud.client.close()


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_controllers_share_the_key(kind, tmp_path):
    with databases.database_url(kind, tmp_path) as url:
        here = configured(home=tmp_path / "here", db_url=url)
        assertion = exchange(here, here.admin)
        (tmp_path / "there" / "keys").mkdir(parents=True)
        shutil.copy(tmp_path / "here" / "keys" / "installation-secret", tmp_path / "there" / "keys")
        there = Identity(home=tmp_path / "there", db_url=url, options=OPTIONS)
        assert certificate(there) == certificate(here)
        assert signed(there, assertion).findtext("saml:Subject/saml:NameID", namespaces=NS) == "admin"
        assert list(tmp_path.glob("*/keys/saml.pem")) == []
        for made in (here, there):
            made.service.db.close()
            made.client.close()
