"""From a token to a verified Context, cached under identity's revision number.

The token says who; identity says what they may do. Any change that can take a right away raises identity's revision in
the same transaction, and a cached answer counts only for the revision under which it was made.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import threading
from collections.abc import Callable
from typing import Any

from pileus.kernel import clock
from pileus.kernel.context import Context, context_of_token
from pileus.kernel.errors import Failure

Validate = Callable[[str], dict[str, Any]]
"""Gives the token body of a valid token; raises Failure with status 401 or 404 for another one."""
Revision = Callable[[], int]
"""Identity's present revision number."""


class Polled:
    """A revision that is asked for at most once a second. While it cannot be read, no cached answer counts."""

    def __init__(self, read: Revision) -> None:
        self._read = read
        self._known = (-1.0, -1)
        self._failures = 0

    def __call__(self) -> int:
        now = clock.monotonic()
        if 0 <= now - self._known[0] < 1.0:
            return self._known[1]
        try:
            self._known = (now, self._read())
        except Failure:
            self._failures += 1
            return -self._failures  # a number that never was: the token is validated at identity itself
        return self._known[1]


class Authenticator:
    """Validates tokens; keeps at most `size` answers."""

    def __init__(self, validate: Validate, revision: Revision, size: int = 10_000) -> None:
        self._validate = validate
        self._revision = revision
        self._size = size
        self._answers: collections.OrderedDict[bytes, tuple[int, Context]] = collections.OrderedDict()
        self._lock = threading.Lock()

    def context(self, token: str, service_token: str | None = None) -> Context | None:
        """Who holds this token now, None when nobody does. Roles of a service token are added to what services may do.

        Raises Unavailable when identity does not answer.
        """
        found = self._one(token)
        if found is None or service_token is None:
            return found
        service = self._one(service_token)
        if service is None:
            return None
        return dataclasses.replace(found, service_roles=service.roles)

    def _one(self, token: str) -> Context | None:
        key = hashlib.blake2b(token.encode(), digest_size=20).digest()
        # Read before validating: an answer made while the revision moves on must not count for the new one.
        revision = self._revision()
        with self._lock:
            cached = self._answers.get(key)
        if cached is not None and cached[0] == revision:
            context = cached[1]
            if context.expires_at is None or context.expires_at > clock.utcnow():
                return context
            return None
        try:
            body = self._validate(token)
        except Failure as failure:
            if failure.status in {401, 404}:
                return None
            raise
        context = context_of_token(body, token)
        with self._lock:
            self._answers[key] = (revision, context)
            self._answers.move_to_end(key)
            while len(self._answers) > self._size:
                self._answers.popitem(last=False)
        return context
