"""dnsmasq processes that outlive whoever started them: adopted by pid file, start time and command line."""

from __future__ import annotations

import os
import pwd
import select
import signal
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pileus.host.run import run
from pileus.host.sysctl import replace_file

_STOP_PATIENCE_MS = 2000
"""How long a dnsmasq may take to end when asked before it is killed."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """A dnsmasq and where it keeps its files. `directory` holds `pid` (written by dnsmasq) and `process.json` (written by us)."""

    directory: Path
    namespace: str

    @property
    def pid_file(self) -> Path:
        return self.directory / "pid"

    def running(self) -> int | None:
        """The pid of the living process that is this daemon's, started now or by an earlier life of ours; None when there is none."""
        try:
            pid = int(self.pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        argv = _command_line(pid)
        if f"--pid-file={self.pid_file}" not in argv:
            return None
        record = self._record()
        if record and (record["pid"], record["started"]) != (pid, _start_time(pid)):
            return None
        return pid

    def ensure(self, options: Sequence[str], *, anew: bool = False) -> bool:
        """Have it run with these options: adopt it when it does (unless `anew`), else (re)start it. True when a process was started."""
        argv = ["dnsmasq", f"--pid-file={self.pid_file}", *options]
        pid = self.running()
        if pid is not None and not anew and _command_line(pid) == argv:
            return False
        self.stop()
        run(argv, namespace=self.namespace)
        started = int(self.pid_file.read_text())
        replace_file(self.directory / "process.json", msgspec.json.encode({"pid": started, "started": _start_time(started)}))
        return True

    def reload(self) -> None:
        """Have it read its hosts and options files again.

        Not for hosts with tags (`set:`): dnsmasq 2.90 frees them while its ranges still refer to those of the last lease, and dies.
        """
        pid = self.running()
        if pid is not None:
            os.kill(pid, signal.SIGHUP)

    def stop(self) -> None:
        """End it and forget it; none running is fine."""
        pid = self.running()
        if pid is not None:
            end_process(pid)
        self.pid_file.unlink(missing_ok=True)
        (self.directory / "process.json").unlink(missing_ok=True)

    def _record(self) -> dict[str, int]:
        try:
            record: dict[str, int] = msgspec.json.decode((self.directory / "process.json").read_bytes())
        except (FileNotFoundError, msgspec.DecodeError):
            return {}
        return record


def end_process(pid: int) -> None:
    """Ask a process to end, kill it when it does not; returns when it is gone. A pid that is gone already is fine."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(descriptor, signal_number)
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            if poll.poll(_STOP_PATIENCE_MS):
                return
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)


def user_for(directory: Path) -> str:
    """The account dnsmasq can drop to and still read files below `directory`: its own, or root where others may not search the path."""
    try:
        pwd.getpwnam("dnsmasq")
    except KeyError:
        return "root"
    searchable = all(each.stat().st_mode & stat.S_IXOTH for each in (directory, *directory.parents))
    return "dnsmasq" if searchable else "root"


def _command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def _start_time(pid: int) -> int:
    """Clock ticks between boot and the start of the process: with the pid, its identity."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return 0
