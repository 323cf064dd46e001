"""Running the host's commands: argument lists only, always a time limit, and an error that says what was run and what it said."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

DEFAULT_TIMEOUT = 30.0
"""Seconds a command may take; nothing the host rooms run takes longer on a healthy host."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SHOWN = 400
"""Characters of a command's complaint that go into the error's sentence."""


@dataclass(frozen=True, slots=True)
class Completed:
    """What a command left: its exit code and both outputs as text."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str


class CommandError(Exception):
    """A host command could not do its work. `argv`, `code` (None: not started or timed out) and `stderr` are kept for callers."""

    def __init__(self, argv: Sequence[str], code: int | None, stderr: str, reason: str) -> None:
        self.argv = tuple(argv)
        self.code = code
        self.stderr = stderr
        super().__init__(f"`{shlex.join(self.argv)}` {reason}")


class CommandMissing(CommandError):
    """The program is not installed."""


class CommandTimeout(CommandError):
    """The command was still running when its time was over; it has been killed."""


class CommandFailed(CommandError):
    """The command ended with an exit code that the caller does not accept."""


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of host commands: C locale (their texts are read) and a path that has the sbin directories."""
    return {**os.environ, "LC_ALL": "C", "PATH": _PATH, **(extra or {})}


def run(
    argv: Sequence[str],
    *,
    stdin: str | bytes | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    ok: Collection[int] = (0,),
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    namespace: str | None = None,
) -> Completed:
    """Run a command to its end and return what it said.

    Raises CommandFailed for an exit code outside `ok`, CommandTimeout after `timeout` seconds, CommandMissing when the program is absent.
    `namespace` names a network namespace (as `ip netns` knows it) to run in; mounts stay the caller's.
    """
    full = [*(("nsenter", f"--net=/run/netns/{namespace}", "--") if namespace else ()), *argv]
    data = stdin.encode() if isinstance(stdin, str) else stdin
    try:
        done = subprocess.run(
            full,
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            capture_output=True,
            timeout=timeout,
            env=environment(env),
            cwd=cwd,
            check=False,
        )
    except FileNotFoundError as error:
        raise CommandMissing(full, None, "", f"cannot be run: {error.filename or full[0]} is not there") from error
    except subprocess.TimeoutExpired as error:
        raise CommandTimeout(full, None, _text(error.stderr), f"did not end within {timeout:g} s") from error
    result = Completed(tuple(full), done.returncode, _text(done.stdout), _text(done.stderr))
    if done.returncode not in ok:
        said = (result.stderr.strip() or result.stdout.strip())[:_SHOWN] or "nothing"
        raise CommandFailed(full, done.returncode, result.stderr, f"ended with {done.returncode} and said: {said}")
    return result


def start(argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> int:
    """Start a long-lived command in a session of its own (it outlives this process) and return its pid.

    Both outputs are appended to `log` (mode 0600). The child is reaped by the kernel when this process ends, by nobody before:
    callers that stop it must also wait for it (`os.waitpid`) or check that it is not a zombie.
    """
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        child = subprocess.Popen(
            list(argv), stdin=subprocess.DEVNULL, stdout=descriptor, stderr=descriptor,
            env=environment(env), cwd=cwd, start_new_session=True,
        )
    except FileNotFoundError as error:
        raise CommandMissing(argv, None, "", f"cannot be run: {error.filename or argv[0]} is not there") from error
    finally:
        os.close(descriptor)
    return child.pid


def _text(data: bytes | str | None) -> str:
    if data is None:
        return ""
    return data if isinstance(data, str) else data.decode(errors="replace")
