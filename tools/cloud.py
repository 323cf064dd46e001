"""A cloud to be thrown away: `pileus up` in a home of its own on a free port, and gone afterwards.

    python -m tools.cloud COMMAND...      runs a command with the OS_ variables of a simulated cloud's administrator

The tests, the conformance suites and the benchmarks all start their clouds here, the way a user does: with the command line.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

TOP = Path(__file__).resolve().parent.parent
PILEUS = TOP / ".venv/bin/pileus"


class Runner(Protocol):
    """Runs a command to its end on some host; raises when it fails and `check` is set."""

    def __call__(
        self, argv: Sequence[str | os.PathLike[str]], *, check: bool = True, timeout: float = 60, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]: ...


class CommandFailed(Exception):
    """A command failed; the text has its output."""


def run_here(
    argv: Sequence[str | os.PathLike[str]], *, check: bool = True, timeout: float = 60, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runner on this machine. Output goes to files, so that daemons which keep it open do not keep us waiting."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        command = [os.fspath(a) for a in argv]
        try:
            code = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, timeout=timeout, env={**os.environ, **(env or {})}
            ).returncode
        except subprocess.TimeoutExpired:
            code = None
        out.seek(0)
        err.seek(0)
        result: Any = subprocess.CompletedProcess(command, code or 0, out.read(), err.read())
    if code is None or (check and code):
        how = f"had no end after {timeout:g} s" if code is None else f"ended with {code}"
        raise CommandFailed(f"{' '.join(command)} {how}\n{result.stdout[-4000:]}{result.stderr[-4000:]}")
    result.returncode = code
    return result


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Cloud:
    """A cloud in a home of its own. `run` says on which host: `run_here`, or the `run` of a test host."""

    def __init__(
        self, home: Path, run: Runner = run_here, *, simulate: bool = True, port: int | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        self.home, self.run, self.simulate, self.port = home, run, simulate, port or free_port()
        # with an empty value bytecode is kept even where the environment forbids it: otherwise every process compiles everything
        self.settings = {"PILEUS_HOME": str(home), "PYTHONDONTWRITEBYTECODE": "", **(settings or {})}

    def pileus(self, *arguments: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        return self.run([PILEUS, *arguments], check=check, timeout=timeout, env=self.settings)

    def up(self, *options: str, timeout: float = 180) -> None:
        simulate = ["--simulate"] if self.simulate else []
        try:
            self.pileus("up", *simulate, "--port", str(self.port), *options, timeout=timeout)
        except Exception as failure:
            logs = self.pileus("logs", "--lines", "40", check=False).stdout[-8000:]
            raise CommandFailed(f"{failure}\nits logs:\n{logs}") from None

    def down(self, *options: str) -> None:
        self.pileus("down", *options)

    def variables(self, user: str = "admin") -> dict[str, str]:
        """The OS_ variables of `pileus env --user`."""
        lines = self.pileus("env", "--user", user).stdout.splitlines()
        pairs = [shlex.split(line.removeprefix("export "))[0].split("=", 1) for line in lines if line.startswith("export OS_")]
        return {"OS_CLIENT_CONFIG_FILE": "/dev/null", **dict(pairs)}

    def supervisor_pid(self) -> int:
        """All processes of Pileus itself descend from this one."""
        return int(json.loads(self.pileus("status", "--json", check=False).stdout)["pid"])


class ThrowAway:
    """Context manager: a simulated cloud on this machine that is removed at the end.

    `settings` are environment variables of its commands (`PILEUS_DATABASE__URL`), `toml` is the text of its pileus.toml.
    """

    def __init__(self, settings: Mapping[str, str] | None = None, toml: str = "") -> None:
        self.settings, self.toml = settings, toml

    def __enter__(self) -> Cloud:
        self.home = Path(tempfile.mkdtemp(prefix="pileus-cloud-"))
        if self.toml:
            (self.home / "pileus.toml").write_text(self.toml)
        self.cloud = Cloud(self.home, settings=self.settings)
        try:
            self.cloud.up()
        except BaseException:
            self.__exit__()
            raise
        return self.cloud

    def __exit__(self, *_: object) -> None:
        try:
            self.cloud.pileus("down", "--guests", check=False)
        finally:
            shutil.rmtree(self.home, ignore_errors=True)


def main(command: list[str]) -> int:
    if not command:
        print(__doc__, file=sys.stderr)
        return 2
    with ThrowAway() as cloud:
        return subprocess.run(command, env={**os.environ, **cloud.variables("admin")}).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
