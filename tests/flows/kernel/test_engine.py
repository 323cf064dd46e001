"""The flow engine: order, waiting, cancelling, several workers, on each of the three databases where it may matter."""

import dataclasses
import datetime as dt
import os
import threading

import pytest
import sqlalchemy as sa

from pileus.kernel import clock
from pileus.kernel.bus import BusUnavailable
from pileus.kernel.db import in_transaction
from pileus.kernel.errors import Conflict, ProgrammingError
from pileus.kernel.flows import Abort, Flow, Retry, Runner, Step, Wait, run_all, store
from pileus.kernel.testing import MEMBER
from tests.flows import harness
from tests.flows.kernel import building

FLOWS = store.FLOWS


@pytest.fixture
def service(tmp_path):
    service = building.make(tmp_path)
    building.METADATA.create_all(service.db.engine)
    yield service
    service.db.close()


@pytest.fixture
def shared(tmp_path, database_url):
    service = building.make(tmp_path, database_url)
    building.METADATA.create_all(service.db.engine)
    yield service
    service.db.close()


@pytest.fixture
def virtual():
    virtual = clock.VirtualClock(1_800_000_000.0)
    before = clock.use(virtual)
    yield virtual
    clock.use(before)


def start(service, kind="f", resource="r", **input):
    with service.db.write() as conn:
        return service.flows.start(conn, kind, resource_id=resource, input=input, context=MEMBER)


def flow_of(*functions, name="f", **more):
    """A flow whose steps are functions, or (function, undo)."""
    steps = []
    for number, function in enumerate(functions):
        do, undo = function if isinstance(function, tuple) else (function, None)
        steps.append(Step(f"step{number}", do, undo=undo))
    return Flow(name, steps=tuple(steps), **more)


def state_of(service, flow_id):
    with service.db.read() as conn:
        return conn.execute(sa.select(FLOWS).where(FLOWS.c.id == flow_id)).mappings().one()


def until(condition, what):
    """Wait for a condition that another thread or process brings about."""
    tick = threading.Event()
    for _ in range(3000):
        if condition():
            return
        tick.wait(0.01)
    raise AssertionError(f"it never came about that {what}")


def test_steps_run_in_order_and_see_results_and_input(service):
    seen = []

    def first(run):
        seen.append(("first", run.input["size"], run.step, run.attempt, run.asked_by["user_id"]))
        return {"a": 1}

    def second(run):
        seen.append(("second", run.results["step0"], run.context.acts_for))

    flow = start(service, size=3)
    run_all(service, {"f": flow_of(first, second)})
    assert seen == [("first", 3, "step0", 0, MEMBER.user_id), ("second", {"a": 1}, "building")]
    assert state_of(service, flow)["state"] == "done"
    steps = harness.timeline(service, "r")[0]["steps"]
    assert [(step["name"], step["state"], step["attempts"]) for step in steps] == [("step0", "done", 1), ("step1", "done", 1)]


def test_two_steps_of_one_name_are_refused():
    with pytest.raises(ProgrammingError, match="two steps have the same"):
        Flow("f", steps=(Step("a", print), Step("a", print)))


def test_a_flow_is_recorded_only_if_its_transaction_is_committed(service):
    with pytest.raises(ZeroDivisionError), service.db.write() as conn:
        service.flows.start(conn, "f", resource_id="r", context=MEMBER)
        1 / 0
    with service.db.read() as conn:
        assert service.flows.unfinished(conn, "r") == []


@pytest.mark.parametrize("error", [Abort("no room"), Conflict("no room")])
def test_a_failed_step_and_all_before_it_are_undone_in_reverse(service, error):
    undone, ended = [], []

    def broken(run):
        raise error

    flow = flow_of(
        (lambda run: {"n": 0}, lambda run: undone.append(("0", run.results["step0"]))),
        (lambda run: None, None),
        (broken, lambda run: undone.append(("2", run.results.get("step2", "unknown")))),
        (lambda run: undone.append("never"), lambda run: undone.append("never")),
        failed=lambda run, conn, message: ended.append((message, in_transaction())),
    )
    number = start(service)
    run_all(service, {"f": flow})
    assert undone == [("2", "unknown"), ("0", {"n": 0})]
    assert ended == [("no room", True)]
    assert (state_of(service, number)["state"], state_of(service, number)["error"]) == ("failed", "no room")


def test_a_result_that_cannot_be_stored_fails_the_flow_instead_of_repeating_it_forever(service):
    undone = []
    flow = start(service)
    run_all(service, {"f": flow_of((lambda run: {"x": object()}, undone.append))})
    assert state_of(service, flow)["state"] == "failed"
    assert "cannot be stored" in state_of(service, flow)["error"]
    assert len(undone) == 1


def test_retry_parks_and_counts_and_wait_does_not(service, virtual):
    attempts = []

    def step(run):
        attempts.append(run.attempt)
        if len(attempts) < 3:
            raise Retry(30, "not yet")
        if len(attempts) < 5:
            raise Wait("for a friend", seconds=60)

    flow = {"f": flow_of(step)}
    number = start(service)
    for seconds in (0, 29.9, 30, 30, 59.9, 60, 60):
        virtual.advance(seconds if seconds not in (30, 60) else seconds)
        run_all(service, flow)
    assert attempts == [0, 1, 2, 2, 2]
    assert state_of(service, number)["state"] == "done"


def test_a_peer_that_is_away_is_asked_again_until_the_deadline(service, virtual):
    asked, undone = [], []

    def step(run):
        asked.append(clock.time())
        raise BusUnavailable("nobody there")

    flow = flow_of((step, undone.append), deadline=100)
    number = start(service)
    while state_of(service, number)["state"] == "ready":
        run_all(service, {"f": flow})
        virtual.advance(0.5)
    assert len(undone) == 1
    assert asked[-1] - asked[0] >= 100, "its last chance is at the deadline"
    assert asked[-1] - asked[0] < 101
    assert "did not end in 100 seconds: nobody there" in state_of(service, number)["error"]
    assert max(b - a for a, b in zip(asked, asked[1:], strict=False)) < 10.6


def test_a_long_wait_ends_at_the_deadline(service, virtual):
    def step(run):
        raise Wait("for nothing", seconds=1e6)

    number = start(service)
    run_all(service, {"f": flow_of(step, deadline=100)})
    virtual.advance(101)
    run_all(service, {"f": flow_of(step, deadline=100)})
    assert state_of(service, number)["state"] == "failed"


def test_the_time_behind_another_flow_of_the_resource_does_not_count(service, virtual):
    tries = []

    def once_away(run):
        tries.append(run.flow_id)
        if len(tries) == 1:
            raise BusUnavailable("a moment")

    def long(run):
        if run.attempt < 2:
            raise Retry(300)

    start(service, "long")
    number = start(service, "short")
    flows = {"long": flow_of(long, name="long", deadline=10_000), "short": flow_of(once_away, name="short", deadline=100)}
    for _ in range(4):
        run_all(service, flows)
        virtual.advance(301)
    run_all(service, flows)
    assert state_of(service, number)["state"] == "done"


def test_waking_lets_a_waiting_flow_look_at_once(service, virtual):
    looked = []

    def step(run):
        looked.append(clock.time())
        if len(looked) == 1:
            raise Wait("for news", seconds=3600)

    start(service)
    run_all(service, {"f": flow_of(step, deadline=10_000)})
    with service.db.write() as conn:
        service.flows.wake(conn, "r")
    run_all(service, {"f": flow_of(step, deadline=10_000)})
    assert len(looked) == 2


def test_a_wake_up_between_the_look_and_the_parking_is_not_lost(service, virtual):
    looked = []

    def step(run):
        looked.append(1)
        if len(looked) == 1:
            with service.db.write() as conn:  # the news comes after the step has looked
                service.flows.wake(conn, "r")
            raise Wait("for news", seconds=3600)

    number = start(service)
    run_all(service, {"f": flow_of(step)})
    assert len(looked) == 2
    assert state_of(service, number)["state"] == "done"


def test_a_waiting_flow_is_cancelled_at_once_and_undone(service, virtual):
    undone = []

    def step(run):
        raise Wait("for ever", seconds=3600)

    number = start(service)
    flows = {"f": flow_of((step, lambda run: undone.append(run.cancelled)))}
    run_all(service, flows)
    with service.db.write() as conn:
        assert service.flows.cancel(conn, "r", ["f"]) == 1
    run_all(service, flows)
    assert undone == [True]
    assert (state_of(service, number)["state"], state_of(service, number)["error"]) == ("failed", "cancelled")


def test_a_cancellation_between_the_look_and_the_parking_is_not_lost(service, virtual):
    def step(run):
        with service.db.write() as conn:
            service.flows.cancel(conn, "r")
        raise Wait("for ever", seconds=3600)

    number = start(service)
    run_all(service, {"f": flow_of(step)})
    assert state_of(service, number)["state"] == "failed"


def test_a_cancellation_during_the_last_step_is_honoured(service):
    """Whoever was told that a flow will unwind must not find it done."""
    undone = []

    def last(run):
        with service.db.write() as conn:
            assert service.flows.cancel(conn, "r") == 1

    number = start(service)
    run_all(service, {"f": flow_of((lambda run: None, lambda run: undone.append(0)), (last, lambda run: undone.append(1)))})
    assert state_of(service, number)["state"] == "failed"
    assert undone == [1, 0]


def test_ended_flows_and_other_kinds_are_not_cancelled(service):
    start(service)
    run_all(service, {"f": flow_of(lambda run: None)})
    start(service, "g")
    with service.db.write() as conn:
        assert service.flows.cancel(conn, "r", ["f"]) == 0
        assert service.flows.unfinished(conn, "r") == ["g"]


def test_last_words_that_fail_are_said_again_later(service, virtual):
    """A flow whose end cannot be recorded must not stay in the hands of a worker that lives on."""
    said = []

    def finished(run, conn):
        said.append(clock.time())
        if len(said) < 3:
            raise ValueError("a bug, or a row that is locked")

    number = start(service)
    flow = {"f": flow_of(lambda run: None, finished=finished)}
    for _ in range(3):
        run_all(service, flow)
        assert state_of(service, number)["worker_id"] is None
        virtual.advance(60)
    assert len(said) == 3
    assert state_of(service, number)["state"] == "done"


def test_a_flow_whose_record_could_not_be_written_is_given_back_when_the_database_is_there_again(service, monkeypatch):
    """The worker's lease is renewed all the time, so it would not bring the flow back."""
    away = threading.Event()
    original = type(service.db).write

    def write(self, **options):
        if away.is_set() and threading.current_thread().name.startswith("building flow_"):
            raise sa.exc.OperationalError("BEGIN", None, Exception("the disk is full"))
        return original(self, **options)

    monkeypatch.setattr(type(service.db), "write", write)
    done = []

    def step(run):
        if not done:
            away.set()
        done.append(run.epoch)

    number = start(service)
    runner = Runner(service, {"f": flow_of(step)})
    runner.start()
    until(lambda: runner._unsure, "the worker notices that it cannot write")
    away.clear()
    until(lambda: state_of(service, number)["state"] == "done", "the flow is done")
    runner.stop()
    assert done == [1, 2]


def test_flows_whose_taking_was_committed_and_not_heard_of_are_given_back(service, monkeypatch):
    """They are on record as this worker's, who lives on and knows nothing of them."""
    lost = [True]
    original = store.claim

    def claim(conn, *arguments):
        records = original(conn, *arguments)
        if records and lost.pop():
            lost.append(False)
            conn.commit()
            raise sa.exc.OperationalError("COMMIT", None, Exception("the connection is lost"))
        return records

    monkeypatch.setattr(store, "claim", claim)
    done = []
    number = start(service)
    runner = Runner(service, {"f": flow_of(lambda run: done.append(run.epoch))})
    runner.start()
    until(lambda: state_of(service, number)["state"] == "done", "the flow is done")
    runner.stop()
    assert done == [2]


def test_flows_of_one_resource_run_one_after_another_in_the_order_of_their_start(shared):
    running, order, overlaps = set(), [], []
    lock = threading.Lock()

    def step(run):
        with lock:
            if run.resource_id in running:
                overlaps.append(run.flow_id)
            running.add(run.resource_id)
            order.append(run.flow_id)
        threading.Event().wait(0.002)
        with lock:
            running.discard(run.resource_id)

    flow = {"f": flow_of(step)}
    wanted = {resource: [start(shared, resource=resource) for _ in range(4)] for resource in ("r1", "r2", "r3")}
    runners = [Runner(shared, flow, threads=4) for _ in range(2)]
    for runner in runners:
        runner.start()
    everything = [number for numbers in wanted.values() for number in numbers]
    until(lambda: all(state_of(shared, number)["state"] == "done" for number in everything), "all flows are done")
    for runner in runners:
        runner.stop()
    assert not overlaps
    for numbers in wanted.values():
        assert [number for number in order if number in numbers] == numbers
    assert all(state_of(shared, number)["epoch"] == 1 for number in everything), "nobody took what another had"


def test_a_flow_that_was_started_earlier_but_committed_later_waits_for_the_one_that_runs(shared):
    """The order is by the time of the start, and what is running is not interrupted by an older one that turns up."""
    late = start(shared)
    with shared.db.write() as conn:
        conn.execute(sa.update(FLOWS).where(FLOWS.c.id == late).values(seq=2))
        (taken,) = store.claim(conn, "w1", ["f"], 8)
    early = start(shared)
    with shared.db.write() as conn:
        conn.execute(sa.update(FLOWS).where(FLOWS.c.id == early).values(seq=1))
        assert store.claim(conn, "w2", ["f"], 8) == []
    assert taken.id == late


def test_two_workers_that_look_at_once_do_not_take_two_flows_of_one_resource(shared):
    """One sees only the second flow, because the first is not committed yet; the other one sees both."""
    if shared.db.is_sqlite:
        pytest.skip("one writer at a time")
    second = start(shared)
    with shared.db.engine.connect() as one, shared.db.engine.connect() as starter, shared.db.engine.connect() as two:
        first = store.insert(starter, "f", "r", {}, {})
        starter.execute(sa.update(FLOWS).where(FLOWS.c.id == first).values(seq=1))
        taken = store.claim(one, "w1", ["f"], 8)
        starter.commit()
        assert [record.id for record in taken] == [second]
        assert store.claim(two, "w2", ["f"], 8) == []
        one.commit()
        assert store.claim(two, "w2", ["f"], 8) == []
        two.rollback()


def test_many_workers_in_processes_take_each_flow_once(tmp_path, database_url):
    service = building.make(tmp_path, database_url)
    building.METADATA.create_all(service.db.engine)
    numbers = [start(service, resource=f"r{n % 7}") for n in range(40)]
    service.db.close()
    log = tmp_path / "log"
    log.touch()

    def step(run):
        with log.open("a") as file:
            file.write(run.flow_id + "\n")

    children = []
    for _ in range(3):
        pid = os.fork()
        if not pid:
            code = 1
            try:
                mine = building.make(tmp_path, database_url)
                runner = Runner(mine, {"f": flow_of(step)}, threads=3)
                runner.start()
                until(lambda: _unfinished(mine) == 0, "all flows are done")
                runner.stop()
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
    assert sorted(log.read_text().split()) == sorted(numbers)


def test_a_deadlock_at_the_record_of_a_step_does_not_repeat_the_step(service, monkeypatch):
    class Deadlock(Exception):
        sqlstate = "40P01"

    done, broken = [], []

    def record(conn, flow_id, number, name, state, *rest):
        if len(broken) < 2 and state == "done":
            broken.append(name)
            raise sa.exc.OperationalError("INSERT", None, Deadlock())
        return true(conn, flow_id, number, name, state, *rest)

    true = store.record_step
    monkeypatch.setattr(store, "record_step", record)
    number = start(service)
    run_all(service, {"f": flow_of(lambda run: done.append("one"), lambda run: done.append("two"))})
    assert (state_of(service, number)["state"], done, broken) == ("done", ["one", "two"], ["step0", "step0"])


def _unfinished(service):
    with service.db.read() as conn:
        return conn.execute(sa.select(sa.func.count()).where(FLOWS.c.state.not_in(store.ENDED))).scalar_one()


def test_flows_of_a_dead_worker_are_taken_by_the_next_under_a_higher_epoch(shared):
    number = start(shared)
    with shared.db.write() as conn:
        store.renew(conn, "dead", "another-host", 1)
        assert len(store.claim(conn, "dead", ["f"], 8)) == 1
        assert store.release_expired(conn) == 0, "its lease has not run out"
    with shared.db.write() as conn:
        conn.execute(sa.update(store.WORKERS).values(expires_at=clock.from_epoch(0)))
    epochs = []
    runner = Runner(shared, {"f": flow_of(lambda run: epochs.append(run.epoch))})
    runner.start()
    until(lambda: state_of(shared, number)["state"] == "done", "the flow is done")
    runner.stop()
    assert epochs == [2]


def test_a_lease_lasts_a_few_seconds_of_the_databases_time(shared):
    with shared.db.write() as conn:
        store.renew(conn, "w", "host", 1)
        store.renew(conn, "w", "host", 1)
        (expires,) = conn.execute(sa.select(store.WORKERS.c.expires_at)).scalars()
        left = expires - store.database_time(conn)
    assert dt.timedelta(0) < left <= dt.timedelta(seconds=store.LEASE_SECONDS)


def test_a_restarted_controller_takes_over_at_once_what_its_dead_predecessor_had(service):
    """On the same host nobody has to wait for the lease."""
    number = start(service)
    harness.die(service, lambda: run_all(service, {"f": flow_of(lambda run: harness.kill_me())}))
    assert state_of(service, number)["state"] == "running"
    runner = Runner(service, {"f": flow_of(lambda run: None)})
    runner.start()
    assert state_of(service, number)["state"] != "running" or state_of(service, number)["epoch"] == 2
    until(lambda: state_of(service, number)["state"] == "done", "the flow is done")
    runner.stop()


def test_two_runners_of_one_process_do_not_take_each_other_for_dead(service):
    inside, go = threading.Event(), threading.Event()
    epochs = []

    def step(run):
        epochs.append(run.epoch)
        inside.set()
        go.wait(30)

    number = start(service)
    first, second = Runner(service, {"f": flow_of(step)}), Runner(service, {"f": flow_of(step)})
    first.start()
    assert inside.wait(30)
    second.start()
    assert state_of(service, number)["worker_id"] == first.worker_id
    go.set()
    until(lambda: state_of(service, number)["state"] == "done", "the flow is done")
    first.stop()
    second.stop()
    assert epochs == [1]


def test_a_stopping_worker_ends_its_step_keeps_its_lease_meanwhile_and_hands_over_the_rest(service):
    inside, go = threading.Event(), threading.Event()
    seen = []

    def slow(run):
        inside.set()
        go.wait(30)
        seen.append(("slow", run.epoch))

    flow = {"f": flow_of(slow, lambda run: seen.append(("next", run.epoch)))}
    number = start(service)
    runner = Runner(service, flow)
    runner.start()
    assert inside.wait(30)
    stopper = threading.Thread(target=runner.stop)
    stopper.start()
    until(runner._stopping.is_set, "the runner stops")
    assert runner._renewer.is_alive(), "the lease is renewed as long as a step runs"
    go.set()
    stopper.join(30)
    after = state_of(service, number)
    assert seen == [("slow", 1)]
    assert (after["state"], after["worker_id"], after["step"]) == ("ready", None, 1)
    run_all(service, flow)
    assert seen == [("slow", 1), ("next", 2)]


def test_a_stopping_worker_hands_over_between_two_undos(service):
    undone = []
    runner = Runner(service, {})

    def undo_last(run):
        undone.append("last")
        runner._stopping.set()

    def fail(run):
        raise Abort("no")

    from pileus.kernel.flows.runner import Execution

    flow = flow_of((lambda run: None, lambda run: undone.append("first")), (fail, undo_last))
    number = start(service)
    with service.db.write() as conn:
        (record,) = store.claim(conn, "w", ["f"], 1)
    Execution(service, flow, record, runner._stopping).go()
    assert undone == ["last"]
    run_all(service, {"f": flow})
    assert undone == ["last", "first"]
    assert state_of(service, number)["state"] == "failed"


def test_a_nudge_runs_a_flow_at_once(service):
    runner = Runner(service, {"f": flow_of(lambda run: None)})
    runner.start()
    number = start(service)
    runner.nudge()
    until(lambda: state_of(service, number)["state"] == "done", "the flow is done")
    runner.stop()


def test_ended_flows_are_forgotten_with_their_steps_and_running_ones_are_not(service):
    start(service)
    run_all(service, {"f": flow_of(lambda run: None)})
    kept = start(service, resource="other")
    with service.db.write() as conn:
        assert store.forget_ended(conn, clock.utcnow() + dt.timedelta(seconds=1)) == 1
        assert conn.execute(sa.select(sa.func.count()).select_from(store.STEPS)).scalar_one() == 0
    assert state_of(service, kept)["state"] == "ready"


def test_unwinding_is_resumed_in_the_middle_and_says_the_first_error(service, tmp_path):
    undone = []

    def fail(run):
        raise Abort("the first error")

    def refuse(run):
        undone.append("1 refused")
        raise RuntimeError("not now")

    flow = flow_of((lambda run: None, lambda run: undone.append("0")), (lambda run: None, refuse), (fail, lambda run: undone.append("2")))
    number = start(service)
    run_all(service, {"f": flow})
    assert state_of(service, number)["state"] == "ready"
    better = dataclasses.replace(flow.steps[1], undo=lambda run: undone.append("1"))
    harness.finish(service, {"f": dataclasses.replace(flow, steps=(flow.steps[0], better, flow.steps[2]))})
    assert undone == ["2", "1 refused", "1", "0"]
    assert state_of(service, number)["error"] == "the first error"


def test_the_order_of_starts_holds_though_the_clock_is_set_back(service, virtual):
    order = []
    flow = {"f": flow_of(lambda run: order.append(run.flow_id))}
    numbers = []
    for _ in range(4):
        numbers.append(start(service))
        virtual.advance(-50)
    virtual.advance(1000)
    run_all(service, flow)
    assert order == numbers


def test_a_request_that_cancels_and_a_flow_at_work_do_not_lock_each_other(tmp_path, database_url):
    """Both write the server's row and the flow's, and both in this order: otherwise a database has to kill one of them."""
    service = building.make(tmp_path, database_url)
    building.METADATA.create_all(service.db.engine)
    refused = []

    def touch(run):
        with run.service.db.write() as conn:
            building.set_state(conn, run.resource_id, fault=f"{run.step}")

    flow = flow_of(*[(touch, touch)] * 4, name="build", finished=building.BUILD.finished, failed=building.BUILD.failed)
    building.add(service)
    for _ in range(10):
        start(service, "build", "s1")
    runner = Runner(service, {"build": flow})
    runner.start()

    def cancel():
        for _ in range(30):
            try:
                with service.db.write() as conn:
                    building.set_state(conn, "s1", state="DELETING")
                    service.flows.cancel(conn, "s1")
            except sa.exc.OperationalError as error:
                refused.append(error)

    threads = [threading.Thread(target=cancel) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: _unfinished(service) == 0, "all flows have ended")
    runner.stop()
    service.db.close()
    assert refused == []


def test_one_of_all_workers_leads_and_the_next_one_when_it_is_gone(shared):
    runners = sorted((Runner(shared, {}) for _ in range(3)), key=lambda runner: runner.worker_id)
    assert runners[2].leads(), "nobody else is there"
    with shared.db.write() as conn:
        for runner in runners:
            store.renew(conn, runner.worker_id, f"host of {runner.worker_id}", 1)
    assert [runner.leads() for runner in runners] == [True, False, False]
    with shared.db.write() as conn:
        first = store.WORKERS.c.id == runners[0].worker_id
        conn.execute(sa.update(store.WORKERS).where(first).values(expires_at=clock.from_epoch(0)))
        assert store.soonest_expiry(conn, but=runners[1].worker_id) < 0
        assert 0 < store.soonest_expiry(conn, but=runners[0].worker_id) <= store.LEASE_SECONDS
    assert [runner.leads() for runner in runners] == [False, True, False], "a lease that has run out leads nothing"
    with shared.db.write() as conn:
        store.release_workers(conn, [runner.worker_id for runner in runners[:2]])
    assert runners[2].leads()
    with shared.db.read() as conn:
        assert store.soonest_expiry(conn, but=runners[2].worker_id) is None
