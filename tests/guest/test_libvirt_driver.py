"""Real guests under the libvirt driver: they boot, survive the death of everything but themselves, and leave nothing."""

from __future__ import annotations

import os
import pathlib
import pwd
import signal
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from pileus.compute.wire import ServerDoc
from pileus.host import libvirtd
from tests.contracts.compute_servers import Images, server

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]

GUEST = pathlib.Path(__file__).parents[2] / ".build/guest"
BOOT_SECONDS = 180.0


@pytest.fixture
def home() -> pathlib.Path:
    """As in production: a place that the guests' user can be let into."""
    home = pathlib.Path("/var/lib/pileus")
    home.mkdir(mode=0o700, exist_ok=True)
    return home


def user_of(pid: int) -> str:
    return pwd.getpwuid(pathlib.Path(f"/proc/{pid}").stat().st_uid).pw_name


@pytest.fixture
def driver(home: pathlib.Path) -> Iterator[object]:
    driver = fresh(home)
    yield driver
    for server_id in driver.states():
        driver.destroy(server_id)
    driver.stop()
    libvirtd.stop(home / "libvirt")
    assert processes("qemu-system") == {}


def fresh(home: pathlib.Path):
    """What a new agent process would start with."""
    from pileus.compute.drivers.libvirt import LibvirtDriver, LibvirtSettings

    driver = LibvirtDriver(home, LibvirtSettings(host="test", address="127.0.0.1"))
    driver.start(lambda _server_id: None)
    return driver


def processes(word: str) -> dict[int, float]:
    """Processes whose command has the word: pid and start time."""
    found = {}
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")[0].decode()
            if word in command:
                found[int(entry.name)] = float((entry / "stat").read_text().rpartition(")")[2].split()[19])
        except OSError:
            continue
    return found


def wait_for(what: str, condition: Callable[[], bool], seconds: float = BOOT_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def boot(driver, images: Images, doc: ServerDoc) -> None:
    driver.fetch_images(doc, images)
    driver.prepare(doc)
    driver.create(doc)
    driver.unfreeze(doc.id)
    wait_for_ready(driver, doc.id, 1)


def wait_for_ready(driver, server_id: str, boots: int) -> None:
    wait_for(f"{boots} ready lines", lambda: driver.console(server_id, None).count("GUEST: ready") >= boots)


def press_until_off(driver, server_id: str) -> None:
    """Like the agent and like a person: a guest that has just booted may not hear the first press."""
    last = 0.0

    def off() -> bool:
        nonlocal last
        if driver.state(server_id) == "shutdown":
            return True
        if time.monotonic() - last > 5:
            last = time.monotonic()
            driver.power(server_id, "press_power_button")
        return False

    wait_for("the guest switches itself off", off)


def test_a_guest_boots_reads_its_config_drive_and_obeys(driver, home: pathlib.Path) -> None:
    images = Images()
    doc = server(
        images.add_file(GUEST / "guest.qcow2", "qcow2"), config_drive=True, nics=1, user_data="#!/bin/sh\necho user-data says hello\n",
        flavor={"root_gb": 1, "ephemeral_gb": 1, "swap_mb": 64},
    )
    boot(driver, images, doc)
    console = driver.console(doc.id, None)
    assert f"cloud source=configdrive(/dev/sr0) host=vm uuid={doc.id} key=yes" in console
    assert "user-data says hello" in console
    assert "mounted /dev/vdb on /mnt/vdb" in console
    assert driver.console(doc.id, 2).count("\n") <= 2
    qemu = processes("qemu-system")
    assert [user_of(pid) for pid in qemu] == ["libvirt-qemu"]
    directory = home / "instances" / doc.id
    assert all(path.stat().st_mode & 0o077 == 0 for path in directory.iterdir())
    assert all(path.stat().st_mode & 0o007 == 0 for path in (home, home / "instances", directory))

    press_until_off(driver, doc.id)
    driver.power(doc.id, "start")
    wait_for_ready(driver, doc.id, 2)
    driver.power(doc.id, "reboot_hard", doc)
    wait_for_ready(driver, doc.id, 3)
    driver.power(doc.id, "stop")
    assert processes("qemu-system") == {}
    driver.destroy(doc.id)
    assert not (home / "instances" / doc.id).exists()
    assert {name for _, name in socket.if_nameindex()} == {"lo"}


def test_a_guest_survives_the_death_of_libvirt_and_agent(driver, home: pathlib.Path) -> None:
    images = Images()
    kernel, ramdisk = images.add_file(GUEST / "guest.vmlinuz", "aki"), images.add_file(GUEST / "guest.initrd", "ari")
    root = images.add_file(
        GUEST / "guest.rootfs.ext4", "ami", kernel_id=kernel.id, ramdisk_id=ramdisk.id, os_command_line="root=LABEL=guestroot console=ttyS0",
    )
    doc = server(root, config_drive=True)
    boot(driver, images, doc)
    assert "root=/dev/vda" in driver.console(doc.id, None)
    before = processes("qemu-system")
    for program in ("libvirtd", "virtlogd"):
        pid = libvirtd.running(home / "libvirt", program)
        os.kill(pid, signal.SIGKILL)
    wait_for("libvirtd is dead", lambda: libvirtd.running(home / "libvirt", "libvirtd") is None)
    driver.watch()
    assert driver.states() == {doc.id: "running"}
    again = fresh(home)
    assert again.state(doc.id) == "running"
    assert processes("qemu-system") == before
    again.power(doc.id, "pause")
    again.power(doc.id, "unpause")
    again.power(doc.id, "reboot_hard")
    wait_for_ready(again, doc.id, 2)
    again.destroy(doc.id)
    assert processes("qemu-system") == {}
    again.stop()


def test_the_guest_of_a_killed_qemu_counts_as_crashed(driver) -> None:
    images = Images()
    doc = server(images.add(b"\0" * (1 << 20)), nics=0)
    driver.fetch_images(doc, images)
    driver.prepare(doc)
    driver.create(doc)
    driver.unfreeze(doc.id)
    (pid,) = processes("qemu-system")
    os.kill(pid, signal.SIGKILL)
    wait_for("libvirt notices", lambda: driver.state(doc.id) == "crashed")
    driver.power(doc.id, "start")
    assert driver.state(doc.id) == "running"
