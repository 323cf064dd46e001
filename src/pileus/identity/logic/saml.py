"""The cloud as an identity provider of others: a token of one project becomes an assertion that another cloud believes."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from collections.abc import Mapping
from typing import Any

import orjson

from pileus.identity.store import people, projects
from pileus.identity.store.listing import Listing, Record
from pileus.kernel import clock, ids
from pileus.kernel.errors import Forbidden
from pileus.kernel.service import Service
from pileus.kernel.tokens import Claims

from . import saml_keys, service_providers, tokens

# What XML has no way to say (XML 1.0, section 2.2), and what service providers separate several values with.
_UNSPEAKABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|;")


@dataclasses.dataclass(frozen=True, slots=True)
class Assertion:
    """A document for a service provider."""

    xml: bytes
    provider: Record


def metadata(service: Service) -> bytes:
    """What service providers have to know of this cloud. Raises Forbidden when it is not configured."""
    _check_configured(service, "saml_idp_entity_id", "saml_idp_sso_endpoint")
    from . import saml_xml  # noqa: PLC0415 - lxml only where it is used

    return saml_xml.dump(saml_xml.metadata(service.options, saml_keys.signer(service)))


def assertion(service: Service, token: str, provider_id: str, *, ecp: bool) -> Assertion:
    """A signed response about the owner of a token, with `ecp` in an envelope.

    Raises Forbidden when it is not configured, for a disabled provider, and for tokens that must not become more than they
    are; NotFound for the provider, TokenNotFound.
    """
    _check_configured(service, "saml_idp_entity_id")
    found = tokens.validate(service, token, catalog=False)
    body = orjson.loads(found.json)["token"]
    _check_token(found.claims, body)
    provider = service_providers.find(service, provider_id)
    if not provider.enabled:
        raise Forbidden(f"Service Provider {provider_id} is disabled")
    with service.db.read() as conn:
        groups = people.groups_of(conn, found.claims.user_id, Listing())
        domains = {row.id: row.name for row in projects.by_ids(conn, {group.domain_id for group in groups})}
    attributes = _attributes(body, sorted((group.name, domains[group.domain_id]) for group in groups if group.domain_id in domains))
    from . import saml_xml  # noqa: PLC0415 - lxml only where it is used

    now = clock.utcnow()
    ends = now + dt.timedelta(seconds=service.options.saml_assertion_expiration_time)
    statement = saml_xml.Statement(
        issuer=service.options.saml_idp_entity_id,
        recipient=provider.sp_url,
        user=body["user"]["name"],
        attributes=attributes,
        by_password="password" in found.claims.methods,
        authenticated_at=found.claims.issued_at,
        issued_at=now,
        expires_at=min(ends, found.claims.expires_at),
    )
    root = saml_xml.response(statement, saml_keys.signer(service))
    if ecp:
        root = saml_xml.envelope(root, provider.relay_state_prefix + ids.new_id())
    return Assertion(saml_xml.dump(root), provider)


def _check_configured(service: Service, *options: str) -> None:
    for name in options:
        if not getattr(service.options, name):
            raise Forbidden(f"This cloud is no SAML identity provider: the option identity.{name} is not set.")


def _check_token(claims: Claims, body: Mapping[str, Any]) -> None:
    """An assertion says who somebody is, and the other cloud decides what that is worth: what was lent must not become that."""
    if "project" not in body or body.get("is_domain"):
        raise Forbidden("Use a project scoped token when attempting to create a SAML assertion.")
    if claims.trust_id is not None:
        raise Forbidden("A token of a trust cannot be used to get an assertion.")
    if claims.application_credential_id is not None:  # it has some of the roles; an assertion has all groups
        raise Forbidden("A token of an application credential cannot be used to get an assertion.")
    if claims.access_token_id is not None:
        raise Forbidden("A token of OAuth 1.0 cannot be used to get an assertion.")
    if claims.thumbprint is not None:
        raise Forbidden("A token that is bound to a certificate cannot be used to get an assertion.")
    if "ec2credential" in claims.methods:
        raise Forbidden("A token of an EC2 credential cannot be used to get an assertion.")


def _attributes(body: Mapping[str, Any], groups: list[tuple[str, str]]) -> dict[str, list[str]]:
    user, project = body["user"], body["project"]
    found = {
        "openstack_user": [user["name"]],
        "openstack_roles": [role["name"] for role in body["roles"]],
        "openstack_project": [project["name"]],
        "openstack_project_domain": [project["domain"]["name"]],
        "openstack_user_domain": [user["domain"]["name"]],
    }
    if groups:
        found["openstack_groups"] = [_group(name, domain) for name, domain in groups]
    return {name: [_text(value) for value in values] for name, values in found.items()}


def _group(name: str, domain: str) -> str:
    json = orjson.dumps({"name": name, "domain": {"name": domain}}).decode()
    return "JSON:" + json.replace(";", "\\u003b")


def _text(value: str) -> str:
    """Raises Forbidden for what a service provider would not read as it is."""
    if _UNSPEAKABLE.search(value):
        raise Forbidden(f"{value!r} has characters in it that an assertion cannot carry.")
    return value
