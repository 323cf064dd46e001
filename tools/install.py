"""`make install`: everything Pileus needs from the network, and nothing twice.

Steps: Debian packages (root only), the virtual environment `.venv`, the guest image `.build/guest` (root only: without
root there are no real guests). Arguments ask for more: `dev` the tools of `make check`; `test` also what the whole test suite
needs, PostgreSQL, MariaDB, RabbitMQ, slapd and the stock OpenStack clients in `.build/clients`; `clients`, `image` only these.

Each step first looks whether its result is really there (installed packages by dpkg, distributions by their metadata, the
image by a stamp over its inputs), so that a second run takes well under two seconds and needs no network.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
BUILD = TOP / ".build"
VENV = TOP / ".venv"
CLIENTS = BUILD / "clients"
ROOT = os.geteuid() == 0

BUILD_PACKAGES = ("gcc", "pkg-config", "python3-dev", "libvirt-dev", "libmariadb-dev")
HOST_PACKAGES = (
    "python3", "python3-venv", "ca-certificates",
    "qemu-system-x86", "qemu-utils", "seabios",
    "libvirt-daemon", "libvirt-daemon-driver-qemu", "libvirt-daemon-system", "libvirt-clients",
    "dnsmasq-base", "nftables", "iproute2", "conntrack", "procps", "kmod", "genisoimage", "openssh-client",
)  # fmt: skip
TEST_PACKAGES = (
    "postgresql", "mariadb-server", "rabbitmq-server", "haproxy", "dropbear-bin", "iputils-ping", "util-linux", "git",
    "apache2-bin", "libapache2-mod-auth-mellon", "libapache2-mod-auth-openidc", "slapd", "ldap-utils",
)  # fmt: skip
CLIENT_REQUIREMENTS = ("python-openstackclient", "openstacksdk")

EXTRAS_ROOT = ("host", "postgresql", "mariadb", "rabbitmq")
EXTRAS_USER = ("postgresql", "rabbitmq")
POLICY = Path("/usr/sbin/policy-rc.d")


class Failed(Exception):
    """A step did not work; the message is for the user."""


def main(arguments: list[str]) -> int:
    unknown = set(arguments) - {"dev", "test", "clients", "image"}
    if unknown:
        print(f"install: unknown argument {', '.join(sorted(unknown))}; known: dev, test, clients, image", file=sys.stderr)
        return 2
    os.environ.update(DEBIAN_FRONTEND="noninteractive", PIP_DISABLE_PIP_VERSION_CHECK="1")
    test = "test" in arguments
    try:
        if ROOT and shutil.which("apt-get"):
            step("Debian packages", lambda: debian_packages(HOST_PACKAGES + BUILD_PACKAGES))
            if test:
                step("Debian packages for tests", lambda: debian_packages(TEST_PACKAGES))
        step("Python packages in .venv", lambda: python_packages(test or "dev" in arguments))
        if ROOT or "image" in arguments:
            step("guest image", guest_image)
        if test or "clients" in arguments:
            step("OpenStack clients in .build/clients", stock_clients)
    except Failed as failure:
        print(f"install: {failure}", file=sys.stderr)
        return 1
    return 0


def step(title: str, work: Callable[[], str]) -> None:
    """Run one step and say what it did and how long it took."""
    begin = time.monotonic()
    print(f"install: {title} ...", end=" ", flush=True)
    try:
        done = work()
    except BaseException:
        print("failed", flush=True)
        raise
    print(f"{done} ({time.monotonic() - begin:.1f} s)", flush=True)


def run(argv: list[str | Path], **more: object) -> None:
    """Run a command quietly; its output is shown when it fails."""
    result = subprocess.run([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)  # type: ignore[call-overload]
    if result.returncode:
        tail = "\n".join(result.stdout.splitlines()[-25:])
        raise Failed(f"{' '.join(str(a) for a in argv)} ended with {result.returncode}:\n{tail}")


# --- Debian packages -------------------------------------------------------------------------------------------------


def debian_packages(wanted: tuple[str, ...]) -> str:
    missing = [name for name in wanted if name not in installed_packages(wanted)]
    if not missing:
        return "there"
    apt = ["apt-get", "-q", "-q", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]
    with no_daemons():
        try:
            run([*apt, "-y", "--no-install-recommends", "install", *missing])
        except Failed:  # old or empty package lists: read them and try again
            run([*apt, "update"])
            run([*apt, "-y", "--no-install-recommends", "install", *missing])
    return f"{len(missing)} installed"


def installed_packages(names: tuple[str, ...]) -> set[str]:
    query = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *names]
    lines = subprocess.run(query, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.splitlines()
    return {name for name, _, status in (line.partition(" ") for line in lines) if status == "installed"}


@contextlib.contextmanager
def no_daemons() -> Iterator[None]:
    """While packages are installed, nothing is started on the host.

    Under systemd libvirt is the exception: Pileus uses the host's libvirtd and does not start one of its own there.
    """
    allowed = "case \"$1\" in libvirt*|virtlog*|virtlock*) exit 0;; esac\n" if Path("/run/systemd/system").exists() else ""
    saved = POLICY.with_name("policy-rc.d.before-pileus")
    if saved.exists():  # an earlier run was killed
        saved.replace(POLICY)
    if POLICY.exists():
        POLICY.replace(saved)
    POLICY.write_text(f"#!/bin/sh\n{allowed}exit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)
        if saved.exists():
            saved.replace(POLICY)


# --- Python ----------------------------------------------------------------------------------------------------------


def python_packages(development: bool) -> str:
    extras = [*(EXTRAS_ROOT if ROOT else EXTRAS_USER), *(["dev"] if development else [])]
    if distributions_present(VENV, ["pileus"], extras):
        return "there"
    make_venv(VENV)
    run([VENV / "bin/pip", "install", "-q", "-e", f"{TOP}[{','.join(extras)}]"])
    if not distributions_present(VENV, ["pileus"], extras):
        raise Failed("the packages in .venv do not fit pyproject.toml even after pip has installed them")
    return "installed"


def stock_clients() -> str:
    if distributions_present(CLIENTS, list(CLIENT_REQUIREMENTS), []):
        return "there"
    make_venv(CLIENTS)
    run([CLIENTS / "bin/pip", "install", "-q", *CLIENT_REQUIREMENTS])
    return "installed"


def make_venv(place: Path) -> None:
    if not works([place / "bin/python", "-c", "import pip"]):
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        run([sys.executable, "-m", "venv", place])


CHECK = """
import importlib.metadata as metadata, sys
from pip._vendor.packaging.requirements import Requirement
extras = sys.argv[1].split(",")
todo, seen = [Requirement(text) for text in sys.argv[2:]], set()
while todo:
    wanted = todo.pop()
    if wanted.marker and not any(wanted.marker.evaluate({"extra": extra}) for extra in ["", *extras]):
        continue
    if not wanted.specifier.contains(metadata.version(wanted.name), prereleases=True):
        sys.exit(f"{wanted} is not satisfied")
    if wanted.name not in seen and len(seen) < 2:
        seen.add(wanted.name)
        todo += [Requirement(text) for text in metadata.requires(wanted.name) or []]
"""


def distributions_present(place: Path, names: list[str], extras: list[str]) -> bool:
    """Is everything that `names` (with `extras` of the first) ask for installed in the environment, in fitting versions?

    For pileus itself pyproject.toml is asked, not the metadata of its last installation.
    """
    if names == ["pileus"]:
        project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
        names = [*project["dependencies"], *(need for extra in extras for need in project["optional-dependencies"][extra])]
        if not (place / "bin/pileus").exists() or not works([place / "bin/python", "-c", "import pileus"]):
            return False
    return works([place / "bin/python", "-c", CHECK, ",".join(extras), *names])


def works(argv: list[str | Path]) -> bool:
    try:
        return subprocess.run([str(a) for a in argv], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


# --- the guest image -------------------------------------------------------------------------------------------------


def guest_image() -> str:
    source, target = TOP / "tools/guest", BUILD / "guest"
    digest = hashlib.sha256()
    for path in sorted(p for p in source.rglob("*") if p.is_file() and p.name != "README.md"):
        digest.update(str(path.relative_to(source)).encode() + b"\0" + path.read_bytes() + b"\0")
    stamp = target / "inputs.sha256"
    files = [target / f"guest.{part}" for part in ("qcow2", "vmlinuz", "initrd", "rootfs.ext4")]
    if stamp.exists() and stamp.read_text() == digest.hexdigest() and all(f.exists() and f.stat().st_size for f in files):
        return "there"
    run(["bash", source / "build.sh", target, BUILD / "debs"])
    stamp.write_text(digest.hexdigest())
    return "built"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
