"""libvirt's daemons: the host's are used, ours are started where there are none, and their death is no one's loss."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pileus.compute.agent.calls import Calls
from pileus.compute.agent.epochs import EpochBook
from pileus.host import libvirtd
from tests.contracts.compute_servers import Images, server

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]


def make(home: pathlib.Path) -> Any:
    from pileus.compute.drivers.libvirt import LibvirtDriver, LibvirtSettings

    return LibvirtDriver(home, LibvirtSettings(host="test", address="127.0.0.1", virt_type="qemu"))


@pytest.fixture
def home(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    yield tmp_path
    make(tmp_path).remove_everything()


def kill(home: pathlib.Path, *programs: str) -> None:
    for program in programs:
        pid = libvirtd.running(home / "libvirt", program)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)


def test_every_call_survives_the_death_of_the_daemons(home: pathlib.Path) -> None:
    driver = make(home)
    driver.start(lambda _server_id: None)
    images = Images()
    book = EpochBook(home / "epochs.sqlite")
    calls = Calls(driver, book, images, lambda _server_id: None)
    calls.ready.set()
    doc = server(images.add(b"\0" * (1 << 20)))
    driver.fetch_images(doc, images)
    payload = {"id": doc.id, "epoch": 1, "doc": doc.to_dict()}
    states = []
    for method, more in (
        (calls.prepare, {}), (calls.create, {}), (calls.resume, {}), (calls.power, {"action": "pause"}), (calls.power, {"action": "unpause"}),
        (calls.power, {"action": "stop"}), (calls.power, {"action": "start"}), (calls.state, {}), (calls.destroy, {}),
    ):
        kill(home, "libvirtd", "virtlogd")
        states.append(method({**payload, **more}).get("power_state"))
    assert states == [None, "paused", "running", "paused", "running", "shutdown", "running", "running", None]
    assert driver.states() == {}
    driver.stop()
    book.close()


def test_run_state_of_an_earlier_boot_is_forgotten(home: pathlib.Path) -> None:
    directory = home / "libvirt"
    libvirtd.ensure(directory)
    libvirtd.stop(directory)
    assert libvirtd.running(directory, "libvirtd") is None
    stale = directory / "run" / "stale.xml"
    stale.write_text("<domstatus/>")
    libvirtd.ensure(directory)
    libvirtd.stop(directory)
    assert stale.exists()  # the same boot
    (directory / "boot-id").write_text("another boot")
    libvirtd.ensure(directory)
    assert not stale.exists()
    identity = (directory / "host-uuid").read_text()
    libvirtd.ensure(directory)
    assert (directory / "host-uuid").read_text() == identity
    libvirtd.stop(directory)


def test_only_our_own_process_counts_as_running(home: pathlib.Path) -> None:
    directory = home / "libvirt"
    libvirtd.ensure(directory)
    libvirtd.stop(directory)
    (directory / "run" / "libvirtd.pid").write_text(str(os.getpid()))
    assert libvirtd.running(directory, "libvirtd") is None


def test_many_who_start_the_daemons_start_one_pair(home: pathlib.Path) -> None:
    directory = home / "libvirt"
    for _ in range(2):
        threads = [threading.Thread(target=libvirtd.ensure, args=(directory,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for program in ("libvirtd", "virtlogd"):
            config = str(directory / "etc" / f"{program}.conf")
            assert len(commands_with(config)) == 1
        kill(home, "libvirtd", "virtlogd")


def test_a_libvirtd_that_lost_its_socket_is_replaced(home: pathlib.Path) -> None:
    directory = home / "libvirt"
    daemons = libvirtd.ensure(directory)
    before = libvirtd.running(directory, "libvirtd")
    daemons.socket.unlink()
    libvirtd.ensure(directory)
    assert libvirtd.running(directory, "libvirtd") not in {None, before}
    assert commands_with(str(directory / "etc" / "libvirtd.conf")) == [libvirtd.running(directory, "libvirtd")]


def test_what_a_killed_libvirtd_probed_qemu_with_is_ended(home: pathlib.Path) -> None:
    directory = home / "libvirt"
    libvirtd.ensure(directory)
    libvirtd.stop(directory)
    probe, other = (
        subprocess.Popen([sys.executable, "-c", "input()", argument], stdin=subprocess.PIPE) for argument in ("/x/qmp-AB/qmp.pid", "guest")
    )
    for name, process in (("qmp-AB", probe), ("qmp-CD", other)):
        (directory / "lib" / "qemu" / name).mkdir(parents=True)
        (directory / "lib" / "qemu" / name / "qmp.pid").write_text(f"{process.pid}\n")
    libvirtd.ensure(directory)
    assert probe.wait() == -signal.SIGKILL
    assert other.poll() is None
    assert not list((directory / "lib" / "qemu").glob("qmp-[AC][BD]"))
    other.communicate(b"\n")
    libvirtd.stop(directory)


def test_a_kvm_that_guests_cannot_use_is_hidden_from_libvirt() -> None:
    home = pathlib.Path("/var/lib/pileus")  # where guests run as libvirt's user
    home.mkdir(mode=0o700, exist_ok=True)
    directory = home / "libvirt"
    for kvm in (False, True):
        libvirtd.ensure(directory, kvm=kvm)
        assert libvirtd.guest_user(directory) == "libvirt-qemu"
        seen = pathlib.Path(f"/proc/{libvirtd.running(directory, 'libvirtd')}/root/dev/kvm")
        assert not pathlib.Path("/dev/kvm").exists() or seen.is_char_device() == kvm
        libvirtd.stop(directory)


def test_a_home_with_too_long_a_path_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(libvirtd.LibvirtdError, match="too long"):
        libvirtd.ensure(tmp_path / ("x" * 100))


def commands_with(argument: str) -> list[int]:
    """Processes that have the argument. A child that a daemon has just forked has it too until it becomes what it was forked for."""
    parents = {}
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if argument.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    return [pid for pid, parent in parents.items() if parent not in parents]


@contextlib.contextmanager
def hosts_own_libvirtd() -> Iterator[None]:
    """libvirtd and virtlogd as a distribution starts them."""
    for directory in ("/run/libvirt", "/var/log/libvirt/qemu"):
        pathlib.Path(directory).mkdir(parents=True, exist_ok=True)
    daemons = [subprocess.Popen([program], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for program in ("virtlogd", "libvirtd")]
    try:
        while not libvirtd.host_has_one():
            assert daemons[1].poll() is None
        yield
    finally:
        for daemon in daemons:
            daemon.terminate()
            daemon.wait()


def test_the_hosts_own_libvirtd_is_used_where_it_runs(home: pathlib.Path) -> None:
    with hosts_own_libvirtd():
        driver = make(home)
        driver.start(lambda _server_id: None)
        images = Images()
        doc = server(images.add(b"\0" * (1 << 20)))
        driver.fetch_images(doc, images)
        driver.prepare(doc)
        driver.create(doc)
        assert driver.states() == {doc.id: "paused"}
        assert not (home / "libvirt").exists()
        foreign = subprocess.run(
            ["virsh", "-c", "qemu:///system", "define", "/dev/stdin"], check=True, capture_output=True,
            input=b"<domain type='qemu'><name>foreign</name><memory>65536</memory><os><type>hvm</type></os></domain>",
        )
        assert b"foreign" in foreign.stdout
        assert driver.states() == {doc.id: "paused"}
        driver.stop()
        make(home).remove_everything()
        left = subprocess.run(["virsh", "-c", "qemu:///system", "list", "--all", "--name"], check=True, capture_output=True).stdout
        assert left.split() == [b"foreign"]
        assert not list(pathlib.Path("/var/log/libvirt/qemu").glob("instance-*"))
        subprocess.run(["virsh", "-c", "qemu:///system", "undefine", "foreign"], check=True, capture_output=True)
