"""How often hosts speak, and what is told to many of them."""

import pytest

from pileus.kernel import clock
from pileus.kernel.bus import LocalBus
from pileus.kernel.bus.later import Later
from pileus.kernel.pace import REPORTS_PER_SECOND, Due, Pace


@pytest.fixture
def virtual():
    mine = clock.VirtualClock()
    before = clock.use(mine)
    yield mine
    clock.use(before)


def test_few_hosts_speak_as_often_as_they_like(virtual):
    pace = Pace()
    assert {pace.next("compute", f"h{number}", 10.0, 15.0) for number in range(100)} == {10.0}


def test_many_hosts_speak_less_often_but_never_so_seldom_that_they_seem_dead(virtual):
    pace = Pace()
    told = [pace.next("compute", f"h{number}", 10.0, 15.0) for number in range(int(REPORTS_PER_SECOND * 20))]
    assert told == sorted(told)
    assert 10.0 < told[int(REPORTS_PER_SECOND * 12)] < 15.0
    assert told[-1] == 15.0


def test_kinds_are_counted_apart(virtual):
    pace = Pace()
    for number in range(int(REPORTS_PER_SECOND * 20)):
        pace.next("compute", f"h{number}", 10.0, 15.0)
    assert pace.next("network", "h1", 5.0, 18.0) == 5.0


def test_hosts_that_left_are_not_counted_for_long(virtual):
    pace = Pace()
    for number in range(int(REPORTS_PER_SECOND * 20)):
        pace.next("compute", f"h{number}", 10.0, 15.0)
    virtual.advance(100.0)
    pace.next("compute", "h1", 10.0, 15.0)
    assert pace.next("compute", "h1", 10.0, 15.0) == 10.0


def test_a_timer_that_ticks_more_often_is_not_due(virtual):
    due = Due(20.0)
    assert due.now()
    due.done()
    virtual.advance(10.0)
    assert not due.now()
    virtual.advance(9.9)
    assert due.now()


def test_nudges_that_have_time_reach_every_host_once_with_its_newest_version():
    told = []
    bus = LocalBus("test")
    bus.cast = lambda topic, method, payload: told.append((topic, payload["version"]))  # type: ignore[method-assign]
    before = clock.use(clock.VirtualClock())
    try:
        later = Later(bus, "network.nudge")
        with later._lock:
            later._waiting.update({"a": 1, "b": 1})
        later.nudge({"a": 2, "c": 1})
        while later._working:
            pass
    finally:
        clock.use(before)
    assert sorted(told) == [("agent.a", 2), ("agent.b", 1), ("agent.c", 1)]
