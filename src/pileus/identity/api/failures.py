"""Failed logins of one user from one address are slowed down; the same user from another address is not."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pileus.identity.errors import AuthenticationFailed, MoreMethodsNeeded
from pileus.identity.logic import state
from pileus.kernel.errors import TooManyRequests
from pileus.kernel.throttle import key_of
from pileus.kernel.web import Call


@contextlib.contextmanager
def slowed(call: Call, accounts: Collection[str]) -> Iterator[None]:
    """Around what may raise AuthenticationFailed. Raises TooManyRequests before it when one of the accounts failed too often."""
    throttle = state.of(call.service).failures
    keys = [key_of(call.client, account) for account in accounts] if call.client else []
    if wait := throttle.wait(*keys):
        raise TooManyRequests("Too many failed logins of this user from this address. Try again later.", retry_after=wait)
    try:
        yield
    except MoreMethodsNeeded:
        raise
    except AuthenticationFailed:
        throttle.failed(*keys)
        raise


def accounts_of(identity: Mapping[str, Any]) -> set[str]:
    """Whom the methods of a login name: all of them, as any of them may be guessed at."""
    found = set()
    for method in identity["methods"]:
        section = identity.get(method)
        if isinstance(section, dict) and method != "token":  # nobody guesses a token
            found.add(_name(section if method == "application_credential" else section.get("user")))
    return found - {""}


def _name(value: Any) -> str:
    """A name for `{"id"}` or `{"name", "domain" or "user"}`."""
    if not isinstance(value, dict):
        return ""
    if value.get("id") is not None:
        return str(value["id"])
    owner = _name(value.get("domain") or value.get("user"))
    return f"{str(value.get('name') or '').lower()}\0{owner}" if value.get("name") is not None else ""
