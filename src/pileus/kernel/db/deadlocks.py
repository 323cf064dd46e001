"""What to do when a database breaks off a transaction to end a deadlock: do it again."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import sqlalchemy as sa

from pileus.kernel import clock, ids

_SQLSTATES = ("40P01", "40001")
"""PostgreSQL: deadlock detected, serialization failure."""
_MYSQL = (1213, 1205)
"""MariaDB: deadlock found, lock wait timeout exceeded."""
_ATTEMPTS = 5
Given = ParamSpec("Given")
Answer = TypeVar("Answer")


def retried(function: Callable[Given, Answer]) -> Callable[Given, Answer]:
    """Decorates what is one transaction: run it again when the database broke it off, for nothing of it has happened then.

    Transactions lock in one order, so that this is rare. After five attempts the database's error goes to the caller.
    """

    @functools.wraps(function)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> Answer:
        for attempt in range(1, _ATTEMPTS):
            try:
                return function(*args, **kwargs)
            except sa.exc.OperationalError as error:
                if not is_deadlock(error):
                    raise
                clock.sleep(0.005 * attempt * (1 + ids.random_below(8)))
        return function(*args, **kwargs)

    return run


def is_deadlock(error: sa.exc.OperationalError) -> bool:
    """Whether the database undid the whole transaction for the sake of others."""
    if getattr(error.orig, "sqlstate", None) in _SQLSTATES:
        return True
    arguments = error.orig.args if error.orig else ()
    return bool(arguments) and arguments[0] in _MYSQL
