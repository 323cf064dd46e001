"""Ports that customers made and gave to servers: one port is one server's."""

from __future__ import annotations

import pytest

from pileus.clients.base import PeerConflict
from tests.api.compute.world import NETWORK, World


@pytest.fixture
def world():
    world = World()
    world.flavor()
    yield world
    world.close()


def given(world):
    return world.networks.create_port({"network_id": NETWORK})["id"]


def test_of_two_servers_asked_for_with_one_port_at_once_one_gets_it_and_the_other_says_so(world):
    port = given(world)
    first = world.boot("first", networks=[{"port": port}], settle=False)
    second = world.boot("second", networks=[{"port": port}], settle=False)
    world.settle()
    servers = {world.server(server_id)["status"]: world.server(server_id) for server_id in (first, second)}
    assert set(servers) == {"ACTIVE", "ERROR"}
    assert world.networks.ports[port]["device_id"] == servers["ACTIVE"]["id"]
    assert servers["ERROR"]["fault"]["message"] == f"Port {port} is still in use."
    world("DELETE", f"/servers/{servers['ERROR']['id']}", ok=204)
    world.settle()
    assert world.networks.ports[port]["device_id"] == servers["ACTIVE"]["id"], "the loser's deletion takes nothing from the winner"


def test_a_port_that_others_change_meanwhile_is_looked_at_again(world):
    port, update, lost = given(world), world.networks.update_port, []

    def changed_before(port_id, body, revision=None):
        if revision is not None and not lost:
            lost.append(revision)
            update(port_id, {"name": "renamed"})
            raise PeerConflict("Constrained to another revision.", status=412)
        return update(port_id, body, revision)

    world.networks.update_port = changed_before
    server = world.boot(networks=[{"port": port}])
    assert world.server(server)["status"] == "ACTIVE" and lost
    assert world.networks.ports[port]["name"] == "renamed"
