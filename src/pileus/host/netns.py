"""Named network namespaces, as `ip netns` knows them, and doing things inside one."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pileus.host import netlink
from pileus.host.run import run

Result = TypeVar("Result")

_DIRECTORY = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def names() -> set[str]:
    """The namespaces there are."""
    try:
        return {entry.name for entry in _DIRECTORY.iterdir()}
    except FileNotFoundError:
        return set()


def exists(name: str) -> bool:
    return (_DIRECTORY / name).exists()


def identity(name: str) -> int:
    """What tells a namespace from another that had the same name before; FileNotFoundError when there is none."""
    return (_DIRECTORY / name).stat().st_ino


def create(name: str) -> None:
    """Make a namespace that is marked as ours, with its loopback up."""
    run(["ip", "netns", "add", name])
    mark(name)


def mark(name: str) -> None:
    """Mark a namespace as ours and bring its loopback up."""
    netlink.ip_batch([("link", "set", "dev", "lo", "alias", netlink.MARK, "up")], namespace=name)


def delete(name: str) -> None:
    """Remove a namespace and with it every virtual device in it; none of that name is fine."""
    if exists(name):
        run(["ip", "netns", "delete", name])


def is_ours(name: str) -> bool:
    """Whether Pileus made the namespace; False also for names that are no namespace (any more)."""
    try:
        loopback = inside(name, lambda: netlink.link("lo"))
    except OSError:
        return False
    return loopback is not None and loopback.ours


def pids(name: str) -> list[int]:
    """Processes that live in the namespace."""
    return [int(word) for word in run(["ip", "netns", "pids", name], ok=(0, 1, 255)).stdout.split()]


def inside(name: str, function: Callable[[], Result]) -> Result:
    """Call a function in a thread of its own that has entered the namespace; sockets it opens belong to the namespace for ever.

    Only the network is changed: files, /sys and everything else are the caller's. /proc/sys/net is the namespace's. Raises OSError
    (FileNotFoundError) when there is no such namespace, and whatever the function raises.
    """
    outcome: list[Result] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            descriptor = os.open(_DIRECTORY / name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
                    code = ctypes.get_errno()
                    raise OSError(code, f"cannot enter the network namespace {name}: {os.strerror(code)}")
            finally:
                os.close(descriptor)
            outcome.append(function())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=work, name=f"in-{name[:20]}", daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]
