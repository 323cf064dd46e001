"""Debian's Apache httpd on loopback, with any of its modules: what stands before identity where users come from elsewhere.

    with folder() as directory, Apache(directory, ["proxy", "proxy_http"], "ProxyPass / http://127.0.0.1:5000/") as apache:
        urllib.request.urlopen(apache.url)

It runs in the foreground as a child of the test and dies with it. Where it is not installed its tests are skipped, or fail
under CI=true.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence

from tests.databases import missing
from tools.cloud import free_port

HTTPD = pathlib.Path("/usr/sbin/apache2")
MODULES = pathlib.Path("/usr/lib/apache2/modules")
USER = "www-data"  # Apache does not serve as root
BASE = ("mpm_event", "authn_core", "authz_core", "authz_user")

CONFIGURATION = """
{modules}
Define URL {url}
Define DIRECTORY {directory}
ServerRoot {directory}
DefaultRuntimeDir {directory}
PidFile {directory}/httpd.pid
ServerName {url}
Listen 127.0.0.1:{port}
DocumentRoot {directory}/htdocs
ErrorLog {directory}/error.log
CustomLog {directory}/access.log "%m %U%q %>s"
LogLevel info
StartServers 1
ServerLimit 2
MaxRequestWorkers 50
GracefulShutdownTimeout 1

"""


@contextlib.contextmanager
def folder() -> Iterator[pathlib.Path]:
    """A folder that Apache's user can reach: those of pytest are closed to everybody else."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="pileus-apache-"))
    directory.chmod(0o711)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class Apache:
    """One server. `modules` are names as in "auth_mellon" or "proxy_http", loaded in this order after those that every one needs;
    `config` is the rest of its configuration, in which ${URL} is where it answers and ${DIRECTORY} its folder. Everything in
    the folder is given to Apache's user at the start. Who needs its address before can choose the `port`.
    """

    def __init__(self, directory: pathlib.Path, modules: Sequence[str], config: str, *, port: int | None = None) -> None:
        files = [MODULES / f"mod_{name}.so" for name in (*BASE, *modules)]
        for needed in (HTTPD, *files):
            if not needed.exists():
                missing(f"Apache's {needed.name}")
        self.directory, self.port = directory, port or free_port()
        loads = "\n".join(f"LoadModule {file.stem.removeprefix('mod_')}_module {file}" for file in files)
        text = CONFIGURATION.format(modules=loads, url=self.url, directory=directory, port=self.port)
        (directory / "htdocs").mkdir(exist_ok=True)
        (directory / "httpd.conf").write_text(text + config + "\n")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """The last of what it had to say."""
        names = ("output", "error.log", "access.log")
        return "\n".join((self.directory / name).read_text()[-4000:] for name in names if (self.directory / name).exists())

    def __enter__(self) -> Apache:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self, patience: float = 20.0) -> None:
        """Until it listens."""
        argv = ["setpriv", "--pdeathsig=TERM"]
        if os.geteuid() == 0:
            argv += [f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
            for path in (self.directory, *self.directory.rglob("*")):
                shutil.chown(path, USER, USER)
        argv += [str(HTTPD), "-f", str(self.directory / "httpd.conf"), "-D", "FOREGROUND"]
        environment = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8"}
        with (self.directory / "output").open("ab") as output:
            self.process = subprocess.Popen(argv, stdout=output, stderr=output, env=environment, cwd=self.directory)
        deadline = time.monotonic() + patience
        while not self._listens():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("Apache does not start:\n" + self.log)
            time.sleep(0.05)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """With its workers, which it ends itself when it is asked to."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None
