"""The first process of a sandbox: makes the namespaces, the private mounts, then reaps children until its standard input ends.

Run as a plain script (`python -I -S inside.py BASE HOSTNAME KEEP... -- CGROUP...`) so that it starts in some 20 ms. It writes its own process id, as
its parent sees it, and then `ready` to standard output. When standard input ends or its parent dies, it ends, and with the
first process of a process namespace the kernel kills everything inside.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import shutil
import signal
import socket
import stat
import struct
import sys
import time

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH = 2, 4, 4096, 16384, 1 << 18, 2
PR_SET_PDEATHSIG = 1
PRIVATE_TREES = ("/etc", "/var", "/root")  # writes below these stay in the sandbox (overlay)
HIDDEN = ("/var/lib/pileus",)  # a cloud that this machine runs: no test host sees it


def check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str | None = None, flags: int = 0, data: str = "") -> None:
    arguments = (source.encode(), target.encode(), kind.encode() if kind else None, flags, data.encode())
    check(LIBC.mount(*arguments), f"mount {source} on {target}")


def detach(target: str) -> None:
    check(LIBC.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def cgroup_mounts() -> list[tuple[str, str]]:
    """(directory below /sys/fs/cgroup, mount options) of each version 1 hierarchy of this process; ("", "") means version 2 alone."""
    found = []
    with open("/proc/self/cgroup") as lines:
        for line in lines:
            controllers = line.split(":")[1]
            if controllers.startswith("name="):
                found.append((controllers[5:], f"none,{controllers}"))
            elif controllers:
                found.append((controllers, controllers))
    return found or [("", "")]


def private_sys() -> None:
    """sysfs of the new network namespace, and the cgroup hierarchies as seen from the sandbox's own cgroups.

    The unified hierarchy beside version 1 is left out: libvirt's LXC driver stumbles over it.
    """
    detach("/sys")
    mount("sysfs", "/sys", "sysfs")
    hierarchies = cgroup_mounts()
    if hierarchies == [("", "")]:
        mount("cgroup2", "/sys/fs/cgroup", "cgroup2")
        return
    mount("tmpfs", "/sys/fs/cgroup", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    for name, options in hierarchies:
        directory = f"/sys/fs/cgroup/{name}"
        os.mkdir(directory)
        mount("cgroup", directory, "cgroup", 0, options)


def hide(layers: str, path: str) -> None:
    """Have an overlay whose upper layers are below `layers` show nothing at a path; what lies there is not touched."""
    above = os.path.dirname(path)
    os.makedirs(f"{layers}{above}", exist_ok=True)
    shutil.copystat(above, f"{layers}{above}")
    os.mknod(f"{layers}{path}", stat.S_IFCHR, os.makedev(0, 0))  # a whiteout: Documentation/filesystems/overlayfs.rst


def private_trees(base: str, keep: list[str]) -> None:
    """Lay a writable layer over /etc, /var and /root; what lies in `keep` (the checkout) stays the real thing."""
    held = {path: os.open(path, os.O_PATH) for path in keep if path.startswith(tuple(f"{tree}/" for tree in PRIVATE_TREES))}
    for tree in PRIVATE_TREES:
        upper, work = f"{base}/layers{tree}", f"{base}/work{tree}"
        os.makedirs(upper)
        os.makedirs(work)
        shutil.copystat(tree, upper)
        for path in HIDDEN:
            if path.startswith(f"{tree}/") and os.path.isdir(path):
                hide(f"{base}/layers", path)
        mount("overlay", tree, "overlay", 0, f"lowerdir={tree},upperdir={upper},workdir={work}")
    for path, number in held.items():
        mount(f"/proc/self/fd/{number}", path, None, MS_BIND | MS_REC)
        os.close(number)


def write(path: str, text: str, mode: int = 0o644) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, mode)


def settings(hostname: str) -> None:
    """Files in the private /etc: the host's name, and a libvirt that works in a namespace (no CAP_SYS_RESOURCE, no udev)."""
    check(LIBC.sethostname(hostname.encode(), len(hostname)), "sethostname")
    write("/etc/hostname", f"{hostname}\n")
    write("/etc/hosts", f"127.0.0.1 localhost {hostname}\n::1 localhost\n")
    write("/etc/resolv.conf", "")
    if not os.path.isdir("/etc/libvirt"):
        return
    qemu = 'security_driver="none"\nuser="root"\ngroup="root"\ndynamic_ownership=0\nremember_owner=0\nnamespaces=[]\n'
    write("/etc/libvirt/qemu.conf", qemu, 0o600)
    with open("/proc/sys/kernel/random/uuid") as file:
        uuid = file.read().strip()
    write("/etc/libvirt/libvirtd.conf", f'host_uuid="{uuid}"\nauth_unix_rw="none"\nlisten_tls=0\nlisten_tcp=1\nauth_tcp="none"\n', 0o600)
    for leftover in ("qemu/autostart", "qemu/networks"):
        shutil.rmtree(f"/etc/libvirt/{leftover}", ignore_errors=True)


def loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS: IFF_UP, IFF_RUNNING


def set_up(base: str, hostname: str, keep: list[str]) -> None:
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV)
    private_sys()
    private_trees(base, keep)
    for directory, options in (("/run", "mode=755"), ("/dev/shm", "mode=1777")):
        mount("tmpfs", directory, "tmpfs", MS_NOSUID | MS_NODEV, options)
    os.makedirs("/run/lock")
    if not os.path.islink("/var/run"):
        mount("/run", "/var/run", None, MS_BIND)
    settings(hostname)
    loopback_up()


def reap_until_told() -> None:
    """Wait for the end of standard input; bury whatever is orphaned meanwhile."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        ready, _, _ = select.select([0, reader], [], [])
        if 0 in ready and not os.read(0, 4096):
            return
        if reader in ready:
            os.read(reader, 4096)


def remove_traces(base: str, groups: list[str]) -> None:
    """The sandbox's cgroups and files. Its starter may be dead, so this process, which outlives all others, sees to it."""
    for group in groups:
        with open(f"{os.path.dirname(group)}/cgroup.procs", "w") as file:
            file.write("0")  # this process has been in it
        for _ in range(200):
            for directory, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(directory)
            if not os.path.exists(group):
                break
            time.sleep(0.01)  # the kernel may still be burying
    shutil.rmtree(base, ignore_errors=True)


def main(base: str, hostname: str, keep: list[str], groups: list[str]) -> int:
    check(LIBC.unshare(CLONE_NEWPID), "unshare")
    child = os.fork()
    if child:
        os.write(1, f"{child}\n".encode())
        os.close(0)
        os.close(1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        remove_traces(base, groups)
        return code
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    check(LIBC.unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP), "unshare")
    set_up(base, hostname, keep)
    os.write(1, b"ready\n")
    reap_until_told()
    return 0


if __name__ == "__main__":
    between = sys.argv.index("--")
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:between], sys.argv[between + 1 :]))
