"""A user whom an identity provider knows: a trusted proxy has asked it, and a mapping says who that is here."""

from __future__ import annotations

import dataclasses

from pileus.identity.errors import AuthenticationFailed, invalid
from pileus.identity.logic import federated_users
from pileus.identity.logic.proofs import Attempt, Section, Who

from . import token


def check(attempt: Attempt, section: Section) -> Who:
    """Raises NotFound and Forbidden too, for callers of whom a trusted proxy says something."""
    if section.get("id") is not None:
        return _rescoped(attempt, section)
    provider_id, protocol_id = section.get("identity_provider"), section.get("protocol")
    if not isinstance(provider_id, str) or not isinstance(protocol_id, str):
        raise invalid("Expecting to find identity_provider and protocol in mapped.")
    if not attempt.assertion:
        raise AuthenticationFailed("no trusted proxy says anything of who is asking")
    login = federated_users.log_in(attempt.service, provider_id, protocol_id, attempt.assertion, attempt.began)
    return Who(
        user_id=login.user_id,
        methods=("mapped",),
        default_project_id=login.default_project_id,
        identity_provider_id=None if login.local else provider_id,
        protocol_id=None if login.local else protocol_id,
        proved_at=attempt.began,
    )


def _rescoped(attempt: Attempt, section: Section) -> Who:
    """An unscoped token of such a user in place of the assertion, as older clients send it."""
    who = token.check(attempt, section)
    if who.identity_provider_id is None:
        raise AuthenticationFailed("the token is not one of a federated user")
    return dataclasses.replace(who, methods=tuple(dict.fromkeys((*who.methods, "mapped"))))
