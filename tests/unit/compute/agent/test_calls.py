"""The bus calls of a host."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest

from pileus.compute.agent import calls as module
from pileus.kernel.bus import RemoteError
from tests.contracts.compute_servers import server
from tests.unit.compute.agent.conftest import Host, until


@pytest.fixture
def doc(host: Host):
    return server(host.images.add(b"x"))


@contextlib.contextmanager
def refused(kind: str) -> Iterator[None]:
    with pytest.raises(RemoteError) as caught:
        yield
    assert caught.value.kind == kind


def test_a_server_is_built_used_and_destroyed(host: Host, doc) -> None:
    host.run(doc)
    for action, state in (("pause", "paused"), ("unpause", "running"), ("suspend", "suspended"), ("resume", "running"), ("stop", "shutdown"),
                          ("start", "running"), ("reboot_hard", "running")):
        assert host.call("power", doc.id, action=action) == {"power_state": state, "done": True, "error": None}
    assert host.call("state", doc.id) == {"power_state": "running", "prepared": True}
    assert host.call("console", doc.id, length=1)["output"] == "vm login: \n"
    assert host.call("destroy", doc.id) == {}
    assert host.call("destroy", doc.id) == {}
    assert host.call("state", doc.id) == {"power_state": "missing", "prepared": False}


def test_a_guest_that_died_before_its_first_moment_is_started(host: Host, doc) -> None:
    host.call("prepare", doc)
    host.call("create", doc)
    host.driver.happen(doc.id, "crashed")
    assert host.call("resume", doc.id) == {"power_state": "running"}
    host.driver.happen(doc.id, "shutdown")
    assert host.call("resume", doc.id) == {"power_state": "shutdown"}  # a repeated request; the guest has switched itself off


@pytest.mark.parametrize("action", ["start", "resume"])
def test_a_start_that_was_broken_off_before_the_guests_first_moment_is_finished(host: Host, doc, action: str) -> None:
    host.run(doc)
    host.call("power", doc.id, action="stop" if action == "start" else "suspend")
    host.driver.happen(doc.id, "paused")
    assert host.call("power", doc.id, action=action) == {"power_state": "running", "done": True, "error": None}


def test_a_lower_epoch_is_refused_also_after_a_restart(host: Host, doc) -> None:
    host.run(doc, epoch=7)
    with refused("StaleEpoch"):
        host.call("power", doc.id, 6, action="stop")
    host.restart()
    with refused("StaleEpoch"):
        host.call("destroy", doc.id, 6)
    assert host.call("power", doc.id, 7, action="stop")["power_state"] == "shutdown"
    host.call("destroy", doc.id, 8)
    with refused("StaleEpoch"):
        host.call("create", doc, 7)


def test_errors_have_names(host: Host, doc) -> None:
    with refused("NotPrepared"):
        host.call("create", doc)
    with refused("ServerMissing"):
        host.call("power", doc.id, action="stop")
    host.run(doc)
    host.call("power", doc.id, action="pause")
    with refused("BadState"):
        host.call("power", doc.id, action="start")
    with refused("Invalid"):
        host.call("power", doc.id, action="explode")


def test_a_download_goes_on_in_the_background(host: Host, doc) -> None:
    gate = threading.Event()
    fetch = host.driver.fetch_images
    ready = threading.Event()
    host.driver.images_ready = lambda _doc: ready.is_set()

    def slow(doc, source) -> None:
        assert gate.wait(20)
        fetch(doc, source)
        ready.set()

    host.driver.fetch_images = slow
    assert host.call("prepare", doc) == {"state": "fetching", "error": None}
    assert host.call("prepare", doc) == {"state": "fetching", "error": None}
    assert host.controller.woken == []
    gate.set()
    until(lambda: host.controller.woken == [doc.id])
    assert host.call("prepare", doc) == {"state": "ready", "error": None}


def test_a_failed_download_is_told_once_and_can_be_repeated(host: Host, doc) -> None:
    host.driver.fail("fetch_images", "checksum differs")
    assert host.call("prepare", doc)["state"] == "fetching"
    until(lambda: host.controller.woken == [doc.id])
    assert host.call("prepare", doc) == {"state": "failed", "error": "checksum differs"}
    assert host.call("prepare", doc)["state"] == "ready"


def test_what_cannot_be_prepared_says_why(host: Host, doc) -> None:
    host.driver.fail("prepare", "disk full")
    assert host.call("prepare", doc) == {"state": "failed", "error": "disk full"}


def test_a_guest_that_obeys_is_shut_down_at_once(host: Host, doc) -> None:
    host.run(doc)
    assert host.call("power", doc.id, action="shutdown_graceful", timeout=60) == {"power_state": "shutdown", "done": True, "error": None}
    assert host.call("power", doc.id, action="shutdown_graceful", timeout=60)["done"]
    host.call("power", doc.id, action="start")
    assert host.call("power", doc.id, action="reboot_soft", timeout=60) == {"power_state": "running", "done": True, "error": None}


@pytest.mark.parametrize(("action", "state"), [("shutdown_graceful", "shutdown"), ("reboot_soft", "running")])
def test_a_guest_that_does_not_obey_is_forced_after_its_time(host: Host, doc, action: str, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.01)
    host.run(doc)
    host.driver.ignore_power_button(doc.id)
    assert host.call("power", doc.id, action=action, timeout=0.05) == {"power_state": "running", "done": False, "error": None}
    until(lambda: host.controller.woken == [doc.id])
    boots = host.driver.console(doc.id, None).count("login:")
    for _ in range(2):
        assert host.call("power", doc.id, action=action, timeout=0.05) == {"power_state": state, "done": True, "error": None}
    assert host.driver.console(doc.id, None).count("login:") == boots == (2 if action == "reboot_soft" else 1)


def test_a_second_soft_reboot_is_another_one(host: Host, doc) -> None:
    host.run(doc)
    for epoch in (2, 3):
        host.call("power", doc.id, epoch, action="reboot_soft")
    assert host.driver.console(doc.id, None).count("login:") == 3


def test_a_destroy_does_not_wait_for_a_graceful_shutdown(host: Host, doc) -> None:
    host.run(doc)
    host.driver.ignore_power_button(doc.id)
    assert not host.call("power", doc.id, action="shutdown_graceful", timeout=3600)["done"]
    host.call("destroy", doc.id)
    assert host.driver.states() == {}
    assert host.controller.woken == []


def test_calls_of_one_server_happen_one_after_the_other(host: Host, doc) -> None:
    host.run(doc)
    inside = threading.Semaphore(1)
    beside: list[bool] = []
    before = host.driver.power

    def watched(*arguments) -> None:
        beside.append(not inside.acquire(blocking=False))
        before(*arguments)
        inside.release()

    host.driver.power = watched
    threads = [threading.Thread(target=host.call, args=("power", doc.id), kwargs={"action": "reboot_hard"}) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert beside == [False] * 8
    assert not host.calls.busy(doc.id)
