"""The few statements that differ between the three databases."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

_TIME = {
    "sqlite": "SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')",
    "postgresql": "SELECT clock_timestamp() AT TIME ZONE 'utc'",
    "mysql": "SELECT utc_timestamp(6)",
    "mariadb": "SELECT utc_timestamp(6)",
}

_PASSED_OVER = (1 << 62) + 1  # no AUTO_INCREMENT gets there


def database_time(conn: sa.Connection) -> dt.datetime:
    """The database's own clock, naive UTC: the one clock that all workers share."""
    value = conn.execute(sa.text(_TIME[conn.dialect.name])).scalar_one()
    return dt.datetime.fromisoformat(value) if isinstance(value, str) else value


def advisory_lock(conn: sa.Connection, name: str, patience: float) -> bool:
    """Take a lock that has a name and no rows, until the session of the connection ends; False when it does not come in time.

    On PostgreSQL and MariaDB, outside of a transaction.
    """
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
    if conn.dialect.name != "postgresql":
        query = sa.text("SELECT GET_LOCK(:name, :seconds)")
        return conn.execute(query, {"name": f"pileus {number}", "seconds": patience}).scalar() == 1
    try:
        conn.exec_driver_sql(f"SET lock_timeout = {int(patience * 1000)}")
        conn.execute(sa.text("SELECT pg_advisory_lock(:number)"), {"number": number})
    except sa.exc.OperationalError as error:
        if getattr(error.orig, "sqlstate", None) == "55P03":  # lock_not_available
            return False
        raise
    return True


def insert_ignore(conn: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert rows, passing over those that break a unique constraint; how many were inserted.

    The count is exact for a single row and best effort for several.
    """
    if not rows:
        return 0
    name = conn.dialect.name
    statement: Any
    if name == "postgresql":
        statement = postgresql.insert(table).on_conflict_do_nothing()
    elif name == "sqlite":
        statement = sqlite.insert(table).on_conflict_do_nothing()
    else:
        # Not INSERT IGNORE, which would also swallow truncation and NULLs: a no-op update touches nothing. It counts as
        # a row all the same; that it took place is told by the insert id, which it sets.
        key = next(iter(table.primary_key.columns))
        unchanged = sa.case((sa.literal_column(f"last_insert_id({_PASSED_OVER}) > 0"), key), else_=key)
        statement = mysql.insert(table).on_duplicate_key_update({key.name: unchanged})
    # Without this option the count of an INSERT is known on SQLite alone.
    statement = statement.execution_options(preserve_rowcount=True)
    result = conn.execute(statement, list(rows) if len(rows) > 1 else dict(rows[0]))
    if name in {"mysql", "mariadb"} and len(rows) == 1 and result.lastrowid == _PASSED_OVER:
        return 0
    return max(result.rowcount, 0)


def is_unique_violation(error: BaseException, *names: str) -> bool:
    """Whether an IntegrityError comes from a unique constraint; with names, from one that mentions one of them.

    SQLite reports columns ("users.name"), the others constraint names: give both, either matches.
    """
    if not isinstance(error, sa.exc.IntegrityError):
        return False
    text = str(error.orig)
    unique = (
        getattr(error.orig, "sqlstate", None) == "23505"
        or "UNIQUE constraint failed" in text
        or (bool(error.orig and error.orig.args) and error.orig.args[0] == 1062)  # type: ignore[union-attr]
    )
    return unique and (not names or any(name in text for name in names))
