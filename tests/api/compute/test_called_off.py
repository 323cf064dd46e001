"""A build that was called off while its host was away: the host gives up what it has when it is back, also as its only guest."""

from __future__ import annotations

from pileus.kernel import desired
from tests.api.compute.world import World


def test_a_host_that_begins_anew_is_told_what_it_had_to_give_up_meanwhile():
    world = World()
    with world.service.db.write() as conn:
        desired.touch(conn, "host1", "server", ["a", "b"])
        desired.drop(conn, "host1", "server", ["a"])
    told = world.client.call("compute.desired", {"host": "host1", "since": 0})
    assert told["full"] and list(told["gone"]) == ["a"]
    world.close()
