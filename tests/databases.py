"""Databases for tests: a file of SQLite, and private servers of PostgreSQL and MariaDB.

A server is started once per test process when the first test wants it, in a temporary folder, reachable by its unix socket
alone, with durability off. Each test gets a database of its own. Where a server is not installed its tests are skipped,
except under CI=true, where they fail: a machine that is to run everything must not pass over two databases in silence.

    @pytest.fixture(params=KINDS)                      or the fixture `any_database_url` of tests/conftest.py
    def url(request, tmp_path):
        with database_url(request.param, tmp_path) as url:
            yield url
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator

import pytest

KINDS = ("sqlite", "postgresql", "mariadb")


def missing(what: str) -> None:
    """A server that is not there: a failure where everything has to be tested, a skipped test elsewhere."""
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(f"{what} is not installed; `make install` with the argument test installs it")
    pytest.skip(f"{what} is not installed")


def postgresql_bin() -> pathlib.Path | None:
    """Where initdb and pg_ctl are, newest version first."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    path = shutil.which("initdb")
    return pathlib.Path(path).parent if path else None


class PostgreSQL:
    """One private server. As root it runs as the user `postgres`, because PostgreSQL refuses root.

    `lasting`: what was committed survives `kill`, as it does in every server that is not only for tests.
    """

    def __init__(self, binaries: pathlib.Path, *, lasting: bool = False) -> None:
        self.binaries = binaries
        self.lasting = lasting
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="pileus-pg-"))
        self.user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres")
        self._run("initdb", "-D", str(self.folder / "data"), "--auth=trust", "-N", "-U", "postgres", "-E", "UTF8")
        self.start()

    def start(self) -> None:
        flags = f"-k {self.folder} -c listen_addresses= -c fsync=off -c full_page_writes=off -c max_connections=400"
        flags += f" -c synchronous_commit={'on' if self.lasting else 'off'}"
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-o", flags, "-l", str(self.folder / "log"), "-w", "start")

    def kill(self) -> None:
        """SIGKILL to all of it; `start` brings it back."""
        main = int((self.folder / "data/postmaster.pid").read_text().split()[0])
        os.kill(main, signal.SIGSTOP)  # otherwise it may start one more meanwhile, which would be in the way of `start`
        family = [*self.backends(), main]
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 20
        while any(stat_of(pid)[:1] not in ([], ["Z"]) for pid in family) and time.monotonic() < deadline:
            time.sleep(0.01)
        # Where nobody collects dead orphans the number in it still names a process, and `start` would be refused.
        for lock in ("data/postmaster.pid", ".s.PGSQL.5432.lock", ".s.PGSQL.5432"):
            (self.folder / lock).unlink(missing_ok=True)

    def backends(self) -> list[int]:
        """The processes that serve connections or work for all of them."""
        main = (self.folder / "data/postmaster.pid").read_text().split()[0]
        return [int(path.name) for path in pathlib.Path("/proc").glob("[0-9]*") if stat_of(int(path.name))[1:2] == [main]]

    def create(self, database: str) -> str:
        """Make an empty database that lasts as long as the server; its URL."""
        import psycopg

        with psycopg.connect(f"postgresql://postgres@/postgres?host={self.folder}", autocommit=True) as conn:
            conn.execute(f"CREATE DATABASE {database}")
        return self.url(database)

    def _run(self, *command: str) -> None:
        argv = [str(self.binaries / command[0]), *command[1:]]
        if os.geteuid() == 0:
            argv = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *argv]
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, cwd=self.folder, timeout=120)

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}"

    @contextlib.contextmanager
    def database(self, name: str = "") -> Iterator[str]:
        """The URL of an empty database, dropped afterwards."""
        import psycopg

        name = name or "t" + uuid.uuid4().hex
        with psycopg.connect(f"postgresql://postgres@/postgres?host={self.folder}", autocommit=True) as conn:
            conn.execute(f"CREATE DATABASE {name}")
            try:
                yield self.url(name)
            finally:
                conn.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def stop(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):  # killed and not started again
            self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)


class MariaDB:
    """One private server, run as whoever runs the tests."""

    def __init__(self, server: str) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="pileus-maria-"))
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        data, self.socket = self.folder / "data", self.folder / "s"
        install = ["mariadb-install-db", "--no-defaults", f"--user={self.user}", f"--datadir={data}"]
        install += ["--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run(install, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
        argv = [server, "--no-defaults", f"--user={self.user}", f"--datadir={data}", f"--socket={self.socket}"]
        argv += ["--skip-networking", f"--pid-file={self.folder / 'pid'}", "--innodb-flush-log-at-trx-commit=0"]
        argv += ["--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M", "--skip-log-bin", "--max-connections=400"]
        argv += ["--character-set-server=utf8mb4", "--collation-server=utf8mb4_bin"]
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(["setpriv", "--pdeathsig=KILL", *argv], stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("MariaDB does not start:\n" + (self.folder / "log").read_text()[-2000:])
            time.sleep(0.02)

    def _answers(self) -> bool:
        import MySQLdb

        try:
            MySQLdb.connect(user="root", unix_socket=str(self.socket)).close()
        except MySQLdb.OperationalError:
            return False
        return True

    def url(self, database: str) -> str:
        return f"mysql://root@localhost/{database}?unix_socket={self.socket}"

    @contextlib.contextmanager
    def database(self, name: str = "") -> Iterator[str]:
        """The URL of an empty database, dropped afterwards."""
        name = name or "t" + uuid.uuid4().hex
        self._execute(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            self._execute(f"DROP DATABASE {name}")

    def _execute(self, statement: str) -> None:
        import MySQLdb

        connection = MySQLdb.connect(user="root", unix_socket=str(self.socket))
        try:
            connection.cursor().execute(statement)
        finally:
            connection.close()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def stat_of(pid: int) -> list[str]:
    """State, parent and so on of a process; nothing when there is none."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


SERVICES = ("identity", "placement", "image", "network", "compute")


@contextlib.contextmanager
def cloud_url(kind: str) -> Iterator[str]:
    """The URL for `database.url` of a whole cloud: empty where SQLite is meant, with `{service}` in it elsewhere."""
    if kind == "sqlite":
        yield ""
        return
    server = _server(kind)
    with contextlib.ExitStack() as stack:
        prefix = "c" + uuid.uuid4().hex[:12] + "_"
        for service in SERVICES:
            stack.enter_context(server.database(prefix + service))
        yield server.url(prefix + "{service}")


_servers: dict[str, PostgreSQL | MariaDB] = {}


def _server(kind: str) -> PostgreSQL | MariaDB:
    """This process's server, started at the first use and stopped at its end."""
    if kind not in _servers:
        if kind == "postgresql":
            binaries = postgresql_bin()
            if binaries is None:
                missing("PostgreSQL")
            _servers[kind] = PostgreSQL(binaries)
        else:
            server = shutil.which("mariadbd") or shutil.which("mysqld")
            if server is None:
                missing("MariaDB")
            _servers[kind] = MariaDB(server)
        owner = os.getpid()
        stop = _servers[kind].stop
        atexit.register(lambda: stop() if os.getpid() == owner else None)  # not by children that tests fork
    return _servers[kind]


def postgresql() -> PostgreSQL:
    """This process's PostgreSQL."""
    return _server("postgresql")


def mariadb() -> MariaDB:
    """This process's MariaDB."""
    return _server("mariadb")


@contextlib.contextmanager
def database_url(kind: str, folder: pathlib.Path) -> Iterator[str]:
    """The URL of an empty database of one of KINDS."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / (uuid.uuid4().hex + '.db')}"
    else:
        with _server(kind).database() as url:
            yield url
