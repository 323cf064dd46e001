"""What every process of a running cloud does first, and how it is asked to stop."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import resource
import signal
import threading
from collections.abc import Callable
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
    endless = resource.RLIM_INFINITY
    if soft == endless or soft >= _DESCRIPTORS:
        return
    if hard == endless or hard >= _DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, hard))
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, _DESCRIPTORS))
    except (ValueError, OSError):  # a higher hard limit is for some of root's processes alone
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _name(name: str) -> None:
    """The name that ps shows."""
    try:
        with open("/proc/self/comm", "w") as comm:  # noqa: PTH123 - a kernel file
            comm.write(name[:15])
    except OSError:
        return


def supervisor_stopper() -> Callable[[], None]:
    """What asks the supervisor of this process to end all in order; made while it surely lives, so that nobody else is ever asked."""
    parent = os.getppid()

    def stop() -> None:
        if os.getppid() == parent:
            os.kill(parent, signal.SIGTERM)

    return stop


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
