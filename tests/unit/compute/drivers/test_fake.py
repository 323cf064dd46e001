"""The fake hypervisor's own features: knobs, guests with a will, a console that is always the same. The contract is tested elsewhere."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from pileus.compute.drivers.base import DriverFailed
from pileus.compute.drivers.fake import FakeDriver, FakeHost
from pileus.kernel import clock
from tests.contracts.compute_servers import Images, server


@pytest.fixture
def fake(tmp_path: pathlib.Path) -> Iterator[FakeDriver]:
    fake = FakeDriver(tmp_path, FakeHost(vcpus=8, memory_mb=1024, local_gb=20))
    fake.start(lambda _server_id: None)
    yield fake
    fake.stop()


@pytest.fixture
def virtual() -> Iterator[clock.VirtualClock]:
    virtual = clock.VirtualClock()
    before = clock.use(virtual)
    yield virtual
    clock.use(before)


def running(fake: FakeDriver):
    doc = server(Images().add(b"x"), flavor={"root_gb": 5})
    fake.prepare(doc)
    fake.create(doc)
    fake.unfreeze(doc.id)
    return doc


def test_a_call_is_as_slow_as_told(fake: FakeDriver, virtual: clock.VirtualClock) -> None:
    fake.delay("create", 7.5)
    before = virtual.monotonic()
    running(fake)
    assert virtual.monotonic() - before == 7.5


def test_a_call_fails_as_often_as_told(fake: FakeDriver) -> None:
    doc = server(None)
    fake.prepare(doc)
    fake.fail("create", "no room", times=2)
    for _ in range(2):
        with pytest.raises(DriverFailed, match="no room"):
            fake.create(doc)
    fake.create(doc)


def test_configured_failures_last(tmp_path: pathlib.Path) -> None:
    fake = FakeDriver(tmp_path, failures={"prepare": "broken"})
    fake.start(lambda _server_id: None)
    for _ in range(2):
        with pytest.raises(DriverFailed, match="broken"):
            fake.prepare(server(None))
    fake.stop()


def test_a_stubborn_guest_ignores_its_power_button(fake: FakeDriver) -> None:
    doc = running(fake)
    fake.ignore_power_button(doc.id)
    fake.power(doc.id, "press_power_button")
    assert fake.state(doc.id) == "running"


def test_what_happens_to_a_guest_is_announced_and_kept(tmp_path: pathlib.Path) -> None:
    heard: list[str] = []
    fake = FakeDriver(tmp_path)
    fake.start(heard.append)
    doc = running(fake)
    heard.clear()
    fake.happen(doc.id, "crashed")
    assert heard == [doc.id]
    fake.stop()
    again = FakeDriver(tmp_path)
    again.start(heard.append)
    assert again.states() == {doc.id: "crashed"}
    again.stop()


def test_the_console_tells_every_boot_in_the_same_words(fake: FakeDriver) -> None:
    doc = running(fake)
    first = fake.console(doc.id, None)
    assert first == fake.console(doc.id, None)
    assert f"instance-id {doc.id}" in first
    fake.power(doc.id, "reboot_hard")
    second = fake.console(doc.id, None)
    assert second.startswith(first)
    assert "boot 2" in second
    assert fake.console(doc.id, 1) == "vm login: \n"
    assert fake.console(doc.id, 0) == ""


def test_servers_use_up_the_host(fake: FakeDriver) -> None:
    running(fake)
    used = fake.resources()
    assert (used.memory_mb_used, used.local_gb_used, used.disk_available_least, used.running_vms) == (128, 5, 15, 1)
