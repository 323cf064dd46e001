"""Live migration as its callers see it, between two hosts with the fake driver."""

from __future__ import annotations

import pytest

from pileus.clients.base import PeerInvalid
from pileus.kernel.testing import ADMIN, MANAGER, MEMBER
from tests.api.compute.test_moves import down, holds, migrations, node_uuid, other, placed
from tests.api.compute.world import World

AUTO = {"host": None, "block_migration": "auto"}


@pytest.fixture
def world():
    made = World(hosts=2)
    made.flavor()
    yield made
    made.close()


def until(world, server_id, status):
    """Run what there is to run until the server's migration has a status."""
    for _ in range(300):
        world.client.run_flows()
        world.plug()
        (move,) = world("GET", f"/os-migrations?instance_uuid={server_id}", as_=ADMIN, v="2.80", ok=200).json["migrations"]
        if move["status"] == status:
            return move
        world.pause()
    raise AssertionError(move)


def test_a_running_server_goes_to_another_host(world):
    server_id, host = placed(world)
    launched = world.server(server_id)["OS-SRV-USG:launched_at"]
    world.act(server_id, "os-migrateLive", AUTO, as_=ADMIN, settle=False)
    assert world.server(server_id)["status"] == "MIGRATING"
    move = until(world, server_id, "completed")
    server = world.server(server_id)
    assert (server["status"], server["OS-EXT-SRV-ATTR:host"], server["OS-EXT-STS:power_state"]) == ("ACTIVE", other(host), 1)
    assert server["OS-SRV-USG:launched_at"] == launched
    assert world.hosts[host].states() == {}
    assert world.hosts[other(host)].states() == {server_id: "running"}
    assert world.hosts[other(host)].read_inside(server_id) == "what the guest wrote"
    assert world.hosts[other(host)]._guests[server_id].boots == 1, "it did not boot again"
    assert {p["binding:host_id"] for p in world.networks.ports.values()} == {other(host)}
    assert set(world.networks.bindings.popitem()[1]) == set(), "no binding is left on the source"
    assert set(holds(world, server_id)) == {node_uuid(world, other(host))}
    assert holds(world, move["uuid"]) == {}
    assert (move["migration_type"], move["dest_compute"]) == ("live-migration", other(host))
    actions = world("GET", f"/servers/{server_id}/os-instance-actions", as_=ADMIN, ok=200).json["instanceActions"]
    assert actions[0]["action"] == "live-migration"


def test_a_paused_server_arrives_paused(world):
    server_id, host = placed(world)
    world.act(server_id, "pause")
    world.act(server_id, "os-migrateLive", {"host": other(host), "block_migration": True}, as_=ADMIN, settle=False)
    until(world, server_id, "completed")
    assert world.server(server_id)["status"] == "PAUSED"
    assert world.hosts[other(host)].states() == {server_id: "paused"}


def test_a_migration_in_progress_is_shown_and_hurried(world):
    server_id, host = placed(world)
    world.hosts[host].delay("send", 600.0)
    world.act(server_id, "os-migrateLive", AUTO, as_=ADMIN, settle=False)
    move = until(world, server_id, "running")
    assert move["links"][0]["href"].endswith(f"/servers/{server_id}/migrations/{move['id']}")
    path = f"/servers/{server_id}/migrations"
    world.pause(lambda: world.hosts[host].sending(server_id))
    world.later()
    world.client.run_flows()
    (shown,) = world("GET", path, as_=ADMIN, v="2.80", ok=200).json["migrations"]
    assert shown["memory_total_bytes"] == 512 << 20
    assert {"server_uuid", "source_node", "dest_host", "disk_remaining_bytes", "uuid", "user_id"} <= set(shown)
    assert world("GET", f"{path}/{move['id']}", as_=ADMIN, v="2.23", ok=200).json["migration"]["status"] == "running"
    (hidden,) = world("GET", path, as_=MANAGER, v="2.80", ok=200).json["migrations"]
    assert hidden["source_compute"] is None
    world("POST", f"{path}/{move['id']}/action", {"force_complete": None}, as_=MEMBER, v="2.22", ok=403)
    world("POST", f"{path}/{move['id']}/action", {"force_complete": None}, as_=ADMIN, v="2.22", ok=202)
    until(world, server_id, "completed")
    assert world("GET", path, as_=ADMIN, v="2.80", ok=200).json["migrations"] == []
    world("GET", f"{path}/{move['id']}", as_=ADMIN, v="2.23", ok=404)
    world("POST", f"{path}/{move['id']}/action", {"force_complete": None}, as_=ADMIN, v="2.22", ok=409)


def test_an_aborted_migration_leaves_the_server_where_it_is(world):
    server_id, host = placed(world)
    world.hosts[host].delay("send", 600.0)
    world.act(server_id, "os-migrateLive", AUTO, as_=ADMIN, settle=False)
    move = until(world, server_id, "running")
    world.pause(lambda: world.hosts[host].sending(server_id))
    world("DELETE", f"/servers/{server_id}/migrations/{move['id']}", as_=ADMIN, v="2.24", ok=202)
    until(world, server_id, "cancelled")
    server = world.server(server_id)
    assert (server["status"], server["OS-EXT-SRV-ATTR:host"]) == ("ACTIVE", host)
    assert world.hosts[host].states() == {server_id: "running"}
    assert world.hosts[other(host)].states() == {}
    assert {p["binding:host_id"] for p in world.networks.ports.values()} == {host}
    assert all(not prepared for prepared in world.networks.bindings.values())
    assert set(holds(world, server_id)) == {node_uuid(world, host)}


@pytest.mark.parametrize("where", ["prepare", "receive", "send", "bind"])
def test_a_migration_that_fails_leaves_the_guest_running_where_it_was(world, where):
    server_id, host = placed(world)
    if where == "bind":
        world.networks.refuse["bind"] = PeerInvalid("no", status=400)
    else:
        world.hosts[host if where == "send" else other(host)].fail(where, "broken", times=1)
    world.act(server_id, "os-migrateLive", AUTO, as_=ADMIN, settle=False)
    until(world, server_id, "error")
    server = world.server(server_id)
    assert (server["status"], server["OS-EXT-SRV-ATTR:host"]) == ("ACTIVE", host)
    assert world.hosts[host].states() == {server_id: "running"}
    assert world.hosts[host]._guests[server_id].boots == 1
    assert world.hosts[other(host)].states() == {}
    assert all(not prepared for prepared in world.networks.bindings.values())


def test_a_guest_that_is_lost_on_its_way_is_not_taken_for_arrived(world):
    server_id, host = placed(world)
    world.hosts[host].delay("send", 600.0)
    world.act(server_id, "os-migrateLive", AUTO, as_=ADMIN, settle=False)
    until(world, server_id, "running")
    world.pause(lambda: world.hosts[host].sending(server_id))
    world.hosts[host].happen(server_id, "missing")
    world.hosts[host].abort_send(server_id)
    until(world, server_id, "error")
    assert world.server(server_id)["OS-EXT-SRV-ATTR:host"] == host
    assert world.hosts[host].read_inside(server_id) == "what the guest wrote"
    assert world.hosts[other(host)].states() == {}


def test_a_server_deleted_on_its_way_is_gone_everywhere(world):
    server_id, host = placed(world)
    world.hosts[host].delay("send", 600.0)
    world.act(server_id, "os-migrateLive", AUTO, as_=ADMIN, settle=False)
    until(world, server_id, "running")
    world("DELETE", f"/servers/{server_id}", ok=204)
    for _ in range(200):
        world.client.run_flows()
        if world("GET", f"/servers/{server_id}", as_=ADMIN).status == 404:
            break
        world.pause()
    assert world.hosts["host1"].states() == world.hosts["host2"].states() == {}
    assert world.networks.ports == {}
    assert holds(world, server_id) == {}


def test_what_live_migration_refuses(world):
    server_id, host = placed(world)
    here = {"host": host, "block_migration": "auto"}
    for body, version, code in (
        ({"host": "nowhere", "block_migration": "auto"}, "2.96", 400), (here, "2.96", 400),
        ({"host": None, "block_migration": False}, "2.96", 400), ({"host": None}, "2.96", 400),
        (AUTO, "2.24", 400), ({**AUTO, "force": True}, "2.68", 400), ({**AUTO, "force": True}, "2.67", 400),
        ({"host": None, "block_migration": True}, "2.1", 400),
    ):
        world.act(server_id, "os-migrateLive", body, as_=ADMIN, v=version, ok=code, settle=False)
    world.act(server_id, "os-migrateLive", {"host": other(host), "block_migration": "auto"}, as_=MANAGER, ok=403, settle=False)
    world.act(server_id, "os-stop")
    world.act(server_id, "os-migrateLive", AUTO, as_=ADMIN, ok=409, settle=False)
    world.act(server_id, "os-start")
    down(world, host)
    world.act(server_id, "os-migrateLive", AUTO, as_=ADMIN, ok=409, settle=False)
    down(world, host, forced=False)
    down(world, other(host))
    world.act(server_id, "os-migrateLive", AUTO, as_=MANAGER)
    assert migrations(world, instance_uuid=server_id)[0]["status"] == "error"
