"""Running flows: a worker takes what is ready, does step after step, and records each before and after.

A worker owns what it runs by one lease row, renewed every second in the database's time. When the lease runs out,
another worker takes its flows under the next epoch; every record is a compare-and-swap on the epoch, so a worker that
lost a flow finds out at its next record and stops. What its steps write to the service's own database is fenced by the
same epoch; hosts are told the epoch and refuse a lower one. A worker that lives on but cannot go on with a flow (its record could
not be written, its last words failed) lets go of it: its lease will never run out.
"""

from __future__ import annotations

import concurrent.futures
import datetime as dt
import logging
import os
import threading
from collections.abc import Mapping

import orjson
import sqlalchemy as sa

from pileus.kernel import clock, ids, metrics
from pileus.kernel.bus import BusTimeout, BusUnavailable
from pileus.kernel.context import service_context
from pileus.kernel.db import retried
from pileus.kernel.errors import Failure, Unavailable
from pileus.kernel.flows import store
from pileus.kernel.flows.model import Abort, Flow, LostLease, Retry, Run, Step, Wait
from pileus.kernel.flows.store import Record
from pileus.kernel.service import Service

_log = logging.getLogger(__name__)


def _is_transient(error: BaseException) -> bool:
    """Whether the same step may succeed later: a peer, a host, the bus or the database did not answer."""
    database = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError)
    if isinstance(error, (BusTimeout, BusUnavailable, Unavailable, *database)):
        return True
    return isinstance(error, Failure) and error.status in {502, 503, 504}


def _backoff(attempt: int) -> float:
    return min(0.2 * float(1 << min(attempt, 8)), 10.0)


def _can_be_stored(result: object) -> bool:
    try:
        orjson.dumps(result)
    except TypeError:
        return False
    return True


class _Cancelled(Exception):
    """Takes back the end of a flow that was cancelled meanwhile."""


class Execution:
    """One flow in the hands of one worker. Between two steps it is handed over when `stopping` is set."""

    def __init__(self, service: Service, flow: Flow, record: Record, stopping: threading.Event | None = None) -> None:
        self._stopping = stopping or threading.Event()
        self.service = service
        self.flow = flow
        self.record = record
        asked = record.asked_by
        self.run = Run(
            service=service,
            flow_id=record.id,
            kind=record.kind,
            resource_id=record.resource_id,
            input=record.input,
            results=dict(record.results),
            epoch=record.epoch,
            attempt=record.attempt,
            asked_by=asked,
            context=service_context(service.name, global_request_id=asked.get("request_id")),
            cancelled=record.cancel,
        )

    def go(self) -> None:
        """Work until the flow has ended, must wait or is handed over. Raises when not even that could be recorded."""
        try:
            if not self.record.unwinding and self._forward():
                return
            self._backward()
        except LostLease:
            _log.warning("flow %s of %s was taken over", self.record.id, self.record.resource_id)
        except Exception as error:
            # A record could not be written, or what ends the flow failed: both may go better later.
            _log.exception("flow %s of %s stopped", self.record.id, self.record.resource_id)
            self._let_go(f"{type(error).__name__}: {error}", _backoff(self.record.attempt), self.record.attempt + 1)

    def _forward(self) -> bool:
        """Do the remaining steps. True when the flow has ended or is parked, False when it has to be undone."""
        number = self.record.step
        if self._cancelled():
            return self._turn(number, "cancelled")
        while number < len(self.flow.steps):
            if self._stopping.is_set():
                self._let_go("the worker stops", 0.0, self.run.attempt)
                return True
            step = self.flow.steps[number]
            self.run.step = step.name
            if self._begin(number, step):
                self.run.cancelled = True
                return self._turn(number, "cancelled")
            try:
                with self.service.db.guarded(self._still_own):
                    result = step.do(self.run)
            except LostLease:
                raise
            except (Retry, Wait) as pause:
                return self._pause(number, pause, pause.seconds, counts=isinstance(pause, Retry))
            except Exception as error:
                if _is_transient(error):
                    return self._pause(number, error, _backoff(self.run.attempt), counts=True)
                return self._fail_step(number, step, error)
            if not _can_be_stored(result):
                return self._fail_step(number, step, TypeError("its result cannot be stored as JSON"))
            self.run.results[step.name] = result
            self.run.attempt = 0
            self._finish_step(number, step)
            number += 1
        if not self._end("done", None):
            self.run.cancelled = True
            return self._turn(number, "cancelled")
        return True

    @retried
    def _begin(self, number: int, step: Step) -> bool:
        """Record the step as started; whether the flow has been cancelled meanwhile."""
        with self.service.db.write(durable=False) as conn:
            self._own(conn, step=number, attempt=self.run.attempt)
            store.record_step(conn, self.record.id, number, step.name, "started", self.service.host, None)
            return self._is_cancelled(conn)

    def _refuse_cancelled(self, conn: sa.Connection) -> None:
        if self._is_cancelled(conn):
            raise _Cancelled

    def _is_cancelled(self, conn: sa.Connection) -> bool:
        query = sa.select(store.FLOWS.c.cancel).where(store.FLOWS.c.id == self.record.id)
        return bool(conn.execute(query).scalar_one())

    @retried
    def _finish_step(self, number: int, step: Step) -> None:
        try:
            with self.service.db.write(durable=False) as conn:
                self._own(conn, step=number + 1, attempt=0, results=self.run.results)
                store.record_step(conn, self.record.id, number, step.name, "done", self.service.host, None)
        except LostLease:
            if step.disown is not None:
                step.disown(self.run, self.run.results[step.name])
            raise

    def _fail_step(self, number: int, step: Step, error: Exception) -> bool:
        if isinstance(error, Abort):
            message = str(error)
        elif isinstance(error, Failure):
            message = error.message
        else:
            _log.error("flow %s: step %s failed", self.record.id, step.name, exc_info=error)
            message = f"{type(error).__name__}: {error}"
        return self._turn(number, message, failed=step)

    @retried
    def _turn(self, number: int, message: str, failed: Step | None = None) -> bool:
        """From now on undo. The step that failed is undone too: it may have done half of its work."""
        with self.service.db.write() as conn:
            self._own(conn, unwinding=True, step=number, attempt=0, error=message)
            if failed is not None:
                store.record_step(conn, self.record.id, number, failed.name, "failed", self.service.host, message)
        self.record = self._with(unwinding=True, step=number, error=message)
        self.run.attempt = 0
        return False

    def _backward(self) -> None:
        if self._cancelled():
            self.run.cancelled = True
        number = min(self.record.step, len(self.flow.steps) - 1)
        while number >= 0:
            if self._stopping.is_set():
                self._let_go("the worker stops", 0.0, self.run.attempt)
                return
            step = self.flow.steps[number]
            self.run.step = step.name
            if step.undo is not None:
                try:
                    with self.service.db.guarded(self._still_own):
                        step.undo(self.run)
                except LostLease:
                    raise
                except (Retry, Wait) as pause:
                    self._park(number, str(pause), pause.seconds, self.run.attempt + 1)
                    return
                except Exception as error:
                    if not _is_transient(error):
                        _log.exception("flow %s: undoing %s failed, will be tried again", self.record.id, step.name)
                    self._park(number, f"undo {step.name}: {error}", _backoff(self.run.attempt), self.run.attempt + 1)
                    return
            self.run.attempt = 0
            self._finish_undo(number, step)
            number -= 1
        self._end("failed", self.record.error or "")

    @retried
    def _finish_undo(self, number: int, step: Step) -> None:
        with self.service.db.write(durable=False) as conn:
            self._own(conn, step=number - 1 if number else 0, attempt=0)
            store.record_step(conn, self.record.id, number, step.name, "undone", self.service.host, None)

    @retried
    def _end(self, state: str, message: str | None) -> bool:
        """Say the last words and record the end; False when a cancellation came before the end of success.

        The service's rows first, then the flow's: requests lock them in this order too when they cancel or start a flow.
        """
        try:
            with self.service.db.write() as conn:
                if message is None:
                    if self.flow.finished is not None:
                        self.flow.finished(self.run, conn)
                elif self.flow.failed is not None:
                    self.flow.failed(self.run, conn, message)
                self._own(conn, state=state, worker_id=None, finished_at=clock.utcnow(), waiting_for=None)
                if message is None:
                    self._refuse_cancelled(conn)
        except _Cancelled:
            return False
        age = (clock.utcnow() - self.record.created_at).total_seconds()
        metrics.flow_ended(self.service.name, self.record.kind, state, age)
        return True

    def _pause(self, number: int, reason: Exception, seconds: float, *, counts: bool) -> bool:
        """Let go until later; give up when the deadline is over. True: parked, False: undo.

        The deadline counts from the first step, not from the time spent behind other flows of the resource.
        """
        with self.service.db.read() as conn:
            began = store.began_at(conn, self.record.id) or self.record.created_at
        left = self.flow.deadline - (clock.utcnow() - began).total_seconds()
        if left < 0:
            step = self.flow.steps[number]
            return self._turn(
                number, f"{step.name} did not end in {self.flow.deadline:g} seconds: {reason}", failed=step
            )
        self._park(number, str(reason), min(seconds, left + 0.001), self.run.attempt + (1 if counts else 0))
        return True

    @retried
    def _let_go(self, reason: str, seconds: float, attempt: int) -> None:
        """Give the flow back as it is recorded, for whoever takes it next; nothing when another has it already."""
        later = clock.utcnow() + dt.timedelta(seconds=seconds)
        values = {"state": "ready", "worker_id": None, "wake_at": later, "waiting_for": reason, "attempt": attempt}
        with self.service.db.write(durable=False) as conn:
            store.update_owned(conn, self.record.id, self.record.epoch, **values)

    @retried
    def _park(self, number: int, reason: str, seconds: float, attempt: int) -> None:
        with self.service.db.write(durable=False) as conn:
            self._own(conn, step=number)
            store.park(conn, self.record, clock.utcnow() + dt.timedelta(seconds=seconds), reason, attempt)

    def _still_own(self, conn: sa.Connection, last: bool) -> None:
        """Around every write of a step to the service's database: who lost the flow must not write for it any more.

        The flow's row is locked by the last look alone, after the service's rows: requests that cancel do it in this order.
        """
        if not store.is_owned(conn, self.record.id, self.record.epoch, lock=last):
            raise LostLease

    def _own(self, conn: sa.Connection, **values: object) -> None:
        if not store.update_owned(conn, self.record.id, self.record.epoch, **values):
            raise LostLease

    def _cancelled(self) -> bool:
        return self.record.cancel

    def _with(self, **values: object) -> Record:
        return Record(**{**{name: getattr(self.record, name) for name in Record.__dataclass_fields__}, **values})


class Runner:
    """The flows of one service in one controller process."""

    def __init__(self, service: Service, flows: Mapping[str, Flow], threads: int = 8) -> None:
        self.service = service
        self.flows = dict(flows)
        self.worker_id = ids.new_id()
        self._threads = threads
        self._nudged = threading.Event()
        self._stopping = threading.Event()
        self._stopped = threading.Event()
        self._held: set[tuple[str, int]] = set()  # id and epoch of the flows in the hands of a thread
        self._unsure = False  # whether more may be ours on record: a claim or a return that nobody knows the end of
        self._lock = threading.Lock()
        self._claiming = threading.Lock()  # between a claim and its being held
        self._pool = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix=f"{service.name} flow")
        self._dispatcher = threading.Thread(target=self._dispatch, name=f"{service.name} flows", daemon=True)
        self._renewer = threading.Thread(target=self._renew, name=f"{service.name} lease", daemon=True)

    def start(self) -> None:
        """Release what dead workers of this host left, take the lease, begin."""
        with self.service.db.write() as conn:
            gone = [worker for worker, pid in store.workers_of(conn, self.service.host) if not _alive(worker, pid)]
            if gone:
                store.release_workers(conn, gone)
            store.renew(conn, self.worker_id, self.service.host, os.getpid())
        _of_this_process.add((os.getpid(), self.worker_id))
        self._renewer.start()
        self._dispatcher.start()

    def leads(self) -> bool:
        """Whether it is this worker, of all that share the database, that does what one is enough for."""
        with self.service.db.read() as conn:
            return store.first_worker(conn) in {None, self.worker_id}

    def nudge(self) -> None:
        """There may be work."""
        self._nudged.set()

    def ask_to_stop(self) -> None:
        """Take nothing more, end each flow with the step under way; `stop` waits for that."""
        self._stopping.set()
        self._nudged.set()

    def stop(self, timeout: float = 10.0) -> None:
        """Finish the steps under way, take nothing more, hand over the rest."""
        self.ask_to_stop()
        self._dispatcher.join(timeout)
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._stopped.set()  # until here the lease is renewed
        self._renewer.join(timeout)
        _of_this_process.discard((os.getpid(), self.worker_id))
        try:
            with self.service.db.write() as conn:
                store.release_workers(conn, [self.worker_id])
        except sa.exc.SQLAlchemyError:
            _log.warning("the lease of %s flows runs out by itself", self.service.name)

    def _renew(self) -> None:
        pause = 1.0
        while not self._stopped.wait(pause):
            pause = 1.0
            try:
                with self.service.db.write(durable=False) as conn:
                    store.renew(conn, self.worker_id, self.service.host, os.getpid())
                    freed = store.release_expired(conn)
                    soonest = store.soonest_expiry(conn, but=self.worker_id)
                if soonest is not None:  # whoever does not renew it is noticed when it runs out, not up to a second later
                    pause = min(pause, max(soonest + 0.02, 0.05))
                freed += self._give_back()
                if freed:
                    self._nudged.set()
            except Exception:
                _log.exception("the lease of %s flows could not be renewed", self.service.name)

    def _dispatch(self) -> None:
        while not self._stopping.is_set():
            self._nudged.clear()
            try:
                pause = self._take()
            except Exception:
                _log.exception("flows of %s could not be taken", self.service.name)
                self._unsure = True  # the claim may have been committed
                pause = 1.0
            if pause > 0:
                self._nudged.wait(pause)

    def _take(self) -> float:
        """Take what is ready and there is room for; seconds until something may be."""
        kinds = list(self.flows)
        with self._lock:
            free = self._threads - len(self._held)
        if free <= 0:
            return 1.0
        with self.service.db.read() as conn:
            due = store.next_wake(conn, kinds)
        wait = (due - clock.utcnow()).total_seconds() if due is not None else 1.0
        if wait > 0:
            return min(wait, 1.0)
        with self._claiming:
            with self.service.db.write(durable=False) as conn:
                if self._stopping.is_set():
                    return 0.0  # looked at here, or a flow that has just been handed over would be taken again
                records = store.claim(conn, self.worker_id, kinds, free)
            with self._lock:
                self._held.update((record.id, record.epoch) for record in records)
        for record in records:
            self._pool.submit(self._work, record)
        # Ready flows may be held up by an earlier one of the same resource: its end nudges.
        return 0.0 if len(records) == free else (0.5 if not records else 0.0)

    def _give_back(self) -> int:
        """Flows that are ours on record and in nobody's hands: the database was away when they were taken or given back."""
        if not self._unsure or not self._claiming.acquire(blocking=False):  # a claim that hangs must not keep the lease from being renewed
            return 0
        try:
            self._unsure = False
            with self._lock:
                held = [flow_id for flow_id, _ in self._held]
            try:
                with self.service.db.write(durable=False) as conn:
                    return store.release_all_but(conn, self.worker_id, held)
            except BaseException:
                self._unsure = True
                raise
        finally:
            self._claiming.release()

    def _work(self, record: Record) -> None:
        try:
            Execution(self.service, self.flows[record.kind], record, self._stopping).go()
        except Exception:
            _log.exception("flow %s could not be given back, will be tried again", record.id)
            self._unsure = True
        finally:
            with self._lock:
                self._held.discard((record.id, record.epoch))
            self._nudged.set()


_of_this_process: set[tuple[int, str]] = set()  # pid, worker id: a forked child's copy is not about the child


def _alive(worker_id: str, pid: int) -> bool:
    if pid == os.getpid():  # otherwise a new process under an old number
        return (pid, worker_id) in _of_this_process
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def run_all(service: Service, flows: Mapping[str, Flow], rounds: int = 200) -> int:
    """Run every flow that is ready in this thread, until none is; how many times one was taken. For tests and tools."""
    worker_id = ids.new_id()
    count = 0
    for _ in range(rounds):
        with service.db.write(durable=False) as conn:
            store.renew(conn, worker_id, service.host, os.getpid())
            records = store.claim(conn, worker_id, list(flows), 16)
        if not records:
            break
        for record in records:
            Execution(service, flows[record.kind], record).go()
            count += 1
    return count
