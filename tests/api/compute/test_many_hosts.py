"""Where there are many hosts, what was seen of them for one server serves others."""

from __future__ import annotations

import pytest

from pileus.compute.logic import outlook, placement
from pileus.kernel.testing import ADMIN
from tests.api.compute.world import World


@pytest.fixture
def many(monkeypatch):
    """Four hosts that count as many, remembered for long; `looks` counts how often placement was asked."""
    monkeypatch.setattr(outlook, "FEW", 3)
    monkeypatch.setattr(outlook, "_SECONDS", 3600.0)
    world = World(hosts=4)
    world.flavor()
    world.looks = 0
    ask = placement.candidates

    def counted(*args, **kwargs):
        world.looks += 1
        return ask(*args, **kwargs)

    monkeypatch.setattr(placement, "candidates", counted)
    yield world
    world.close()


def hosts_of(world, servers):
    return [world.server(server)["OS-EXT-SRV-ATTR:host"] for server in servers]


def disable(world, host):
    row = next(s for s in world("GET", "/os-services?binary=nova-compute", as_=ADMIN, v="2.53", ok=200).json["services"] if s["host"] == host)
    world("PUT", f"/os-services/{row['id']}", {"status": "disabled"}, as_=ADMIN, v="2.53", ok=200)


def test_servers_of_one_size_are_spread_after_one_look(many):
    servers = [many.boot(networks="none") for _ in range(4)]
    assert sorted(hosts_of(many, servers)) == ["host1", "host2", "host3", "host4"]
    assert many.looks == 1


def test_a_host_that_was_disabled_since_is_not_chosen(many):
    first = hosts_of(many, [many.boot(networks="none")])[0]
    rest = sorted({"host1", "host2", "host3", "host4"} - {first})
    disable(many, rest[0])
    servers = [many.boot(networks="none") for _ in range(4)]
    assert rest[0] not in hosts_of(many, servers)


def test_when_no_remembered_host_does_all_are_looked_at_anew(many):
    many.boot(networks="none")
    for host in ("host1", "host2", "host3"):
        disable(many, host)
    assert set(hosts_of(many, [many.boot(networks="none") for _ in range(3)])) == {"host4"}


def test_a_server_that_asks_for_a_host_gets_it(many):
    many.boot(networks="none")
    named = many.boot(networks="none", as_=ADMIN, v="2.74", host="host3")
    assert hosts_of(many, [named]) == ["host3"]
    assert many.looks == 2
