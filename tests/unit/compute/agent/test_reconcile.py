"""The host keeps itself, and tells how it is."""

from __future__ import annotations

import pathlib

import pytest

from pileus.compute.drivers.base import DriverFailed
from pileus.kernel.bus import RemoteError
from pileus.kernel.errors import Unavailable
from tests.contracts.compute_servers import server
from tests.unit.compute.agent.conftest import Host, until


@pytest.fixture
def doc(host: Host):
    return server(host.images.add(b"x"))


def test_a_report_tells_states_and_resources(host: Host, doc) -> None:
    host.run(doc)
    host.call("prepare", server(None))
    host.keeper.pull()
    host.keeper.report()
    (report,) = host.controller.reports
    assert report.host == "h"
    assert report.states == {doc.id: "running"}
    assert report.resources.vcpus == 1000
    assert report.version == host.controller.version


def test_nothing_is_reported_before_the_first_pull(host: Host) -> None:
    with pytest.raises(Unavailable):
        host.keeper.report()


def test_the_thread_pulls_reports_and_comes_back_after_failures(host: Host, doc) -> None:
    host.controller.failing = True
    host.run(doc)
    host.keeper.start()
    host.controller.failing = False
    until(lambda: bool(host.controller.reports))
    assert host.controller.asked == [0]


def test_a_guest_that_stops_by_itself_is_reported_at_once(host: Host, doc) -> None:
    host.run(doc)
    host.keeper.start()
    until(lambda: bool(host.controller.reports))
    count = len(host.controller.reports)
    host.driver.happen(doc.id, "shutdown")
    until(lambda: len(host.controller.reports) > count)
    assert host.controller.reports[-1].states == {doc.id: "shutdown"}


def test_what_a_caller_asked_for_is_no_news(host: Host, doc) -> None:
    host.run(doc)
    host.keeper._suspects = {doc.id}
    host.call("power", doc.id, action="stop")
    assert not host.keeper._moved_by_itself()


def test_a_nudge_pulls_only_what_is_new(host: Host, doc) -> None:
    host.run(doc)
    host.keeper.start()
    until(lambda: bool(host.controller.reports))
    host.controller.want(doc)
    host.bus.cast("agent.h", "compute.nudge", {"version": host.controller.version})
    until(lambda: host.keeper._version == host.controller.version)
    pulls = len(host.controller.asked)
    host.bus.call("agent.h", "compute.nudge", {"version": host.controller.version})
    assert not host.keeper._wanted.pull
    assert len(host.controller.asked) == pulls


def test_after_a_boot_of_the_host_guests_run_again_that_should(host: Host, doc) -> None:
    stopped = server(None)
    for each in (doc, stopped):
        host.run(each)
        host.driver.happen(each.id, "shutdown")
    host.controller.want(doc)
    host.controller.want(stopped, "shutdown")
    host.restart()
    host.keeper.pull()
    assert host.driver.states() == {doc.id: "running", stopped.id: "shutdown"}


def test_without_a_boot_a_guest_that_is_off_stays_off(host: Host, doc) -> None:
    host.controller.want(doc)
    host.keeper.pull()
    host.run(doc)
    host.driver.happen(doc.id, "shutdown")
    host.restart()
    host.keeper.pull()
    assert host.driver.state(doc.id) == "shutdown"


@pytest.mark.parametrize(("power", "state"), [("running", "running"), ("shutdown", "shutdown")])
def test_a_guest_that_the_host_has_lost_is_made_again_from_its_disks(host: Host, doc, power: str, state: str) -> None:
    host.run(doc)
    host.driver.destroy(doc.id, keep_disks=True)
    host.controller.want(doc, power)
    host.keeper.pull()
    assert host.driver.state(doc.id) == "missing"  # a call named it just now
    host.later()
    host.keeper._version = 0
    host.keeper.pull()
    assert host.driver.state(doc.id) == state


def test_a_server_without_guest_and_disks_is_reported_missing(host: Host, doc) -> None:
    host.controller.want(doc)
    host.keeper.pull()
    host.keeper.report()
    assert host.controller.reports[-1].states == {doc.id: "missing"}
    host.run(doc)
    host.later()
    host.keeper.report()
    assert host.controller.reports[-1].states == {doc.id: "running"}


def test_a_server_that_a_call_named_lately_is_not_reported_missing(host: Host, doc) -> None:
    host.run(doc)
    host.controller.want(doc)
    host.call("destroy", doc.id)
    host.keeper.pull()
    host.keeper.report()
    assert host.controller.reports[-1].states == {}


def test_a_server_that_is_still_being_built_is_left_to_its_flow(host: Host, doc) -> None:
    host.call("prepare", doc)
    host.controller.want(doc)
    host.restart()
    host.keeper.pull()
    assert host.driver.states() == {doc.id: "missing"}


def test_a_guest_that_came_by_a_migration_whose_end_nobody_told_is_kept_like_any_other(host: Host, doc) -> None:
    host.call("prepare", doc)
    host.call("create", doc)
    host.driver.unfreeze(doc.id)  # as it is when a guest has come: no call has let it run
    assert not host.calls.book.has_begun(doc.id)
    host.controller.want(doc)
    host.restart()
    host.later()
    host.keeper.pull()
    assert host.calls.book.has_begun(doc.id)
    host.driver.destroy(doc.id, keep_disks=True)
    host.later()
    host.keeper._version = 0
    host.keeper.pull()
    assert host.driver.state(doc.id) == "running"


def test_a_destroyed_server_is_not_brought_back_by_an_older_document(host: Host, doc) -> None:
    host.run(doc)
    host.controller.want(doc)
    host.call("destroy", doc.id)
    host.driver.prepare(doc)  # what a late request might leave
    host.later()
    host.keeper.pull()
    assert host.driver.state(doc.id) == "missing"


def test_a_stray_goes_when_two_full_documents_do_not_list_it(host: Host, doc) -> None:
    stray = server(None)
    host.run(doc)
    host.run(stray)
    host.controller.want(doc)
    host.later()
    host.keeper.pull()
    assert stray.id in host.driver.states()
    host.keeper._version = 0
    host.keeper.pull()
    assert host.driver.states() == {doc.id: "running"}


def test_a_stray_that_is_in_use_stays(host: Host, doc) -> None:
    stray = server(None)
    host.run(doc)
    host.controller.want(doc)
    host.later()
    host.run(stray)
    for _ in range(3):
        host.keeper._version = 0
        host.keeper.pull()
    assert stray.id in host.driver.states()


def test_empty_old_and_failing_documents_remove_nothing(host: Host, doc) -> None:
    host.run(doc)
    host.later()
    for _ in range(3):
        host.keeper._version = 0
        host.keeper.pull()
    assert host.driver.states() == {doc.id: "running"}
    host.keeper._version = 100
    host.controller.gone = [doc.id]
    host.controller.full = False
    host.keeper.pull()
    assert host.driver.states() == {doc.id: "running"}
    host.controller.failing = True
    with pytest.raises(RemoteError):
        host.keeper.pull()
    assert host.driver.states() == {doc.id: "running"}


def test_what_is_gone_is_removed(host: Host, doc) -> None:
    host.run(doc)
    host.later()
    host.keeper.pull()
    host.controller.version += 1
    host.controller.gone = [doc.id]
    host.keeper.pull()
    assert host.driver.states() == {}
    assert host.controller.asked == [0, 1]


def test_what_is_gone_and_in_use_goes_with_a_later_report(host: Host, doc) -> None:
    host.run(doc)
    host.keeper.pull()
    host.controller.version += 1
    host.controller.gone = [doc.id]
    host.keeper.pull()
    host.keeper.report()
    assert host.driver.states() == {doc.id: "running"}  # a call has named it a moment ago
    host.controller.gone = []
    host.later()
    host.keeper.report()
    assert host.driver.states() == {}


def test_one_servers_failure_does_not_keep_the_others(host: Host, doc, tmp_path: pathlib.Path) -> None:
    other = server(None)
    for each in (doc, other):
        host.run(each)
        host.driver.happen(each.id, "shutdown")
        host.controller.want(each)
    host.later()
    before = host.driver.power

    def picky(server_id: str, *rest) -> None:
        if server_id == doc.id:
            raise DriverFailed("no")
        before(server_id, *rest)

    host.driver.power = picky
    host.keeper.pull()
    assert host.driver.states() == {doc.id: "shutdown", other.id: "running"}
