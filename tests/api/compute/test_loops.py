"""What is set right without any request."""

from __future__ import annotations

import datetime as dt

from pileus.compute.logic import placement
from pileus.compute.loops.leftovers import deleted_retention, orphaned_allocations, orphaned_ports, unfounded_orders, unknown_ports
from pileus.compute.loops.services import compute_services
from pileus.compute.loops.states import server_states
from pileus.compute.store import servers as store
from pileus.compute.wire import Report
from pileus.kernel import clock, desired
from pileus.kernel.context import service_context
from pileus.kernel.testing import ADMIN
from tests.api.compute.world import NETWORK

LONG_AGO = dt.timedelta(days=30)


def change(world, server_id, **values):
    with world.service.db.write() as conn:
        assert store.update(conn, server_id, **values)


def delete(world, server_id):
    world("DELETE", f"/servers/{server_id}", ok=204)
    world.settle()


def test_claims_of_deleted_servers_are_freed(world):
    server_id = world.boot(networks="none")
    held = world.allocations(server_id)
    delete(world, server_id)
    placement.claim(world.service, service_context("compute"), server_id, held, project_id="p", user_id="u")
    orphaned_allocations(world.service)
    assert world.allocations(server_id) == {}


def test_ports_of_deleted_servers_are_removed_and_given_ones_released(world):
    given = world.networks.create_port({"network_id": NETWORK})
    server_id = world.boot(networks=[{"port": given["id"]}, {"uuid": NETWORK}])
    made = next(p for p in world.networks.ports.values() if p["id"] != given["id"])
    delete(world, server_id)
    world.networks.ports[made["id"]] = {**made, "device_id": server_id}
    world.networks.ports[given["id"]]["device_id"] = server_id
    orphaned_ports(world.service)
    assert list(world.networks.ports) == [given["id"]] and world.networks.ports[given["id"]]["device_id"] == ""


def test_a_port_that_was_made_after_the_build_had_ended_is_removed(world):
    server_id = world.boot(networks=[{"uuid": NETWORK}])
    (known,) = world.networks.ports
    with world.service.db.write() as conn:
        store.remove_ports(conn, server_id)
    foreign = world.networks.create_port({"network_id": NETWORK, "device_id": server_id, "device_owner": "compute:nova"})
    change(world, server_id, task_state="rebooting")
    unknown_ports(world.service)
    assert known in world.networks.ports, "somebody works on the server"
    change(world, server_id, task_state=None)
    unknown_ports(world.service)
    assert list(world.networks.ports) == [foreign["id"]]


def test_a_host_is_not_told_to_have_what_is_not_there(world):
    here, deleted, never = world.boot(networks="none"), world.boot(networks="none"), "6f0a7c1e-52d4-4a7e-9c57-3a1d0b8f2c11"
    delete(world, deleted)

    def told():
        with world.service.db.read() as conn:
            return set(desired.changes(conn, "host1", 0).ids("server"))

    with world.service.db.write() as conn:
        desired.touch(conn, "host1", "server", [here, deleted, never])
        desired.touch(conn, "host2", "server", [here])
    change(world, here, task_state="migrating")
    unfounded_orders(world.service)
    with world.service.db.read() as conn:
        assert desired.hosts_of(conn, "server", here) == ["host1", "host2"], "somebody works on the server"
    change(world, here, task_state=None)
    unfounded_orders(world.service)
    assert told() == {here}
    with world.service.db.read() as conn:
        assert desired.hosts_of(conn, "server", here) == ["host1"]


def test_a_guest_that_switched_itself_off_is_shown_as_stopped(world):
    server_id = world.boot(networks="none")
    change(world, server_id, updated_at=clock.utcnow() - LONG_AGO)
    world.hosts["host1"].happen(server_id, "shutdown")
    world.report("host1")
    assert world.server(server_id)["status"] == "SHUTOFF"


def lose(world, server_id):
    """The host says that it has nothing of the server."""
    driver = world.hosts["host1"]
    driver.destroy(server_id)
    told = Report(host="host1", version=0, states={server_id: "missing"}, resources=driver.resources(), seconds=10.0)
    world.client.call("compute.report", told.to_dict())


def test_a_server_whose_disks_are_gone_is_in_error_and_can_be_built_again(world):
    server_id = world.boot(networks="none")
    change(world, server_id, updated_at=clock.utcnow() - LONG_AGO)
    lose(world, server_id)
    shown = world.server(server_id)
    assert (shown["status"], shown["OS-EXT-STS:power_state"]) == ("ERROR", 0)
    assert "neither the guest nor the disks" in shown["fault"]["message"]
    world.act(server_id, "rebuild", {"imageRef": shown["image"]["id"]})
    assert world.server(server_id)["status"] == "ACTIVE"
    assert world.hosts["host1"].state(server_id) == "running"


def test_a_server_whose_disks_are_gone_can_be_deleted(world):
    server_id = world.boot(networks="none")
    change(world, server_id, updated_at=clock.utcnow() - LONG_AGO)
    lose(world, server_id)
    delete(world, server_id)
    assert world.allocations(server_id) == {}


def test_a_server_that_was_just_built_is_not_lost_by_an_older_report(world):
    server_id = world.boot(networks="none")
    lose(world, server_id)
    assert world.server(server_id)["status"] == "ACTIVE"


def test_a_fresh_change_is_not_overwritten_by_an_older_report(world):
    server_id = world.boot(networks="none")
    world.hosts["host1"].happen(server_id, "shutdown")
    world.report("host1")
    assert world.server(server_id)["status"] == "ACTIVE"


def test_what_runs_although_it_was_stopped_is_stopped_again(world):
    server_id = world.boot(networks="none")
    world.act(server_id, "os-stop")
    change(world, server_id, updated_at=clock.utcnow() - LONG_AGO)
    world.hosts["host1"].happen(server_id, "running")
    world.report("host1")
    server_states(world.service)
    world.settle()
    assert world.hosts["host1"].state(server_id) == "shutdown"
    assert world.server(server_id)["status"] == "SHUTOFF"


def test_a_task_without_work_is_taken_off(world):
    server_id = world.boot(networks="none")
    change(world, server_id, task_state="pausing", updated_at=clock.utcnow() - LONG_AGO)
    server_states(world.service)
    assert world.server(server_id)["OS-EXT-STS:task_state"] is None
    change(world, server_id, task_state="deleting", updated_at=clock.utcnow() - LONG_AGO)
    server_states(world.service)
    world.settle()
    world("GET", f"/servers/{server_id}", ok=404)


def test_old_deleted_servers_are_forgotten(world):
    server_id = world.boot(networks="none")
    delete(world, server_id)
    from pileus.compute.store.tables import SERVERS

    with world.service.db.write() as conn:
        conn.execute(SERVERS.update().values(deleted_at=clock.utcnow() - LONG_AGO))
    deleted_retention(world.service)
    with world.service.db.read() as conn:
        assert store.get_even_deleted(conn, server_id) is None


def test_the_controller_is_among_the_services(world):
    compute_services(world.service)
    found = world("GET", "/os-services", as_=ADMIN, ok=200).json["services"]
    assert {(s["binary"], s["zone"]) for s in found} == {("nova-compute", "nova"), ("nova-conductor", "internal"), ("nova-scheduler", "internal")}


def test_a_host_is_told_what_it_shall_have(world):
    server_id = world.boot()
    full = world.client.call("compute.desired", {"host": "host1", "since": 0})
    assert full["full"] and [s["id"] for s in full["servers"]] == [server_id]
    assert full["servers"][0]["power_state"] == "running" and full["servers"][0]["doc"]["nics"]
    world.act(server_id, "os-stop")
    later = world.client.call("compute.desired", {"host": "host1", "since": full["version"]})
    assert not later["full"] and later["servers"][0]["power_state"] == "shutdown"
    delete(world, server_id)
    last = world.client.call("compute.desired", {"host": "host1", "since": later["version"]})
    assert list(last["gone"]) == [server_id] and list(last["servers"]) == []
    assert list(world.client.call("compute.desired", {"host": "host1", "since": 0})["gone"]) == [server_id]
