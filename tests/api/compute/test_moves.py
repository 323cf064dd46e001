"""Servers that move: evacuation, cold migration, resize, and what is told of it."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from pileus.compute.loops.moves import evacuated, unconfirmed
from pileus.compute.store import hosts as host_store
from pileus.compute.store import moves as store
from pileus.compute.store.tables import MIGRATIONS, SERVICES
from pileus.kernel import clock, quota
from pileus.kernel.testing import ADMIN, MANAGER, MEMBER, PROJECT
from tests.api.compute.world import World


@pytest.fixture
def world():
    made = World(hosts=2)
    made.flavor()
    made.flavor("large", ram=1024, vcpus=2, disk=2)
    yield made
    made.close()


def other(host):
    return {"host1": "host2", "host2": "host1"}[host]


def placed(world, **values):
    """A running server, its id and its host."""
    server_id = world.boot(**values)
    host = world.server(server_id)["OS-EXT-SRV-ATTR:host"]
    world.hosts[host].write_inside(server_id, "what the guest wrote")
    return server_id, host


def down(world, host, forced=True):
    services = world("GET", f"/os-services?host={host}&binary=nova-compute", as_=ADMIN, v="2.53", ok=200).json["services"]
    world("PUT", f"/os-services/{services[0]['id']}", {"forced_down": forced}, as_=ADMIN, v="2.53", ok=200)


def migrations(world, **filters):
    query = "&".join(f"{key}={value}" for key, value in filters.items())
    return world("GET", f"/os-migrations?{query}", as_=ADMIN, v="2.80", ok=200).json["migrations"]


def node_uuid(world, host):
    with world.service.db.read() as conn:
        return host_store.node_of(conn, host)["uuid"]


def holds(world, consumer):
    """Provider -> resources of a consumer."""
    return {provider: entry["resources"] for provider, entry in world.allocations(consumer).items()}


def used(world):
    with world.service.db.read() as conn:
        return quota.usages(conn, PROJECT)


# -- evacuation ------------------------------------------------------------------------------------------------------


def test_a_server_of_a_dead_host_comes_to_life_elsewhere(world):
    server_id, host = placed(world)
    down(world, host)
    reply = world("POST", f"/servers/{server_id}/action", {"evacuate": {}}, as_=ADMIN, v="2.94", ok=200)
    assert reply.text == ""
    assert world.server(server_id)["status"] == "REBUILD"
    world.settle()
    server = world.server(server_id)
    assert (server["status"], server["OS-EXT-SRV-ATTR:host"]) == ("ACTIVE", other(host))
    assert world.hosts[other(host)].states() == {server_id: "running"}
    assert world.hosts[other(host)].read_inside(server_id).startswith("made of"), "its disk is made anew of the image"
    assert {p["binding:host_id"] for p in world.networks.ports.values()} == {other(host)}
    (move,) = migrations(world, instance_uuid=server_id)
    assert (move["migration_type"], move["status"], move["source_compute"], move["dest_compute"]) == ("evacuation", "done", host, other(host))
    assert set(holds(world, server_id)) == {node_uuid(world, other(host))}
    assert set(holds(world, move["uuid"])) == {node_uuid(world, host)}, "the dead host still has what it had"


def test_a_host_that_is_back_removes_what_was_evacuated_and_nothing_else(world):
    server_id, host = placed(world)
    second = None
    while second is None:
        made, where = placed(world)
        second = made if where == host else None
    down(world, host)
    world.act(server_id, "evacuate", {"host": other(host)}, as_=ADMIN, v="2.94", ok=200)
    assert world.hosts[host].states() == {server_id: "running", second: "running"}
    desired = world.client.call("compute.desired", {"host": host, "since": 0})
    assert server_id in desired["gone"]
    assert second in {item["id"] for item in desired["servers"]}
    assert second not in desired["gone"]
    there = world.client.call("compute.desired", {"host": other(host), "since": 0})
    assert server_id not in there["gone"]
    down(world, host, forced=False)
    evacuated(world.service)
    assert migrations(world, instance_uuid=server_id)[0]["status"] == "done", "its guest is still there"
    world.hosts[host].destroy(server_id)
    evacuated(world.service)
    (move,) = migrations(world, instance_uuid=server_id)
    assert move["status"] == "completed"
    assert holds(world, move["uuid"]) == {}


@pytest.mark.parametrize(("version", "status"), [("2.94", "ACTIVE"), ("2.95", "SHUTOFF")])
def test_from_2_95_on_an_evacuated_server_stays_off(world, version, status):
    server_id, host = placed(world)
    down(world, host)
    world.act(server_id, "evacuate", {}, as_=ADMIN, v=version, ok=200)
    assert world.server(server_id)["status"] == status


def test_a_stopped_server_stays_stopped(world):
    server_id, host = placed(world)
    world.act(server_id, "os-stop")
    down(world, host)
    world.act(server_id, "evacuate", {}, as_=ADMIN, v="2.94", ok=200)
    assert world.server(server_id)["status"] == "SHUTOFF"
    assert world.hosts[other(host)].states() == {server_id: "shutdown"}
    assert world.calls[other(host)].book.has_begun(server_id), "the host may bring it back by itself later"


def test_what_evacuation_refuses(world):
    server_id, host = placed(world)
    refused = world.act(server_id, "evacuate", {}, as_=ADMIN, v="2.94", ok=400, settle=False)
    assert refused.json["badRequest"]["message"] == f"Compute service of {host} is still in use."
    down(world, host)
    for body, version, code in (
        ({"host": "nowhere"}, "2.94", 404), ({"host": host}, "2.94", 400), ({"onSharedStorage": True}, "2.1", 400),
        ({}, "2.1", 400), ({"onSharedStorage": False}, "2.14", 400), ({"force": True, "host": other(host)}, "2.68", 400), ({"force": True}, "2.29", 400),
    ):
        world.act(server_id, "evacuate", body, as_=ADMIN, v=version, ok=code, settle=False)
    world.act(server_id, "evacuate", {}, as_=MEMBER, ok=403, settle=False)


def test_old_clients_get_the_password(world):
    server_id, host = placed(world)
    down(world, host)
    answer = world.act(server_id, "evacuate", {"onSharedStorage": "False", "adminPass": "s3cret"}, as_=ADMIN, v="2.13", ok=200)
    assert answer.json == {"adminPass": "s3cret"}


def test_force_passes_the_filters(world):
    server_id, host = placed(world)
    down(world, host)
    services = world("GET", f"/os-services?host={other(host)}&binary=nova-compute", as_=ADMIN, v="2.53", ok=200).json["services"]
    world("PUT", f"/os-services/{services[0]['id']}", {"status": "disabled", "disabled_reason": "work"}, as_=ADMIN, v="2.53", ok=200)
    world.act(server_id, "evacuate", {"host": other(host)}, as_=ADMIN, v="2.67", ok=200)
    server = world.server(server_id)
    assert (server["OS-EXT-SRV-ATTR:host"], server["OS-EXT-STS:task_state"]) == (host, None)
    assert migrations(world, instance_uuid=server_id)[0]["status"] == "failed"
    assert holds(world, server_id).keys() == {node_uuid(world, host)}
    world.act(server_id, "evacuate", {"host": other(host), "force": True}, as_=ADMIN, v="2.67", ok=200)
    assert world.server(server_id)["OS-EXT-SRV-ATTR:host"] == other(host)


def test_a_host_that_fails_the_evacuation_leaves_all_as_it_was(world):
    server_id, host = placed(world)
    down(world, host)
    world.hosts[other(host)].fail("create", "no memory", times=100)
    world.act(server_id, "evacuate", {}, as_=ADMIN, v="2.94", ok=200)
    server = world.server(server_id)
    assert (server["OS-EXT-STS:vm_state"], server["OS-EXT-SRV-ATTR:host"], server["OS-EXT-STS:task_state"]) == ("active", host, None)
    assert world.hosts[other(host)].states() == {}
    assert {p["binding:host_id"] for p in world.networks.ports.values()} == {host}
    actions = world("GET", f"/servers/{server_id}/os-instance-actions", as_=ADMIN, v="2.51", ok=200).json["instanceActions"]
    assert (actions[0]["action"], actions[0]["message"]) == ("evacuate", "Error")


# -- cold migration --------------------------------------------------------------------------------------------------


def test_a_server_migrates_with_its_disk_and_is_confirmed(world):
    server_id, host = placed(world)
    world.act(server_id, "migrate", None, as_=ADMIN)
    server = world.server(server_id)
    assert (server["status"], server["OS-EXT-SRV-ATTR:host"]) == ("VERIFY_RESIZE", other(host))
    assert world.hosts[other(host)].states() == {server_id: "running"}
    assert world.hosts[other(host)].read_inside(server_id) == "what the guest wrote"
    assert world.hosts[host].states() == {server_id: "missing"}, "the disk is kept until confirmation"
    (move,) = migrations(world)
    assert (move["status"], move["migration_type"], move["dest_compute"]) == ("finished", "migration", other(host))
    assert set(holds(world, server_id)) == {node_uuid(world, other(host))}
    assert set(holds(world, move["uuid"])) == {node_uuid(world, host)}
    desired = world.client.call("compute.desired", {"host": host, "since": 0})
    assert [(item["id"], item["kept"]) for item in desired["servers"]] == [(server_id, True)]
    world.act(server_id, "confirmResize", ok=204)
    assert world.server(server_id)["status"] == "ACTIVE"
    assert world.hosts[host].states() == {}
    assert holds(world, move["uuid"]) == {}
    assert migrations(world)[0]["status"] == "confirmed"
    assert server_id in world.client.call("compute.desired", {"host": host, "since": 0})["gone"]
    actions = world("GET", f"/servers/{server_id}/os-instance-actions", as_=ADMIN, ok=200).json["instanceActions"]
    assert [a["action"] for a in actions] == ["confirmResize", "migrate", "create"]


def test_a_migration_is_reverted(world):
    server_id, host = placed(world)
    world.act(server_id, "migrate", None, as_=ADMIN)
    world.hosts[other(host)].write_inside(server_id, "written at the destination")
    world.act(server_id, "revertResize", settle=False)
    assert world.server(server_id)["status"] == "REVERT_RESIZE"
    world.settle()
    server = world.server(server_id)
    assert (server["status"], server["OS-EXT-SRV-ATTR:host"]) == ("ACTIVE", host)
    assert world.hosts[host].states() == {server_id: "running"}
    assert world.hosts[host].read_inside(server_id) == "what the guest wrote"
    assert world.hosts[other(host)].states() == {}
    assert set(holds(world, server_id)) == {node_uuid(world, host)}
    assert {p["binding:host_id"] for p in world.networks.ports.values()} == {host}
    assert migrations(world)[0]["status"] == "reverted"


def test_a_stopped_server_migrates_and_stays_stopped(world):
    server_id, host = placed(world)
    world.act(server_id, "os-stop")
    world.act(server_id, "migrate", {"host": other(host)}, as_=ADMIN)
    assert world.hosts[other(host)].states() == {server_id: "shutdown"}
    world.act(server_id, "confirmResize", ok=204)
    assert world.server(server_id)["status"] == "SHUTOFF"


def test_what_migration_refuses(world):
    server_id, host = placed(world)
    for body, code, words in (
        ({"host": "nowhere"}, 400, "Compute host nowhere could not be found."),
        ({"host": host}, 400, "Cannot migrate to the host where the server exists."),
    ):
        assert words in world.act(server_id, "migrate", body, as_=ADMIN, ok=code, settle=False).text
    world.act(server_id, "migrate", {"host": other(host)}, as_=MANAGER, ok=403, settle=False)
    world.act(server_id, "confirmResize", ok=409, settle=False)
    world.act(server_id, "revertResize", ok=409, settle=False)
    world.act(server_id, "lock", None)
    world.act(server_id, "migrate", None, as_=MANAGER, ok=409, settle=False)
    world.act(server_id, "unlock", None)
    world.act(server_id, "migrate", None, as_=MANAGER, settle=False)
    world.act(server_id, "migrate", None, as_=ADMIN, ok=409, settle=False)


def test_without_another_host_the_server_stays_and_says_why(world):
    server_id, host = placed(world)
    down(world, other(host))
    world.act(server_id, "migrate", None, as_=ADMIN)
    server = world.server(server_id)
    assert (server["status"], server["OS-EXT-SRV-ATTR:host"]) == ("ACTIVE", host)
    assert world.hosts[host].states() == {server_id: "running"}
    (move,) = migrations(world)
    assert move["status"] == "error"
    assert holds(world, move["uuid"]) == {}
    assert set(holds(world, server_id)) == {node_uuid(world, host)}


def test_a_destination_that_fails_gives_the_server_back(world):
    server_id, host = placed(world)
    world.hosts[other(host)].fail("create", "no memory", times=100)
    world.act(server_id, "migrate", None, as_=ADMIN)
    server = world.server(server_id)
    assert (server["status"], server["OS-EXT-SRV-ATTR:host"]) == ("ACTIVE", host)
    assert world.hosts[host].states() == {server_id: "running"}
    assert world.hosts[host].read_inside(server_id) == "what the guest wrote"
    assert world.hosts[other(host)].states() == {}


def test_aggregates_and_zones_count_for_moves(world):
    world.host("host3")
    for name, host in (("near", "host1"), ("near", "host3"), ("far", "host2")):
        listed = world("GET", "/os-aggregates", as_=ADMIN, ok=200).json["aggregates"]
        known = {a["name"]: a["id"] for a in listed}
        if name not in known:
            body = {"aggregate": {"name": name, "availability_zone": name}}
            known[name] = world("POST", "/os-aggregates", body, as_=ADMIN, ok=200).json["aggregate"]["id"]
        world("POST", f"/os-aggregates/{known[name]}/action", {"add_host": {"host": host}}, as_=ADMIN, ok=200)
    server_id, host = placed(world, availability_zone="near")
    world.act(server_id, "migrate", None, as_=ADMIN)
    assert world.server(server_id)["OS-EXT-SRV-ATTR:host"] == {"host1": "host3", "host3": "host1"}[host]
    world.act(server_id, "confirmResize", ok=204)
    world.act(server_id, "migrate", {"host": "host2"}, as_=ADMIN)
    server = world.server(server_id)
    assert (server["status"], migrations(world)[0]["status"]) == ("ACTIVE", "error")


# -- resize ----------------------------------------------------------------------------------------------------------


def test_a_server_gets_a_larger_flavor(world):
    server_id, _ = placed(world)
    world.act(server_id, "resize", {"flavorRef": "large"}, settle=False)
    assert world.server(server_id)["status"] == "RESIZE"
    assert used(world)["cores"] == 2
    world.settle()
    server = world.server(server_id)
    assert (server["status"], server["flavor"]["original_name"]) == ("VERIFY_RESIZE", "large")
    world.act(server_id, "confirmResize", ok=204)
    assert world.server(server_id)["status"] == "ACTIVE"
    assert (used(world)["cores"], used(world)["ram"]) == (2, 1024)
    (move,) = migrations(world)
    assert (move["migration_type"], move["status"]) == ("resize", "confirmed")
    assert move["old_instance_type_id"] != move["new_instance_type_id"]


def test_a_resize_stays_on_the_only_host_and_is_reverted_there(world):
    server_id, host = placed(world)
    down(world, other(host))
    world.act(server_id, "resize", {"flavorRef": "large"})
    assert world.server(server_id)["OS-EXT-SRV-ATTR:host"] == host
    assert world.hosts[host].document(server_id).flavor.vcpus == 2
    world.hosts[host].write_inside(server_id, "written after the resize")
    world.act(server_id, "revertResize")
    server = world.server(server_id)
    assert (server["status"], server["flavor"]["original_name"]) == ("ACTIVE", "small")
    assert world.hosts[host].document(server_id).flavor.vcpus == 1
    assert world.hosts[host].read_inside(server_id) == "what the guest wrote"
    assert used(world)["cores"] == 1


def test_a_smaller_flavor_frees_quota_at_confirmation(world):
    world.flavor("huge", ram=2048, vcpus=4, disk=1)
    server_id, _ = placed(world, flavor="huge")
    world.act(server_id, "resize", {"flavorRef": "small"})
    assert used(world)["cores"] == 4
    world.act(server_id, "confirmResize", ok=204)
    assert (used(world)["cores"], used(world)["ram"]) == (1, 512)


@pytest.mark.parametrize("flavors", [("small", "large"), ("large2", "small2")])
def test_deleting_a_server_that_waits_for_confirmation_leaves_nothing(world, flavors):
    world.flavor("large2", ram=1024, vcpus=2, disk=1)
    world.flavor("small2", ram=512, vcpus=1, disk=1)
    server_id, host = placed(world, flavor=flavors[0])
    world.act(server_id, "resize", {"flavorRef": flavors[1]})
    move = migrations(world)[0]
    world("DELETE", f"/servers/{server_id}", ok=204)
    world.settle()
    assert world.hosts["host1"].states() == world.hosts["host2"].states() == {}
    assert holds(world, server_id) == holds(world, move["uuid"]) == {}
    assert set(used(world).values()) <= {0}


def test_what_a_resize_refuses(world):
    server_id, _ = placed(world)
    world.flavor("tiny-disk", disk=0)
    for body, words in (
        ({"flavorRef": "small"}, "When resizing, instances must change flavor!"),
        ({"flavorRef": "nothing"}, "Flavor nothing could not be found."),
        ({"flavorRef": "tiny-disk"}, "Resize to zero disk flavor is not allowed."),
        ({}, "'flavorRef' is a required property"),
    ):
        assert words in world.act(server_id, "resize", body, ok=400, settle=False).text
    world.flavor("too-much", ram=512, vcpus=100, disk=1)
    assert world.act(server_id, "resize", {"flavorRef": "too-much"}, ok=403, settle=False).json["forbidden"]


def test_a_resize_that_nobody_confirms_is_confirmed_by_itself(world):
    server_id, _ = placed(world)
    world.act(server_id, "resize", {"flavorRef": "large"})
    unconfirmed(world.service)
    assert world.server(server_id)["status"] == "VERIFY_RESIZE", "the window is 0: never"
    impatient = dataclasses.replace(world.service, options=msgspec.structs.replace(world.service.options, resize_confirm_window=60))
    unconfirmed(impatient)
    assert world.server(server_id)["status"] == "VERIFY_RESIZE"
    with world.service.db.write() as conn:
        conn.execute(MIGRATIONS.update().values(updated_at=clock.from_epoch(0)))
    unconfirmed(impatient)
    world.settle()
    assert world.server(server_id)["status"] == "ACTIVE"


# -- what is told ----------------------------------------------------------------------------------------------------


def test_migrations_are_listed_by_version_and_rights(world):
    server_id, host = placed(world)
    world.act(server_id, "migrate", None, as_=ADMIN)
    world.act(server_id, "confirmResize", ok=204)
    world.act(server_id, "migrate", None, as_=MANAGER)
    fields = {"id", "source_compute", "source_node", "dest_compute", "dest_node", "dest_host", "status", "instance_uuid",
              "old_instance_type_id", "new_instance_type_id", "created_at", "updated_at"}
    for version, more in (("2.1", set()), ("2.23", {"migration_type"}), ("2.59", {"migration_type", "uuid"}),
                          ("2.80", {"migration_type", "uuid", "user_id", "project_id"})):
        listed = world("GET", "/os-migrations", as_=ADMIN, v=version, ok=200).json["migrations"]
        assert len(listed) == 2
        assert set(listed[0]) == fields | more
    (mine,) = world("GET", "/os-migrations", as_=MANAGER, v="2.80", ok=200).json["migrations"]
    assert (mine["source_compute"], mine["dest_compute"], mine["instance_uuid"]) == (None, None, server_id)
    world("GET", "/os-migrations", as_=MEMBER, ok=403)
    world("GET", "/os-migrations?host=host1", as_=MANAGER, ok=403)
    world("GET", f"/os-migrations?project_id={ADMIN.project_id}", as_=MANAGER, v="2.80", ok=403)
    page = world("GET", "/os-migrations?limit=1", as_=ADMIN, v="2.59", ok=200).json
    assert len(page["migrations"]) == 1
    rest = world("GET", f"/os-migrations?marker={page['migrations'][0]['uuid']}", as_=ADMIN, v="2.59", ok=200).json["migrations"]
    assert [m["id"] for m in rest] == [page["migrations"][0]["id"] - 1]
    world("GET", "/os-migrations?marker=11111111-1111-4111-8111-111111111111", as_=ADMIN, v="2.59", ok=400)
    world("GET", "/os-migrations?unknown=1", as_=ADMIN, v="2.59", ok=400)
    assert migrations(world, source_compute=host, migration_type="migration", status="confirmed")
    assert migrations(world, status="error") == []
    assert store.IN_PROGRESS


def test_a_service_with_servers_waiting_to_leave_it_is_not_forgotten(world):
    server_id, host = placed(world)
    world.act(server_id, "migrate", None, as_=ADMIN)
    services = world("GET", f"/os-services?host={host}&binary=nova-compute", as_=ADMIN, v="2.53", ok=200).json["services"]
    world("DELETE", f"/os-services/{services[0]['id']}", as_=ADMIN, v="2.53", ok=409)
    world.act(server_id, "confirmResize", ok=204)
    world("DELETE", f"/os-services/{services[0]['id']}", as_=ADMIN, v="2.53", ok=204)


def test_a_dead_host_is_forgotten_after_its_servers_were_evacuated(world):
    server_id, host = placed(world)
    down(world, host)
    world.act(server_id, "evacuate", {}, as_=ADMIN, v="2.94", ok=200)
    services = world("GET", f"/os-services?host={host}&binary=nova-compute", as_=ADMIN, v="2.53", ok=200).json["services"]
    world("DELETE", f"/os-services/{services[0]['id']}", as_=ADMIN, v="2.53", ok=204)
    with world.service.db.read() as conn:
        assert conn.execute(SERVICES.select().where(SERVICES.c.host == host, SERVICES.c.binary == "nova-compute")).first() is None
