"""RabbitMQ under the contract of any bus, and what is particular to a broker: it is killed, and comes back."""

import contextlib
import multiprocessing
import os
import signal
import threading

import pytest

pytest.importorskip("kombu")

from pileus.kernel import clock, ids
from pileus.kernel.bus import BusTimeout, BusUnavailable
from pileus.kernel.bus.base import MESSAGE_VERSION, Request
from pileus.kernel.bus.rabbitmq import RabbitBus
from pileus.kernel.config import BusOptions
from tests.brokers import RabbitMQ
from tests.contracts.bus_contract import BusContract, Ends, until
from tools.cloud import free_port

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def broker():
    broker = RabbitMQ()
    yield broker
    broker.stop()


@contextlib.contextmanager
def buses(broker, **options):
    """`more()` makes buses; all are closed and their queues deleted at the end."""
    made = []
    settings = BusOptions(**{"url": broker.url, **options})

    def more():
        made.append(RabbitBus(f"node{len(made)}", settings))
        return made[-1]

    try:
        yield more
    finally:
        for bus in made:
            bus.close()
        broker.forget("pileus.t", "pileus.notifications")


@pytest.fixture
def more(broker):
    with buses(broker) as more:
        yield more


class TestOverRabbitMQ(BusContract):
    @pytest.fixture
    def ends(self, more):
        return Ends(more(), more(), more)


class TestOverQuorumQueuesAndMutualTLS(BusContract):
    @pytest.fixture
    def ends(self, broker):
        tls = {"url": broker.tls_url, "ca": broker.ca, "certificate": broker.certificate, "key": broker.key}
        with buses(broker, quorum=True, prefetch=4, **tls) as more:
            yield Ends(more(), more(), more)


def patiently(action, seconds=60):
    deadline = clock.monotonic() + seconds
    while True:
        try:
            return action()
        except (BusUnavailable, BusTimeout):
            if clock.monotonic() > deadline:
                raise
            threading.Event().wait(0.05)


def test_everything_recovers_by_itself_after_the_broker_was_killed(broker, more):
    server, client = more(), more()
    done, told = [], []
    server.serve("t", {"do": lambda payload: done.append(payload["n"]) or payload, "tell": lambda payload: told.append(payload["n"])})
    assert client.call("t", "do", {"n": 1}) == {"n": 1}
    broker.kill()
    try:
        until(lambda: client._state == "away" and server._state == "away", "the loss is noticed")
        for _ in range(3):
            with pytest.raises(BusUnavailable):
                client.call("t", "do", {"n": 0}, timeout=3600)
        client.cast("t", "tell", {"n": 1})
        client.fanout("t", "tell", {"n": 2})
    finally:
        broker.start()
    assert patiently(lambda: client.call("t", "do", {"n": 2})) == {"n": 2}
    until(lambda: 1 in told, "the cast that was kept has come")
    client.fanout("t", "tell", {"n": 3})
    until(lambda: 3 in told, "a later fanout has come")
    assert done == [1, 2]
    assert told.count(1) == 1


def test_queued_casts_survive_the_brokers_death_when_it_has_confirmed_them(broker, more):
    server, client, told = more(), more(), []
    server.serve("t", {"tell": lambda payload: told.append(payload["n"])})
    server.close()
    for number in range(50):
        client.cast("t", "tell", {"n": number})
    assert client.settle(20)
    assert broker.queue("pileus.t")[0] == 50
    broker.kill()
    broker.start()
    again = more()
    again.serve("t", {"tell": lambda payload: told.append(payload["n"])})
    until(lambda: len(told) >= 50, "all casts have come")
    assert told == list(range(50))


def test_a_call_under_way_when_the_connection_breaks_is_done_once_and_answered(broker, more):
    server, client = more(), more()
    started, go, done, answers = threading.Event(), threading.Event(), [], []

    def work(payload):
        started.set()
        go.wait(30)
        done.append(1)
        return {"n": len(done)}

    server.serve("t", {"work": work})
    thread = threading.Thread(target=lambda: answers.append(client.call("t", "work", timeout=60)))
    thread.start()
    assert started.wait(20)
    for bus in (server, client):
        sever(bus)
    until(lambda: works(client) and works(server) and broker.queue("pileus.t")[1] == 1, "both are connected again")
    go.set()
    thread.join(30)
    assert answers == [{"n": 1}]
    assert done == [1]


def test_a_call_sent_again_is_done_once_among_several_servers(broker, more):
    servers, client = [more(), more(), more()], more()
    started, go, done, ends = threading.Event(), threading.Event(), [], []

    def work(payload):
        done.append(1)
        started.set()
        go.wait(30)

    def ask():
        try:
            ends.append(client.call("t", "work", timeout=60))
        except BusUnavailable:
            ends.append("unavailable")

    for server in servers:
        server.serve("t", {"work": work})
    thread = threading.Thread(target=ask)
    thread.start()
    assert started.wait(20)
    for _ in range(4):
        sever(client)
        until(lambda: works(client), "the caller is connected again")
    go.set()
    thread.join(30)
    assert done == [1]
    assert ends in ([None], ["unavailable"])


def sever(bus):
    """Break the connection of a bus as a network does."""
    lost = threading.Event()

    def cut(link):
        lost.set()
        raise ConnectionResetError("cut by the test")

    bus._tasks.append(cut)
    bus._notice()
    assert lost.wait(20)


def works(bus):
    """Whether the thread of a bus has a connection again."""
    passed = threading.Event()
    bus._tasks.append(lambda link: passed.set())
    bus._notice()
    return passed.wait(0.1)


def test_a_call_under_way_fails_in_its_time_when_the_broker_is_killed(broker, more):
    server, client = more(), more()
    started, go, failed = threading.Event(), threading.Event(), []

    def work(payload):
        started.set()
        go.wait(60)

    def ask():
        try:
            client.call("t", "work", timeout=3600)
        except BusUnavailable as error:
            failed.append(error)

    server.serve("t", {"work": work})
    thread = threading.Thread(target=ask)
    thread.start()
    assert started.wait(20)
    broker.kill()
    try:
        thread.join(60)
        assert len(failed) == 1
    finally:
        go.set()
        broker.start()


def test_a_broker_that_says_nothing_holds_up_nobody_beyond_his_time(broker, more):
    server, client, told = more(), more(), []
    server.serve("t", {"hello": lambda payload: {}, "tell": lambda payload: told.append(1)})
    assert client.call("t", "hello") == {}
    broker.signal(signal.SIGSTOP)
    try:
        for _ in range(3):
            with pytest.raises((BusTimeout, BusUnavailable)):
                client.call("t", "hello", timeout=0.3)
        client.cast("t", "tell")
    finally:
        broker.signal(signal.SIGCONT)
    assert patiently(lambda: client.call("t", "hello")) == {}
    until(lambda: told == [1], "the cast has come")


def serve_in_a_child(url, ready, log):
    bus = RabbitBus("child", BusOptions(url=url))
    bus.serve("t", {"do": lambda payload: log.open("a").write("done\n") and {}, "pid": lambda payload: {}})
    ready.set()
    signal.pause()


def test_a_request_that_lay_in_a_stopped_process_is_dropped(broker, more, tmp_path):
    """A stopped process goes on where it was: what was asked for before must not be done any more."""
    fork, log = multiprocessing.get_context("fork"), tmp_path / "log"
    log.touch()
    ready = fork.Event()
    process = fork.Process(target=serve_in_a_child, args=(broker.url, ready, log), daemon=True)
    process.start()
    try:
        assert ready.wait(20)
        client = more()
        assert client.call("t", "pid") == {}
        os.kill(process.pid, signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        with pytest.raises(BusTimeout):
            client.call("t", "do", timeout=0.2)
        stall = clock.monotonic() + 1.7  # a shorter stop passes for a busy machine
        until(lambda: clock.monotonic() > stall, "the process has been stopped for long enough")
        os.kill(process.pid, signal.SIGCONT)
        assert client.call("t", "pid") == {}
        assert log.read_text() == ""
    finally:
        process.kill()
        process.join(10)


def test_a_server_that_goes_away_at_work_makes_the_call_unavailable_and_nobody_else_does_it(more):
    first, client = more(), more()
    started, go, failed, done = threading.Event(), threading.Event(), [], []
    first.serve("t", {"work": lambda payload: started.set() or go.wait(60)})

    def ask():
        try:
            client.call("t", "work", timeout=3600)
        except BusUnavailable as error:
            failed.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert started.wait(20)
    second = more()
    second.serve("t", {"work": lambda payload: done.append(1)})
    first.close()
    thread.join(60)
    go.set()
    assert len(failed) == 1
    assert done == []
    assert client.call("t", "work") is None, "a new call is done by who is left"
    assert done == [1]


def test_without_a_broker_calls_fail_at_once_and_casts_go_with_their_time():
    virtual = clock.VirtualClock()
    bus = RabbitBus("alone", BusOptions(url=f"amqp://guest:guest@127.0.0.1:{free_port()}/"))
    before = clock.use(virtual)
    try:
        with pytest.raises(BusUnavailable):
            bus.call("t", "x", timeout=3600)
        for number in range(1100):
            bus.cast("t", "x", {"n": number})
        bus.serve("t", {})
        assert len(bus._outbox) <= 1000
        virtual.advance(31)
        assert bus.settle(20), "no cast is kept beyond its time"
        assert not bus._outbox
    finally:
        clock.use(before)
        bus.close()


def test_the_password_is_in_no_message(caplog):
    bus = RabbitBus("alone", BusOptions(url=f"amqp://guest:verysecret@127.0.0.1:{free_port()}/"))
    with pytest.raises(BusUnavailable) as caught:
        bus.call("t", "x", timeout=20)
    bus.close()
    assert "127.0.0.1" in str(caught.value)
    assert "verysecret" not in str(caught.value) + caplog.text


def test_the_second_broker_of_a_list_is_taken_when_the_first_is_away(broker):
    url = f"amqp://guest:guest@127.0.0.1:{free_port()}/;{broker.url}"
    with buses(broker, url=url) as more:
        server = more()
        server.serve("t", {"hello": lambda payload: {}})
        client = more()
        assert patiently(lambda: client.call("t", "hello")) == {}


def test_a_repeated_cast_is_done_once(more):
    server, client, told = more(), more(), []
    server.serve("t", {"tell": lambda payload: told.append(payload["n"])})
    request = Request(ids.new_id(), "me", MESSAGE_VERSION, "cast", "tell", 30.0, {"n": 1})
    client._cast("t", request)
    client._cast("t", request)
    client._fanout("t", request)
    client.cast("t", "tell", {"n": 2})
    until(lambda: 2 in told, "the last cast has come")
    assert told == [1, 2]


def test_a_request_whose_time_is_over_is_not_delivered(more):
    server, client, told = more(), more(), []
    server.serve("t", {"tell": lambda payload: told.append(payload["n"])})
    server.close()
    request = Request(ids.new_id(), "me", MESSAGE_VERSION, "cast", "tell", 0.2, {"n": 1})
    client._cast("t", request)
    assert client.settle(20)
    threading.Event().wait(0.3)  # the broker counts these seconds
    again = more()
    again.serve("t", {"tell": lambda payload: told.append(payload["n"])})
    client.cast("t", "tell", {"n": 2})
    until(lambda: told, "the second cast has come")
    assert told == [2]


def test_a_queue_with_other_properties_is_used_as_it_is(broker, more, caplog):
    broker.queue("pileus.t", durable=True)
    server, client = more(), more()
    server.serve("t", {"hello": lambda payload: {}})
    assert client.call("t", "hello") == {}
    assert "pileus.t is there with other properties" in caplog.text


def test_garbage_in_a_queue_harms_nobody(broker, more):
    import amqp

    server, client = more(), more()
    server.serve("t", {"hello": lambda payload: {}})
    with amqp.Connection(f"127.0.0.1:{broker.port}") as connection:
        channel = connection.channel()
        for body in (b"", b"\xff\xff", b"\x93\x01\x02"):
            channel.basic_publish(amqp.Message(body), "", "pileus.t")
            channel.basic_publish(amqp.Message(body), "pileus.fanout", "t")
    assert client.call("t", "hello") == {}
    until(lambda: broker.queue("pileus.t") == (0, 1), "the queue is empty")
