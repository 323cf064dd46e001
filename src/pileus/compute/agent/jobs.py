"""Work that outlasts a bus call: image downloads and graceful power actions, each in a thread of its own.

A job belongs to a server and has a key. Asking for a job that runs or has ended gives the same job; another key replaces one that has ended. The caller
polls; when a job ends, `ended` is called so that it need not poll often. Jobs die with the process: whoever asked asks again and gets a new one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from pileus.kernel.errors import Failure

_log = logging.getLogger(__name__)

Work = Callable[["Job"], None]


@dataclass
class Job:
    """One piece of work. `error` is the sentence it failed with, valid once `done` is set."""

    server_id: str
    key: Hashable
    done: threading.Event = field(default_factory=threading.Event)
    cancelled: threading.Event = field(default_factory=threading.Event)
    error: str | None = None


class Jobs:
    """The jobs of a host; at most one per server at a time."""

    def __init__(self, ended: Callable[[str], None]) -> None:
        self._ended = ended
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()

    def ensure(self, server_id: str, key: Hashable, work: Work) -> Job:
        """The job with this key, started if it is not there. A running job with another key is cancelled."""
        with self._lock:
            known = self._jobs.get(server_id)
            if known is not None and known.key == key:
                return known
            if known is not None:
                known.cancelled.set()
            job = self._jobs[server_id] = Job(server_id, key)
        threading.Thread(target=self._run, args=(job, work), name=f"compute job {server_id}", daemon=True).start()
        return job

    def find(self, server_id: str, key: Hashable) -> Job | None:
        """The job with this key, running or ended."""
        job = self._jobs.get(server_id)
        return job if job is not None and job.key == key else None

    def drop(self, server_id: str) -> None:
        """Cancel and forget the server's job."""
        with self._lock:
            job = self._jobs.pop(server_id, None)
            if job is not None:
                job.cancelled.set()

    def drop_all(self) -> None:
        for server_id in list(self._jobs):
            self.drop(server_id)

    def _run(self, job: Job, work: Work) -> None:
        try:
            work(job)
        except Failure as failure:
            job.error = failure.message
        except Exception as error:
            _log.exception("background work for server %s failed", job.server_id)
            job.error = str(error) or type(error).__name__
        job.done.set()
        if not job.cancelled.is_set():
            self._ended(job.server_id)
