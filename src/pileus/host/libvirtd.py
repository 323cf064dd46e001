"""libvirt's daemons. The host's own are used as they are; where none run and there is no systemd, Pileus starts a pair that belongs to it.

Our own libvirtd and virtlogd run in the network namespace of the caller and in a mount namespace of their own, where directories below `home` lie over
/etc/libvirt, /run/libvirt, /var/lib/libvirt, /var/log/libvirt and /var/cache/libvirt. So they keep their state with ours, touch nothing of the host's
libvirt, and a daemon started after a `kill -9` finds the guests of the one before.

Run as a module (`python -m pileus.host.libvirtd DIRECTORY PROGRAM ARGUMENTS...`) it is the launcher that makes the namespace and becomes the daemon.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import pathlib
import pwd
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
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
_KVM = pathlib.Path("/dev/kvm")
_NO_KVM = "no-kvm"
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


def host_socket() -> pathlib.Path:
    """Where the host's own libvirt answers."""
    return next(
        (pathlib.Path(path) for path in _HOST_SOCKETS if _answers(pathlib.Path(path))), pathlib.Path(_HOST_SOCKETS[0])
    )


def ensure(directory: pathlib.Path, *, kvm: bool = False) -> Daemons:
    """Our own daemons, running: those that are dead or were never started are started. LibvirtdError when that fails.

    Without `kvm` they do not see /dev/kvm. A device that can be opened and not used, or that the guests' user may not open, would make libvirt ask QEMU
    for its capabilities anew, for seconds, at every single definition and start of a guest.
    """
    daemons = Daemons(directory)
    if len(str(daemons.socket)) > _SOCKET_PATH_MAX:
        raise LibvirtdError(
            f"The path {daemons.socket} is too long for a socket: choose a PILEUS_HOME with a shorter path."
        )
    pair = (("virtlogd", daemons.log_socket), ("libvirtd", daemons.socket))
    if all(_stands(directory, program, path) for program, path in pair):
        return daemons
    if os.geteuid() != 0:
        raise LibvirtdError("No libvirtd answers and only root can start one: start libvirtd, or use `--simulate`.")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(directory):
        _lay_out(directory, kvm=kvm)
        for program, path in pair:
            if not _stands(directory, program, path):
                _end(directory, program)  # one that runs and does not answer has lost its socket
                if not _goes_on_answering(path):
                    _launch(directory, program)
    return daemons


def stop(directory: pathlib.Path) -> None:
    """End our own daemons; guests keep running. Nothing happens when none run."""
    if not directory.exists():
        return
    with _alone(directory):
        for program in ("libvirtd", "virtlogd"):
            _end(directory, program)
    for target in _OVERLAID.values():  # /run/libvirt may have been made by us; a directory in use is not empty
        if target.startswith("/run/"):
            with contextlib.suppress(OSError):
                pathlib.Path(target).rmdir()
    for partition in pathlib.Path("/sys/fs/cgroup").glob(
        "*/machine"
    ):  # libvirt's, once per hierarchy; one with guests stays
        with contextlib.suppress(OSError):
            partition.rmdir()


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


def may_use_kvm(directory: pathlib.Path) -> bool:
    """Whether the user of guests of our own libvirtd may open /dev/kvm."""
    user = guest_user(directory)
    if user == "root":
        return True
    entry, device = pwd.getpwnam(user), _KVM.stat()
    if device.st_mode & 0o006 == 0o006 or entry.pw_uid == device.st_uid:
        return True
    return device.st_mode & 0o060 == 0o060 and device.st_gid in os.getgrouplist(user, entry.pw_gid)


def _stands(directory: pathlib.Path, program: str, path: pathlib.Path) -> bool:
    return running(directory, program) is not None and _answers(path)


def _goes_on_answering(path: pathlib.Path) -> bool:
    """Whether somebody answers though our program does not run: the threads of one that was killed die in their own time."""
    deadline = clock.monotonic() + _STOP_SECONDS
    while _answers(path):
        if clock.monotonic() > deadline:
            return True
        clock.sleep(0.02)
    return False


def _answers(path: pathlib.Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(5)
            probe.connect(str(path))
    except OSError:
        return False
    return True


def _lay_out(directory: pathlib.Path, *, kvm: bool) -> None:
    """Make the directories and write the configuration; what earlier runs left in `run` goes when the machine has booted since."""
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
    (directory / _NO_KVM).unlink(missing_ok=True)
    if (
        not kvm and user != "root"
    ):  # root may open whatever lies there; libvirt then finds the device usable, as its probe does
        (directory / _NO_KVM).touch(mode=0o000)
    _write(
        directory / "etc" / "qemu.conf",
        f'user = "{user}"\ngroup = "{user}"\nsecurity_driver = "none"\ndynamic_ownership = {0 if user == "root" else 1}\n'
        "remember_owner = 0\nnamespaces = []\n",
    )


@contextlib.contextmanager
def _alone(directory: pathlib.Path) -> Iterator[None]:
    """Nobody else starts or ends these daemons meanwhile: a second one would take the first one's socket away."""
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _end(directory: pathlib.Path, program: str) -> None:
    """End our `program` if it runs, and what it leaves."""
    pid = running(directory, program)
    deadline = clock.monotonic() + _STOP_SECONDS
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        while running(directory, program) == pid:
            if clock.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            clock.sleep(0.02)
    if program == "libvirtd":
        _end_probes(directory)


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
    if (directory / _NO_KVM).exists() and _KVM.exists():
        check(
            libc.mount(str(directory / _NO_KVM).encode(), str(_KVM).encode(), None, _MS_BIND, None),
            f"mount over {_KVM}",
        )
    os.umask(0o022)
    os.execvp(argv[0], argv)  # noqa: S606 - the daemon takes this process's place


if __name__ == "__main__":
    _become(pathlib.Path(sys.argv[1]), sys.argv[2:])
