"""libvirt's daemons. The host's own are used as they are; where none run and there is no systemd, Pileus starts a pair that belongs to it.

Our own libvirtd and virtlogd run in the network namespace of the caller and in a mount namespace of their own, where directories below `home` lie over
/etc/libvirt, /run/libvirt, /var/lib/libvirt, /var/log/libvirt and /var/cache/libvirt. So they keep their state with ours, touch nothing of the host's
libvirt, and a daemon started after a `kill -9` finds the guests of the one before.

Run as a module (`python -m pileus.host.libvirtd DIRECTORY PROGRAM ARGUMENTS...`) it is the launcher that makes the namespace and becomes the daemon.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import pwd
import shutil
import signal
import socket
import sys
from dataclasses import dataclass

from pileus.host.run import CommandError, run
from pileus.kernel import clock

HOST_URI = "qemu:///system"
GUEST_USER = "libvirt-qemu"
_HOST_SOCKETS = ("/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock")
_OVERLAID = {
    "etc": "/etc/libvirt",
    "run": "/run/libvirt",
    "lib": "/var/lib/libvirt",
    "log": "/var/log/libvirt",
    "cache": "/var/cache/libvirt",
}
_SOCKET_PATH_MAX = 107
_CLONE_NEWNS = 0x00020000
_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18
_STOP_SECONDS = 10.0


class LibvirtdError(Exception):
    """No libvirtd can be had; the text says why and what to do."""


@dataclass(frozen=True)
class Daemons:
    """Our own pair of daemons, with its state below `directory`."""

    directory: pathlib.Path

    @property
    def socket(self) -> pathlib.Path:
        return self.directory / "run" / "libvirt-sock"

    @property
    def uri(self) -> str:
        return f"qemu+unix:///system?socket={self.socket}"

    @property
    def log_socket(self) -> pathlib.Path:
        return self.directory / "run" / "virtlogd-sock"


def host_has_one() -> bool:
    """Whether the host's own libvirt answers, or systemd would start it at the first call."""
    if any(_answers(pathlib.Path(path)) for path in _HOST_SOCKETS):
        return True
    return pathlib.Path("/run/systemd/system").is_dir()


def ensure(directory: pathlib.Path) -> Daemons:
    """Our own daemons, running: those that are dead or were never started are started. LibvirtdError when that fails."""
    daemons = Daemons(directory)
    if len(str(daemons.socket)) > _SOCKET_PATH_MAX:
        raise LibvirtdError(
            f"The path {daemons.socket} is too long for a socket: choose a PILEUS_HOME with a shorter path."
        )
    if _answers(daemons.socket) and _answers(daemons.log_socket):
        return daemons
    if os.geteuid() != 0:
        raise LibvirtdError("No libvirtd answers and only root can start one: start libvirtd, or use `--simulate`.")
    _lay_out(directory)
    for program, socket_path in (("virtlogd", daemons.log_socket), ("libvirtd", daemons.socket)):
        if not _answers(socket_path):
            if program == "libvirtd":
                _end_probes(directory)
            _launch(directory, program)
    return daemons


def stop(directory: pathlib.Path) -> None:
    """End our own daemons; guests keep running. Nothing happens when none run."""
    for program in ("libvirtd", "virtlogd"):
        pid = running(directory, program)
        if pid is None:
            continue
        os.kill(pid, signal.SIGTERM)
        deadline = clock.monotonic() + _STOP_SECONDS
        while running(directory, program) == pid:
            if clock.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            clock.sleep(0.02)
    _end_probes(directory)
    for target in _OVERLAID.values():  # /run/libvirt may have been made by us; a directory in use is not empty
        if target.startswith("/run/"):
            with contextlib.suppress(OSError):
                pathlib.Path(target).rmdir()


def running(directory: pathlib.Path, program: str) -> int | None:
    """The pid of our `program` ("libvirtd" or "virtlogd"), None when it does not run. A pid that belongs to anything else does not count."""
    try:
        pid = int((directory / "run" / f"{program}.pid").read_text().strip())
        arguments = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if str(directory / "etc" / f"{program}.conf").encode() in arguments else None


def guest_user(directory: pathlib.Path) -> str:
    """The user that guests of our own libvirtd run as: libvirt's, or root where that user cannot reach files below our home."""
    try:
        entry = pwd.getpwnam(GUEST_USER)
    except KeyError:
        return "root"
    home = directory.parent  # ours: opened for passing through by whoever places guests' files there
    return GUEST_USER if all(may_pass(parent, entry.pw_uid) for parent in home.parents) else "root"


def may_pass(directory: pathlib.Path, uid: int) -> bool:
    """Whether a user without special groups may enter the directory."""
    entry = directory.stat()
    return bool(entry.st_mode & (0o100 if entry.st_uid == uid else 0o001))


def _answers(path: pathlib.Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(5)
            probe.connect(str(path))
    except OSError:
        return False
    return True


def _lay_out(directory: pathlib.Path) -> None:
    """Make the directories and write the configuration; what earlier runs left in `run` goes when the machine has booted since."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in _OVERLAID:
        (directory / name).mkdir(mode=0o711, exist_ok=True)
        (directory / name).chmod(0o711)  # guests' processes pass through them inside the daemons' mount namespace
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text()
    mark = directory / "boot-id"
    if mark.exists() and mark.read_text() != boot:
        _forget_run_state(directory / "run")
    _write(mark, boot)
    identity = directory / "host-uuid"
    if not identity.exists():
        _write(
            identity, pathlib.Path("/proc/sys/kernel/random/uuid").read_text().strip()
        )  # the daemon refuses a host id it has seen on another machine of a cluster
    _write(directory / "etc" / "virtlogd.conf", "max_size = 2097152\nmax_backups = 3\n")
    _write(
        directory / "etc" / "libvirtd.conf",
        f'host_uuid = "{identity.read_text().strip()}"\n'
        'unix_sock_rw_perms = "0700"\nauth_unix_rw = "none"\nauth_unix_ro = "none"\n'
        'log_filters = "3:util 3:qemu"\nlog_outputs = "3:file:/var/log/libvirt/libvirtd.log"\n',
    )
    user = guest_user(directory)
    _write(
        directory / "etc" / "qemu.conf",
        f'user = "{user}"\ngroup = "{user}"\nsecurity_driver = "none"\ndynamic_ownership = {0 if user == "root" else 1}\n'
        "remember_owner = 0\nnamespaces = []\n",
    )


def _end_probes(directory: pathlib.Path) -> None:
    """End the QEMU processes that a killed libvirtd had started to learn what QEMU can do: nobody else would, and no guest is among them."""
    for path in (directory / "lib" / "qemu").glob("qmp-*/qmp.pid"):
        with contextlib.suppress(OSError, ValueError):
            pid = int(path.read_text().strip())
            if f"/{path.parent.name}/qmp.pid".encode() in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(path.parent, ignore_errors=True)


def _forget_run_state(path: pathlib.Path) -> None:
    for entry in sorted(path.rglob("*"), key=lambda item: len(item.parts), reverse=True):
        if entry.is_dir() and not entry.is_symlink():
            entry.rmdir()
        else:
            entry.unlink()


def _write(path: pathlib.Path, text: str) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(text)
    temporary.chmod(0o600)
    temporary.replace(path)


def _launch(directory: pathlib.Path, program: str) -> None:
    """Start one daemon through the launcher below; returns when it is ready (`-d` waits for that)."""
    config = directory / "etc" / f"{program}.conf"
    argv = [sys.executable, "-m", __spec__.name, str(directory), program, "-d", "-f", str(config)]
    try:
        run([*argv, "-p", f"/run/libvirt/{program}.pid"], env={"PYTHONPATH": os.pathsep.join(sys.path)}, timeout=60)
    except CommandError as error:
        raise LibvirtdError(f"{program} does not start: {error}") from error


def _become(directory: pathlib.Path, argv: list[str]) -> None:
    """Enter a mount namespace with our directories over libvirt's and turn into the program."""
    libc = ctypes.CDLL(None, use_errno=True)

    def check(result: int, what: str) -> None:
        if result != 0:
            sys.exit(f"{what}: {os.strerror(ctypes.get_errno())}")

    for target in _OVERLAID.values():
        pathlib.Path(target).mkdir(mode=0o755, parents=True, exist_ok=True)
    check(libc.unshare(_CLONE_NEWNS), "a mount namespace of its own is refused")
    check(libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None), "mounts cannot be made private")
    for name, target in _OVERLAID.items():
        check(libc.mount(str(directory / name).encode(), target.encode(), None, _MS_BIND, None), f"mount over {target}")
    os.umask(0o022)
    os.execvp(argv[0], argv)  # noqa: S606 - the daemon takes this process's place


if __name__ == "__main__":
    _become(pathlib.Path(sys.argv[1]), sys.argv[2:])
