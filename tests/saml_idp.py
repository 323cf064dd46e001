"""A small SAML 2.0 identity provider for browsers (redirect to it, form back), on loopback in a thread of the test.

Whoever comes is `person`: name and attributes, or nobody yet (a page that is no form). What it answers can be spoiled by
`spoil`, a function of the signed response.
"""

from __future__ import annotations

import base64
import datetime as dt
import html
import http.server
import threading
import urllib.parse
import uuid
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lxml import etree
from pileus.kernel.xml_signatures import DSIG, Signer, new_pair

SAML, SAMLP = "urn:oasis:names:tc:SAML:2.0:assertion", "urn:oasis:names:tc:SAML:2.0:protocol"
MD = "urn:oasis:names:tc:SAML:2.0:metadata"
PREFIXES = {"saml": SAML, "samlp": SAMLP, "md": MD, "ds": DSIG}
REDIRECT, POST = (f"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-{kind}" for kind in ("Redirect", "POST"))
PAGE = '<html><body><form method="post" action="{url}">{fields}<input type="submit"></form></body></html>'


class IdentityProvider:
    """`with IdentityProvider() as idp:` its metadata is `idp.metadata`, its name `idp.entity_id`."""

    def __init__(self) -> None:
        pair = new_pair("identity provider of a test")
        self.signer = Signer.load(pair, pair)
        self.person: tuple[str, Mapping[str, Sequence[str]]] | None = None
        self.spoil: Callable[[bytes], bytes] = lambda response: response
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = outer.page(urllib.parse.urlsplit(self.path)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(page)))
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, *_: object) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self) -> IdentityProvider:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    @property
    def entity_id(self) -> str:
        return f"{self.url}/metadata"

    @property
    def metadata(self) -> bytes:
        root = _element(None, MD, "EntityDescriptor", entityID=self.entity_id)
        provider = _element(root, MD, "IDPSSODescriptor", protocolSupportEnumeration=SAMLP)
        info = _element(_element(_element(provider, MD, "KeyDescriptor", use="signing"), DSIG, "KeyInfo"), DSIG, "X509Data")
        from cryptography.hazmat.primitives.serialization import Encoding

        _element(info, DSIG, "X509Certificate", base64.b64encode(self.signer.certificate.public_bytes(Encoding.DER)).decode())
        _element(provider, MD, "SingleSignOnService", Binding=REDIRECT, Location=f"{self.url}/sso")
        return etree.tostring(root)

    def page(self, url: urllib.parse.SplitResult) -> str:
        query = dict(urllib.parse.parse_qsl(url.query))
        if self.person is None or "SAMLRequest" not in query:
            return "<html><body>Who are you?</body></html>"
        asked = etree.fromstring(zlib.decompress(base64.b64decode(query["SAMLRequest"]), -15), etree.XMLParser(resolve_entities=False))
        place = asked.get("AssertionConsumerServiceURL")
        fields = {"SAMLResponse": base64.b64encode(self.spoil(self.response(asked, place))).decode(), "RelayState": query.get("RelayState", "")}
        inputs = "".join(f'<input type="hidden" name="{name}" value="{html.escape(value)}">' for name, value in fields.items())
        return PAGE.format(url=html.escape(place), fields=inputs)

    def response(self, asked: Any, place: str) -> bytes:
        assert self.person is not None
        name, attributes = self.person
        now = dt.datetime.now(dt.UTC)
        at, end = (moment.strftime("%Y-%m-%dT%H:%M:%SZ") for moment in (now, now + dt.timedelta(minutes=5)))
        common = {"Version": "2.0", "IssueInstant": at}
        root = _element(None, SAMLP, "Response", ID="_" + uuid.uuid4().hex, Destination=place, InResponseTo=asked.get("ID"), **common)
        _element(root, SAML, "Issuer", self.entity_id)
        _element(_element(root, SAMLP, "Status"), SAMLP, "StatusCode", Value="urn:oasis:names:tc:SAML:2.0:status:Success")
        assertion = _element(None, SAML, "Assertion", ID="_" + uuid.uuid4().hex, **common)
        _element(assertion, SAML, "Issuer", self.entity_id)
        _element(assertion, DSIG, "Signature", Id="placeholder")
        subject = _element(assertion, SAML, "Subject")
        _element(subject, SAML, "NameID", name)
        confirmation = _element(subject, SAML, "SubjectConfirmation", Method="urn:oasis:names:tc:SAML:2.0:cm:bearer")
        _element(confirmation, SAML, "SubjectConfirmationData", NotOnOrAfter=end, Recipient=place, InResponseTo=asked.get("ID"))
        conditions = _element(assertion, SAML, "Conditions", NotBefore=at, NotOnOrAfter=end)
        _element(_element(conditions, SAML, "AudienceRestriction"), SAML, "Audience", asked.findtext(f"{{{SAML}}}Issuer"))
        context = _element(_element(assertion, SAML, "AuthnStatement", AuthnInstant=at, SessionIndex="_1"), SAML, "AuthnContext")
        _element(context, SAML, "AuthnContextClassRef", "urn:oasis:names:tc:SAML:2.0:ac:classes:Password")
        statement = _element(assertion, SAML, "AttributeStatement")
        for key, values in attributes.items():
            attribute = _element(statement, SAML, "Attribute", Name=key)
            for value in values:
                _element(attribute, SAML, "AttributeValue", value)
        root.append(self.signer.sign(assertion, assertion.get("ID")))
        return etree.tostring(root)


def _element(parent: Any, namespace: str, tag: str, text: str | None = None, **attributes: str) -> Any:
    name = f"{{{namespace}}}{tag}"
    made = etree.Element(name, nsmap=PREFIXES) if parent is None else etree.SubElement(parent, name)
    made.attrib.update(attributes)
    made.text = text
    return made
