"""A user by name or id, and the password."""

from __future__ import annotations

from pileus.identity.errors import AuthenticationFailed
from pileus.identity.logic import state as state_module
from pileus.identity.logic.proofs import Attempt, Section, Who, find_user
from pileus.kernel import clock


def check(attempt: Attempt, section: Section) -> Who:
    user = section["user"]
    row = find_user(attempt.service, user)
    verified = state_module.of(attempt.service).hasher.verify(
        user["password"], row.password_hash if row is not None else None
    )
    if row is None or not verified:
        raise AuthenticationFailed("unknown user" if row is None else f"wrong password for user {row.id}")
    if not (row.enabled and row.domain_enabled):
        raise AuthenticationFailed(f"user {row.id} or its domain is disabled")
    if row.password_expires_at is not None and row.password_expires_at <= clock.utcnow():
        raise AuthenticationFailed(f"the password of user {row.id} has expired")
    return Who(
        user_id=row.id, methods=("password",), default_project_id=row.default_project_id, proved_at=attempt.began
    )
