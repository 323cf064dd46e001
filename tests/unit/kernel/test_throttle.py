"""Who fails again and again has to wait."""

from __future__ import annotations

import pytest

from pileus.kernel import clock
from pileus.kernel.throttle import Throttle, key_of


@pytest.fixture
def time():
    made = clock.VirtualClock()
    previous = clock.use(made)
    yield made
    clock.use(previous)


def test_so_many_failures_in_a_window_and_then_a_wait_until_its_end(time):
    throttle = Throttle(3, 60)
    for _ in range(3):
        assert throttle.wait(b"a") == 0
        throttle.failed(b"a")
        time.advance(10)
    assert throttle.wait(b"a") == 30
    assert throttle.wait(b"b") == 0
    assert throttle.wait(b"b", b"a") == 30, "the longest counts"
    time.advance(29.5)
    assert throttle.wait(b"a") == 1
    time.advance(0.5)
    assert throttle.wait(b"a") == 0
    throttle.failed(b"a")
    assert throttle.wait(b"a") == 0, "a new window begins with the next failure"
    assert throttle.wait() == 0


def test_no_limit(time):
    throttle = Throttle(0, 60)
    for _ in range(100):
        throttle.failed(b"a")
    assert throttle.wait(b"a") == 0 and len(throttle) == 0


def test_memory_is_bounded_and_who_failed_last_is_remembered(time):
    throttle = Throttle(1, 60, keys=3)
    for key in (b"a", b"b", b"c", b"a", b"d"):
        throttle.failed(key)
    assert len(throttle) == 3
    assert [bool(throttle.wait(key)) for key in (b"a", b"b", b"c", b"d")] == [True, False, True, True]


def test_keys_have_one_size_and_tell_addresses_and_names_apart():
    one = key_of("192.0.2.1", "ann")
    assert len(one) == len(key_of("x" * 10_000, "y" * 100_000, "\ud800")) == 32
    assert one == key_of("::ffff:192.0.2.1", "ann")
    assert len({one, key_of("192.0.2.2", "ann"), key_of("192.0.2.1", "bob"), key_of("192.0.2.1", "a", "nn")}) == 4
    assert key_of("2001:db8::1", "ann") == key_of("2001:db8::ffff:1", "ann") != key_of("2001:db8:0:1::1", "ann")
    assert key_of("fe80::1%eth0", "ann") == key_of("fe80::2", "ann")
