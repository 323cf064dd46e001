"""Databases: one per service, SQLAlchemy Core on SQLite, PostgreSQL or MariaDB."""

from pileus.kernel.db.database import Database, after_commit
from pileus.kernel.db.deadlocks import is_deadlock, retried
from pileus.kernel.db.dialects import database_time, insert_ignore, is_unique_violation
from pileus.kernel.db.types import NAMING, Json, Timestamp
from pileus.kernel.waiting import forbid_in_transaction, in_transaction

__all__ = [
    "NAMING",
    "Database",
    "Json",
    "Timestamp",
    "after_commit",
    "database_time",
    "forbid_in_transaction",
    "in_transaction",
    "insert_ignore",
    "is_deadlock",
    "is_unique_violation",
    "retried",
]
