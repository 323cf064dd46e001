"""Clients use a cloud on PostgreSQL and RabbitMQ while every process of it, the broker and the database are killed at random.

    pytest tests/probe/test_chaos.py --minutes 10 --seed 7 -s
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests import invariants
from tests.brokers import RabbitMQ
from tests.databases import SERVICES, PostgreSQL, missing, postgresql_bin
from tests.probe.chaos import Chaos
from tests.probe.probed import Probed, wait_until
from tools.cloud import ThrowAway

pytestmark = pytest.mark.timeout(3600)  # of which --minutes are chosen; the waits within have their own ends
REST = 240.0
"""Seconds that a cloud may take until it rests: its slowest look for what was left is made every minute."""


@pytest.fixture(scope="module")
def parts() -> Iterator[tuple[RabbitMQ, PostgreSQL, Probed]]:
    binaries = postgresql_bin()
    if binaries is None:
        missing("PostgreSQL")
    broker = RabbitMQ()
    try:
        server = PostgreSQL(binaries, lasting=True)
        try:
            for service in SERVICES:
                server.create(f"chaos_{service}")
            toml = f'[bus]\nurl = "{broker.url}"\n[database]\nurl = "{server.url("chaos_{service}")}"\n'
            with ThrowAway(toml=toml) as cloud:
                probed = Probed(cloud)
                furnish(probed)
                yield broker, server, probed
        finally:
            server.stop()
    finally:
        broker.stop()


def furnish(probed: Probed) -> None:
    """An image, a network, and a project without limits."""
    session = probed.session
    probed.image = session.clients.image(session.context).get("/v2/images", query={"name": "guest"})["images"][0]["id"]
    network = session.clients.network(session.context)
    probed.network = network.post("/v2.0/networks", {"network": {"name": "chaos"}})["network"]["id"]
    network.post("/v2.0/subnets", {"subnet": {"network_id": probed.network, "ip_version": 4, "cidr": "10.7.0.0/20"}})
    project = session.context.project_id
    network.put(f"/v2.0/quotas/{project}", {"quota": {"port": -1}})
    limits = {"instances": -1, "cores": -1, "ram": -1}
    session.clients.compute(session.context).put(f"/v2.1/os-quota-sets/{project}", {"quota_set": limits})


def until_at_rest(probed: Probed) -> None:
    view = probed.view()
    wait_until(lambda: not invariants.restless(view), "the cloud is at rest", REST, lambda: told(probed, invariants.restless(view)), 0.5)
    wait_until(lambda: not invariants.broken(view), "all invariants hold", REST, lambda: told(probed, invariants.broken(view)), 0.5)


def told(probed: Probed, sentences: list[str]) -> str:
    return "\n".join([*sentences, probed.cloud.pileus("logs", "--lines", "60", check=False).stdout])


def test_nothing_acknowledged_is_lost_and_nothing_is_stuck_whatever_is_killed(parts, request):
    broker, server, probed = parts
    minutes = request.config.getoption("--minutes")
    seed = request.config.getoption("--seed") or random.SystemRandom().randrange(1 << 20)
    print(f"\nseed {seed}, {minutes:g} minutes")
    before = probed.traces()
    chaos = Chaos(probed, broker, server, seed)
    chaos.rage(minutes * 60)
    until_at_rest(probed)
    lost, counts, injected = chaos.lost(), chaos.journal.counts, chaos.injected
    print(f"{injected.total()} faults: {dict(injected)}")
    print(f"{counts['requests']} requests, {counts['acknowledged']} acknowledged, {counts['unanswered']} without an answer, {len(lost)} lost")
    print(f"servers at the end: {dict(chaos.statuses())} {chaos.reasons()}")
    assert not lost, "\n".join(lost)
    assert counts["acknowledged"] and injected.total()
    assert set(chaos.statuses()) <= {"ACTIVE", "SHUTOFF", "PAUSED", "ERROR"}
    chaos.clean()
    until_at_rest(probed)
    wait_until(lambda: probed.traces() == before, "nothing is left over", explain=lambda: f"{before}\n{probed.traces()}")
