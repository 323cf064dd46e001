"""A user by name or id, and the password: that of the database, or of the directory of the domain."""

from __future__ import annotations

from pileus.identity.errors import AuthenticationFailed, PasswordExpired
from pileus.identity.logic import lockout, shadows
from pileus.identity.logic import state as state_module
from pileus.identity.logic.proofs import Attempt, Section, Who, find_user
from pileus.kernel import clock


def check(attempt: Attempt, section: Section) -> Who:
    user = section["user"]
    row = find_user(attempt.service, user)
    elsewhere = row is None or row.in_directory  # somebody may have come there whom identity has not met
    found = shadows.login(attempt, user) if elsewhere else None
    if found is not None:
        return found
    hasher = state_module.of(attempt.service).hasher
    verified = hasher.verify(user["password"], row.password_hash if row is not None else None)
    if not (verified or elsewhere):
        shadows.home_of(attempt.service, user)  # as for the unknown: nobody learns from the time who is there
    row = lockout.judge(attempt.service, row, right=verified, what="password")
    if not (row.enabled and row.domain_enabled):
        raise AuthenticationFailed(f"user {row.id} or its domain is disabled")
    if row.password_expires_at is not None and row.password_expires_at <= clock.utcnow():
        raise PasswordExpired(row.id)
    return Who(
        user_id=row.id, methods=("password",), default_project_id=row.default_project_id, proved_at=attempt.began
    )
