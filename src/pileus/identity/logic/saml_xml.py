"""SAML 2.0 in XML: metadata, assertions, responses, envelopes. Decides nothing; imported when one of them is needed."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

from pileus.identity.options import Options
from pileus.kernel import ids
from pileus.kernel.xml_signatures import DSIG, Signer

_SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
_SAMLP = "urn:oasis:names:tc:SAML:2.0:protocol"
_MD = "urn:oasis:names:tc:SAML:2.0:metadata"
_ECP = "urn:oasis:names:tc:SAML:2.0:profiles:SSO:ecp"
_SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
_XML = "http://www.w3.org/XML/1998/namespace"
_PREFIXES = {_SAML: "saml", _SAMLP: "samlp", _MD: "md", _ECP: "ecp", _SOAP: "soap", DSIG: "ds"}

_ENTITY = "urn:oasis:names:tc:SAML:2.0:nameid-format:entity"
_UNSPECIFIED_NAME = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified"
_BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
_SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"
_URI_BINDING = "urn:oasis:names:tc:SAML:2.0:bindings:URI"
_CLASSES = "urn:oasis:names:tc:SAML:2.0:ac:classes:"
_NEXT = "http://schemas.xmlsoap.org/soap/actor/next"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What one cloud says to another of a user."""

    issuer: str
    recipient: str
    user: str
    attributes: Mapping[str, Sequence[str]]
    by_password: bool
    authenticated_at: dt.datetime
    issued_at: dt.datetime
    expires_at: dt.datetime


def response(statement: Statement, signer: Signer) -> Any:
    """A response that nobody asked for, with one signed assertion."""
    root = _root(_SAMLP, "Response", ID=_new_id(), Version="2.0", IssueInstant=_moment(statement.issued_at))
    root.set("Destination", statement.recipient)
    _issuer(root, statement)
    _add(_add(root, _SAMLP, "Status"), _SAMLP, "StatusCode", Value=_SUCCESS)
    assertion = _assertion(statement)
    root.append(signer.sign(assertion, assertion.get("ID")))
    return root


def envelope(answer: Any, relay_state: str) -> Any:
    """The response as a client hands it over to the service provider (ECP)."""
    root = _root(_SOAP, "Envelope")
    state = _add(_add(root, _SOAP, "Header"), _ECP, "RelayState", relay_state)
    state.set(f"{{{_SOAP}}}actor", _NEXT)
    state.set(f"{{{_SOAP}}}mustUnderstand", "1")
    _add(root, _SOAP, "Body").append(answer)
    return root


def metadata(options: Options, signer: Signer) -> Any:
    """What service providers have to know of this cloud."""
    root = _root(_MD, "EntityDescriptor", entityID=options.saml_idp_entity_id)
    provider = _add(root, _MD, "IDPSSODescriptor", protocolSupportEnumeration=_SAMLP)
    data = _add(_add(_add(provider, _MD, "KeyDescriptor", use="signing"), DSIG, "KeyInfo"), DSIG, "X509Data")
    certificate = base64.b64encode(signer.certificate.public_bytes(Encoding.DER)).decode()
    _add(data, DSIG, "X509Certificate", certificate)
    _organization(provider, options)
    _contact(provider, options)
    _add(provider, _MD, "NameIDFormat", _UNSPECIFIED_NAME)
    _add(provider, _MD, "SingleSignOnService", Binding=_URI_BINDING, Location=options.saml_idp_sso_endpoint)
    return root


def dump(root: Any) -> bytes:
    return bytes(etree.tostring(root, xml_declaration=True, encoding="UTF-8"))


def _assertion(statement: Statement) -> Any:
    now, end = _moment(statement.issued_at), _moment(statement.expires_at)
    root = _root(_SAML, "Assertion", ID=_new_id(), Version="2.0", IssueInstant=now)
    _issuer(root, statement)
    _add(root, DSIG, "Signature", Id="placeholder")
    subject = _add(root, _SAML, "Subject")
    _add(subject, _SAML, "NameID", statement.user, Format=_UNSPECIFIED_NAME)
    confirmation = _add(subject, _SAML, "SubjectConfirmation", Method=_BEARER)
    _add(confirmation, _SAML, "SubjectConfirmationData", NotOnOrAfter=end, Recipient=statement.recipient)
    _add(root, _SAML, "Conditions", NotBefore=now, NotOnOrAfter=end)
    at = _moment(statement.authenticated_at)
    login = _add(root, _SAML, "AuthnStatement", AuthnInstant=at, SessionIndex=_new_id(), SessionNotOnOrAfter=end)
    context = _add(login, _SAML, "AuthnContext")
    _add(context, _SAML, "AuthnContextClassRef", _CLASSES + ("Password" if statement.by_password else "unspecified"))
    _add(context, _SAML, "AuthenticatingAuthority", statement.issuer)
    attributes = _add(root, _SAML, "AttributeStatement")
    for name, values in statement.attributes.items():
        attribute = _add(attributes, _SAML, "Attribute", Name=name)
        for value in values:
            _add(attribute, _SAML, "AttributeValue", value)
    return root


def _issuer(parent: Any, statement: Statement) -> None:
    _add(parent, _SAML, "Issuer", statement.issuer, Format=_ENTITY)


def _organization(parent: Any, options: Options) -> None:
    values = {
        "OrganizationName": options.saml_idp_organization_name,
        "OrganizationDisplayName": options.saml_idp_organization_display_name,
        "OrganizationURL": options.saml_idp_organization_url,
    }
    if all(values.values()):
        organization = _add(parent, _MD, "Organization")
        for name, value in values.items():
            _add(organization, _MD, name, value).set(f"{{{_XML}}}lang", options.saml_idp_lang)


def _contact(parent: Any, options: Options) -> None:
    values = {
        "Company": options.saml_idp_contact_company,
        "GivenName": options.saml_idp_contact_name,
        "SurName": options.saml_idp_contact_surname,
        "EmailAddress": options.saml_idp_contact_email,
        "TelephoneNumber": options.saml_idp_contact_telephone,
    }
    if any(values.values()):
        contact = _add(parent, _MD, "ContactPerson", contactType=options.saml_idp_contact_type)
        for name, value in values.items():
            if value:
                _add(contact, _MD, name, value)


def _root(namespace: str, tag: str, **attributes: str) -> Any:
    element = etree.Element(f"{{{namespace}}}{tag}", nsmap={_PREFIXES[namespace]: namespace})
    element.attrib.update(attributes)
    return element


def _add(parent: Any, namespace: str, tag: str, text: str | None = None, **attributes: str) -> Any:
    element = etree.SubElement(parent, f"{{{namespace}}}{tag}", nsmap={_PREFIXES[namespace]: namespace})
    element.attrib.update(attributes)
    element.text = text
    return element


def _new_id() -> str:
    """An NCName, which must not begin with a digit."""
    return "_" + ids.new_id()


def _moment(moment: dt.datetime) -> str:
    return moment.isoformat(timespec="milliseconds") + "Z"
