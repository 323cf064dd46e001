"""What hosts say to each other while a server moves, and what a host leaves alone meanwhile."""

from __future__ import annotations

import pathlib
import socket
import threading
from collections.abc import Iterator

import pytest

from pileus.compute.agent import tunnel
from pileus.compute.agent.disks import HttpsCarrier
from pileus.compute.agent.jobs import Job
from pileus.compute.drivers.base import DriverFailed, Gangway
from pileus.compute.drivers.fake import FakeDriver
from pileus.compute.wire import DesiredServer
from tests.contracts.compute_servers import server
from tests.unit.compute.agent.conftest import Host


@pytest.fixture
def doc(host: Host):
    return server(host.images.add(b"x"))


@pytest.fixture
def source(host: Host, doc, tmp_path: pathlib.Path) -> Iterator[HttpsCarrier]:
    host.run(doc)
    host.driver.write_inside(doc.id, "content")
    made = HttpsCarrier(host.driver, "127.0.0.1", 0, tmp_path / "agent")
    yield made
    made.stop()


@pytest.fixture
def destination(tmp_path: pathlib.Path) -> Iterator[FakeDriver]:
    driver = FakeDriver(tmp_path / "other")
    driver.start(lambda _server_id: None)
    yield driver
    driver.stop()


def job() -> Job:
    return Job("id", "fetch")


def test_disks_go_to_who_was_told_of_the_offer(source: HttpsCarrier, destination: FakeDriver, doc, tmp_path: pathlib.Path) -> None:
    offer = source.offer(doc.id, "token")
    fetching = HttpsCarrier(destination, "127.0.0.1", 0, tmp_path)
    fetching.fetch(job(), doc, offer)
    assert destination.read_inside(doc.id) == "content"
    assert list((tmp_path / "agent").glob("*")) == [], "the key is nowhere on disk"


@pytest.mark.parametrize(
    ("change", "words"), [({"token": "guess"}, "status 403"), ({"fingerprint": "0" * 64}, "is not the host that made the offer")]
)
def test_nobody_else_gets_or_gives_disks(source: HttpsCarrier, destination: FakeDriver, doc, tmp_path: pathlib.Path, change, words) -> None:
    offer = {**source.offer(doc.id, "token"), **change}
    with pytest.raises(DriverFailed, match=words):
        HttpsCarrier(destination, "127.0.0.1", 0, tmp_path).fetch(job(), doc, offer)
    assert destination.states() == {}


def test_an_offer_is_for_one_server(source: HttpsCarrier, destination: FakeDriver, doc, tmp_path: pathlib.Path, host: Host) -> None:
    other = server(host.images.add(b"y"))
    host.run(other)
    offer = source.offer(doc.id, "token")
    source.offer(other.id, "another")
    with pytest.raises(DriverFailed, match="403"):
        HttpsCarrier(destination, "127.0.0.1", 0, tmp_path).fetch(job(), other, offer)


def test_nothing_listens_once_the_last_offer_is_withdrawn(source: HttpsCarrier, doc) -> None:
    offer = source.offer(doc.id, "token")
    with socket.create_connection(("127.0.0.1", offer["port"])):
        pass
    source.withdraw(doc.id)
    source.withdraw(doc.id)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", offer["port"]))
    again = source.offer(doc.id, "token")
    assert again["fingerprint"] != offer["fingerprint"]


def test_a_cancelled_job_stops_fetching(source: HttpsCarrier, destination: FakeDriver, doc, tmp_path: pathlib.Path) -> None:
    cancelled = job()
    cancelled.cancelled.set()
    with pytest.raises(DriverFailed, match="not needed"):
        HttpsCarrier(destination, "127.0.0.1", 0, tmp_path).fetch(cancelled, doc, source.offer(doc.id, "token"))


def test_a_gangway_carries_much_both_ways_and_closes(tmp_path: pathlib.Path) -> None:
    directory = pathlib.Path(tmp_path / "way")
    inside, outside = socket.socketpair()
    gangway = Gangway(directory, {"memory": directory / "memory"})
    sent = bytes(range(256)) * 20_000

    def echo() -> None:
        left = len(sent)
        while left:
            data = outside.recv(1 << 16)
            outside.sendall(data)
            left -= len(data)
        outside.close()

    threading.Thread(target=echo, daemon=True).start()
    with tunnel.local_ends(gangway, lambda _name: inside):
        assert directory.stat().st_mode & 0o077 == 0
        assert (directory / "memory").stat().st_mode & 0o077 == 0
        way = tunnel.reach(directory / "memory")
        threading.Thread(target=way.sendall, args=(sent,), daemon=True).start()
        came = b""
        while data := way.recv(1 << 16):
            came += data
        assert came == sent
    assert not directory.exists()


def test_a_kept_server_is_neither_started_nor_removed_nor_missed(host: Host, doc) -> None:
    host.run(doc)
    host.driver.destroy(doc.id, keep_disks=True)
    host.later()
    host.controller.version += 1
    host.controller.servers[doc.id] = DesiredServer(id=doc.id, power_state="running", doc=doc, kept=True)
    for _ in range(3):
        host.keeper._version = 0
        host.keeper.pull()
    host.keeper.report()
    assert host.driver.states() == {doc.id: "missing"}
    assert host.controller.reports[-1].states == {}
    host.controller.servers[doc.id] = DesiredServer(id=doc.id, power_state="running", doc=doc)
    host.keeper._version = 0
    host.keeper.pull()
    assert host.driver.states() == {doc.id: "running"}


def test_a_host_that_is_back_removes_at_once_what_went_elsewhere_and_keeps_the_rest(host: Host, doc) -> None:
    other = server(host.images.add(b"z"))
    host.run(doc)
    host.run(other)
    host.restart()
    host.later()
    host.controller.version += 1
    host.controller.servers.pop(doc.id, None)
    host.controller.want(other)
    host.controller.gone = [doc.id]
    host.keeper.pull()
    assert host.driver.states() == {other.id: "running"}
