"""A whole simulated cloud whose processes speak over RabbitMQ, also while the broker is killed and comes back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.brokers import RabbitMQ
from tests.probe.probed import Probed, wait_until
from tests.probe.test_kills import create, delete_all, dhcp_is_there, mine, settled
from tools.cloud import ThrowAway

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def broker() -> Iterator[RabbitMQ]:
    broker = RabbitMQ()
    yield broker
    broker.stop()


@pytest.fixture(scope="module")
def probed(broker) -> Iterator[Probed]:
    with ThrowAway(toml=f'[bus]\nurl = "{broker.url}"\n') as cloud:
        probed = Probed(cloud)
        session = probed.session
        probed.image = session.clients.image(session.context).get("/v2/images", query={"name": "guest"})["images"][0]["id"]
        network = session.clients.network(session.context)
        probed.network = network.post("/v2.0/networks", {"network": {"name": "probed"}})["network"]["id"]
        network.post("/v2.0/subnets", {"subnet": {"network_id": probed.network, "ip_version": 4, "cidr": "10.7.0.0/24"}})
        wait_until(lambda: dhcp_is_there(probed, probed.network), "the network has its DHCP port")
        yield probed


def until_settled(probed: Probed, prefix: str) -> list[str]:
    """The states of the servers once they have one that lasts."""
    wait_until(lambda: settled(probed, prefix), "every server is ACTIVE or ERROR", explain=lambda: probed.why(mine(probed, prefix)))
    return [server["status"] for server in mine(probed, prefix)]


def gone(probed: Probed, prefix: str, before: dict[str, object]) -> None:
    delete_all(probed, prefix)
    wait_until(lambda: not mine(probed, prefix), "every server is gone", explain=lambda: probed.why(mine(probed, prefix)))
    wait_until(lambda: probed.traces() == before, "nothing is left over", explain=lambda: f"{before}\n{probed.traces()}")


def test_a_server_is_built_and_deleted_over_rabbitmq(probed, broker):
    before = probed.traces()
    create(probed, "rabbit-one")
    assert until_settled(probed, "rabbit-one") == ["ACTIVE"]
    host = probed.rows("compute", "SELECT host FROM servers WHERE deleted_at IS NULL")[0][0]
    assert broker.queue(f"pileus.agent.{host}")[1] == 1, "the agent is served by the broker"
    assert broker.queue("pileus.controller.compute")[1] == 1
    assert not list((probed.home / "run").glob("bus/*")), "no socket carries the bus"
    gone(probed, "rabbit-one", before)


def test_servers_asked_for_while_the_broker_is_away_are_built_when_it_is_back(probed, broker):
    before = probed.traces()
    broker.kill()
    try:
        for number in range(3):
            create(probed, f"rabbit-away-{number}")
        assert {server["status"] for server in mine(probed, "rabbit-away")} <= {"BUILD"}
    finally:
        broker.start()
    assert until_settled(probed, "rabbit-away") == ["ACTIVE"] * 3
    gone(probed, "rabbit-away", before)


def test_the_broker_may_be_killed_at_any_moment(probed, broker):
    before = probed.traces()
    for number in range(3):
        create(probed, f"rabbit-kill-{number}")
    broker.kill()
    broker.start()
    until_settled(probed, "rabbit-kill")
    gone(probed, "rabbit-kill", before)
