"""A database of one service: reads, writes, and the rule that nobody waits for others inside a transaction.

SQLite is used in WAL mode. Writers begin with BEGIN IMMEDIATE (an upgrade from a read snapshot fails at once and is not
covered by the busy timeout) and queue at a lock of this process first, because SQLite's own waiting is unfair.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import logging
import os
import pathlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import IO, Any

import orjson
import sqlalchemy as sa
from sqlalchemy.pool import QueuePool

from pileus.kernel import clock
from pileus.kernel.db.dialects import advisory_lock
from pileus.kernel.errors import ConfigurationError, ProgrammingError
from pileus.kernel.waiting import transaction

_log = logging.getLogger(__name__)


class _After(threading.local):
    actions: list[Callable[[], None]] | None = None


_after = _After()


_at_work = threading.Lock()
"""Held by the one thread of this process that runs statements of SQLite.

SQLite's module lets go of the interpreter for every row. Where several threads read at once they hand it to each other row by row, and a read
takes three to five times as long as alone; nothing is lost by doing one after another, for only one of them could work anyway. Waits (for the turn to
write, for the disk at a commit) are outside.
"""


def _renew() -> None:
    """In a new process nobody is at work yet, whoever was in the one that it was forked from."""
    global _at_work
    _at_work = threading.Lock()


os.register_at_fork(after_in_child=_renew)


class _Guard(threading.local):
    check: Callable[[sa.Connection, bool], None] | None = None


PATIENCE = 20.0
"""Seconds that a writer waits for other processes before SQLite has the last word."""


def after_commit(action: Callable[[], None]) -> None:
    """Do something when the transaction of this thread has been committed; nothing when it is rolled back.

    An action that fails is logged: what was committed stays so, and its writer must not hear that it failed.
    Raises ProgrammingError outside of a write.
    """
    if _after.actions is None:
        raise ProgrammingError("after_commit outside of a write: nothing will be committed")
    _after.actions.append(action)


def _dumps(value: Any) -> str:
    return orjson.dumps(value).decode()


class Database:
    """One service's database, by URL. Connections are opened lazily, so that a process may fork after making it."""

    def __init__(self, url: str, name: str = "", pool_size: int = 16) -> None:
        self.url = sa.make_url(url)
        self.name = name
        self._pool_size = pool_size
        self._sqlite = self.is_sqlite
        self._writer = threading.RLock() if self._sqlite else None
        self._queue: Any = None
        self._readers: collections.deque[sqlite3.Connection] = collections.deque(maxlen=pool_size)
        self._engine: sa.Engine | None = None
        self._lock = threading.Lock()
        self._guard = _Guard()

    @property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    @property
    def engine(self) -> sa.Engine:
        if self._engine is None:
            with self._lock:
                if self._engine is None:
                    self._engine = self._make_engine()
        return self._engine

    def _make_engine(self) -> sa.Engine:
        backend = self.url.get_backend_name()
        common: dict[str, Any] = {
            "hide_parameters": True,  # errors are logged with their statement: hashes and names need not be
            "json_serializer": _dumps,
            "json_deserializer": orjson.loads,
            "pool_size": self._pool_size,
            "max_overflow": 16,
            "pool_timeout": 10,
        }
        if backend == "sqlite":
            if self.url.database:
                pathlib.Path(self.url.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            engine = sa.create_engine(
                self.url,
                poolclass=QueuePool,
                connect_args={"check_same_thread": False, "timeout": 20, "isolation_level": None},
                **common,
            )
            sa.event.listen(engine, "connect", _prepare_sqlite)
            return engine
        if backend == "postgresql":
            url = self.url.set(drivername="postgresql+psycopg")
        elif backend in {"mysql", "mariadb"}:
            url = self.url.set(drivername="mysql+mysqldb").update_query_dict({"charset": "utf8mb4"})
        else:
            raise ConfigurationError(f"database url {self.url!r}: use sqlite, postgresql or mysql")
        return sa.create_engine(url, isolation_level="READ COMMITTED", pool_pre_ping=True, pool_recycle=1800, **common)

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection for reading: one consistent snapshot on SQLite, READ COMMITTED elsewhere."""
        with transaction(self.name), self._alone(), self.engine.connect() as conn:
            if self._sqlite:
                _run(conn, "BEGIN")
            yield conn  # the pool rolls back what it gets back

    def _alone(self) -> AbstractContextManager[object]:
        return _at_work if self._sqlite else contextlib.nullcontext()

    def peek(self, query: str, **values: Any) -> Any:
        """The one value of a query with `:named` values, None when there is no row: for what every request asks.

        On SQLite it goes past SQLAlchemy and its pool, over a connection that can only read: 5 us, not 45. There are as many of
        them as threads that look at the same moment, not as threads that have ever looked: those may be thousands.
        """
        with transaction(self.name):
            if not self._sqlite or not self.url.database:
                with self.engine.connect() as conn:
                    return conn.execute(sa.text(query), values).scalar_one_or_none()
            readers = self._readers
            try:
                reader = _taken(readers) or self._new_reader()
                row = reader.execute(query, values).fetchone()
            except sqlite3.Error as error:  # the reader goes with it
                raise sa.exc.OperationalError(query, None, error) from error
            readers.append(reader)
        return row[0] if row else None

    def _new_reader(self) -> sqlite3.Connection:
        path = pathlib.Path(str(self.url.database)).absolute().as_uri()
        return sqlite3.connect(f"{path}?mode=ro", uri=True, timeout=20, isolation_level=None, check_same_thread=False)

    @contextlib.contextmanager
    def write(self, *, durable: bool = True) -> Iterator[sa.Connection]:
        """A transaction: committed at the end, rolled back on an exception.

        With `durable=False` a power loss (not a killed process) may lose it: for records of repeatable steps.
        """
        with transaction(self.name):
            actions: list[Callable[[], None]] = []
            try:
                with self._turn(), self.engine.connect() as conn:
                    if self._sqlite:
                        # Cannot be changed inside a transaction; it is a flag of the connection, no I/O.
                        _run(conn, "PRAGMA synchronous=" + ("FULL" if durable else "NORMAL"))
                        _run(conn, "BEGIN IMMEDIATE")
                    _after.actions = actions
                    try:
                        check = self._guard.check
                        with self._alone():
                            if check is not None:
                                check(conn, False)
                            yield conn
                            if check is not None:
                                check(conn, True)
                        conn.commit()
                    except BaseException:
                        conn.rollback()
                        raise
            finally:
                _after.actions = None
        for action in actions:
            try:
                action()
            except Exception:
                _log.exception("an action after the commit to %s failed", self.name)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """The right to write to SQLite: one thread of this process, then one process of this machine.

        SQLite itself lets a waiting process sleep for up to 0.1 s before it looks again: that would be the time of ten
        requests. A killed process gives its turn back.
        """
        if self._writer is None:
            yield
            return
        with self._writer:
            if self._queue is None:
                # Opened after the fork: processes that share an open file share its lock.
                self._queue = (self.url.database or "") and pathlib.Path(f"{self.url.database}.lock").open("wb")  # noqa: SIM115
            if not self._queue or not _take_turn(self._queue):
                yield  # SQLite decides, and says that the database is locked
                return
            try:
                yield
            finally:
                fcntl.flock(self._queue, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def exclusive(self, name: str, patience: float = 300.0) -> Iterator[None]:
        """Meanwhile nobody else, on whatever machine, is in here under this name; not a transaction.

        The lock ends with the process that holds it. Raises ConfigurationError when it does not come in time.
        """
        if self._sqlite:
            file = pathlib.Path(f"{self.url.database}.{name}.lock")
            with _locked_file(file, patience) if self.url.database else contextlib.nullcontext():
                yield
            return
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            try:
                if not advisory_lock(conn, f"{self.url.database} {name}", patience):
                    raise ConfigurationError(f"another process has been at the {name} of {self.name} for {patience:g} seconds")
                yield
            finally:
                conn.invalidate()  # its session ends, and the lock with it

    @contextlib.contextmanager
    def guarded(self, check: Callable[[sa.Connection, bool], None]) -> Iterator[None]:
        """Meanwhile each write of this thread to this database begins with `check(conn, False)` and ends, before its
        commit, with `check(conn, True)`. Either raises to have it rolled back.
        """
        self._guard.check = check
        try:
            yield
        finally:
            self._guard.check = None

    def close(self) -> None:
        """Close all pooled connections."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None
        self._readers = collections.deque(maxlen=self._pool_size)
        if self._queue:
            self._queue.close()
        self._queue = None


def _taken(readers: collections.deque[sqlite3.Connection]) -> sqlite3.Connection | None:
    try:
        return readers.pop()
    except IndexError:
        return None


@contextlib.contextmanager
def _locked_file(path: pathlib.Path, patience: float) -> Iterator[None]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        if not _take_turn(file, patience):
            raise ConfigurationError(f"another process has held {path} for {patience:g} seconds")
        yield  # closing the file lets go of its lock


def _take_turn(queue: IO[bytes], patience: float = PATIENCE) -> bool:
    """Wait for the lock of a file, looking often; False when it does not come in time."""
    deadline = clock.monotonic() + patience
    pause = 0.0002
    while True:
        try:
            fcntl.flock(queue, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if clock.monotonic() > deadline:
                return False
            clock.sleep(pause)
            pause = min(pause * 1.5, 0.005)
        else:
            return True


def _run(conn: sa.Connection, statement: str) -> None:
    """To SQLite itself: statements without results or parameters need none of SQLAlchemy's work, but for its errors."""
    driver: Any = conn.connection.driver_connection
    try:
        driver.execute(statement)
    except sqlite3.OperationalError as error:
        raise sa.exc.OperationalError(statement, None, error) from error


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA busy_timeout=20000")
    cursor.execute("PRAGMA cache_size=-4000")
    cursor.execute("PRAGMA temp_store=MEMORY")
    cursor.close()
