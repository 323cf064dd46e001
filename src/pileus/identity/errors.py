"""What identity refuses, in the words that clients of keystone know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pileus.kernel.errors import Conflict, Forbidden, Invalid, NotFound, Unauthorized, Unavailable


class AuthenticationFailed(Unauthorized):
    """Wrong password, unknown user, disabled something: the caller hears one sentence, the log the reason."""

    def __init__(self, inside: str = "") -> None:
        super().__init__("The request you have made requires authentication.", inside=inside)


class PasswordExpired(Unauthorized):
    """The right password, which has to be changed first: clients look for this sentence."""

    def __init__(self, user_id: str) -> None:
        super().__init__(f"The password is expired and needs to be changed for user: {user_id}.")


class MoreMethodsNeeded(AuthenticationFailed):
    """A part of what the user's rules ask for was proved: `receipt` says so, `body` is the answer over the wire."""

    def __init__(self, receipt: str, body: Mapping[str, Any]) -> None:
        super().__init__("more methods are needed")
        self.receipt = receipt
        self.body = dict(body)


class AlreadyExists(Conflict):
    """A name is taken. `kind` as in "user"; `details` says which."""

    def __init__(self, kind: str, details: str) -> None:
        super().__init__(f"Conflict occurred attempting to store {kind} - {details}.")


def duplicate_name(kind: str, name: str, domain_id: str | None = None) -> AlreadyExists:
    where = f" at domain ID {domain_id}" if domain_id is not None else ""
    return AlreadyExists(kind, f"Duplicate entry found with name {name}{where}")


def not_found(kind: str, identifier: str) -> NotFound:
    """`kind` as in "user", "role assignment"."""
    return NotFound(f"Could not find {kind}: {identifier}.")


def role_assignment_not_found(role_id: str, actor_id: str, target_id: str) -> NotFound:
    return NotFound(
        f"Could not find role assignment with role: {role_id}, user or group: {actor_id}, "
        f"project, domain, or system: {target_id}."
    )


class TokenNotFound(NotFound):
    """The subject token does not exist, has ended or was revoked."""

    def __init__(self, inside: str = "") -> None:
        super().__init__("Could not find token.", inside=inside)


class Immutable(Forbidden):
    """The resource was marked immutable by its options."""

    def __init__(self, kind: str, identifier: str) -> None:
        super().__init__(
            f"Cannot change {kind} {identifier}: its `immutable` option is set, which has to be removed first."
        )


def invalid(message: str) -> Invalid:
    return Invalid(message)


class DirectoryUnavailable(Unavailable):
    """The directory of a domain does not answer, or not in a way that can be used. The log has the reason."""

    def __init__(self, inside: str = "", *, retry_after: int = 5) -> None:
        super().__init__(
            "The directory of this domain does not answer now: its users cannot be looked up.",
            inside=inside,
            retry_after=retry_after,
        )


class DirectoryLimit(Forbidden):
    """The directory gives no more entries at once than it has given: what is left is not known."""

    def __init__(self) -> None:
        super().__init__(
            "The directory of this domain has more entries than it gives at once. Filter by name, or have ldap.page_size set."
        )


class ReadOnly(Forbidden):
    """Users and groups of a directory are changed there."""

    def __init__(self, what: str) -> None:
        super().__init__(f"The {what} of this domain are in a directory that is only read here: they are changed there.")


class InvalidDomainConfig(Forbidden):
    """A group or an option that domains do not have; upstream answers 403."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Invalid domain config: {reason}.")
