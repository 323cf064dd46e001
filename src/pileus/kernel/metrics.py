"""Numbers for Prometheus: what each process has done, kept in files that any process can add up.

Every process writes to memory-mapped files of its own below `PILEUS_HOME/run/metrics`; whoever is asked for /metrics adds
up those of all. Everything is a histogram of seconds, whose `_count` is the number of events. Files of processes that have
ended are merged into one, so that counters never fall and files do not pile up. Until `use` is called nothing is counted: tests and commands do without.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_MERGED = "ended"
_FILE_SIZE = 1 << 20  # as prometheus_client makes it; more than all our labels need


class _Metrics:
    """The metrics of this process. What notes one event is looked up once for each set of labels."""

    def __init__(self, directory: pathlib.Path) -> None:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
        import prometheus_client  # noqa: PLC0415 - 30 ms that commands and tests do without
        from prometheus_client import values  # noqa: PLC0415

        # It chose by the environ when it was imported, which may have been earlier.
        values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]
        self.directory = directory
        registry = prometheus_client.CollectorRegistry()

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return prometheus_client.Histogram(name, text, labels, buckets=_SECONDS, registry=registry)

        self._kinds = (
            histogram(
                "pileus_request_seconds", "Requests: time until the answer began.", "service", "method", "status"
            ),
            histogram("pileus_flow_seconds", "Flows that ended: their age.", "service", "kind", "result"),
            histogram("pileus_loop_seconds", "Passes of loops: their time.", "loop", "result"),
            histogram("pileus_bus_call_seconds", "Calls over the bus: time until the answer.", "method", "result"),
        )
        self._observers: dict[tuple[int, tuple[str, ...]], Callable[[float], None]] = {}

    def note(self, kind: int, labels: tuple[str, ...], seconds: float) -> None:
        key = (kind, labels)
        observe = self._observers.get(key)
        if observe is None:
            observe = self._observers[key] = self._kinds[kind].labels(*labels).observe
        observe(seconds)


_metrics: _Metrics | None = None


def use(directory: pathlib.Path) -> None:
    """Count from now on, in this process and in those that are forked from it. On a full disk nothing is counted."""
    global _metrics
    if not _has_room(directory):
        _metrics = None
    elif _metrics is None or _metrics.directory != directory:
        _metrics = _Metrics(directory)


def _has_room(directory: pathlib.Path) -> bool:
    """Take this process's place on the disk now: writing to mapped memory without one behind it kills the process."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = directory / f"histogram_{os.getpid()}.db"  # as prometheus_client names it
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, _FILE_SIZE)
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(descriptor)
    except OSError:
        return False
    return True


def directory_of(home: pathlib.Path) -> pathlib.Path:
    """Where the processes of an installation keep their numbers."""
    return home / "run" / "metrics"


def request(service: str, method: str, status: str, seconds: float) -> None:
    """An API request was answered. A method is anything that a client makes up: only known ones get numbers of their own."""
    if _metrics is not None:
        _metrics.note(0, (service, method if method in _METHODS else "other", status), seconds)


def flow_ended(service: str, kind: str, result: str, seconds: float) -> None:
    """A flow ended: `result` is done or failed, `seconds` its age."""
    if _metrics is not None:
        _metrics.note(1, (service, kind, result), seconds)


def loop_pass(loop: str, result: str, seconds: float) -> None:
    """A loop made a pass: `result` is done or failed."""
    if _metrics is not None:
        _metrics.note(2, (loop, result), seconds)


def bus_call(method: str, result: str, seconds: float) -> None:
    """A call over the bus came back: `result` is answered, refused, timeout or unavailable."""
    if _metrics is not None:
        _metrics.note(3, (method, result), seconds)


def exposition(directory: pathlib.Path) -> tuple[str, bytes]:
    """Content type and text of /metrics, over all processes of this installation."""
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest  # noqa: PLC0415
    from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415

    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    registry = CollectorRegistry()
    with _locked(directory):
        merge_ended(directory)
        MultiProcessCollector(registry, str(directory))  # type: ignore[no-untyped-call]
        return CONTENT_TYPE_LATEST, generate_latest(registry)


def merge_ended(directory: pathlib.Path) -> None:
    """Add the files of processes that have ended to the merged ones, and remove them."""
    from prometheus_client.mmap_dict import MmapedDict  # noqa: PLC0415

    for path in sorted(directory.glob("*.db")):
        kind, _, owner = path.stem.partition("_")
        if not owner.isdigit() or pathlib.Path(f"/proc/{owner}").exists():
            continue
        merged = MmapedDict(str(directory / f"{kind}_{_MERGED}.db"))  # type: ignore[no-untyped-call]
        try:
            for key, value, moment, _ in MmapedDict.read_all_values_from_file(str(path)):  # type: ignore[no-untyped-call]
                before = merged.read_value(key)[0]  # type: ignore[no-untyped-call]
                merged.write_value(key, before + value, moment)  # type: ignore[no-untyped-call]
        finally:
            merged.close()  # type: ignore[no-untyped-call]
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(directory: pathlib.Path) -> Iterator[None]:
    """One process at a time reads or merges: nothing is counted twice or not at all."""
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
