"""What a database breaks off for the sake of others is done again; nothing else is."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from pileus.kernel import clock
from pileus.kernel.db import is_deadlock, retried


class OfPostgreSQL(Exception):
    def __init__(self, sqlstate):
        super().__init__("broken off")
        self.sqlstate = sqlstate


def error(original):
    return sa.exc.OperationalError("UPDATE", None, original)


DEADLOCKS = [OfPostgreSQL("40P01"), OfPostgreSQL("40001"), Exception(1213, "Deadlock found"), Exception(1205, "Lock wait timeout")]
OTHERS = [OfPostgreSQL("57P01"), Exception(2006, "gone away"), Exception(), None]


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(clock, "sleep", lambda seconds: None)


@pytest.mark.parametrize("original", DEADLOCKS, ids=repr)
def test_what_was_broken_off_is_done_again(original):
    failures = [error(original), error(original)]

    @retried
    def work(value, *, more):
        if failures:
            raise failures.pop()
        return value, more

    assert work(1, more=2) == (1, 2)
    assert failures == []


@pytest.mark.parametrize("original", OTHERS, ids=repr)
def test_other_errors_are_the_callers(original):
    times = []

    @retried
    def work():
        times.append(1)
        raise error(original)

    assert not is_deadlock(error(original))
    with pytest.raises(sa.exc.OperationalError):
        work()
    assert len(times) == 1


def test_after_five_attempts_the_error_is_the_callers():
    times = []

    @retried
    def work():
        times.append(1)
        raise error(DEADLOCKS[0])

    with pytest.raises(sa.exc.OperationalError):
        work()
    assert len(times) == 5
