"""Desired state: what a host is told, version by version."""

import pytest
import sqlalchemy as sa
from racing import at_once

from pileus.kernel import desired
from pileus.kernel.db import NAMING, Database
from pileus.kernel.desired import Change

METADATA = sa.MetaData(naming_convention=NAMING)
desired.tables(METADATA)


@pytest.fixture
def db(database_url):
    db = Database(database_url, "test")
    METADATA.create_all(db.engine)
    yield db
    db.close()


def touch(db, *ids, host="h1", kind="port"):
    with db.write() as conn:
        return desired.touch(conn, host, kind, ids)


def drop(db, *ids, host="h1", kind="port"):
    with db.write() as conn:
        return desired.drop(conn, host, kind, ids)


def pull(db, since, host="h1"):
    with db.read() as conn:
        return desired.changes(conn, host, since)


def test_each_change_gives_the_host_a_higher_version(db):
    assert [touch(db, "a"), touch(db, "b"), drop(db, "a"), touch(db, "x", host="h2")] == [1, 2, 3, 1]
    assert touch(db) == 3, "nothing touched, nothing new"


def test_a_host_gets_what_is_newer_than_what_it_has_with_tombstones(db):
    touch(db, "a", "b")
    version = touch(db, "c")
    drop(db, "a")
    changes = pull(db, version)
    assert (changes.version, changes.full, changes.items) == (3, False, (Change("port", "a", True),))
    assert changes.ids("port", gone=True) == ["a"]
    assert pull(db, 3) == desired.Changes(3, False, ())


@pytest.mark.parametrize("since", [0, -1, 99])
def test_a_host_that_knows_nothing_or_a_version_that_never_was_gets_everything(db, since):
    touch(db, "a", "b")
    drop(db, "a")
    changes = pull(db, since)
    assert (changes.version, changes.full, changes.items) == (2, True, (Change("port", "b", False),))


def test_an_unknown_host_has_an_empty_full_state(db):
    assert pull(db, 0, "nobody") == desired.Changes(0, True, ())


def test_an_item_that_comes_back_is_no_longer_gone(db):
    touch(db, "a")
    drop(db, "a")
    touch(db, "a")
    assert pull(db, 1).items == (Change("port", "a", False),)
    with db.read() as conn:
        assert desired.hosts_of(conn, "port", "a") == ["h1"]


def test_dropping_what_never_was_leaves_no_tombstone(db):
    drop(db, "a")
    assert pull(db, 0).items == ()


def test_a_host_behind_the_kept_tombstones_gets_everything(db, monkeypatch):
    monkeypatch.setattr(desired, "KEEP_TOMBSTONES", 2)
    touch(db, "a", "b")  # 1
    drop(db, "a")  # 2
    for _ in range(3):
        touch(db, "b")  # 5
    with db.write() as conn:
        desired.forget_tombstones(conn, "h1")
    assert pull(db, 1).full, "it would never hear that a is gone"
    assert not pull(db, 3).full
    assert pull(db, 3).items == (Change("port", "b", False),)


def test_a_host_that_left_is_forgotten(db):
    touch(db, "a")
    with db.write() as conn:
        desired.forget_host(conn, "h1")
    assert pull(db, 0).items == ()


def test_more_items_than_one_statement_takes(db):
    touch(db, *(f"i{n}" for n in range(1200)))
    touch(db, *(f"i{n}" for n in range(600, 1300)))
    assert len(pull(db, 0).items) == 1300
    assert len(pull(db, 1).items) == 700


def test_touches_from_several_processes_lose_nothing_and_number_without_gaps(database_url):
    db = Database(database_url, "test")
    METADATA.create_all(db.engine)
    db.close()

    def many(number):
        mine = Database(database_url, "test")
        seen = []
        for turn in range(5):
            with mine.write(durable=False) as conn:
                seen.append(desired.touch(conn, "h1", "port", ["shared", f"{number}-{turn}"]))
        mine.close()
        return seen

    numbers = [version for part in at_once(many, processes=2, threads=4) for version in part]
    assert sorted(numbers) == list(range(1, 41))
    changes = pull(db, 0)
    assert changes.version == 40
    assert len(changes.items) == 41
    db.close()


def test_a_host_that_pulls_while_others_change_misses_nothing(database_url):
    db = Database(database_url, "test")
    METADATA.create_all(db.engine)
    db.close()

    def work(number):
        mine = Database(database_url, "test")
        if number:
            for turn in range(20):
                with mine.write(durable=False) as conn:
                    (desired.drop if turn % 3 == 2 else desired.touch)(conn, "h1", "port", [f"{number}-{turn // 3}"])
            mine.close()
            return None
        has, version = set(), 0
        while version < 60:
            with mine.read() as conn:
                changes = desired.changes(conn, "h1", version)
            has = has if not changes.full else set()
            has |= set(changes.ids("port"))
            has -= set(changes.ids("port", gone=True))
            version = changes.version
        mine.close()
        return has

    (has,) = [part for part in at_once(work, processes=4, threads=1) if part is not None]
    assert has == set(pull(db, 0).ids("port"))
    db.close()


def test_changes_of_many_hosts_take_as_many_statements_as_those_of_one(db):
    def statements(hosts):
        count = 0

        def note(*_args):
            nonlocal count
            count += 1

        sa.event.listen(db.engine, "before_cursor_execute", note)
        try:
            with db.write() as conn:
                desired.record(conn, {(host, "port"): {"a": False} for host in hosts})
        finally:
            sa.event.remove(db.engine, "before_cursor_execute", note)
        return count

    many = [f"h{number}" for number in range(100)]
    statements(many)
    assert statements(many) == statements(["h1"])


def test_one_change_raises_the_version_of_each_of_its_hosts_by_one(db):
    with db.write() as conn:
        first = desired.record(conn, {("h1", "port"): {"a": False, "b": False}, ("h1", "network"): {"n": False}, ("h2", "port"): {"c": False}})
        second = desired.record(conn, {("h1", "port"): {"a": True, "b": False}})
        changes = desired.changes(conn, "h1", 1)
    assert (first, second) == ({"h1": 1, "h2": 1}, {"h1": 2})
    assert (changes.ids("port"), changes.ids("port", gone=True), changes.ids("network")) == (["b"], ["a"], [])
