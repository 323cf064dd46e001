"""Who may wait for whom, kept per thread and enforced in production too.

Nobody waits for a peer while a database transaction is open, and code that serves a bus call waits for no service:
waiting goes one way, from the API to the agent to the driver.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from pileus.kernel.errors import ProgrammingError


class _State(threading.local):
    transaction: str = ""
    serving: str = ""


_state = _State()


def in_transaction() -> bool:
    """Whether this thread has a database transaction open."""
    return bool(_state.transaction)


@contextlib.contextmanager
def transaction(name: str) -> Iterator[None]:
    """Marks a transaction of database `name`. Raises ProgrammingError inside another one."""
    if _state.transaction:
        raise ProgrammingError(f"a transaction of {name} inside one of {_state.transaction}")
    _state.transaction = name or "a database"
    try:
        yield
    finally:
        _state.transaction = ""


@contextlib.contextmanager
def serving(method: str) -> Iterator[None]:
    """Marks that this thread serves a bus request."""
    before = _state.serving
    _state.serving = method
    try:
        yield
    finally:
        _state.serving = before


def forbid_in_transaction(what: str) -> None:
    """Raise ProgrammingError when this thread has a transaction open."""
    if _state.transaction:
        raise ProgrammingError(f"{what} inside an open transaction of {_state.transaction}")


def forbid_while_serving(what: str) -> None:
    """Raise ProgrammingError while this thread serves a bus request."""
    if _state.serving:
        raise ProgrammingError(f"{what} while serving {_state.serving}")
