"""What every hypervisor driver promises: the same tests for the fake one and for libvirt on a test host."""

from __future__ import annotations

import importlib
import pathlib
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from pileus.compute.drivers.base import BadState, DriverFailed, NotPrepared, ServerMissing
from pileus.compute.drivers.fake import FakeDriver
from pileus.compute.wire import HostResources
from pileus.host import libvirtd
from tests.contracts.compute_servers import Images, server

EMPTY_DISK = b"\0" * (1 << 20)


def make(kind: str, home: pathlib.Path) -> Any:
    if kind == "fake":
        return FakeDriver(home)
    module = importlib.import_module("pileus.compute.drivers.libvirt")
    return module.LibvirtDriver(home, module.LibvirtSettings(host="test", address="127.0.0.1", virt_type="qemu"))


@pytest.fixture(params=["fake", pytest.param("libvirt", marks=pytest.mark.real)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def driver(kind: str, tmp_path: pathlib.Path) -> Iterator[Any]:
    driver = make(kind, tmp_path)
    driver.start(lambda _server_id: None)
    yield driver
    driver.stop()
    make(kind, tmp_path).remove_everything()


@pytest.fixture
def images() -> Images:
    return Images()


def created(driver: Any, images: Images, **changes: Any) -> Any:
    doc = server(images.add(EMPTY_DISK), **changes)
    driver.fetch_images(doc, images)
    driver.prepare(doc)
    driver.create(doc)
    return doc


def has_device(name: str) -> bool:
    return name in {entry for _, entry in socket.if_nameindex()}


def test_a_server_goes_through_its_life(driver: Any, images: Images) -> None:
    doc = server(images.add(EMPTY_DISK), config_drive=True)
    assert driver.state(doc.id) == "missing"
    driver.fetch_images(doc, images)
    assert driver.images_ready(doc)
    driver.prepare(doc)
    assert driver.states() == {doc.id: "missing"}
    driver.create(doc)
    assert driver.state(doc.id) == "paused"
    driver.unfreeze(doc.id)
    assert driver.states() == {doc.id: "running"}
    assert driver.document(doc.id) == doc
    driver.power(doc.id, "pause")
    assert driver.state(doc.id) == "paused"
    driver.power(doc.id, "unpause")
    driver.power(doc.id, "suspend")
    assert driver.state(doc.id) == "suspended"
    driver.power(doc.id, "resume")
    assert driver.state(doc.id) == "running"
    driver.power(doc.id, "stop")
    assert driver.state(doc.id) == "shutdown"
    driver.power(doc.id, "start", doc)
    driver.power(doc.id, "reboot_hard")
    assert driver.state(doc.id) == "running"
    driver.power(doc.id, "press_power_button")
    driver.destroy(doc.id)
    assert driver.state(doc.id) == "missing"
    assert driver.states() == {}
    assert driver.document(doc.id) is None


def test_every_call_may_be_repeated(driver: Any, images: Images) -> None:
    doc = created(driver, images)
    driver.fetch_images(doc, images)
    driver.prepare(doc)
    driver.create(doc)
    for call in (driver.unfreeze, driver.unfreeze):
        call(doc.id)
    driver.create(doc)
    assert driver.state(doc.id) == "running"
    for action, state in (("pause", "paused"), ("unpause", "running"), ("suspend", "suspended"), ("resume", "running"),
                          ("stop", "shutdown"), ("start", "running")):
        driver.power(doc.id, action)
        driver.power(doc.id, action)
        assert driver.state(doc.id) == state
    driver.destroy(doc.id)
    driver.destroy(doc.id)


def test_what_is_not_there_is_said_so(driver: Any, images: Images) -> None:
    doc = server(images.add(EMPTY_DISK))
    with pytest.raises(NotPrepared):
        driver.create(doc)
    for action in ("start", "stop", "reboot_hard", "pause", "press_power_button"):
        with pytest.raises(ServerMissing):
            driver.power(doc.id, action)
    with pytest.raises(ServerMissing):
        driver.unfreeze(doc.id)
    with pytest.raises(ServerMissing):
        driver.console(doc.id, None)


def test_an_action_is_refused_in_a_state_that_does_not_allow_it(driver: Any, images: Images) -> None:
    doc = created(driver, images)
    with pytest.raises(BadState):
        driver.power(doc.id, "start")  # it is paused
    driver.power(doc.id, "stop")
    for action in ("pause", "unpause", "suspend", "resume"):
        with pytest.raises(BadState):
            driver.power(doc.id, action)


def test_destroying_with_the_disks_kept_allows_another_create(driver: Any, images: Images) -> None:
    doc = created(driver, images)
    driver.destroy(doc.id, keep_disks=True)
    assert driver.states() == {doc.id: "missing"}
    driver.create(doc)
    assert driver.state(doc.id) == "paused"


def test_stopping_a_suspended_server_forgets_its_memory(driver: Any, images: Images) -> None:
    doc = created(driver, images)
    driver.unfreeze(doc.id)
    driver.power(doc.id, "suspend")
    driver.power(doc.id, "stop")
    assert driver.state(doc.id) == "shutdown"
    driver.power(doc.id, "start")
    assert driver.state(doc.id) == "running"


def test_a_new_driver_process_takes_up_the_servers(driver: Any, images: Images, kind: str, tmp_path: pathlib.Path) -> None:
    doc = created(driver, images)
    driver.unfreeze(doc.id)
    driver.stop()
    again = make(kind, tmp_path)
    again.start(lambda _server_id: None)
    assert again.states() == {doc.id: "running"}
    assert again.document(doc.id) == doc
    again.destroy(doc.id)
    again.stop()
    driver.start(lambda _server_id: None)


def test_a_change_is_announced(kind: str, tmp_path: pathlib.Path, images: Images) -> None:
    import queue

    heard: queue.Queue[str] = queue.Queue()
    driver = make(kind, tmp_path)
    driver.start(heard.put)
    doc = created(driver, images)
    assert heard.get(timeout=20) == doc.id
    driver.destroy(doc.id)
    driver.stop()
    libvirtd.stop(tmp_path / "libvirt")


def test_the_host_tells_its_resources(driver: Any, images: Images) -> None:
    before = driver.resources()
    assert isinstance(before, HostResources)
    assert before.vcpus > 0
    assert before.memory_mb > 0
    assert before.local_gb > 0
    assert before.cpu_info["arch"] == "x86_64"
    doc = created(driver, images)
    driver.unfreeze(doc.id)
    assert driver.resources().running_vms == before.running_vms + 1


def test_a_flavor_change_takes_effect_with_the_next_start(driver: Any, images: Images) -> None:
    doc = created(driver, images)
    driver.power(doc.id, "stop")
    larger = replace(doc, flavor=replace(doc.flavor, vcpus=2, memory_mb=160))
    driver.prepare(larger)
    driver.power(doc.id, "start", larger)
    assert driver.document(doc.id) == larger


def test_halting_ends_guests_and_keeps_their_files(driver: Any, images: Images, kind: str, tmp_path: pathlib.Path) -> None:
    doc = created(driver, images)
    driver.unfreeze(doc.id)
    driver.stop()
    other = make(kind, tmp_path)
    other.halt(0.0)
    assert not has_device(doc.nics[0].tap)
    driver = make(kind, tmp_path)
    driver.start(lambda _server_id: None)
    assert driver.states() == {doc.id: "shutdown"}
    driver.power(doc.id, "start")
    assert driver.state(doc.id) == "running"
    driver.stop()


def test_removing_everything_leaves_no_server(driver: Any, images: Images, kind: str, tmp_path: pathlib.Path) -> None:
    doc = created(driver, images)
    driver.unfreeze(doc.id)
    driver.stop()
    other = make(kind, tmp_path)
    other.remove_everything()
    assert not has_device(doc.nics[0].tap)
    assert libvirtd.running(tmp_path / "libvirt", "libvirtd") is None
    driver = make(kind, tmp_path)
    driver.start(lambda _server_id: None)
    assert driver.states() == {}
    driver.stop()


@pytest.mark.real
def test_taps_and_files_come_and_go_with_the_guest(tmp_path: pathlib.Path, images: Images) -> None:
    driver = make("libvirt", tmp_path)
    driver.start(lambda _server_id: None)
    doc = created(driver, images, nics=2, config_drive=True, flavor={"ephemeral_gb": 1, "swap_mb": 64})
    directory = tmp_path / "instances" / doc.id
    assert all(has_device(nic.tap) for nic in doc.nics)
    assert {"disk", "disk.eph0", "disk.swap", "disk.config", "server.json"} <= {path.name for path in directory.iterdir()}
    driver.destroy(doc.id)
    assert not any(has_device(nic.tap) for nic in doc.nics)
    assert not directory.exists()
    assert list((tmp_path / "libvirt/etc/qemu").rglob("*.xml")) == []
    driver.stop()
    libvirtd.stop(tmp_path / "libvirt")


def pieces_of(driver: Any, server_id: str, name: str) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while True:
        at, data = driver.read_disk(server_id, name, offset, 1 << 16)
        if not data:
            return
        yield at, data
        offset = at + len(data)


def content_of(driver: Any, server_id: str) -> bytes:
    content = bytearray(driver.disks(server_id)["disk"])
    for at, data in pieces_of(driver, server_id, "disk"):
        content[at : at + len(data)] = data
    return bytes(content)


def test_disks_are_read_in_pieces_and_made_of_them(driver: Any, images: Images) -> None:
    doc = created(driver, images)
    driver.power(doc.id, "stop")
    driver.destroy(doc.id, keep_disks=True)
    sizes = driver.disks(doc.id)
    assert sizes["disk"] > 0
    content = {name: dict(pieces_of(driver, doc.id, name)) for name in sizes}
    driver.destroy(doc.id)
    with pytest.raises(ServerMissing):
        driver.disks(doc.id)
    for name, size in sizes.items():
        for _ in range(2):  # what has arrived is not made again
            driver.write_disk(doc, name, size, iter(content[name].items()))
    driver.prepare(doc)
    assert driver.disks(doc.id) == sizes
    driver.create(doc)
    assert driver.state(doc.id) == "paused"


def test_a_disk_that_does_not_come_whole_is_none(driver: Any, images: Images) -> None:
    doc = server(images.add(EMPTY_DISK))
    driver.fetch_images(doc, images)

    def broken() -> Iterator[tuple[int, bytes]]:
        yield 0, b"x" * 512
        raise DriverFailed("the source is gone")

    with pytest.raises(DriverFailed):
        driver.write_disk(doc, "disk", 1024, broken())
    with pytest.raises(ServerMissing):
        driver.disks(doc.id)


def test_a_kept_copy_takes_the_place_of_what_came_after(driver: Any, images: Images) -> None:
    doc = created(driver, images)
    driver.power(doc.id, "stop")
    driver.destroy(doc.id, keep_disks=True)
    before = content_of(driver, doc.id)
    driver.keep_copy(doc.id)
    driver.keep_copy(doc.id)
    driver.prepare(replace(doc, flavor=replace(doc.flavor, root_gb=2)))
    driver.create(doc)
    for _ in range(2):
        driver.restore_copy(doc.id)
        assert driver.state(doc.id) == "missing"
        assert content_of(driver, doc.id) == before
    driver.create(doc)
    driver.restore_copy(doc.id)
    assert driver.state(doc.id) == "paused", "without a copy nothing happens"
    driver.destroy(doc.id, keep_disks=True)
    driver.keep_copy(doc.id)
    driver.drop_copy(doc.id)
    driver.drop_copy(doc.id)
    driver.create(doc)
    driver.restore_copy(doc.id)
    assert driver.state(doc.id) == "paused"


def test_a_guest_that_cannot_leave_runs_on(driver: Any, images: Images, tmp_path: pathlib.Path) -> None:
    doc = created(driver, images)
    driver.unfreeze(doc.id)
    with pytest.raises(DriverFailed):
        driver.send(doc.id, {"home": str(tmp_path), "vnc": "127.0.0.1"})  # its gangway leads nowhere
    assert driver.state(doc.id) == "running"
    assert driver.sending(doc.id) == {}
    driver.abort_send(doc.id)
    driver.hurry_send(doc.id)
    assert driver.state(doc.id) == "running"


def test_a_host_without_its_disks_receives_no_guest(driver: Any, images: Images) -> None:
    with pytest.raises(NotPrepared):
        driver.receive(server(images.add(EMPTY_DISK)))
    doc = server(images.add(EMPTY_DISK))
    driver.fetch_images(doc, images)
    driver.prepare(doc)
    for _ in range(2):
        driver.receive(doc)
    driver.destroy(doc.id)
    assert not has_device(doc.nics[0].tap)
