"""Nodes on RabbitMQ: each is a user by its certificate, speaks for its own host alone, and is out when its user is."""

import pathlib
import threading

import pytest

pytest.importorskip("kombu")

from pileus.kernel.bus import BusTimeout, BusUnavailable, RemoteError
from pileus.kernel.bus.management import Management
from pileus.kernel.bus.rabbitmq import RabbitBus
from pileus.kernel.bus.sender import user_of_node
from pileus.kernel.certificates import Authority, new_request
from pileus.kernel.config import BusOptions
from tests.brokers import RabbitMQ
from tests.contracts.bus_contract import until
from tools.cloud import TOP

pytestmark = pytest.mark.timeout(240)


class World:
    """A broker, its management, and buses of controllers and nodes."""

    def __init__(self, broker: RabbitMQ, folder: pathlib.Path) -> None:
        self.broker, self.folder = broker, folder
        self.management = Management(BusOptions(url=broker.tls_url, management=broker.management_url))
        self.made: list[RabbitBus] = []
        self.topics: set[str] = set()

    def controller(self) -> RabbitBus:
        broker = self.broker
        return self._bus("controller", certificate=broker.certificate, key=broker.key)

    def node(self, name: str, membership: str = "0000aaaa", *, known: bool = True, authority: Authority | None = None) -> RabbitBus:
        user = user_of_node(membership, name)
        if known:
            self.management.make(user)
        key, request = new_request(name)
        signed = (authority or Authority.load(self.broker.folder)).client(user, request, 1)
        (self.folder / f"{user}.pem").write_bytes(signed.pem)
        (self.folder / f"{user}.key").write_bytes(key)
        return self._bus(name, certificate=str(self.folder / f"{user}.pem"), key=str(self.folder / f"{user}.key"))

    def _bus(self, node: str, **options: str) -> RabbitBus:
        self.made.append(RabbitBus(node, BusOptions(url=self.broker.tls_url, ca=self.broker.ca, **options)))
        return self.made[-1]

    def close(self) -> None:
        for bus in self.made:
            bus.close()
        for user in self.management.nodes():
            self.management.remove(user)
        self.broker.forget("pileus.t", "pileus.agent.t", "pileus.notifications", "pileus.controller.t", "pileus.agent.one", "pileus.agent.two")


@pytest.fixture(scope="module")
def broker():
    broker = RabbitMQ(managed=True)
    yield broker
    broker.stop()


@pytest.fixture
def world(broker, tmp_path):
    world = World(broker, tmp_path)
    yield world
    world.close()


@pytest.fixture
def controller(world):
    bus = world.controller()
    bus.told = []
    bus.serve("controller.t", {"report": lambda payload: bus.told.append(payload) or {"heard": payload["host"]}, "nudge": bus.told.append})
    return bus


def refused(action):
    with pytest.raises(RemoteError) as caught:
        action()
    assert caught.value.kind == "Forbidden"
    return caught.value.message


def test_the_broker_is_configured_as_the_page_for_operators_says(broker):
    def settings(lines):
        pairs = (line.split(" = ", 1) for line in lines if " = " in line)
        named = {name.strip(): value for name, value in pairs}
        return {name: value for name, value in named.items() if name.startswith(("ssl", "auth")) and not name.endswith("file")}

    page = (TOP / "docs/operate/nodes.md").read_text().splitlines()
    assert settings(page) == settings((broker.folder / "rabbitmq.conf").read_text().splitlines())


def test_a_node_is_heard_for_its_own_host_and_for_no_other(world, controller):
    one = world.node("one")
    assert one.call("controller.t", "report", {"host": "one"}) == {"heard": "one"}
    assert "speaks for itself" in refused(lambda: one.call("controller.t", "report", {"host": "two"}))
    refused(lambda: one.call("controller.t", "report", {}))
    refused(lambda: one.call("controller.t", "nudge"))
    one.cast("controller.t", "report", {"host": "two", "n": 1})
    one.cast("controller.t", "report", {"host": "one", "n": 2})
    until(lambda: len(controller.told) == 2, "the cast of its own has come")
    assert [(told["host"], told.get("n")) for told in controller.told] == [("one", None), ("one", 2)]


def test_a_node_does_what_controllers_ask_and_nothing_that_a_node_asks(world, controller):
    one, two = world.node("one"), world.node("two")
    done = []
    one.serve("agent.one", {"order": lambda payload: done.append(payload) or {"done": len(done)}})
    assert controller.call("agent.one", "order", {"by": "controller"}) == {"done": 1}
    refused(lambda: two.call("agent.one", "order", {"host": "two"}))
    refused(lambda: two.call("agent.one", "order", {"host": "one"}))
    two.cast("agent.one", "order", {"host": "one"})
    controller.fanout("agent.one", "order", {"by": "fanout"})
    until(lambda: {"by": "fanout"} in done, "the fanout has come")
    assert done == [{"by": "controller"}, {"by": "fanout"}]


def test_a_node_cannot_take_what_is_meant_for_others(world, controller):
    one, two = world.node("one"), world.node("two")
    two.serve("agent.two", {"order": lambda payload: {"by": "two"}})
    stolen = []
    methods = {"order": stolen.append, "report": stolen.append, "notify": stolen.append}
    topics = ("agent.two", "controller.t", "notifications")
    threads = [threading.Thread(target=world.node("one").serve, args=(topic, methods)) for topic in topics]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(5):
        assert controller.call("agent.two", "order") == {"by": "two"}
        assert one.call("controller.t", "report", {"host": "one"}) == {"heard": "one"}
    controller.notify("event", {})
    assert controller.settle(20)
    assert not stolen


def test_a_message_cannot_carry_another_users_name(world, controller):
    one = world.node("one")
    assert one.call("controller.t", "report", {"host": "one"}) == {"heard": "one"}
    for name in ("guest", user_of_node("0000aaaa", "two")):
        one._tasks.append(lambda link, name=name: setattr(link, "_user", name))
        with pytest.raises((BusUnavailable, BusTimeout)):
            one.call("controller.t", "report", {"host": "two"}, timeout=1)
    assert [told["host"] for told in controller.told] == ["one"]


def test_a_message_without_a_user_is_refused(world, controller):
    import amqp
    import msgspec
    from pileus.kernel.bus.base import MESSAGE_VERSION, Request

    request = Request("1", "me", MESSAGE_VERSION, "cast", "report", 10.0, {"host": "one", "n": 1})
    with amqp.Connection(f"127.0.0.1:{world.broker.port}", connect_timeout=5, read_timeout=5) as connection:
        connection.channel().basic_publish(amqp.Message(msgspec.msgpack.encode(request)), "", "pileus.controller.t")
    world.node("one").cast("controller.t", "report", {"host": "one", "n": 2})
    until(lambda: controller.told, "the cast of a known sender has come")
    assert [told["n"] for told in controller.told] == [2]


def test_a_removed_node_is_out_at_once_and_gets_nothing(world, controller):
    one = world.node("one")
    done = []
    one.serve("agent.one", {"order": lambda payload: done.append(1) or {}})
    assert controller.call("agent.one", "order") == {}
    world.management.remove(user_of_node("0000aaaa", "one"))
    until(lambda: one._state == "away", "its connection is closed and no other is made")
    with pytest.raises(BusUnavailable):
        one.call("controller.t", "report", {"host": "one"}, timeout=3)
    with pytest.raises((BusUnavailable, BusTimeout)):
        controller.call("agent.one", "order", timeout=2)
    assert done == [1]
    again = world.node("one", "0000bbbb")
    assert again.call("controller.t", "report", {"host": "one"}) == {"heard": "one"}, "the name may come again"
    assert one._state == "away", "and what the first one had is worth nothing"


def test_controllers_refuse_a_node_that_the_registry_does_not_know(world):
    bus, members = world.controller(), set()
    bus.members = members.__contains__
    bus.serve("controller.t", {"report": lambda payload: {}})
    one = world.node("one")
    assert "does not belong" in refused(lambda: one.call("controller.t", "report", {"host": "one"}))
    members.add(user_of_node("0000aaaa", "one"))
    assert one.call("controller.t", "report", {"host": "one"}) == {}


def test_certificates_of_nobody_known_get_nothing(world, controller):
    strangers = [world.node("three", known=False), world.node("one", authority=Authority.make())]
    for stranger in strangers:
        stranger.serve("agent.three", {"order": lambda payload: {}})
        with pytest.raises(BusUnavailable):
            stranger.call("controller.t", "report", {"host": "one"}, timeout=3)
    assert not controller.told
