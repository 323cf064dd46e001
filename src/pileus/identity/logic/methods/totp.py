"""A user by name or id, and a passcode of one of the user's credentials of type `totp`. Each passcode is good once."""

from __future__ import annotations

from pileus.identity.errors import AuthenticationFailed
from pileus.identity.logic import credentials, lockout, totp
from pileus.identity.logic.proofs import Attempt, Section, Who, find_user
from pileus.identity.store import passwords
from pileus.identity.store.listing import Record
from pileus.kernel import clock
from pileus.kernel.service import Service


def check(attempt: Attempt, section: Section) -> Who:
    user = section["user"]
    row = find_user(attempt.service, user)
    right = _is_right(attempt.service, row, user["passcode"])
    row = lockout.judge(attempt.service, row, right=right, what="passcode")
    if not (row.enabled and row.domain_enabled):
        raise AuthenticationFailed(f"user {row.id} or its domain is disabled")
    return Who(user_id=row.id, methods=("totp",), default_project_id=row.default_project_id, proved_at=attempt.began)


def _is_right(service: Service, row: Record | None, given: str) -> bool:
    """Whether the passcode is one of the user's and was not used before; it is used up then."""
    with service.db.read() as conn:
        sealed = passwords.totp_of(conn, row.id if row is not None else "")
    earlier = service.options.totp_included_previous_windows
    for credential in sealed:
        try:
            key = totp.key_of(credentials.decrypted(service, credential))
        except ValueError:
            continue  # its type or blob was changed when nobody looked at them
        step = totp.step_of(key, given, clock.time(), earlier)
        if step is not None:
            with service.db.write() as conn:
                return passwords.use_step(conn, credential.id, step)
    return False
