"""The running guest's way to its next host: local sockets of the source, carried over one TLS listener of the destination to local sockets there.

Hypervisors speak to each other through files they believe to be each other's: none of them listens on a network, and none needs keys. The listener and
its certificate are those of `disks`.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import select
import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

from pileus.compute.drivers.base import Gangway

_BYTES = 1 << 18
_CONNECT_SECONDS = 30.0


@contextlib.contextmanager
def local_ends(gangway: Gangway, connect: Callable[[str], socket.socket]) -> Iterator[pathlib.Path]:
    """Sockets by the gangway's names in its directory; what connects to one is carried to what `connect` gives for its name."""
    shutil.rmtree(gangway.directory, ignore_errors=True)
    gangway.make()
    listeners = []
    try:
        for name in gangway.sockets:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listeners.append(listener)
            path = gangway.directory / name
            listener.bind(str(path))
            if gangway.owner is not None:
                os.chown(path, *gangway.owner)
            path.chmod(0o600)
            listener.listen(16)
            threading.Thread(
                target=_accept, args=(listener, name, connect), name=f"gangway {name}", daemon=True
            ).start()
        yield gangway.directory
    finally:
        for listener in listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        shutil.rmtree(gangway.directory, ignore_errors=True)


def _accept(listener: socket.socket, name: str, connect: Callable[[str], socket.socket]) -> None:
    while True:
        try:
            near, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_carry, args=(near, name, connect), name=f"gangway {name}", daemon=True).start()


def _carry(near: socket.socket, name: str, connect: Callable[[str], socket.socket]) -> None:
    try:
        far = connect(name)
    except Exception:
        near.close()
        raise
    join(near, far)


def join(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until one side has said all; closes both. One thread: a TLS connection must not be read and written at once."""
    ways = (_Way(one, other), _Way(other, one))
    for connection in (one, other):
        connection.setblocking(False)
    try:
        while not any(way.over for way in ways):
            _wait(ways)
            for way in ways:
                way.turn()
    except OSError:
        return  # whoever waits for more hears of it by the closing
    finally:
        one.close()
        other.close()


class _Way:
    """One direction: what has been read and not yet been written."""

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self.source = source
        self.target = target
        self.held = b""
        self._ended = False

    @property
    def over(self) -> bool:
        return self._ended and not self.held

    def turn(self) -> None:
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if not self.held and not self._ended:
                self.held = self.source.recv(_BYTES)
                self._ended = not self.held
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if self.held:
                self.held = self.held[self.target.send(self.held) :]


def _wait(ways: tuple[_Way, _Way]) -> None:
    """Until there is something to read for an empty direction, or room to write for a full one."""
    wanted: dict[int, int] = {}
    for way in ways:
        if way.held:
            wanted[way.target.fileno()] = wanted.get(way.target.fileno(), 0) | select.POLLOUT
        else:
            if isinstance(way.source, ssl.SSLSocket) and way.source.pending():
                return
            wanted[way.source.fileno()] = wanted.get(way.source.fileno(), 0) | select.POLLIN
    poll = select.poll()
    for descriptor, events in wanted.items():
        poll.register(descriptor, events)
    poll.poll()


def reach(path: pathlib.Path) -> socket.socket:
    """A connection to a local socket."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_CONNECT_SECONDS)
    connection.connect(str(path))
    return connection
