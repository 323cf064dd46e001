"""The controller's own housekeeping for every service."""

import sys
from pathlib import Path

import pytest

from pileus.kernel import clock, desired
from pileus.kernel.flows import Flow, Step, run_all, store
from pileus.kernel.testing import MEMBER, make_client
from pileus.server import controller

sys.path.insert(0, str(Path(__file__).parents[1] / "kernel"))
from room_for_tests import ROOM  # noqa: E402


@pytest.fixture
def service():
    client = make_client(ROOM)
    yield client.service
    client.close()


def test_old_tombstones_of_every_host_are_forgotten(service, monkeypatch):
    monkeypatch.setattr(desired, "KEEP_TOMBSTONES", 1)
    with service.db.write() as conn:
        for host in ("h1", "h2"):
            desired.touch(conn, host, "port", ["a", "b"])
            desired.drop(conn, host, "port", ["a"])
            for _ in range(3):
                desired.touch(conn, host, "port", ["b"])
    controller.forget_tombstones(service)
    with service.db.read() as conn:
        assert [desired.version_of(conn, host) for host in ("h1", "h2")] == [5, 5]
        assert [desired.changes(conn, host, 1).full for host in ("h1", "h2")] == [True, True]


def test_ended_flows_are_kept_for_a_week(service):
    virtual = clock.VirtualClock()
    before = clock.use(virtual)
    try:
        with service.db.write() as conn:
            service.flows.start(conn, "f", resource_id="r", context=MEMBER)
        run_all(service, {"f": Flow("f", (Step("a", lambda run: None),))})
        for days, left in ((6.9, 1), (0.2, 0)):
            virtual.advance(days * 86400)
            controller.forget_flows(service)
            with service.db.read() as conn:
                assert len(store.timeline(conn, "r")) == left
    finally:
        clock.use(before)
