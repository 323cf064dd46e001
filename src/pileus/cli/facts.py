"""What `pileus doctor` looks at: this host, and this installation. Nothing is judged here.

Nothing is changed either, but for the kept verdict about KVM.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import importlib.util
import json
import os
import pathlib
import shutil
import socket
import stat
from collections.abc import Iterator

import sqlalchemy as sa

from pileus.cli.session import Session
from pileus.cli.terminal import Problem
from pileus.host import firewall, kvm, sysctl
from pileus.host.run import CommandError
from pileus.kernel import clock
from pileus.kernel.certificates import end_of
from pileus.kernel.config import Config
from pileus.kernel.db import Database, database_time
from pileus.kernel.errors import ConfigurationError, Failure
from pileus.server import databases, rooms, supervisor

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LISTEN = "0A"


@dataclasses.dataclass(frozen=True)
class DatabaseFacts:
    """One database. `error` is why it cannot be read; `skew` is its clock minus ours, in seconds, None for SQLite."""

    service: str
    present: str | None = None
    newest: str = ""
    skew: float | None = None
    error: str = ""


@dataclasses.dataclass(frozen=True)
class CertificateFacts:
    """A certificate: whose it is, when it ends, and how it is renewed."""

    of: str
    ends: dt.datetime
    todo: str


class Facts:
    """The truth about one installation. Tests replace single answers."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def supervisor(self) -> int | None:
        return supervisor.running(self.config.home)

    def processes(self) -> dict[str, int]:
        """Processes of this installation by name; the pid is 0 of one that is recorded and does not live."""
        try:
            known = json.loads((self.config.home / "run" / "processes.json").read_text())
        except (OSError, ValueError):
            return {}
        return {name: entry["pid"] if _is_ours(entry["pid"]) else 0 for name, entry in known.items()}

    def kvm(self) -> tuple[bool, str]:
        """Does a guest really run on KVM, and the sentence that says why."""
        answer = kvm.detect(self.config.home / "kvm.json") if self.config.home.exists() else kvm.try_guest()
        return answer.works, answer.reason

    def port_owner(self, port: int) -> str | None:
        """Who has our port, None when nobody."""
        family = socket.AF_INET6 if ":" in self.config.api.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.config.api.host, port))
            except OSError as error:
                return listener_of(port) or f"something that cannot be named ({error.strerror})"
        return None

    def memory_mb(self) -> int:
        """MiB that new processes can have."""
        for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) // 1024
        return 0

    def disk_mb(self) -> int:
        """MiB free where the home is, or will be."""
        folder = self.config.home
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free >> 20

    def has_command(self, name: str) -> bool:
        return shutil.which(name, path=_PATH) is not None

    def has_module(self, name: str) -> bool:
        return importlib.util.find_spec(name) is not None

    def is_root(self) -> bool:
        return os.geteuid() == 0

    def forwards(self) -> bool:
        """Does the host pass packets on between its interfaces?"""
        return sysctl.read("net/ipv4/ip_forward") == "1"

    def forward_policies_that_drop(self) -> list[str]:
        try:
            return firewall.forward_policies_that_drop()
        except CommandError as error:
            return [f"the host's firewall cannot be read: {error}"]

    def open_files(self) -> list[pathlib.Path]:
        """Secret files that others than their owner can read."""
        home = self.config.home
        private = [*home.glob("keys/**/*"), *home.glob("tls/*.key"), home / "clouds.yaml", *home.glob("databases/*")]
        private += [pathlib.Path(key) for key in (self.config.api.key, self.config.bus.key) if key]
        return sorted(path for path in private if _others_may_read(path))

    def brokers(self) -> list[tuple[str, str]]:
        """Each broker of the bus, and why it cannot be used ("" when it can)."""
        if not self.config.bus.url:
            return []
        try:
            from pileus.kernel.bus import rabbitmq_link  # noqa: PLC0415 - kombu is optional
        except ModuleNotFoundError as error:
            return [("RabbitMQ", f"its client is not installed ({error})")]
        return [(rabbitmq_link.without_password(url), rabbitmq_link.why_not(url, self.config.bus)) for url in self.config.bus.url.split(";")]

    def databases(self) -> Iterator[DatabaseFacts]:
        """Those that are there; a home without databases has none yet."""
        if not self.config.database.url and not (self.config.home / "databases").exists():
            return
        for room in rooms.enabled(self.config):
            newest = databases.newest_revision(room)
            db = Database(self.config.database_url(room.name), room.name)
            try:
                if db.is_sqlite and not pathlib.Path(db.url.database or "").exists():
                    yield DatabaseFacts(room.name, None, newest)
                    continue
                present = databases.present_revision(db)
                yield DatabaseFacts(room.name, present, newest, None if db.is_sqlite else _skew(db))
            except (ConfigurationError, sa.exc.SQLAlchemyError, ImportError) as error:
                yield DatabaseFacts(room.name, newest=newest, error=str(error))
            finally:
                db.close()

    def certificates(self) -> list[CertificateFacts]:
        """Those of this machine, and of the nodes where a running controller knows them."""
        config, tls = self.config, self.config.home / "tls"
        found = [
            ("the API", pathlib.Path(config.api.certificate or "/"), "`pileus tls --renew`, then `pileus down` and `pileus up`."),
            ("this node", tls / "node.pem", "`pileus node renew`; logs/agent.log says why its agent did not."),
        ]
        known = [CertificateFacts(of, end_of(path.read_bytes()), todo) for of, path, todo in found if path.is_file()]
        if config.is_controller and config.bus.management and self.supervisor() is not None:
            with contextlib.suppress(Problem, Failure):
                session = Session(config, "admin", "admin")
                for node in session.clients.identity(session.context).list_nodes():
                    if node["certificate"] and node["state"] in {"active", "draining"}:
                        ends = clock.parse(node["certificate"]["expires_at"])
                        known.append(CertificateFacts(f"node {node['name']}", ends, "`pileus node renew` on that machine."))
        return known

    def silent_agents(self) -> list[str]:
        """Agents that the cloud has not heard for too long. Raises Problem or Failure when the cloud does not answer."""
        session = Session(self.config, "admin", "admin")
        found = []
        if "compute" in self.config.pileus.services:
            services = session.clients.compute(session.context).get("/v2.1/os-services")["services"]
            found += [f"{entry['binary']} on {entry['host']}" for entry in services if entry["state"] != "up"]
        if "network" in self.config.pileus.services:
            agents = session.clients.network(session.context).get("/v2.0/agents")["agents"]
            found += [f"{entry['agent_type']} on {entry['host']}" for entry in agents if not entry["alive"]]
        return found

    def cloud(self) -> tuple[list[str], str]:
        """Agents that are silent, and why the cloud could not be asked ("" when it could)."""
        try:
            return self.silent_agents(), ""
        except (Problem, Failure) as error:
            return [], str(error)


def _is_ours(pid: int) -> bool:
    """Is it a living process of ours? A number alone may belong to another by now."""
    if not pid or supervisor.start_time(pid) is None:
        return False
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/comm").read_text().startswith("pileus-")
    return False


def _others_may_read(path: pathlib.Path) -> bool:
    """By the file's own mode, as ssh does it: that the folder above is closed today is no excuse."""
    try:
        state = path.stat()
    except OSError:
        return False
    return stat.S_ISREG(state.st_mode) and bool(state.st_mode & 0o077)


def _skew(db: Database) -> float:
    with db.read() as conn:
        database_time(conn)  # connecting is not part of the measure
        before = clock.utcnow()
        theirs = database_time(conn)
        after = clock.utcnow()
    return (theirs - (before + (after - before) / 2)).total_seconds()


def listener_of(port: int) -> str | None:
    """The process that listens on a TCP port of this host, as `name (pid N)`; None when it cannot be found."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in pathlib.Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(_link(entry) in inodes for entry in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    return None


def _link(path: pathlib.Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""
