"""Users who give too many wrong passwords or passcodes are locked out of both for a while.

Tokens, application credentials and EC2 keys of a locked user go on: whoever can guess must not be able to stop what runs.
A locked user hears what everybody hears who is wrong, and a right password then is as wrong as any other. Only a whole login
starts counting anew: who knows the password of a user with several methods must not have any number of passcodes for it.
"""

from __future__ import annotations

import datetime as dt

from pileus.identity.errors import AuthenticationFailed
from pileus.identity.store import passwords as store
from pileus.identity.store.listing import Record
from pileus.kernel import clock
from pileus.kernel.service import Service

GUESSABLE = frozenset({"password", "totp"})
"""Methods whose proofs are counted when they are wrong."""

_NOBODY = ""


def judge(service: Service, row: Record | None, *, right: bool, what: str) -> Record:
    """Let pass who was right and is not locked, and give their row back; count who was wrong.

    `row` is that of `people.for_password`, None for an unknown user, who costs the same statement. It is asked after the
    hash, not before: of many guesses at once no more are worth anything than of as many one after the other.

    Raises AuthenticationFailed.
    """
    most = service.options.lockout_failure_attempts
    now = clock.utcnow()
    over = _over(service, now)
    counts = most and not (row is not None and row.options.get("ignore_lockout_failure_attempts"))
    if row is None or not right:
        if counts:
            with service.db.write() as conn:
                store.count_failure(conn, row.id if row is not None else _NOBODY, now, most, over)
        raise AuthenticationFailed("unknown user" if row is None else f"wrong {what} for user {row.id}")
    if counts and not _is_open(service, row.id, most, over):
        raise AuthenticationFailed(f"user {row.id} is locked after {most} failures")
    return row


def forgive(service: Service, user_id: str) -> None:
    """A user has logged in with all that it takes: counting starts anew, unless guesses have locked the user meanwhile."""
    most = service.options.lockout_failure_attempts
    if not most:
        return
    with service.db.read() as conn:
        count, _since = store.failures(conn, user_id)
    if count:
        with service.db.write() as conn:
            store.forgive(conn, user_id, most, _over(service, clock.utcnow()))


def _is_open(service: Service, user_id: str, most: int, over: dt.datetime | None) -> bool:
    with service.db.read() as conn:
        count, since = store.failures(conn, user_id)
    return count < most or (over is not None and since is not None and since <= over)


def _over(service: Service, now: dt.datetime) -> dt.datetime | None:
    """A lock that began at this moment or before has ended; None when locks do not end by themselves."""
    seconds = service.options.lockout_duration
    return now - dt.timedelta(seconds=seconds) if seconds else None
