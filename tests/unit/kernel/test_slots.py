"""How many may wait at once for what may be slow."""

import threading

import pytest

from pileus.kernel import clock
from pileus.kernel.slots import Slots, login_threads


class Full(Exception):
    pass


def test_whoever_finds_none_free_is_refused_where_nobody_is_patient():
    slots = Slots(2, patience=0)
    with slots.turn(Full()), slots.turn(Full()):
        with pytest.raises(Full), slots.turn(Full()):
            pass
    with slots.turn(Full()):
        pass


def test_one_that_failed_is_free_again():
    slots = Slots(1, patience=0)
    for _ in range(2):
        with pytest.raises(ValueError, match="x"), slots.turn(Full()):
            raise ValueError("x")


def test_short_calls_are_waited_for():
    slots = Slots(1, patience=60)
    inside, leave, done = threading.Event(), threading.Event(), []

    def first():
        with slots.turn(Full()):
            inside.set()
            leave.wait()
            done.append(1)

    def second():
        with slots.turn(Full()):
            done.append(2)

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    inside.wait()
    threads[1].start()
    leave.set()
    for thread in threads:
        thread.join()
    assert done == [1, 2]


def test_nobody_waits_for_one_that_is_slow():
    own = clock.VirtualClock()
    real = clock.use(own)
    try:
        slots = Slots(1, patience=60)
        with slots.turn(Full()):
            own.advance(61)
            with pytest.raises(Full), slots.turn(Full()):  # else this would take a minute
                pass
    finally:
        clock.use(real)


def test_one_login_never_has_all_threads():
    assert login_threads() >= 2
