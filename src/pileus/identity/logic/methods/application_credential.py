"""The id of an application credential, or its name and user, and its secret."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pileus.identity.errors import AuthenticationFailed, invalid
from pileus.identity.logic import passwords
from pileus.identity.logic import state as state_module
from pileus.identity.logic.proofs import Attempt, Section, Who, user_row
from pileus.identity.store import credentials, live
from pileus.kernel import clock


def check(attempt: Attempt, section: Section) -> Who:
    with attempt.service.db.read() as conn:
        if section.get("id") is not None:
            row = live.application_credential(conn, section["id"])
        else:
            row = _credential_by_name(conn, section)
    verified = _verified(attempt, section, row.secret_hash if row is not None else "")
    if row is None or not verified:
        raise AuthenticationFailed("unknown application credential or wrong secret")
    if row.expires_at is not None and row.expires_at <= clock.utcnow():
        raise AuthenticationFailed(f"application credential {row.id} has expired")
    return Who(
        user_id=row.user_id,
        methods=("application_credential",),
        expires_at=row.expires_at,
        project_id=row.project_id,
        application_credential_id=row.id,
        proved_at=attempt.began,
    )


def _verified(attempt: Attempt, section: Section, stored: str) -> bool:
    """Whether the secret is the stored one ("": there is none).

    By name all take as long as a secret that the user chose: names can be guessed, ids cannot.
    """
    generated = passwords.is_generated(stored)
    verified = generated and passwords.verify_generated(section["secret"], stored)
    if section.get("id") is not None and (generated or not stored):
        return verified
    hasher = state_module.of(attempt.service).hasher
    return hasher.verify(section["secret"], "" if generated else stored) or verified


def _credential_by_name(conn: sa.Connection, section: Section) -> Any:
    name, user = section.get("name"), section.get("user") or {}
    if name is None or (user.get("id") is None and (user.get("name") is None or not user.get("domain"))):
        raise invalid("Expecting to find id, or name and user, in application_credential.")
    row = user_row(conn, user)
    return None if row is None else credentials.application_credential_by_name(conn, row.id, name)
