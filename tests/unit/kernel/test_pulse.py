"""What hosts say again is remembered, and written together; anything else is looked at in full."""

import pytest

from pileus.kernel import clock
from pileus.kernel.pulse import FEW, Pulse


@pytest.fixture
def virtual():
    mine = clock.VirtualClock()
    before = clock.use(mine)
    yield mine
    clock.use(before)


def _again(pulse, host="h1", said="all is well"):
    return pulse.again("report", host, said, 30.0)


def test_only_the_same_words_are_the_same_again(virtual):
    pulse = Pulse()
    assert not _again(pulse)
    pulse.learn("report", "h1", "all is well")
    assert _again(pulse)
    assert not _again(pulse, said="a server is gone")
    assert not _again(pulse, host="h2")
    assert not pulse.again("other", "h1", "all is well", 30.0)


def test_after_a_silence_and_after_a_while_a_host_is_looked_at_in_full(virtual):
    pulse = Pulse()
    pulse.learn("report", "h1", "all is well")
    virtual.advance(31)
    assert not _again(pulse)
    pulse.learn("report", "h1", "all is well")
    heard = 0
    while _again(pulse):
        heard += 1
        virtual.advance(20)
    assert heard == 31


def test_few_hosts_are_written_at_once_and_many_together(virtual):
    pulse = Pulse()
    pulse.learn("report", "h1", "all is well")
    assert _again(pulse)
    assert [beat.host for beat in pulse.due("report")] == ["h1"]
    assert pulse.due("report") == []
    hosts = [f"h{number}" for number in range(FEW + 1)]
    for host in hosts:
        pulse.learn("report", host, "all is well")
    assert all(_again(pulse, host) for host in hosts)
    assert pulse.due("report") == []
    virtual.advance(1)
    assert _again(pulse, "h0")
    beats = pulse.due("report")
    assert [beat.host for beat in beats] == sorted(hosts)
    assert [beat.at for beat in beats if beat.host == "h0"] == [clock.utcnow()]


def test_hosts_whose_moments_could_not_be_written_are_looked_at_in_full(virtual):
    pulse = Pulse()
    pulse.learn("report", "h1", "all is well")
    assert _again(pulse)
    pulse.forget("report", pulse.due("report"))
    assert not _again(pulse)
