"""A host for tests: namespaces of its own for processes, network, mounts, names and cgroups, without a way out.

What runs in a sandbox sees the machine's programs and the checkout, but its network has only `lo` (up, no route anywhere),
`/etc`, `/var` and `/root` are written to a private layer, `/run`, `/dev/shm`, `/proc`, `/sys` and the cgroups are its own, and
when it is closed the kernel kills every process in it. Making one takes about 0.1 s. Needs root.

    with Sandbox() as host:
        host.run(["ip", "link", "add", "br0", "type", "bridge"])
        server = host.popen(["libvirtd"])
        assert "br0" in host.run(["ip", "-o", "link"]).stdout

`host.dir` (also `$SANDBOX_DIR`) has the same path inside and outside, for files that are to be exchanged.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent.parent
INSIDE = Path(__file__).with_name("inside.py")
MARK = "PILEUS_SANDBOX"  # set in the environment of everything that runs in a sandbox


class CommandFailed(Exception):
    """A command in a sandbox ended with a code that was not expected; the text has its output."""


def inside() -> bool:
    """Does this process run in a sandbox?"""
    return bool(os.environ.get(MARK))


def possible() -> bool:
    """May this process make sandboxes? Root in a container that gives it neither CAP_SYS_ADMIN nor CAP_NET_ADMIN may not."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    effective = int(re.search(r"^CapEff:\s*(\w+)", Path("/proc/self/status").read_text(), re.M)[1], 16)  # type: ignore[index]
    return all(effective >> bit & 1 for bit in (12, 21))


class Sandbox:
    """One test host. Close it, or use it as a context manager."""

    def __init__(self, name: str = "host1") -> None:
        self.name = name
        self._base = Path(tempfile.mkdtemp(prefix=f"pileus-{name}-", dir="/tmp"))
        self._base.chmod(0o711)
        self.dir = self._base / "shared"
        self.dir.mkdir(mode=0o755)
        self._cgroups = _make_cgroups(self._base.name)
        self._commands: list[subprocess.Popen[Any]] = []
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        self._init = subprocess.Popen(
            [sys.executable, "-I", "-S", str(INSIDE), str(self._base), self.name, str(TOP), "--", *map(str, self._cgroups)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            preexec_fn=_joiner(self._cgroups), start_new_session=True,
        )  # fmt: skip
        assert self._init.stdout
        pid, ready = self._init.stdout.readline(), self._init.stdout.readline()
        if ready.strip() != b"ready":
            self._init.kill()
            raise CommandFailed(f"no sandbox: {self._init.communicate()[1].decode()[-2000:]}")
        self.pid = int(pid)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def enter(self, argv: Sequence[str | os.PathLike[str]], cwd: str | Path | None = None) -> list[str]:
        """The command that runs `argv` inside (it dies with its starter, its daemons do not)."""
        return [
            "nsenter", "-t", str(self.pid), "-m", "-n", "-u", "-i", "-p", "-C", "--",
            "setpriv", "--pdeathsig", "KILL", "env", "-C", str(cwd or self.dir),
            f"{MARK}={self.name}", f"SANDBOX_DIR={self.dir}", *map(os.fspath, argv),
        ]  # fmt: skip

    def popen(
        self, argv: Sequence[str | os.PathLike[str]], *, cwd: str | Path | None = None, env: Mapping[str, str] | None = None, **more: Any
    ) -> subprocess.Popen[Any]:
        """Start `argv` inside. Killing the returned process kills `argv` too. `env` is added to this environment."""
        process = subprocess.Popen(
            self.enter(argv, cwd), env={**os.environ, **(env or {})}, preexec_fn=_joiner(self._cgroups), **more
        )
        self._commands.append(process)
        return process

    def run(
        self, argv: Sequence[str | os.PathLike[str]], *, check: bool = True, timeout: float = 60, input: str | None = None,
        cwd: str | Path | None = None, env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run `argv` inside to its end. Output is text; with `check` a code other than 0 raises CommandFailed with the output.

        Standard output and error go to files: a daemon that keeps them open does not keep this call waiting.
        """
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            given = subprocess.PIPE if input is not None else subprocess.DEVNULL
            process = self.popen(argv, cwd=cwd, env=env, stdin=given, stdout=out, stderr=err, text=True)
            try:
                if input is not None:
                    with contextlib.suppress(BrokenPipeError):
                        process.stdin.write(input)  # type: ignore[union-attr]
                        process.stdin.close()  # type: ignore[union-attr]
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise CommandFailed(f"{' '.join(map(str, argv))}: no end after {timeout:g} s\n{_tail(out)}{_tail(err)}") from None
            finally:
                self._commands.remove(process)
            result = subprocess.CompletedProcess([str(a) for a in argv], process.returncode, _tail(out, None), _tail(err, None))
        if check and result.returncode:
            text = f"{result.stdout[-4000:]}{result.stderr[-4000:]}"
            raise CommandFailed(f"[{self.name}] {' '.join(result.args)} ended with {result.returncode}\n{text}")
        return result

    def processes(self) -> dict[int, str]:
        """Everything alive inside, except the sandbox's own first process: pid as seen inside -> command line."""
        script = (
            "import os\nfor p in sorted(filter(str.isdigit, os.listdir('/proc')), key=int):\n"
            " try: command = open(f'/proc/{p}/cmdline').read().replace(chr(0), ' ') or open(f'/proc/{p}/comm').read()\n"
            " except OSError: continue\n"
            " if int(p) not in (1, os.getpid()): print(p, ' '.join(command.split()))"
        )
        rows = (line.partition(" ") for line in self.run([sys.executable, "-I", "-S", "-c", script]).stdout.splitlines())
        return {int(pid): command for pid, _, command in rows}

    def changed_files(self) -> frozenset[str]:
        """Every path that was written below /etc, /var and /root since the sandbox began, and everything in /run and /dev/shm."""
        layers = self._base / "layers"
        entries = ((p, "/" + str(p.relative_to(layers))) for p in layers.rglob("*"))
        changed = {name for p, name in entries if not (p.is_dir() and Path(name).is_dir())}  # a directory with a change in it is none
        for directory in ("run", "dev/shm"):
            root = self.path("/")
            changed |= {"/" + str(p.relative_to(root)) for p in (root / directory).rglob("*")}
        return frozenset(changed)

    def read(self, path: str) -> str:
        """The text of a file as the sandbox sees it."""
        return Path(f"/proc/{self.pid}/root{path}").read_text(errors="replace")

    def path(self, path: str) -> Path:
        """Where a file of the sandbox can be reached from outside, for reading."""
        return Path(f"/proc/{self.pid}/root{path}")

    def close(self) -> None:
        """Kill everything inside and remove all traces."""
        init = getattr(self, "_init", None)
        if init:
            if getattr(self, "pid", None):  # the first process inside: the kernel kills the rest, its starter buries it
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
            else:
                init.kill()
            init.wait()
            for stream in (init.stdin, init.stdout, init.stderr):
                stream.close()
        for process in self._commands:
            process.kill()
            process.wait()
        self._commands.clear()
        shutil.rmtree(self._base, ignore_errors=True)  # what was written from outside at the last moment


class Underlay:
    """Several hosts on one wire: a bridge in a namespace of its own, `ul0` (10.9.0.N/24, N from 1) on each host.

    With `outside` there is a second wire, `ex0` without an address on each host; whoever is out there has that address, on the switch.
    """

    def __init__(self, count: int, mtu: int = 1500, outside: str = "") -> None:
        self._stack = contextlib.ExitStack()
        try:
            self.switch = self._stack.enter_context(Sandbox("switch"))
            self.hosts = [self._stack.enter_context(Sandbox(f"host{number}")) for number in range(1, count + 1)]
            self._wire("link", "add", "wire", "mtu", str(mtu), "type", "bridge", "stp_state", "0", "forward_delay", "0", "mcast_snooping", "0")
            self._wire("link", "set", "wire", "up")
            self.switch.run(["sysctl", "-q", "-w", "net.bridge.bridge-nf-call-iptables=0", "net.bridge.bridge-nf-call-ip6tables=0"], check=False)
            for number, host in enumerate(self.hosts, 1):
                self._wire("link", "add", f"to-{host.name}", "mtu", str(mtu), "type", "veth", "peer", "name", "ul0", "mtu", str(mtu), "netns", str(host.pid))
                self._wire("link", "set", f"to-{host.name}", "master", "wire", "up")
                host.run(["ip", "address", "add", f"10.9.0.{number}/24", "dev", "ul0"])
                host.run(["ip", "link", "set", "ul0", "up"])
            if outside:
                self._connect_outside(outside)
        except BaseException:
            self.close()
            raise

    def _connect_outside(self, address: str) -> None:
        self._wire("link", "add", "outside", "type", "bridge", "stp_state", "0", "forward_delay", "0", "mcast_snooping", "0")
        self._wire("address", "add", address, "dev", "outside")
        self._wire("link", "set", "outside", "up")
        for host in self.hosts:
            self._wire("link", "add", f"ex-{host.name}", "type", "veth", "peer", "name", "ex0", "netns", str(host.pid))
            self._wire("link", "set", f"ex-{host.name}", "master", "outside", "up")
            host.run(["ip", "link", "set", "ex0", "up"])

    def address(self, host: Sandbox) -> str:
        return f"10.9.0.{self.hosts.index(host) + 1}"

    def disconnect(self, host: Sandbox) -> None:
        self._wire("link", "set", f"to-{host.name}", "down")

    def connect(self, host: Sandbox) -> None:
        self._wire("link", "set", f"to-{host.name}", "up")

    def _wire(self, *arguments: str) -> None:
        # only the network namespace is entered: the hosts' process ids must be those of the outside
        argv = ["nsenter", "-t", str(self.switch.pid), "-n", "--", "ip", *arguments]
        subprocess.run(argv, check=True, capture_output=True, text=True)

    def __enter__(self) -> Underlay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()


def _tail(stream: Any, most: int | None = 4000) -> str:
    stream.seek(0)
    text: str = stream.read()
    return text if most is None else text[-most:]


def _make_cgroups(name: str) -> list[Path]:
    """One cgroup per hierarchy below this process' own, or none where they may not be made."""
    made: list[Path] = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and Path("/sys/fs/cgroup/unified").exists():
            continue  # beside version 1 the unified hierarchy has no controllers
        here = Path("/sys/fs/cgroup", re.sub("^name=", "", controllers), path.lstrip("/"))
        group = here / name
        try:
            group.mkdir()
            for setting in ("cpuset.cpus", "cpuset.mems"):
                if "cpuset" in controllers.split(","):
                    (group / setting).write_text((here / setting).read_text())
        except OSError:
            continue
        made.append(group)
    return made


def _joiner(groups: list[Path]) -> Callable[[], None]:
    files = [str(group / "cgroup.procs") for group in groups]

    def join() -> None:
        for path in files:
            with contextlib.suppress(OSError), open(path, "w") as file:
                file.write("0")

    return join


@contextlib.contextmanager
def hosts(count: int) -> Iterator[list[Sandbox]]:
    """`count` hosts on one wire."""
    with Underlay(count) as underlay:
        yield underlay.hosts
