"""Migrations with Alembic: `pileus db upgrade`, and `python -m pileus.kernel.db.migrate make ROOM "message"` to write one.

Never imported by a service process: Alembic costs 225 ms and 48 MB. A room's migrations are
`<room>/store/migrations/NNNN_*.py`; there is no env.py, what it would do stands here.
"""

from __future__ import annotations

import importlib
import pathlib
import sys
import tempfile
from typing import Any, Literal

import alembic.autogenerate
import alembic.command
import alembic.config
import alembic.migration
import alembic.operations
import alembic.script
import sqlalchemy as sa

import pileus
from pileus.kernel.db import Database
from pileus.kernel.room import load

_PACKAGE = pathlib.Path(pileus.__file__).parent
_TEMPLATE = '''"""{message}"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "{revision}"
down_revision = {down!r}


def upgrade() -> None:
    """Apply it."""
{body}
'''


def folder_of(room: str) -> pathlib.Path:
    return _PACKAGE / room / "store" / "migrations"


def script_of(room: str) -> alembic.script.ScriptDirectory:
    """The chain of a room's migrations."""
    folder = folder_of(room)
    return alembic.script.ScriptDirectory(str(folder), version_locations=[str(folder)])


def upgrade(db: Database, room: str) -> list[str]:
    """Bring one database to the newest revision; the revisions applied. Each runs in a transaction of its own, and one
    process of all machines does it at a time.
    """
    with db.exclusive("migrations"):
        return _upgrade(db, script_of(room))


def _upgrade(db: Database, script: alembic.script.ScriptDirectory) -> list[str]:
    applied: list[str] = []
    while True:
        with db.write() as conn:
            context = alembic.migration.MigrationContext.configure(
                conn, opts={"as_sql": False, "render_as_batch": True}
            )
            current = context.get_current_revision()
            pending = list(script.iterate_revisions("heads", current or "base"))
            if not pending:
                return applied
            revision = pending[-1]
            with alembic.operations.Operations.context(context):
                revision.module.upgrade()
            stamp(conn, revision.revision)
            applied.append(revision.revision)


def stamp(conn: sa.Connection, revision: str) -> None:
    """Write down which revision the database has."""
    conn.execute(sa.text("CREATE TABLE IF NOT EXISTS alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    conn.execute(sa.text("DELETE FROM alembic_version"))
    conn.execute(sa.text("INSERT INTO alembic_version (version_num) VALUES (:revision)"), {"revision": revision})


def differences(db: Database, metadata: sa.MetaData) -> list[object]:
    """What a database lacks or has too much of, compared with the tables that the code declares."""
    with db.engine.connect() as conn:
        context = alembic.migration.MigrationContext.configure(conn)
        found = alembic.autogenerate.compare_metadata(context, metadata)
    return [entry for entry in found if "alembic_version" not in str(entry)]


def make(room: str, message: str) -> pathlib.Path | None:
    """Write the next migration of a room from the difference between its migrations and its tables."""
    metadata = load(importlib.import_module(f"pileus.{room}.room").ROOM.tables)
    folder = folder_of(room)
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        db = Database(f"sqlite:///{scratch}/{room}.sqlite", room)
        upgrade(db, room)
        with db.engine.connect() as conn:
            context = alembic.migration.MigrationContext.configure(
                conn, opts={"target_metadata": metadata, "include_name": _ours}
            )
            produced = alembic.autogenerate.produce_migrations(context, metadata)
            assert produced.upgrade_ops is not None
            if produced.upgrade_ops.is_empty():
                return None
            body = alembic.autogenerate.render_python_code(produced.upgrade_ops, render_item=_render)
        db.close()
    heads = script_of(room).get_heads()
    number = f"{int(heads[0]) + 1 if heads else 1:04d}"
    name = "_".join(message.lower().split())
    path = folder / f"{number}_{name}.py"
    down = heads[0] if heads else None
    lines = body.splitlines()
    text = "\n".join([lines[0] if lines[0].startswith("    ") else "    " + lines[0], *lines[1:]])
    path.write_text(_TEMPLATE.format(message=message, revision=number, down=down, body=text))
    return path


def _ours(name: str | None, kind: str, _parents: object) -> bool:
    return not (kind == "table" and name == "alembic_version")


def _render(kind: str, value: Any, _context: Any) -> str | Literal[False]:
    """Timestamps keep their microseconds on MariaDB; everything else as Alembic writes it."""
    if kind == "type" and isinstance(value, sa.DateTime):
        return 'sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")'
    return False


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] != "make":
        raise SystemExit("usage: python -m pileus.kernel.db.migrate make ROOM MESSAGE")
    print(make(sys.argv[2], sys.argv[3]) or "nothing to do")
