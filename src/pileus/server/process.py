"""What every process of a running cloud does first, and how it is asked to stop."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import resource
import signal
import threading
from types import FrameType

from pileus.kernel import log, metrics
from pileus.kernel.config import Config

_PR_SET_PDEATHSIG = 1
_DESCRIPTORS = 1 << 18


def settle(config: Config, role: str) -> None:
    """After the fork: private files, a log of its own, a name, no inherited signal handlers, an end with the supervisor."""
    os.umask(0o077)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if role != "agent":  # whose dnsmasq and libvirtd would look at every descriptor that they might have
        _allow_descriptors()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log.to_file(config.home / "logs" / f"{role}.log", role)
    metrics.use(metrics.directory_of(config.home))
    _name(f"pileus-{role}")
    gc.freeze()
    logging.getLogger(__name__).info("%s started", role)


def _allow_descriptors() -> None:
    """As many open files as the system lets us have: each host and each client takes some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY in {soft, hard}:
        hard = max(soft, _DESCRIPTORS)
    for wanted in (_DESCRIPTORS, hard):  # more than the hard limit is for some of root's processes to have
        if wanted > soft != resource.RLIM_INFINITY:
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
                return


def _name(name: str) -> None:
    """The name that ps shows."""
    try:
        with open("/proc/self/comm", "w") as comm:  # noqa: PTH123 - a kernel file
            comm.write(name[:15])
    except OSError:
        return


def wait_for_stop() -> None:
    """Return when the process is asked to stop."""
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    parent = os.getppid()
    while not stopping.wait(1.0):
        if os.getppid() != parent:
            return  # the supervisor is gone: a new one starts new processes
