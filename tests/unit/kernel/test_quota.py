"""Quota: exactly as many as the limit allows, whoever else is counting."""

import pytest
import sqlalchemy as sa
from racing import at_once

from pileus.kernel import quota
from pileus.kernel.db import NAMING, Database

METADATA = sa.MetaData(naming_convention=NAMING)
quota.tables(METADATA)
DEFAULTS = {"port": 3, "network": -1}


@pytest.fixture
def db(database_url):
    db = Database(database_url, "test")
    METADATA.create_all(db.engine)
    yield db
    db.close()


def reserve(db, amounts, project="p"):
    with db.write() as conn:
        quota.reserve(conn, project, amounts, DEFAULTS)


def used(db, project="p"):
    with db.read() as conn:
        return quota.usages(conn, project)


def test_usage_is_counted_up_to_the_limit_and_the_refusal_says_all(db):
    reserve(db, {"port": 2})
    with pytest.raises(quota.Exceeded) as refused:
        reserve(db, {"port": 2})
    assert (refused.value.resource, refused.value.limit, refused.value.used, refused.value.requested) == ("port", 3, 2, 2)
    reserve(db, {"port": 1})
    assert used(db) == {"port": 3}


def test_a_refusal_takes_back_what_the_same_request_counted_before(db):
    with pytest.raises(quota.Exceeded):
        reserve(db, {"network": 5, "port": 4})
    assert used(db).get("network", 0) == 0


def test_releasing_is_never_refused_and_never_falls_below_zero(db):
    reserve(db, {"port": 3})
    reserve(db, {"port": -2})
    assert used(db) == {"port": 1}
    reserve(db, {"port": -5, "network": -1})
    assert used(db) == {"port": 0, "network": 0}


def test_an_unlimited_resource_is_counted_all_the_same(db):
    reserve(db, {"network": 1000})
    assert used(db) == {"network": 1000}


def test_own_limits_stand_before_the_defaults_until_they_are_reset(db):
    with db.write() as conn:
        quota.set_limits(conn, "p", {"port": 5})
        quota.set_limits(conn, "p", {"port": 5})
        assert quota.limits(conn, "p", DEFAULTS) == {"port": 5, "network": -1}
        assert quota.limits(conn, "other", DEFAULTS) == DEFAULTS
        assert quota.own_limits(conn) == {"p": {"port": 5}}
    reserve(db, {"port": 5})
    with db.write() as conn:
        quota.reset_limits(conn, "p")
    with pytest.raises(quota.Exceeded):
        reserve(db, {"port": 1})


def test_usage_above_a_lowered_limit_can_only_shrink(db):
    reserve(db, {"port": 3})
    with db.write() as conn:
        quota.set_limits(conn, "p", {"port": 1})
    with pytest.raises(quota.Exceeded):
        reserve(db, {"port": 1})
    reserve(db, {"port": -1})
    assert used(db) == {"port": 2}


def test_one_project_does_not_use_up_anothers_quota(db):
    reserve(db, {"port": 3})
    reserve(db, {"port": 3}, "q")
    assert used(db, "q") == {"port": 3}


def test_exactly_the_limit_succeeds_among_threads_of_several_processes(database_url):
    db = Database(database_url, "test")
    METADATA.create_all(db.engine)
    db.close()  # before the fork

    def take(number):
        mine = Database(database_url, "test")
        won = 0
        for _ in range(3):
            try:
                with mine.write(durable=False) as conn:
                    quota.reserve(conn, "p", {"port": 1, "network": 1}, {"port": 20, "network": -1})
                won += 1
            except quota.Exceeded:
                pass
        mine.close()
        return won

    won = at_once(take, processes=4, threads=4)
    assert sum(won) == 20
    assert used(db) == {"port": 20, "network": 20}
    db.close()


def test_reserving_and_releasing_at_once_ends_where_it_began(database_url):
    db = Database(database_url, "test")
    METADATA.create_all(db.engine)
    db.close()

    def come_and_go(number):
        mine = Database(database_url, "test")
        for _ in range(4):
            with mine.write(durable=False) as conn:
                quota.reserve(conn, "p", {"port": 2}, {"port": 1000})
            with mine.write(durable=False) as conn:
                quota.reserve(conn, "p", {"port": -2}, {"port": 1000})
        mine.close()

    at_once(come_and_go, processes=3, threads=3)
    assert used(db) == {"port": 0}
    db.close()
