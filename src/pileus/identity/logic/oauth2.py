"""OAuth 2.0 by client certificates (RFC 8705): a mapping says whose certificate it is, and the token is bound to it."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from cryptography import x509
from cryptography.x509.oid import NameOID

from pileus.identity.errors import AuthenticationFailed
from pileus.identity.store import federation, passwords, people, projects
from pileus.identity.store.listing import Record
from pileus.kernel import client_certificates, clock
from pileus.kernel.service import Service

from . import compliance, mapping_rules, multi_factor
from .auth import Issued, issue
from .mapping_rules import User
from .proofs import Who

_NAMES = {NameOID.EMAIL_ADDRESS: "EMAILADDRESS"}


def by_certificate(service: Service, client_id: str, told: str) -> Issued:
    """A token for the default project of the user `client_id`, whose certificate a trusted proxy tells.

    Raises AuthenticationFailed.
    """
    now = clock.utcnow()
    try:
        der = client_certificates.der(told)
        certificate = x509.load_der_x509_certificate(der)
        names = {**_names("SUBJECT", certificate.subject), **_names("ISSUER", certificate.issuer)}
    except ValueError as error:
        raise AuthenticationFailed(f"client certificate: {error}") from None
    if (
        not certificate.not_valid_before_utc
        <= now.replace(tzinfo=certificate.not_valid_after_utc.tzinfo)
        <= certificate.not_valid_after_utc
    ):
        raise AuthenticationFailed("the client certificate is not valid now")
    with service.db.read() as conn:
        user = people.user(conn, client_id)
        domain = projects.domain(conn, user.domain_id) if user is not None else None
        mapped = _mapped(service, conn, names)
        options, last_active = passwords.at_login(conn, client_id)
    if user is None or domain is None or not _is_same(mapped, user, domain):
        raise AuthenticationFailed(f"the certificate is not that of user {client_id}")
    if user.default_project_id is None:
        raise AuthenticationFailed(f"user {client_id} has no default project")
    who = Who(
        user_id=user.id,
        methods=("oauth2_credential",),
        thumbprint=client_certificates.thumbprint(der),
        proved_at=now,
    )
    if not multi_factor.are_met(multi_factor.rules_of(options), who.methods):
        raise AuthenticationFailed(f"user {client_id} needs more methods than a certificate")  # OAuth 2.0 knows no receipt
    issued = issue(service, who, {"project": {"id": user.default_project_id}}, catalog=False)
    compliance.note_active(service, user.id, last_active)
    return issued


def _names(whose: str, name: x509.Name) -> dict[str, list[str]]:
    """The parts of a distinguished name, as mappings know them: SSL_CLIENT_SUBJECT_DN_CN and so on."""
    found: dict[str, list[str]] = {}
    for part in name:
        kind = _NAMES.get(part.oid, part.rfc4514_attribute_name).upper()
        value = part.value.decode("latin-1") if isinstance(part.value, bytes) else part.value
        found.setdefault(f"SSL_CLIENT_{whose}_DN_{kind}", []).append(value)
    return found


def _mapped(service: Service, conn: sa.Connection, names: dict[str, list[str]]) -> User:
    """Whose certificate it is, by the mapping. Raises AuthenticationFailed."""
    mapping_id = service.options.oauth2_cert_dn_mapping_id
    mapping = federation.mapping(conn, mapping_id)
    if mapping is None:
        raise AuthenticationFailed(f"there is no mapping {mapping_id} for client certificates")
    try:
        return mapping_rules.evaluate(mapping.rules, mapping.schema_version, names).user
    except mapping_rules.Unmapped as reason:
        raise AuthenticationFailed(f"mapping {mapping_id}: {reason}") from None


def _is_same(mapped: User, user: Record, domain: Record) -> bool:
    """Whether all that the mapping says of the user is so. It must say the id, or name and domain: a name alone is not one
    user's.
    """
    wanted = mapped.domain
    names_one = mapped.id is not None or (mapped.name is not None and wanted is not None)
    pairs: Iterable[tuple[str | None, str | None]] = (
        (mapped.id, user.id),
        (mapped.name, user.name),
        (mapped.email, user.extra.get("email")),
        (wanted.id if wanted is not None else None, domain.id),
        (wanted.name if wanted is not None else None, domain.name),
    )
    return names_one and all(told is None or told == here for told, here in pairs)
