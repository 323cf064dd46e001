"""Keystone-to-keystone: this cloud as a SAML identity provider of others."""

from __future__ import annotations

from pileus.identity.logic import saml
from pileus.kernel.web import Call, Operations, Reply

operations = Operations()

_XML = "text/xml"


def _only(**properties: object) -> dict[str, object]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


_ID = {**_only(id={"type": "string"}), "required": ["id"]}
_METHODS = {"type": "array", "items": {"type": "string", "enum": ["token"]}}
_AUTH = {
    **_only(
        identity={**_only(token=_ID, methods=_METHODS), "required": ["token"]},
        scope={**_only(service_provider=_ID), "required": ["service_provider"]},
    ),
    "required": ["identity", "scope"],
}
_BODY = {**_only(auth=_AUTH), "required": ["auth"]}


@operations(
    "GET",
    "/OS-FEDERATION/saml2/metadata",
    public="service providers read it before anybody logs in",
    summary="Show the metadata of this cloud as an identity provider",
)
def show_metadata(call: Call) -> Reply:
    return Reply(saml.metadata(call.service), content_type=_XML)


@operations(
    "POST",
    "/auth/OS-FEDERATION/saml2",
    public="the token in the body says who asks",
    body=_BODY,
    summary="Exchange a token for a SAML assertion",
)
def create_assertion(call: Call) -> Reply:
    return _reply(call, ecp=False)


@operations(
    "POST",
    "/auth/OS-FEDERATION/saml2/ecp",
    public="the token in the body says who asks",
    body=_BODY,
    summary="Exchange a token for a SAML assertion in an ECP envelope",
)
def create_ecp_assertion(call: Call) -> Reply:
    return _reply(call, ecp=True)


def _reply(call: Call, *, ecp: bool) -> Reply:
    auth = call.body["auth"]
    provider_id = auth["scope"]["service_provider"]["id"]
    made = saml.assertion(call.service, auth["identity"]["token"]["id"], provider_id, ecp=ecp)
    headers = {"X-sp-url": made.provider.sp_url, "X-auth-url": made.provider.auth_url, "Cache-Control": "no-store"}
    return Reply(made.xml, headers=headers, content_type=_XML)
