"""A harness of faults, into which any flow is plugged: whatever goes wrong wherever, its promises hold afterwards.

    PLUG = Plug(flow=BUILD_SERVER, start=start, done=all_there, undone=nothing_left)

    @pytest.mark.parametrize("fault", faults(BUILD_SERVER), ids=str)
    def test_building_survives(fault, tmp_path):
        survive(PLUG, fault, tmp_path)

`start(folder)` makes a service on a new database, records the flow and returns (service, resource_id). `done(service,
resource_id)` asserts what holds after success, `undone(service, resource_id, message)` what holds after everything was undone
(`message` is what the flow gave as its error). Both look at the database and at the outside world as they are then.

The faults, at every step: it is repeated; it fails before or after its work; its answer is lost, once or for the whole
flow; the bus is cut for its first two calls; the database goes away before its first transaction, or after the commit, whose answer is
lost; the disk is full at its first write; the process is killed by SIGKILL before it, at each line of it, and after it, before its record; the flow is cancelled; its
worker loses the lease while it lives, another one brings the flow to its end or undoes it, and the first goes on where it was.
The same for each undo: repeated, failing, killed. Killing is real: the flow runs in a forked child, which ends by a signal. Nothing waits
for a lease or a backoff to run out: the harness sets them back in the database.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import faulthandler
import functools
import os
import pathlib
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Any

import sqlalchemy as sa

from pileus.kernel import clock
from pileus.kernel.bus import BusTimeout, BusUnavailable
from pileus.kernel.flows import Abort, Flow, LostLease, Run, Step, run_all, store
from pileus.kernel.service import Service
from tests.flows.database_faults import BROKEN_COMMITS, breaking_commit, without_database


@dataclasses.dataclass(frozen=True)
class Plug:
    """A flow and its promises. `others` are flows that it may start or that run beside it."""

    flow: Flow
    start: Callable[[pathlib.Path], tuple[Service, str]]
    done: Callable[[Service, str], None]
    undone: Callable[[Service, str, str], None]
    others: tuple[Flow, ...] = ()


@dataclasses.dataclass(frozen=True)
class Fault:
    """What goes wrong at which step. `ends` is how the flow has to end: "done", "failed", or "" where both are right."""

    kind: str
    step: str
    ends: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.kind} {self.step}".strip()


BROKEN = "broken on purpose"
HUNG_SECONDS = 60
"""A forked child that has not ended by then says where it stands, and the test fails."""
JOIN_SECONDS = 40


def faults(flow: Flow) -> list[Fault]:
    """All of them for a flow."""
    found = [Fault("nothing", "", "done"), Fault("everything twice", "", "done"), Fault("every answer lost once", "", "done")]
    for step in flow.steps:
        name = step.name
        found += [Fault(kind, name, "done") for kind in _HARMLESS]
        found += [Fault(kind, name, "failed") for kind in ("fails before", "fails after", "cancelled before", "cancelled in")]
        found.append(Fault("undone twice after", name, "failed"))
        found += [
            Fault(kind, name, "failed")
            for kind in ("undo fails before", "undo fails after", "killed before undo", "killed in undo", "killed after undo")
            if step.undo is not None
        ]
        found += [Fault("lease lost before", name, "done"), Fault("lease lost after", name, "done")]
        found += [Fault("lease lost and undone before", name, "failed"), Fault("lease lost and undone after", name, "failed")]
        if step.undo is not None:
            found.append(Fault("lease lost in undo", name, "failed"))
    return found


def broken_commits(flow: Flow) -> list[Fault]:
    """What can only happen to a database server: it is killed in the middle of a commit, of which nobody knows whether it was done.

    For flows whose service is on PostgreSQL.
    """
    return [Fault(kind, step.name, "done") for step in flow.steps for kind in ("commit broken in", "commit broken after")]


_HARMLESS = (
    "repeated",
    "answer lost at",
    "bus cut in",
    "database lost in",
    "commit lost in",
    "disk full in",
    "killed before",
    "killed in",
    "killed after",
    "killed after record of",
)


def survive(plug: Plug, fault: Fault, folder: pathlib.Path) -> None:
    """Start the flow, let the fault happen, bring the flow to its end, and check its promises."""
    if fault.kind in {"killed in", "killed in undo"}:
        step = _step(plug.flow, fault.step)
        for number, line in enumerate(lines_of(step.do if fault.kind == "killed in" else step.undo)):
            place = folder / str(number)
            place.mkdir(mode=0o700)
            _one(plug, dataclasses.replace(fault, line=line), place)
        return
    _one(plug, fault, folder)


def _one(plug: Plug, fault: Fault, folder: pathlib.Path) -> None:
    before = set(threading.enumerate())
    service, resource_id = plug.start(folder)
    try:
        others = {flow.name: flow for flow in plug.others}
        broken = {**others, plug.flow.name: disturbed(plug, fault, others)}
        if fault.kind.startswith("killed"):
            die(service, lambda: finish(service, broken), before)
        else:
            finish(service, broken, last={**others, plug.flow.name: plug.flow})
        # Whoever comes after a dead worker has the true flow, but a step that cannot succeed still cannot.
        rest = plug.flow
        if fault.ends == "failed" and fault.kind.startswith("killed"):
            rest = _with(plug.flow, {plug.flow.steps[-1].name: lambda step: _failing(step, before=False)})
        finish(service, {**others, rest.name: rest})
        assert bool(BROKEN_COMMITS and BROKEN_COMMITS.pop()) == fault.kind.startswith("commit broken"), "the fault has happened"
        state, message = outcome(service, resource_id, plug.flow.name)
        assert state == (fault.ends or state), f"{fault}: the flow ended {state}: {message}"
        if state == "done":
            plug.done(service, resource_id)
        else:
            plug.undone(service, resource_id, message)
    finally:
        service.bus.close()
        service.db.close()


def finish(service: Service, flows: dict[str, Flow], last: dict[str, Flow] | None = None) -> None:
    """Run all flows of a service to their ends: no lease, no backoff and no wait is waited for but for a database's recovery."""
    for _ in range(100):
        _until_it_answers(service)
        with service.db.write() as conn:
            conn.execute(sa.update(store.WORKERS).values(expires_at=clock.from_epoch(0)))
            store.release_expired(conn)
            conn.execute(sa.update(store.FLOWS).where(store.FLOWS.c.state == "ready").values(wake_at=clock.utcnow()))
            left = conn.execute(sa.select(sa.func.count()).where(store.FLOWS.c.state.not_in(store.ENDED))).scalar_one()
        if not left:
            return
        with contextlib.suppress(sa.exc.OperationalError):  # a worker whose database is away comes back to it, too
            run_all(service, flows)
        flows = last or flows if _stolen.pop("by", None) else flows
    raise AssertionError("the flow does not come to an end")


def _until_it_answers(service: Service) -> None:
    """A database server that was killed recovers by itself."""
    deadline = clock.monotonic() + JOIN_SECONDS
    while True:
        try:
            with service.db.read() as conn:
                conn.execute(sa.text("SELECT 1"))
                return
        except sa.exc.OperationalError:
            if clock.monotonic() > deadline:
                raise
            clock.sleep(0.02)


def outcome(service: Service, resource_id: str, kind: str) -> tuple[str, str]:
    """How the newest flow of a kind ended, and its error."""
    flow = [entry for entry in timeline(service, resource_id) if entry["kind"] == kind][-1]
    return flow["state"], flow["error"] or ""


def timeline(service: Service, resource_id: str) -> list[dict[str, Any]]:
    with service.db.read() as conn:
        return store.timeline(conn, resource_id)


def die(service: Service, work: Callable[[], object], before: Collection[threading.Thread] | None = None) -> None:
    """Run something in a forked child that is expected to be killed; a child that ends by itself is right too.

    Threads that were not there `before` have to end first: what one of them holds (a lock of SQLite, of a database) at the
    moment of the fork nobody ever lets go of in the child.
    """
    service.db.close()  # no connection goes through a fork
    service.bus.close()
    for thread in set(threading.enumerate()).difference(threading.enumerate() if before is None else before):
        thread.join(JOIN_SECONDS)
        assert not thread.is_alive(), f"a process cannot fork while {thread.name} is at work"
    pid = os.fork()
    if not pid:
        faulthandler.dump_traceback_later(HUNG_SECONDS, exit=True, file=sys.__stderr__)
        try:
            work()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert status in {0, signal.SIGKILL}, f"the child ended with status {status}"


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def lines_of(function: Callable[..., Any] | None) -> list[int]:
    """The lines of a function at which a process can die; [0] where there are none to be seen."""
    code = _code(function)
    return sorted({line for _, _, line in code.co_lines() if line and line != code.co_firstlineno}) if code else [0]


def _code(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(getattr(function, "__func__", function), "__code__", None)


def _dying_at(function: Callable[..., Any], line: int) -> Callable[..., Any]:
    """The function, whose process is killed when it comes to a line."""
    code = _code(function)

    def at_line(_frame: Any, event: str, _argument: Any) -> Any:
        if event == "line" and _frame.f_lineno == line:
            kill_me()
        return at_line

    def entered(frame: Any, _event: str, _argument: Any) -> Any:
        return at_line if frame.f_code is code else None

    def run(*arguments: Any) -> Any:
        sys.settrace(entered)
        try:
            return function(*arguments)
        finally:
            sys.settrace(None)

    return run


# --- flows with a fault in them --------------------------------------------------------------------------------------

_stolen: dict[str, bool] = {}
"""What has happened to the flow that runs: the lease was taken `by` another."""


def disturbed(plug: Plug, fault: Fault, others: dict[str, Flow]) -> Flow:
    """The flow with the fault in it."""
    flow, name = plug.flow, fault.step
    if fault.kind == "nothing":
        return flow
    if fault.kind == "everything twice":
        return _with(flow, {step.name: _repeated for step in flow.steps})
    if fault.kind == "every answer lost once":
        return _with(flow, {step.name: _answer_lost for step in flow.steps})
    changes: dict[str, Callable[[Step], Step]] = {
        "repeated": _repeated,
        "answer lost at": _answer_lost,
        "bus cut in": _without_bus,
        "database lost in": lambda step: without_database(step, "the connection is lost", after=False),
        "commit lost in": lambda step: without_database(step, "the connection is lost", after=True),
        "commit broken in": lambda step: breaking_commit(step, after=False),
        "commit broken after": lambda step: breaking_commit(step, after=True),
        "disk full in": lambda step: without_database(step, "database or disk is full", after=False),
        "fails before": lambda step: _failing(step, before=True),
        "fails after": lambda step: _failing(step, before=False),
        "cancelled before": lambda step: step,
        "cancelled in": _cancelled,
        "killed before": lambda step: dataclasses.replace(step, do=lambda run: kill_me()),
        "killed in": lambda step: dataclasses.replace(step, do=_dying_at(step.do, fault.line)),
        "killed after": lambda step: dataclasses.replace(step, do=lambda run: (step.do(run), kill_me())),
        "lease lost before": lambda step: _stolen_at(step, plug, others, before=True),
        "lease lost after": lambda step: _stolen_at(step, plug, others, before=False),
        "lease lost and undone before": lambda step: _stolen_at(step, plug, others, before=True, cancel=True),
        "lease lost and undone after": lambda step: _stolen_at(step, plug, others, before=False, cancel=True),
    }
    if fault.kind in changes and fault.kind != "cancelled before":
        return _with(flow, {name: changes[fault.kind]})
    names = [step.name for step in flow.steps]
    if fault.kind == "cancelled before":
        if names[0] == name:
            return _with(flow, {name: _cancelled})
        return _with(flow, {names[names.index(name) - 1]: _cancelled_after})
    if fault.kind == "killed after record of":
        if names[-1] == name:
            return _with(flow, {}, finished=lambda run, conn: kill_me())
        return _with(flow, {names[names.index(name) + 1]: changes["killed before"]})
    return _undoing(plug, fault, others)


def _undoing(plug: Plug, fault: Fault, others: dict[str, Flow]) -> Flow:
    """The last step fails after its work, and something goes wrong at the undo of one."""
    undo = _step(plug.flow, fault.step).undo
    hooks: dict[str, Callable[[Run], None]] = {
        "undone twice after": lambda run: [undo(run), undo(run)] and None if undo else None,
        "undo fails before": _once(_break, undo),
        "undo fails after": _once(undo, _break),
        "killed before undo": lambda run: kill_me(),
        "killed in undo": _dying_at(undo, fault.line) if undo and fault.line else lambda run: None,
        "killed after undo": lambda run: [undo(run), kill_me()] and None if undo else None,
        "lease lost in undo": _stolen_undo(plug, undo, others),
    }
    flow = _with(plug.flow, {plug.flow.steps[-1].name: lambda step: _failing(step, before=False)})
    if undo is None:
        return flow
    return _with(flow, {fault.step: lambda step: dataclasses.replace(step, undo=hooks[fault.kind])})


def _with(flow: Flow, changes: dict[str, Callable[[Step], Step]], **more: Any) -> Flow:
    steps = tuple(changes[step.name](step) if step.name in changes else step for step in flow.steps)
    return dataclasses.replace(flow, steps=steps, **more)


def _step(flow: Flow, name: str) -> Step:
    return next(step for step in flow.steps if step.name == name)


def _repeated(step: Step) -> Step:
    """As if the record of the first time had been lost: its result is not known to the second."""

    def do(run: Run) -> Any:
        step.do(run)
        return step.do(run)

    def undo(run: Run) -> None:
        if step.undo is not None:
            step.undo(run)
            step.undo(run)

    return dataclasses.replace(step, do=do, undo=undo)


def _answer_lost(step: Step) -> Step:
    lost: list[str] = []

    def do(run: Run) -> Any:
        result = step.do(run)
        if not lost:
            lost.append(run.flow_id)
            raise BusTimeout(BROKEN)
        return result

    return dataclasses.replace(step, do=do)


def _without_bus(step: Step) -> Step:
    """The first two calls of the step reach nobody."""
    cut = iter((True, True))

    def do(run: Run) -> Any:
        bus, call = run.service.bus, run.service.bus.call

        def answer(*arguments: Any, **options: Any) -> Any:
            if next(cut, False):
                raise BusUnavailable(BROKEN)
            return call(*arguments, **options)

        bus.call = answer  # type: ignore[method-assign]
        try:
            return step.do(run)
        finally:
            bus.call = call  # type: ignore[method-assign]

    return dataclasses.replace(step, do=do)


def _failing(step: Step, *, before: bool) -> Step:
    def do(run: Run) -> Any:
        if not before:
            step.do(run)
        raise Abort(BROKEN)

    return dataclasses.replace(step, do=do)


def _cancelled(step: Step) -> Step:
    """A cancellation comes while the step is at work: at the latest the record of the end notices."""

    def do(run: Run) -> Any:
        _cancel(run)
        return step.do(run)

    return dataclasses.replace(step, do=do)


def _cancelled_after(step: Step) -> Step:
    def do(run: Run) -> Any:
        result = step.do(run)
        _cancel(run)
        return result

    return dataclasses.replace(step, do=do)


def _cancel(run: Run) -> None:
    def as_somebody_else() -> None:
        with run.service.db.write() as conn:
            assert run.service.flows.cancel(conn, run.resource_id, [run.kind])

    with concurrent.futures.ThreadPoolExecutor(1) as other:
        other.submit(as_somebody_else).result()


def _break(_run: Run) -> None:
    raise RuntimeError(BROKEN)


def _once(*parts: Callable[[Run], None] | None) -> Callable[[Run], None]:
    """The parts in order the first time, in which one of them breaks; then without the broken one."""
    count = iter(range(1_000_000))

    def undo(run: Run) -> None:
        turn = next(count)
        for part in parts:
            if part is not None and (turn == 0 or part is not _break):
                part(run)

    return undo


def _steal(run: Run, flows: dict[str, Flow]) -> None:
    """The lease of the present worker runs out; another takes the flow and brings it to its end."""
    _stolen["by"] = True
    with concurrent.futures.ThreadPoolExecutor(1) as other:
        other.submit(finish, run.service, flows).result()


def _first_only() -> Iterator[bool]:
    yield True
    while True:
        yield False


def _stolen_at(step: Step, plug: Plug, others: dict[str, Flow], *, before: bool, cancel: bool = False) -> Step:
    turns = _first_only()
    true = {**others, plug.flow.name: plug.flow}

    def steal(run: Run) -> None:
        if cancel:
            _cancel(run)
        _steal(run, true)

    def do(run: Run) -> Any:
        first = next(turns)
        if first and before:
            steal(run)
        result = step.do(run)
        if first and not before:
            steal(run)
        return result

    return dataclasses.replace(step, do=do)


def _stolen_undo(plug: Plug, undo: Callable[[Run], None] | None, others: dict[str, Flow]) -> Callable[[Run], None]:
    turns = _first_only()

    def run_undo(run: Run) -> None:
        if next(turns):
            _steal(run, {**others, plug.flow.name: plug.flow})
        if undo is not None:
            undo(run)

    return run_undo


__all__ = ["BROKEN", "Fault", "LostLease", "Plug", "broken_commits", "die", "faults", "finish", "kill_me", "lines_of", "outcome", "survive", "timeline"]
