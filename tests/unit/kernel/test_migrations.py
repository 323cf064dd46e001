"""Migrations and tables say the same, on each database; and a database is brought up step by step, once."""

import pytest
import sqlalchemy as sa

from pileus.kernel.db import Database, migrate
from pileus.kernel.room import load
from pileus.server import rooms

WITH_MIGRATIONS = [name for name in rooms.NAMES if list(migrate.folder_of(name).glob("[0-9]*.py"))]


@pytest.mark.parametrize("name", WITH_MIGRATIONS)
def test_an_upgraded_database_is_what_the_tables_declare(name, database_url):
    db = Database(database_url, name)
    metadata = load(rooms.room(name).tables)
    applied = migrate.upgrade(db, name)
    assert applied
    assert migrate.upgrade(db, name) == [], "nothing is done twice"
    assert migrate.differences(db, metadata) == []
    with db.read() as conn:
        assert conn.execute(sa.text("SELECT version_num FROM alembic_version")).scalars().all() == [applied[-1]]
    db.close()


def test_every_service_has_migrations():
    assert set(rooms.NAMES) == set(WITH_MIGRATIONS)
