"""What a user has: the stock `openstack` client, openstacksdk, ssh. Used on a test host against the cloud that runs there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import textwrap
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.sandbox import TOP, CommandFailed

CLIENTS = TOP / ".build/clients/bin"
IMAGE = TOP / ".build/guest/guest.qcow2"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def wait_until(what: str, condition: Callable[[], Any], timeout: float = 120, every: float = 1.0) -> Any:
    """The first true value of `condition`; AssertionError naming `what` and the last value after `timeout` seconds."""
    end, pause, last = time.monotonic() + timeout, threading.Event(), None
    while time.monotonic() < end:
        last = condition()
        if last:
            return last
        pause.wait(every)
    raise AssertionError(f"{what}: not within {timeout:g} s; last seen: {last!r}")


class User:
    """One user's clients, with the variables of `pileus env` or changed ones."""

    def __init__(self, run: Run, variables: Mapping[str, str]) -> None:
        self.run, self.variables = run, {**variables, "no_proxy": "*"}

    def as_user(self, **changes: str) -> User:
        return User(self.run, {**self.variables, **changes})

    def text(self, *arguments: str | Path, check: bool = True, timeout: float = 120) -> str:
        """Output of an `openstack` command; with `check=False` its standard error too."""
        result = self.run([CLIENTS / "openstack", *map(str, arguments)], check=check, timeout=timeout, env=self.variables)
        return result.stdout if check else result.stdout + result.stderr

    def __call__(self, *arguments: str | Path, timeout: float = 120) -> Any:
        """Parsed output of an `openstack` command that shows or lists something."""
        output = self.text(*arguments, "-f", "json", timeout=timeout)
        start = min((at for at in (output.find("{"), output.find("[")) if at >= 0), default=0)  # progress dots come before
        return json.loads(output[start:])

    def refused(self, *arguments: str | Path) -> str:
        """The error of a command that must fail."""
        result = self.run([CLIENTS / "openstack", *map(str, arguments)], check=False, timeout=120, env=self.variables)
        assert result.returncode != 0, f"openstack {' '.join(map(str, arguments))} was accepted: {result.stdout}"
        return result.stdout + result.stderr

    def sdk(self, script: str, timeout: float = 180) -> Any:
        """Run openstacksdk code with a connection `cloud`; what it assigns to `answer` comes back."""
        prologue = "import json, openstack\ncloud = openstack.connect()\nanswer = None\n"
        code = prologue + textwrap.dedent(script) + "\nprint('ANSWER', json.dumps(answer, default=str))\n"
        output = self.run([CLIENTS / "python", "-c", code], timeout=timeout, env=self.variables).stdout
        return json.loads(output.rpartition("ANSWER ")[2])

    def console(self, server: str) -> str:
        return self.text("console", "log", "show", server)

    def wait_for_console(self, server: str, pattern: str, timeout: float = 120) -> re.Match[str]:
        """Until the guest has printed a line that fits."""
        seen = ""

        def look() -> re.Match[str] | None:
            nonlocal seen
            seen = self.console(server)
            return re.search(pattern, seen)

        try:
            return wait_until(f"{pattern!r} on the console of {server}", look, timeout, every=2)
        except AssertionError as failure:
            raise AssertionError(f"{failure}\n{seen[-3000:]}") from None


class Guest:
    """A guest reached by ssh with a key."""

    def __init__(self, run: Run, address: str, key: str | Path, user: str = "root") -> None:
        self.run, self.address, self.key, self.user = run, address, str(key), user

    def command(self, command: str) -> list[str]:
        options = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=10", "IdentitiesOnly=yes"]
        return ["ssh", "-i", self.key, *(word for option in options for word in ("-o", option)), f"{self.user}@{self.address}", command]

    def __call__(self, command: str, *, timeout: float = 60) -> str:
        """Output of a command in the guest; CommandFailed when it fails."""
        return self.run(self.command(command), timeout=timeout).stdout.strip()

    def works(self, command: str, *, timeout: float = 60) -> bool:
        return self.run(self.command(command), check=False, timeout=timeout).returncode == 0

    def wait(self, timeout: float = 120) -> None:
        def answer() -> bool:
            try:
                return self.works("true", timeout=20)
            except CommandFailed:
                return False

        wait_until(f"ssh to {self.address}", answer, timeout)

    def get(self, url: str) -> str:
        """Fetch a page from inside the guest."""
        return self(f"timeout 8 wget -q -O - {url}", timeout=30)


def readable_by_others(run: Run, path: Path) -> None:
    """On a test host, let an ordinary user reach `path` (the checkout, a Python below /root); the change stays in the sandbox."""
    for parent in Path(os.path.realpath(path)).parents:
        if str(parent).startswith(("/root", "/var", "/etc")):
            run(["chmod", "o+rx", str(parent)])


def as_ordinary_user(run: Run, home: Path, uid: int = 65534) -> Run:
    """A runner that runs everything as an ordinary user whose home is `home`."""

    def run_as(argv: Sequence[str | os.PathLike[str]], *, env: Mapping[str, str] | None = None, **more: Any) -> subprocess.CompletedProcess[str]:
        drop = ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--"]
        return run([*drop, *argv], env={"HOME": str(home), "USER": "nobody", **(env or {})}, **more)

    return run_as
