"""Databases that fail under a step: not there, full, or killed in the middle of a commit."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sqlite3
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from pileus.kernel.flows import Run, Step

BROKEN_COMMITS: list[int] = []
"""The backends that were killed in a commit: who looks for one takes it out."""


def without_database(step: Step, why: str, *, after: bool) -> Step:
    """The step's first transaction cannot begin, or nobody hears that it was committed."""
    lost = iter((True,))

    def do(run: Run) -> Any:
        db, write = run.service.db, run.service.db.write

        @contextlib.contextmanager
        def broken(*, durable: bool = True) -> Iterator[Any]:
            if not after and next(lost, False):
                raise sa.exc.OperationalError("BEGIN", None, sqlite3.OperationalError(why))
            with write(durable=durable) as conn:
                yield conn
            if after and next(lost, False):
                raise sa.exc.OperationalError("COMMIT", None, sqlite3.OperationalError(why))

        db.write = broken  # type: ignore[method-assign]
        try:
            return step.do(run)
        finally:
            db.write = write  # type: ignore[method-assign]

    return dataclasses.replace(step, do=do)


def breaking_commit(step: Step, *, after: bool) -> Step:
    """The backend of PostgreSQL is killed during the step's first commit, or during that of its record."""
    first = iter((True,))

    def do(run: Run) -> Any:
        broken = next(first, False)
        if broken and not after:
            _break_next_commit(run.service.db.engine)
        result = step.do(run)
        if broken and after:
            _break_next_commit(run.service.db.engine)
        return result

    return dataclasses.replace(step, do=do)


def _break_next_commit(engine: sa.Engine) -> None:
    first = iter((True,))

    def breaking(conn: sa.Connection) -> None:
        if not next(first, False):
            return
        raw: Any = conn.connection.driver_connection
        raw.pgconn.send_query(b"COMMIT")
        pid = raw.info.backend_pid
        os.kill(pid, signal.SIGKILL)
        while raw.pgconn.get_result() is not None:  # until the server has ended, whatever it still said
            pass
        raw.close()
        BROKEN_COMMITS.append(pid)

    sa.event.listen(engine, "commit", breaking)
