"""Both carriers of the local bus under the contract of any bus, and what is particular to sockets between processes."""

import multiprocessing
import os
import signal
import socket
import threading

import pytest

from pileus.kernel import clock, ids
from pileus.kernel.bus import BusTimeout, BusUnavailable, LocalBus
from pileus.kernel.bus import local as local_module
from pileus.kernel.bus.base import MESSAGE_VERSION, Request, Server
from tests.contracts.bus_contract import BusContract, Ends, until

FORK = multiprocessing.get_context("fork")


class TestBetweenProcesses(BusContract):
    """Buses with a directory: everything goes through sockets, also when both ends are in one test."""

    @pytest.fixture
    def ends(self, tmp_path):
        made = []

        def more():
            made.append(LocalBus(f"node{len(made)}", tmp_path / "bus"))
            return made[-1]

        yield Ends(more(), more(), more)
        for bus in made:
            bus.close()


class TestWithinAProcess(BusContract):
    """One bus without a directory: server and client are the same object."""

    @pytest.fixture
    def ends(self):
        bus = LocalBus("node")
        yield Ends(bus, bus, lambda: bus)
        bus.close()

    def test_a_call_without_an_answer_in_time_is_a_timeout(self):
        pytest.skip("the caller's thread does the work")

    def test_a_cast_reaches_one_server_and_a_fanout_all(self):
        pytest.skip("there is one server")

    def test_a_restarted_server_is_found_again(self):
        pytest.skip("they end together")


def serve_in_a_child(directory, ready, methods):
    bus = LocalBus("child", directory)
    bus.serve("t", methods(bus))
    ready.set()
    signal.pause()


@pytest.fixture
def child(tmp_path):
    """`child(methods)` starts a process that serves topic t."""
    started = []

    def start(methods):
        ready = FORK.Event()
        process = FORK.Process(target=serve_in_a_child, args=(tmp_path / "bus", ready, methods), daemon=True)
        process.start()
        started.append(process)
        assert ready.wait(20)
        return process

    yield start
    for process in started:
        process.kill()
        process.join(10)


@pytest.fixture
def bus(tmp_path):
    bus = LocalBus("client", tmp_path / "bus")
    yield bus
    bus.close()


def test_a_call_reaches_another_process(bus, child):
    process = child(lambda _bus: {"pid": lambda payload: {"pid": os.getpid()}})
    assert bus.call("t", "pid") == {"pid": process.pid}


def test_a_killed_server_leaves_a_socket_that_the_next_caller_clears_away(bus, child, tmp_path):
    process = child(lambda _bus: {"pid": lambda payload: {"pid": os.getpid()}})
    assert bus.call("t", "pid") == {"pid": process.pid}
    process.kill()
    process.join(10)
    assert len(list((tmp_path / "bus" / "t").iterdir())) == 1
    with pytest.raises(BusUnavailable):
        bus.call("t", "pid", timeout=2)
    assert list((tmp_path / "bus" / "t").iterdir()) == []
    again = child(lambda _bus: {"pid": lambda payload: {"pid": os.getpid()}})
    assert bus.call("t", "pid") == {"pid": again.pid}


def test_a_cast_after_the_servers_restart_is_not_lost(bus, child):
    child(lambda _bus: {"pid": lambda payload: {}}).kill()
    first = child(lambda _bus: {"pid": lambda payload: {"pid": os.getpid()}})
    bus.call("t", "pid")
    first.kill()
    first.join(10)
    told = []
    server = LocalBus("server", bus._directory)
    server.serve("t", {"tell": lambda payload: told.append(1)})
    bus.cast("t", "tell")
    until(lambda: told == [1], "the cast has come")
    server.close()


def test_a_server_that_dies_at_work_makes_the_call_unavailable_at_once(bus, child):
    child(lambda _bus: {"die": lambda payload: os._exit(1)})
    with pytest.raises(BusUnavailable):
        bus.call("t", "die", timeout=30)


def test_a_request_that_comes_too_late_is_dropped(bus, child, tmp_path):
    """A stopped process goes on where it was: what was asked for before must not be done any more."""
    log = tmp_path / "log"
    log.touch()

    def methods(_bus):
        return {"do": lambda payload: log.open("a").write("done\n") and {}, "pid": lambda payload: {}}

    process = child(methods)
    bus.call("t", "pid")
    os.kill(process.pid, signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)
    try:
        with pytest.raises(BusTimeout):
            bus.call("t", "do", timeout=0.05)
    finally:
        os.kill(process.pid, signal.SIGCONT)
    assert bus.call("t", "pid") == {}
    assert log.read_text() == ""


def test_a_late_request_is_dropped_by_the_clock_of_its_sender():
    virtual = clock.VirtualClock()
    before = clock.use(virtual)
    try:
        done = []
        server = Server("t", {"do": lambda payload: done.append(1)})
        request = Request(ids.new_id(), "me", MESSAGE_VERSION, "call", "do", 10.0, {})
        sent = clock.monotonic()
        virtual.advance(10.1)
        assert server.handle(request, sent) is None
        assert done == []
    finally:
        clock.use(before)


def test_answers_that_are_remembered_do_not_grow_without_end_and_never_lose_one_at_work():
    server = Server("t", {"do": lambda payload: {}}, remember=3)
    inside, go = threading.Event(), threading.Event()
    count = []

    def slow(payload):
        count.append(1)
        inside.set()
        go.wait(20)
        return {"slow": True}

    server.methods["slow"] = slow
    request = Request("slow-one", "me", MESSAGE_VERSION, "call", "slow", 20.0, {})
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(server.handle(request, clock.monotonic()))) for _ in range(2)]
    threads[0].start()
    assert inside.wait(20)
    for _ in range(20):
        server.handle(Request(ids.new_id(), "me", MESSAGE_VERSION, "call", "do", 10.0, {}), clock.monotonic())
    assert len(server._answers) <= 4
    threads[1].start()
    go.set()
    for thread in threads:
        thread.join(20)
    assert [answer.result for answer in answers] == [{"slow": True}] * 2
    assert count == [1]


def test_a_socket_appears_only_when_it_listens(tmp_path, monkeypatch):
    """Otherwise a caller in between takes it for a dead one's and clears it away."""
    seen = []
    listen = socket.socket.listen

    def looking(self, *arguments):
        seen.extend((tmp_path / "bus" / "t").glob("*.sock"))
        return listen(self, *arguments)

    monkeypatch.setattr(local_module.socket.socket, "listen", looking)
    bus = LocalBus("server", tmp_path / "bus")
    bus.serve("t", {})
    assert seen == []
    assert len(list((tmp_path / "bus" / "t").glob("*.sock"))) == 1
    bus.close()
    assert list((tmp_path / "bus" / "t").iterdir()) == []


def test_a_server_survives_a_lack_of_descriptors(tmp_path, bus, monkeypatch):
    server = LocalBus("server", tmp_path / "bus")
    failing = [OSError(24, "Too many open files")] * 3
    accept = socket.socket.accept

    def poor(self):
        if failing:
            raise failing.pop()
        return accept(self)

    monkeypatch.setattr(local_module.socket.socket, "accept", poor)
    server.serve("t", {"hello": lambda payload: {}})
    assert bus.call("t", "hello") == {}
    server.close()


def test_connections_that_a_busy_moment_opened_are_closed_when_they_are_not_needed(tmp_path, monkeypatch):
    server, client = LocalBus("server", tmp_path), LocalBus("client", tmp_path)
    together = threading.Barrier(6)
    server.serve("t", {"wait": lambda payload: together.wait(20), "go": lambda payload: None})
    try:
        callers = [threading.Thread(target=client.call, args=("t", "wait")) for _ in range(6)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        (idle,) = client._idle.values()
        assert len(idle) == 6
        monkeypatch.setattr(local_module, "_IDLE_SECONDS", 0.0)
        client.call("t", "go")
        assert len(idle) == 1
        until(lambda: len(server._answering) == 1, "the server has let go of them too")
        client.call("t", "go")
    finally:
        client.close()
        server.close()


def test_garbage_on_a_socket_harms_nobody(tmp_path, bus):
    server = LocalBus("server", tmp_path / "bus")
    server.serve("t", {"hello": lambda payload: {}})
    (path,) = (tmp_path / "bus" / "t").glob("*.sock")
    for garbage in (b"\xff\xff\xff\xff", b"\x00\x00\x00\x10" + b"x" * 16, b"\x00"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as raw:
            raw.connect(str(path))
            raw.sendall(garbage)
    assert bus.call("t", "hello") == {}
    server.close()


def test_the_folder_is_private_and_its_path_may_be_long(tmp_path):
    folder = tmp_path / ("x" * 100) / "bus"
    server, client = LocalBus("server", folder), LocalBus("client", folder)
    server.serve("t", {"hello": lambda payload: {}})
    assert client.call("t", "hello") == {}
    assert (folder / "t").stat().st_mode & 0o777 == 0o700
    server.close()
    client.close()
