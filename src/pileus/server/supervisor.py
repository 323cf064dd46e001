"""The supervisor: binds the sockets, forks the processes, restarts what dies, stops them in order.

It stays single-threaded and opens no database, broker, libvirt connection or event loop: children do, after the fork.
Because it holds the sockets, a killed worker loses no queued connection.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import pathlib
import signal
import socket
import sys
from collections.abc import Callable, Sequence

from pileus.kernel import clock, log
from pileus.kernel.config import Config
from pileus.kernel.errors import ConfigurationError
from pileus.kernel.room import Room
from pileus.server import agent, api, controller, rooms
from pileus.server.secrets import write_private

_log = logging.getLogger(__name__)
STOP_SECONDS = 35.0
"""For the controller and the agent; the API has what its requests may take, and a little more."""
_AWAITED = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}


@dataclasses.dataclass
class Child:
    """One process that shall run."""

    name: str
    run: Callable[[], None]
    listens: bool = True
    pid: int = 0
    started: float = 0.0
    not_before: float = 0.0
    failures: int = 0


def bind(config: Config, extra: tuple[int, ...] = ()) -> list[socket.socket]:
    """The listening sockets. Raises ConfigurationError when a port is taken or an address is not ours."""
    sockets = []
    for port in (config.api.port, *extra):
        family = socket.AF_INET6 if ":" in config.api.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((config.api.host, port))
        except OSError as error:
            listener.close()
            raise ConfigurationError(
                f"cannot listen on {config.api.host} port {port}: {error.strerror}. Choose another with --host or --port."
            ) from error
        listener.listen(2048)
        listener.setblocking(False)
        listener.set_inheritable(True)
        sockets.append(listener)
    return sockets


def pid_file(home: pathlib.Path) -> pathlib.Path:
    return home / "run" / "supervisor.json"


def start_time(pid: int) -> str | None:
    """When a process started, in the kernel's ticks; with the pid it names a process for good. None: there is none."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def running(home: pathlib.Path) -> int | None:
    """The pid of the supervisor of a home, None when none runs."""
    try:
        known = json.loads(pid_file(home).read_text())
    except (FileNotFoundError, ValueError):
        return None
    return known["pid"] if start_time(known["pid"]) == known["start"] else None


class Supervisor:
    """Keeps the processes of one installation running."""

    def __init__(self, config: Config, sockets: list[socket.socket], local: Sequence[Room] | None = None) -> None:
        self.config = config
        self.sockets = sockets
        self.stopping = False
        self.children: list[Child] = []
        if config.is_controller:
            assembly = api.prepare(config, local)
            self.children += [
                Child(f"api-{number}", lambda n=number: api.run(config, assembly, sockets, f"api-{n}"))  # type: ignore[misc]
                for number in range(config.api.workers)
            ]
            self.children.append(Child("controller", lambda: controller.run(config, assembly), listens=False))
        if rooms.with_agents(config):
            self.children.append(Child("agent", lambda: agent.run(config), listens=False))

    def run(self) -> None:
        """Until SIGTERM: start, watch, restart."""
        log.to_file(self.config.home / "logs" / "supervisor.log", "supervisor")
        signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
        mine = {"pid": os.getpid(), "start": start_time(os.getpid()), "port": self.config.api.port}
        write_private(pid_file(self.config.home), json.dumps(mine).encode())
        try:
            while not self.stopping:
                self._start_missing()
                self._write_status()
                came = signal.sigtimedwait(_AWAITED, 1.0)
                self.stopping = came is not None and came.si_signo != signal.SIGCHLD
                self._reap()
            self._stop_all()
        finally:
            pid_file(self.config.home).unlink(missing_ok=True)

    def _start_missing(self) -> None:
        now = clock.monotonic()
        for child in self.children:
            if not child.pid and child.not_before <= now:
                self._fork(child)

    def _fork(self, child: Child) -> None:
        pid = os.fork()
        if pid:
            child.pid, child.started = pid, clock.monotonic()
            return
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _AWAITED)
        code = 1
        try:
            if not child.listens:  # held here, sockets that the API has closed would let clients in, to wait for nobody
                for listener in self.sockets:
                    listener.close()
            child.run()
            code = 0
        except BaseException:
            _log.exception("%s ended", child.name)
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for child in self.children:
                if child.pid == pid:
                    self._ended(child, status)

    def _ended(self, child: Child, status: int) -> None:
        lived = clock.monotonic() - child.started
        child.pid = 0
        child.failures = child.failures + 1 if lived < 5 else 0
        # At once the first time; a process that keeps dying must not take the machine with it.
        child.not_before = clock.monotonic() + (0 if child.failures < 2 else min(2.0**child.failures / 4, 15.0))
        if not self.stopping:
            _log.warning("%s ended with status %s after %.1f s, restarting", child.name, status, lived)

    def _stop_all(self) -> None:
        """API first, so that nothing new is asked; then the controller, then the agent."""
        groups = [
            [child for child in self.children if child.name.startswith("api")],
            [child for child in self.children if child.name == "controller"],
            [child for child in self.children if child.name == "agent"],
        ]
        for listener in self.sockets:
            listener.close()
        patience = [self.config.api.drain + self.config.api.stop_seconds + 5.0, STOP_SECONDS, STOP_SECONDS]
        for group, seconds in zip(groups, patience, strict=True):
            self._signal(group, signal.SIGTERM)
            deadline = clock.monotonic() + seconds
            while any(child.pid for child in group) and clock.monotonic() < deadline:
                signal.sigtimedwait({signal.SIGCHLD}, 0.2)
                self._reap()
            for child in group:
                if child.pid:
                    _log.error("%s did not end within %g s and is killed", child.name, seconds)
            self._signal(group, signal.SIGKILL)
            self._reap()

    def _signal(self, group: list[Child], number: int) -> None:
        for child in group:
            if child.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, number)

    def _write_status(self) -> None:
        status = {child.name: {"pid": child.pid, "failures": child.failures} for child in self.children}
        path = self.config.home / "run" / "processes.json"
        text = json.dumps(status)
        try:
            if not path.exists() or path.read_text() != text:
                write_private(path, text.encode())
        except OSError as error:  # a full disk must not end the cloud; the next look writes it
            _log.warning("%s cannot be written: %s", path, error)
