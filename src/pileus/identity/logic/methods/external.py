"""A user whom a trusted proxy names, after it has made sure of them in its own way (Kerberos, for one)."""

from __future__ import annotations

from pileus.identity.errors import AuthenticationFailed
from pileus.identity.logic.federated_users import told
from pileus.identity.logic.proofs import Attempt, Section, Who
from pileus.identity.store import people
from pileus.kernel.service import Service


def is_meant(service: Service, attempt: Attempt) -> bool:
    """Whether a request without any method has a user by this one."""
    header = service.options.remote_user_header
    return bool(header) and told(attempt.assertion, header) is not None


def check(attempt: Attempt, _section: Section) -> Who:
    options = attempt.service.options
    name = told(attempt.assertion, options.remote_user_header) if options.remote_user_header else None
    if not name:
        raise AuthenticationFailed("no trusted proxy names a user, or remote_user_header is not set")
    domain = told(attempt.assertion, options.remote_domain_header) if options.remote_domain_header else None
    with attempt.service.db.read() as conn:
        row = people.for_password(
            conn,
            user_id=None,
            name=name,
            domain_id=None if domain else options.default_domain_id,
            domain_name=domain,
        )
    if row is None or not (row.enabled and row.domain_enabled):
        raise AuthenticationFailed(f"the user that the proxy names ({name}) does not exist or is disabled")
    return Who(
        user_id=row.id, methods=("external",), default_project_id=row.default_project_id, proved_at=attempt.began
    )
