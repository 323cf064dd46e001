"""The database layer, on each of the three databases."""

import contextlib
import multiprocessing
import threading

import pytest
import sqlalchemy as sa

from pileus.kernel.db import NAMING, Database, Json, Timestamp, after_commit, database_time, in_transaction, insert_ignore, is_unique_violation
from pileus.kernel.errors import ConfigurationError, ProgrammingError

METADATA = sa.MetaData(naming_convention=NAMING)
COUNTERS = sa.Table(
    "counters",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
    sa.Column("seen", Timestamp),
    sa.Column("document", Json),
    sa.Column("name", sa.String(20), unique=True),
)
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def db(database_url):
    db = Database(database_url, "test")
    METADATA.create_all(db.engine)
    yield db
    db.close()


def value_of(db, key="a"):
    with db.read() as conn:
        return conn.execute(sa.select(COUNTERS.c.value).where(COUNTERS.c.id == key)).scalar_one_or_none()


def add(conn, key="a", value=0, **more):
    conn.execute(sa.insert(COUNTERS), {"id": key, "value": value, **more})


def test_a_write_is_committed_at_its_end_and_rolled_back_on_an_exception(db):
    with db.write() as conn:
        add(conn)
    with pytest.raises(ZeroDivisionError), db.write() as conn:
        add(conn, "b")
        1 / 0
    assert (value_of(db, "a"), value_of(db, "b")) == (0, None)
    assert not in_transaction()


def test_what_a_read_changes_is_not_kept(db):
    with db.read() as conn:
        add(conn)
    assert value_of(db) is None


@pytest.mark.parametrize("outer", ["read", "write"])
@pytest.mark.parametrize("inner", ["read", "write"])
def test_a_transaction_inside_another_is_refused_and_the_outer_one_goes_on(db, outer, inner):
    with getattr(db, outer)() as conn:
        with pytest.raises(ProgrammingError, match="a transaction of test inside one of test"), getattr(db, inner)():
            pass
        conn.execute(sa.select(1))
    with db.write():
        pass


def test_actions_after_the_commit_run_after_it_in_order_and_never_after_a_rollback(db):
    seen = []
    with db.write() as conn:
        after_commit(lambda: seen.append(("first", in_transaction(), value_of(db))))
        after_commit(lambda: seen.append(("second",)))
        add(conn, value=7)
        assert seen == []
    assert seen == [("first", False, 7), ("second",)]
    with pytest.raises(ZeroDivisionError), db.write():
        after_commit(lambda: seen.append("never"))
        1 / 0
    with db.write():
        pass
    assert "never" not in seen


def test_an_action_that_fails_after_the_commit_does_not_undo_or_hide_it(db, caplog):
    seen = []
    with db.write() as conn:
        add(conn)
        after_commit(lambda: 1 / 0)
        after_commit(lambda: seen.append(value_of(db)))
    assert seen == [0]
    assert "after the commit" in caplog.text


def test_actions_after_a_commit_may_write_and_have_actions_of_their_own(db):
    seen = []

    def more():
        with db.write() as conn:
            add(conn, "b")
            after_commit(lambda: seen.append("inner"))

    with db.write() as conn:
        add(conn)
        after_commit(more)
        after_commit(lambda: seen.append("outer"))
    assert seen == ["inner", "outer"]


def test_an_action_after_a_commit_outside_of_a_write_is_refused(db):
    with db.write():
        pass
    with pytest.raises(ProgrammingError):
        after_commit(lambda: None)
    with db.read(), pytest.raises(ProgrammingError):
        after_commit(lambda: None)


def test_insert_ignore_passes_over_what_is_there_and_counts_what_it_inserted(db):
    with db.write() as conn:
        assert insert_ignore(conn, COUNTERS, [{"id": "a", "value": 1}]) == 1
        assert insert_ignore(conn, COUNTERS, [{"id": "a", "value": 2}]) == 0
        assert insert_ignore(conn, COUNTERS, []) == 0
        insert_ignore(conn, COUNTERS, [{"id": "a", "value": 3}, {"id": "b", "value": 3}])
    assert (value_of(db, "a"), value_of(db, "b")) == (1, 3)


def test_insert_ignore_hides_no_other_error(db):
    with pytest.raises(sa.exc.IntegrityError) as caught, db.write() as conn:
        insert_ignore(conn, COUNTERS, [{"id": "a", "value": None}])
    assert not is_unique_violation(caught.value)


def test_a_unique_violation_is_told_from_others_by_column_or_constraint(db):
    with db.write() as conn:
        add(conn, "a", name="x")
    with pytest.raises(sa.exc.IntegrityError) as same_name, db.write() as conn:
        add(conn, "b", name="x")
    assert is_unique_violation(same_name.value)
    assert is_unique_violation(same_name.value, "counters.name", "uq_counters_name")
    assert not is_unique_violation(same_name.value, "counters.id", "pk_counters")
    assert not is_unique_violation(ValueError())


def test_times_keep_microseconds_and_json_its_types(db):
    import datetime as dt

    moment = dt.datetime(2026, 11, 20, 10, 22, 14, 123456)
    document = {"a": [1, 2.5, None, True], "ö": "€"}
    with db.write() as conn:
        add(conn, seen=moment, document=document)
    with db.read() as conn:
        assert conn.execute(sa.select(COUNTERS.c.seen, COUNTERS.c.document)).one() == (moment, document)


def test_names_differ_by_case_and_the_databases_clock_runs(db):
    with db.write() as conn:
        add(conn, "a", name="Name")
        add(conn, "b", name="name")
    with db.read() as conn:
        assert conn.execute(sa.select(COUNTERS.c.id).where(COUNTERS.c.name == "name")).scalars().all() == ["b"]
        first = database_time(conn)
    with db.read() as conn:
        assert database_time(conn) >= first


def _add_by_row_lock(url, count):
    db = Database(url, "test")
    for _ in range(count):
        with db.write(durable=False) as conn:
            value = conn.execute(sa.select(COUNTERS.c.value).where(COUNTERS.c.id == "a").with_for_update()).scalar_one()
            conn.execute(sa.update(COUNTERS).where(COUNTERS.c.id == "a").values(value=value + 1))
    db.close()


def _in_threads(url):
    threads = [threading.Thread(target=_add_by_row_lock, args=(url, 5)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_no_update_is_lost_among_eight_threads_of_four_processes(database_url):
    db = Database(database_url, "test")
    METADATA.create_all(db.engine)
    with db.write() as conn:
        add(conn)
    db.close()
    processes = [FORK.Process(target=_in_threads, args=(database_url,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
    assert [process.exitcode for process in processes] == [0] * 4
    assert value_of(db) == 4 * 8 * 5
    db.close()


def test_what_a_client_was_told_is_synced_and_step_records_are_not(tmp_path):
    db = Database(f"sqlite:///{tmp_path}/a.db", "test")
    for durable, level in ((True, 2), (False, 1), (True, 2)):
        with db.write(durable=durable) as conn:
            assert conn.exec_driver_sql("PRAGMA synchronous").scalar_one() == level
    with db.read() as conn:
        assert conn.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert conn.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1
    db.close()


def test_an_unknown_kind_of_database_is_refused_by_name():
    with pytest.raises(ConfigurationError, match="use sqlite, postgresql or mysql"):
        _ = Database("oracle://x/y", "test").engine


def test_a_peek_sees_what_was_committed_last_and_can_only_read(database_url):
    db = Database(database_url, "test")
    with db.write() as conn:
        conn.exec_driver_sql("CREATE TABLE peeked (value INTEGER)")
    assert db.peek("SELECT value FROM peeked") is None
    for value in (1, 2):
        with db.write() as conn:
            conn.exec_driver_sql("DELETE FROM peeked")
            conn.exec_driver_sql(f"INSERT INTO peeked (value) VALUES ({value})")
        assert db.peek("SELECT value FROM peeked") == value
        assert db.peek("SELECT value FROM peeked WHERE value < :limit", limit=2) == (1 if value == 1 else None)
    with db.write() as conn:
        conn.exec_driver_sql("DELETE FROM peeked")
        with pytest.raises(ProgrammingError):
            db.peek("SELECT value FROM peeked")
    if db.is_sqlite:
        with pytest.raises(sa.exc.OperationalError, match="readonly"):
            db.peek("DELETE FROM peeked")
    with pytest.raises(sa.exc.DBAPIError):
        db.peek("SELECT value FROM nowhere")
    db.close()


def test_a_locked_database_is_an_operational_error_like_any_other(tmp_path, monkeypatch):
    """So that flows try again."""
    monkeypatch.setattr("pileus.kernel.db.database.PATIENCE", 0.01)
    db, other = (Database(f"sqlite:///{tmp_path}/a.db", "test") for _ in range(2))
    with other.engine.connect() as conn:
        conn.exec_driver_sql("PRAGMA busy_timeout=0")
        conn.commit()
    with db.write():
        with pytest.raises(sa.exc.OperationalError, match="locked"), _forget_transaction(), other.write():
            pass
    db.close()
    other.close()


@contextlib.contextmanager
def _forget_transaction():
    """As another thread would see it."""
    from pileus.kernel import waiting

    before, waiting._state.transaction = waiting._state.transaction, ""
    try:
        yield
    finally:
        waiting._state.transaction = before
