"""Several controllers of one simulated cloud: one database server, one broker, one image directory, HAProxy before them.

Each controller is `pileus up --simulate` with a home, a name and a port of its own on loopback. HAProxy's configuration is the
one of docs/operate/several-controllers.md, with other addresses.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from pileus.cli.session import Session, load_config
from pileus.kernel.files import write_private
from tests import databases
from tests.brokers import Cluster, RabbitMQ, make_certificates
from tests.probe.probed import Probed, guest_states, patiently, wait_until
from tools.cloud import TOP, Cloud, free_port

PAGE = TOP / "docs/operate/several-controllers.md"
HAPROXY = Path("/usr/sbin/haproxy")


def documented_configuration() -> str:
    """haproxy.cfg as the page for operators has it."""
    lines = PAGE.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if "/etc/haproxy/haproxy.cfg" in line)
    taken = []
    for line in lines[start:]:
        if line and not line.startswith("    "):
            break
        taken.append(line[4:])
    return "\n".join(taken).rstrip() + "\n"


class HAProxy:
    """A private HAProxy with TLS on loopback before some ports."""

    def __init__(self, folder: Path, ports: list[int]) -> None:
        if not HAPROXY.exists():
            databases.missing("HAProxy")
        self.folder, self.port = folder, free_port()
        make_certificates(folder)
        pem = folder / "cloud.pem"
        pem.write_text((folder / "server.pem").read_text() + (folder / "server.key").read_text())
        text = documented_configuration()
        text = text.replace("192.0.2.10:443", f"127.0.0.1:{self.port}").replace("/etc/haproxy/cloud.pem", str(pem))
        servers = re.findall(r" +server controller-\d .*\n", text + "\n")
        for number, line in enumerate(servers):
            new = f"    server controller-{number + 1} 127.0.0.1:{ports[number]}\n" if number < len(ports) else ""
            text = text.replace(line, new)
        (folder / "haproxy.cfg").write_text(text)
        with (folder / "haproxy.log").open("wb") as log:
            argv = ["setpriv", "--pdeathsig=KILL", str(HAPROXY), "-db", "-f", str(folder / "haproxy.cfg")]
            self.process = subprocess.Popen(argv, stdout=log, stderr=log)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class Controllers:
    """`with Controllers(2) as both:` both are up, started at the same moment on empty databases; `clustered` has three brokers."""

    def __init__(self, count: int = 2, kind: str = "postgresql", *, clustered: bool = False) -> None:
        self.count, self.kind, self.clustered = count, kind, clustered

    def __enter__(self) -> Controllers:
        with contextlib.ExitStack() as stack:
            self.folder = Path(tempfile.mkdtemp(prefix="pileus-controllers-"))
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self.database = stack.enter_context(databases.cloud_url(self.kind))
            self.broker = Cluster() if self.clustered else RabbitMQ()
            stack.callback(self.broker.stop)
            ports = [free_port() for _ in range(self.count)]
            self.proxy = HAProxy(self.folder, ports)
            stack.callback(self.proxy.stop)
            secret = os.urandom(32).hex().encode()
            self.clouds = [self.prepared(number + 1, port, secret) for number, port in enumerate(ports)]
            stack.callback(self._down)
            self.all_up()
            self._sessions: dict[str, Session] = {}
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _down(self) -> None:
        threads = [threading.Thread(target=cloud.pileus, args=("down", "--guests"), kwargs={"check": False}) for cloud in self.clouds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.proxy.port}"

    def prepared(self, number: int, port: int, secret: bytes | None, *, name: str = "", settings: str = "") -> Cloud:
        """A controller that is configured and has not been started."""
        home = self.folder / f"controller-{number}"
        home.mkdir()
        home.joinpath("pileus.toml").write_text(
            f'[pileus]\nhost = "{name or f"controller-{number}"}"\n'
            f'[image]\nstore_directory = "{self.folder}/images"\n'
            f"[compute]\nfake_latency = {{create = 0.2, start = 0.1}}\n"
            f'[database]\nurl = "{self.database}"\n'
            + (
                settings
                or f'[api]\npublic_url = "{self.url}"\ntrusted_proxies = ["127.0.0.1"]\ndrain = 3.0\n[bus]\nurl = "{self.broker.url}"\nquorum = {str(self.clustered).lower()}\n'
            )
        )
        if secret is not None:
            write_private(home / "keys" / "installation-secret", secret)
            for name in ("ca.pem", "ca.key"):
                write_private(home / "tls" / name, (self.folder / name).read_bytes())
        return Cloud(home, port=port)

    def all_up(self) -> None:
        """Start those that are not running, at the same moment."""
        failures: list[Exception] = []

        def up(cloud: Cloud) -> None:
            try:
                cloud.up()
            except Exception as failure:
                failures.append(failure)

        threads = [threading.Thread(target=up, args=(cloud,)) for cloud in self.clouds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    def pids(self, number: int) -> dict[str, int]:
        """The processes of a controller by name, `supervisor` first."""
        run = self.clouds[number].home / "run"
        children = json.loads((run / "processes.json").read_text())
        supervisor = int(json.loads((run / "supervisor.json").read_text())["pid"])
        return {"supervisor": supervisor, **{name: int(entry["pid"]) for name, entry in children.items() if entry["pid"]}}

    def kill(self, number: int) -> float:
        """The machine loses power: SIGKILL to supervisor and children; when."""
        pids = self.pids(number)
        os.kill(pids["supervisor"], signal.SIGSTOP)  # it would start children again
        killed_at = time.time()
        for pid in reversed(pids.values()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in pids.values():
            wait_until(lambda pid=pid: gone(pid), "a killed process is gone")
        return killed_at

    def signal(self, number: int, what: signal.Signals, *names: str) -> None:
        """To processes of a controller: SIGSTOP makes it slow, SIGCONT lets it go on."""
        for name, pid in self.pids(number).items():
            if name in names:
                os.kill(pid, what)

    def probed(self, number: int = 0) -> Probed:
        """The cloud as one controller serves it."""
        return Probed(self.clouds[number])

    def session(self, user: str = "admin", project: str = "admin") -> Session:
        """The cloud as clients reach it, through HAProxy."""
        home = self.folder / "client"
        keys = home / "keys"
        keys.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.clouds[0].home / "keys" / "passwords.json", keys)
        ca = self.folder / "ca.pem"
        listen = f'host = "127.0.0.1"\nport = {self.proxy.port}'
        (home / "pileus.toml").write_text(f'[api]\n{listen}\ncertificate = "{ca}"\nkey = "{ca}"\n')
        return patiently(lambda: Session(load_config(home), user, project))

    def guests(self) -> list[str]:
        """What the simulated hypervisors of all controllers have."""
        return sorted(guest for number in range(self.count) for guest in guest_states(self.clouds[number].home))


def gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
