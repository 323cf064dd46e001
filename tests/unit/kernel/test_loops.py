"""Loops: by time, by nudge, never beside themselves, never for the last time."""

import threading

import pytest

from pileus.kernel.errors import ProgrammingError
from pileus.kernel.loops import Loop, LoopRunner, Nudger


class Counted:
    """A loop body that counts its passes and can be held inside one."""

    def __init__(self):
        self.passes = 0
        self.changed = threading.Condition()
        self.hold = threading.Event()
        self.hold.set()
        self.inside = 0
        self.most_inside = 0

    def __call__(self, subject):
        with self.changed:
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
            self.passes += 1
            self.changed.notify_all()
        self.hold.wait(20)
        with self.changed:
            self.inside -= 1
            self.changed.notify_all()

    def until(self, passes):
        with self.changed:
            assert self.changed.wait_for(lambda: self.passes >= passes, 20), f"{self.passes} passes only"


@pytest.fixture
def runner():
    runner = LoopRunner(threads=2)
    yield runner
    runner.stop()


def test_a_loop_runs_at_the_start_and_when_it_is_nudged(runner):
    body = Counted()
    runner.add([Loop("a", 3600.0, body)], None)
    runner.start()
    body.until(1)
    assert runner.nudge("a")
    body.until(2)
    assert not runner.nudge("nobody")


def test_a_loop_runs_again_by_time(runner):
    body = Counted()
    runner.add([Loop("a", 0.001, body)], None)
    runner.start()
    body.until(5)


def test_a_nudge_during_a_pass_leads_to_one_more_pass(runner):
    """What it is about may have come after the pass had looked."""
    body = Counted()
    body.hold.clear()
    runner.add([Loop("a", 3600.0, body)], None)
    runner.start()
    body.until(1)
    for _ in range(5):
        runner.nudge("a")
    body.hold.set()
    body.until(2)
    runner.stop()
    assert body.passes == 2
    assert body.most_inside == 1


def test_no_nudge_is_lost_however_it_meets_the_passes(runner):
    seen, wanted = [], [0]
    runner.add([Loop("a", 3600.0, lambda subject: seen.append(wanted[0]))], None)
    runner.start()
    tick = threading.Event()
    for number in range(1, 300):
        wanted[0] = number
        runner.nudge("a")
        if number % 3 == 0:
            tick.wait(0.0005)
    for _ in range(2000):
        if seen and seen[-1] == 299:
            return
        tick.wait(0.005)
    raise AssertionError(f"the last pass saw {seen[-1:]}")


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_a_failing_loop_goes_on_and_harms_no_other(runner, error, caplog):
    other, count = Counted(), []

    def failing(subject):
        count.append(1)
        raise error("on purpose")

    runner.add([Loop("bad", 0.001, failing), Loop("good", 3600.0, other)], None)
    runner.start()
    other.until(1)
    for _ in range(3):
        before = len(count)
        runner.nudge("bad")
        for _ in range(2000):
            if len(count) > before:
                break
            threading.Event().wait(0.005)
        assert len(count) > before
    assert "loop bad failed" in caplog.text


def test_each_loop_gets_its_subject(runner):
    got, both = [], threading.Barrier(3)

    def body(subject):
        got.append(subject)
        both.wait(20)

    runner.add([Loop("a", 3600.0, body)], "subject of a")
    runner.add([Loop("b", 3600.0, body)], "subject of b")
    runner.start()
    both.wait(20)
    assert sorted(got) == ["subject of a", "subject of b"]


def test_two_loops_of_one_name_are_refused(runner):
    """One would silently take the place of the other."""
    runner.add([Loop("a", 1.0, print)], None)
    with pytest.raises(ProgrammingError, match="two loops are called a"):
        runner.add([Loop("a", 1.0, print)], None)


def test_stopping_lets_the_pass_under_way_end(runner):
    body = Counted()
    body.hold.clear()
    runner.add([Loop("a", 3600.0, body)], None)
    runner.start()
    body.until(1)
    stopper = threading.Thread(target=runner.stop)
    stopper.start()
    body.hold.set()
    stopper.join(20)
    assert (body.passes, body.inside) == (1, 0)


def test_a_nudger_wakes_the_loop_here_or_tells_where_it_runs(runner):
    told = []
    nudger = Nudger(told.append)
    nudger.nudge("a")
    body = Counted()
    runner.add([Loop("a", 3600.0, body)], None)
    runner.start()
    body.until(1)
    nudger.attach(runner)
    nudger.nudge("a")
    body.until(2)
    nudger.nudge("elsewhere")
    assert told == ["a", "elsewhere"]


def test_timed_passes_are_left_to_who_has_the_turn_and_nudged_ones_are_done_here(runner):
    mine = threading.Event()
    asked = threading.Semaphore(0)

    def turn():
        asked.release()
        return mine.is_set()

    body, own = Counted(), Counted()
    runner.add([Loop("a", 0.001, body), Loop("own", 0.001, own, everywhere=True)], None, turn)
    runner.start()
    for _ in range(3):
        assert asked.acquire(timeout=20)
    own.until(3)
    assert body.passes == 0
    runner.nudge("a")
    body.until(1)
    for _ in range(3):
        assert asked.acquire(timeout=20)
    assert body.passes == 1
    mine.set()
    body.until(4)


def test_a_turn_that_cannot_be_found_out_is_a_failed_pass(runner):
    def turn():
        asked.append(1)
        if len(asked) < 3:
            raise RuntimeError("the database is away")
        return True

    asked, body = [], Counted()
    runner.add([Loop("a", 0.001, body)], None, turn)
    runner.start()
    body.until(1)
    assert len(asked) >= 3
