"""Databases for tests: a file of SQLite always, a private PostgreSQL server where one is installed.

The server is started once per test session, in a temporary folder, reachable by its unix socket alone, with durability off. Each test gets a database
of its own. As root it runs as the user `postgres`, because PostgreSQL refuses root.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator

import pytest

KINDS = ("sqlite", "postgresql")


def postgresql_bin() -> pathlib.Path | None:
    """Where initdb and pg_ctl are, newest version first."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    path = shutil.which("initdb")
    return pathlib.Path(path).parent if path else None


class PostgreSQL:
    """One private server."""

    def __init__(self, binaries: pathlib.Path) -> None:
        self.binaries = binaries
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="pileus-pg-"))
        self.user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres")
        self._run("initdb", "-D", str(self.folder / "data"), "--auth=trust", "-N", "-U", "postgres", "-E", "UTF8")
        flags = f"-k {self.folder} -c listen_addresses= -c fsync=off -c synchronous_commit=off -c full_page_writes=off"
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-o", flags, "-l", str(self.folder / "log"), "-w", "start")

    def _run(self, *command: str) -> None:
        argv = [str(self.binaries / command[0]), *command[1:]]
        if os.geteuid() == 0:
            argv = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *argv]
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, cwd=self.folder, timeout=120)

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}"

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """The URL of an empty database, dropped afterwards."""
        import psycopg

        name = "t" + uuid.uuid4().hex
        with psycopg.connect(f"postgresql://postgres@/postgres?host={self.folder}", autocommit=True) as conn:
            conn.execute(f"CREATE DATABASE {name}")
            try:
                yield self.url(name)
            finally:
                conn.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)


_server: PostgreSQL | None = None


def postgresql() -> PostgreSQL:
    """The session's server; skips the test where PostgreSQL is not installed."""
    global _server
    if _server is None:
        binaries = postgresql_bin()
        if binaries is None:
            pytest.skip("PostgreSQL is not installed")
        _server = PostgreSQL(binaries)
        import atexit

        atexit.register(_server.stop)
    return _server


@contextlib.contextmanager
def database_url(kind: str, folder: pathlib.Path) -> Iterator[str]:
    """The URL of an empty database of one of KINDS."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / (uuid.uuid4().hex + '.db')}"
    else:
        with postgresql().database() as url:
            yield url
