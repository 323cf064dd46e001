"""Numbers over several processes, of which some have ended."""

import os
import re

import pytest
from room_for_tests import ROOM

from pileus.kernel import metrics
from pileus.kernel.bus import BusUnavailable, LocalBus
from pileus.kernel.loops import Loop, LoopRunner
from pileus.kernel.testing import NOBODY, make_client


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics, "_metrics", None)
    yield tmp_path / "metrics"
    monkeypatch.setattr(metrics, "_metrics", None)


def in_a_process(work):
    """Run something in a forked child that ends; prometheus_client reads its folder from the environ."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def shown(directory, name, **labels):
    text = metrics.exposition(directory)[1].decode()
    for line in text.splitlines():
        found = re.match(rf"{name}(?:\{{(.*)\}})? (\S+)$", line)
        if found and all(f'{key}="{value}"' in (found.group(1) or "") for key, value in labels.items()):
            return float(found.group(2))
    return None


def test_numbers_of_several_processes_are_added_up_and_survive_their_end(directory):
    def count():
        metrics.use(directory)
        for _ in range(3):
            metrics.request("compute", "GET", "200", 0.004)

    for _ in range(2):
        in_a_process(count)
    for _ in range(2):  # the second time from the merged file
        assert shown(directory, "pileus_request_seconds_count", service="compute", method="GET", status="200") == 6
        assert shown(directory, "pileus_request_seconds_count", service="compute", method="GET") == 6
        assert shown(directory, "pileus_request_seconds_bucket", service="compute", le="0.0025") == 0
        assert shown(directory, "pileus_request_seconds_bucket", service="compute", le="0.005") == 6
    in_a_process(count)
    assert shown(directory, "pileus_request_seconds_count", service="compute") == 9
    assert sorted(path.name for path in directory.glob("*.db")) == ["histogram_ended.db"]
    assert directory.stat().st_mode & 0o777 == 0o700


def test_files_of_living_processes_are_left_alone(directory):
    directory.mkdir()

    def count():
        metrics.use(directory)
        metrics.loop_pass("taps", "done", 0.5)
        metrics.exposition(directory)
        assert (directory / f"histogram_{os.getpid()}.db").exists()
        metrics.loop_pass("taps", "done", 0.5)

    in_a_process(count)
    assert shown(directory, "pileus_loop_seconds_count", loop="taps", result="done") == 2
    assert shown(directory, "pileus_loop_seconds_sum", loop="taps") == 1.0


def test_a_made_up_method_gets_no_numbers_of_its_own(directory):
    def count():
        metrics.use(directory)
        for name in ("BREW", "X" * 1000, "GET"):
            metrics.request("compute", name, "405", 0.0)

    in_a_process(count)
    assert shown(directory, "pileus_request_seconds_count", method="other") == 2


def test_requests_loops_calls_and_flows_are_counted(directory, tmp_path):
    def work():
        metrics.use(directory)
        client = make_client(ROOM, home=tmp_path)
        client.get("/v2.1/things")
        client.get("/v2.1/things", as_=NOBODY)
        client.get("/v2.1/things/broken")
        bus = LocalBus("here")
        bus.serve("t", {"hello": lambda payload: {}})
        bus.call("t", "hello")
        try:
            bus.call("nobody", "hello")
        except BusUnavailable:
            pass
        loops = LoopRunner(1)
        loops.add([Loop("failing", 3600.0, lambda subject: 1 / 0)], None)
        loops._pass("failing", True) if loops.nudge("failing") else None
        from pileus.kernel.flows import Flow, Step, run_all
        from pileus.kernel.testing import MEMBER

        with client.service.db.write() as conn:
            client.service.flows.start(conn, "f", resource_id="r", context=MEMBER)
        run_all(client.service, {"f": Flow("f", (Step("a", lambda run: None),))})

    in_a_process(work)
    for status in ("200", "401", "500"):
        assert shown(directory, "pileus_request_seconds_count", service="things", method="GET", status=status) == 1
    assert shown(directory, "pileus_bus_call_seconds_count", method="hello", result="answered") == 1
    assert shown(directory, "pileus_bus_call_seconds_count", method="hello", result="unavailable") == 1
    assert shown(directory, "pileus_loop_seconds_count", loop="failing", result="failed") == 1
    assert shown(directory, "pileus_flow_seconds_count", service="things", kind="f", result="done") == 1


def test_nothing_is_counted_until_asked_for(directory):
    metrics.request("compute", "GET", "200", 0.1)
    assert metrics.exposition(directory)[1] == b""
