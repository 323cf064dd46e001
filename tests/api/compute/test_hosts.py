"""Hypervisors, services, zones, aggregates."""

from __future__ import annotations

from pileus.kernel.testing import ADMIN
from tests.api.compute.world import IMAGE, new


def admin(world, method, path, body=None, *, v="2.1", ok=200):
    return world(method, path, body, as_=ADMIN, v=v, ok=ok).json


def test_hypervisors_by_version(world):
    world.boot(networks="none")
    old = admin(world, "GET", "/os-hypervisors/detail")["hypervisors"][0]
    assert isinstance(old["id"], int) and isinstance(old["cpu_info"], str)
    assert (old["vcpus_used"], old["running_vms"], old["state"], old["status"]) == (1, 1, "up", "enabled")
    middle = admin(world, "GET", "/os-hypervisors/detail", v="2.53")["hypervisors"][0]
    assert isinstance(middle["id"], str) and isinstance(middle["cpu_info"], dict)
    newest = admin(world, "GET", f"/os-hypervisors/{middle['id']}", v="2.88")["hypervisor"]
    assert not {"vcpus", "cpu_info", "running_vms"} & set(newest) and "uptime" in newest
    listed = admin(world, "GET", "/os-hypervisors?with_servers=true", v="2.53")["hypervisors"][0]
    assert len(listed["servers"]) == 1
    admin(world, "GET", "/os-hypervisors?hypervisor_hostname_pattern=zz", v="2.53", ok=404)
    admin(world, "GET", f"/os-hypervisors/{new()}", v="2.53", ok=404)
    admin(world, "GET", "/os-hypervisors/x", v="2.53", ok=400)
    admin(world, "GET", "/os-hypervisors/99", ok=404)
    assert admin(world, "GET", "/os-hypervisors/statistics")["hypervisor_statistics"]["count"] == 1
    assert admin(world, "GET", "/os-hypervisors/host/search")["hypervisors"][0]["hypervisor_hostname"] == "host1"
    admin(world, "GET", "/os-hypervisors/statistics", v="2.88", ok=404)


def test_services_are_listed_and_changed(world):
    row = next(s for s in admin(world, "GET", "/os-services", v="2.53")["services"] if s["binary"] == "nova-compute")
    assert (row["status"], row["state"], row["zone"], row["forced_down"]) == ("enabled", "up", "nova", False)
    changed = admin(world, "PUT", f"/os-services/{row['id']}", {"status": "disabled", "disabled_reason": "r"}, v="2.53")["service"]
    assert (changed["status"], changed["disabled_reason"]) == ("disabled", "r")
    admin(world, "PUT", f"/os-services/{row['id']}", {"disabled_reason": "r"}, v="2.53", ok=400)
    admin(world, "PUT", f"/os-services/{row['id']}", {"status": "enabled", "forced_down": True}, v="2.53")
    assert admin(world, "GET", "/os-services?binary=nova-compute", v="2.53")["services"][0]["state"] == "down"
    admin(world, "PUT", f"/os-services/{new()}", {"status": "enabled"}, v="2.53", ok=404)
    admin(world, "PUT", "/os-services/enable", {"host": "zz", "binary": "nova-compute"}, ok=404)


def test_a_host_with_servers_is_not_forgotten(world):
    server_id = world.boot(networks="none")
    row = admin(world, "GET", "/os-services?binary=nova-compute", v="2.53")["services"][0]
    admin(world, "DELETE", f"/os-services/{row['id']}", v="2.53", ok=409)
    world("DELETE", f"/servers/{server_id}", ok=204)
    world.settle()
    admin(world, "DELETE", f"/os-services/{row['id']}", v="2.53", ok=204)
    assert admin(world, "GET", "/os-hypervisors")["hypervisors"] == []


def test_aggregates_and_zones(two_hosts):
    world = two_hosts
    made = admin(world, "POST", "/os-aggregates", {"aggregate": {"name": "a", "availability_zone": "east"}}, v="2.41")["aggregate"]
    assert made["uuid"] and made["availability_zone"] == "east"
    path = f"/os-aggregates/{made['id']}"
    admin(world, "POST", "/os-aggregates", {"aggregate": {"name": "a"}}, ok=409)
    assert admin(world, "POST", f"{path}/action", {"add_host": {"host": "host2"}})["aggregate"]["hosts"] == ["host2"]
    admin(world, "POST", f"{path}/action", {"add_host": {"host": "host2"}}, ok=409)
    admin(world, "POST", f"{path}/action", {"add_host": {"host": "host9"}}, ok=404)
    zones = world("GET", "/os-availability-zone", ok=200).json["availabilityZoneInfo"]
    assert [(z["zoneName"], z["zoneState"]["available"], z["hosts"]) for z in zones] == [("east", True, None), ("nova", True, None)]
    detail = admin(world, "GET", "/os-availability-zone/detail")["availabilityZoneInfo"]
    assert detail[0]["hosts"]["host2"]["nova-compute"]["available"] is True
    server = world.server(world.boot(networks="none", availability_zone="east"))
    assert (server["OS-EXT-SRV-ATTR:host"], server["OS-EXT-AZ:availability_zone"], server["pinned_availability_zone"]) == ("host2", "east", "east")
    admin(world, "POST", f"{path}/action", {"remove_host": {"host": "host2"}}, ok=409)
    other = admin(world, "POST", "/os-aggregates", {"aggregate": {"name": "b", "availability_zone": "west"}})["aggregate"]
    admin(world, "POST", f"/os-aggregates/{other['id']}/action", {"add_host": {"host": "host2"}}, ok=409)
    assert admin(world, "POST", f"/os-aggregates/{other['id']}/action", {"set_metadata": {"metadata": {"k": "v"}}})["aggregate"]["metadata"] == {"availability_zone": "west", "k": "v"}
    assert admin(world, "POST", f"/os-aggregates/{other['id']}/action", {"set_metadata": {"metadata": {"k": None}}})["aggregate"]["metadata"] == {"availability_zone": "west"}
    assert admin(world, "PUT", f"/os-aggregates/{other['id']}", {"aggregate": {"name": "c"}})["aggregate"]["name"] == "c"
    admin(world, "DELETE", path, ok=400)
    admin(world, "DELETE", f"/os-aggregates/{other['id']}")
    admin(world, "GET", f"/os-aggregates/{other['id']}", ok=404)
    admin(world, "GET", "/os-aggregates/x", ok=400)


def test_extra_specs_choose_aggregates(two_hosts):
    world = two_hosts
    made = admin(world, "POST", "/os-aggregates", {"aggregate": {"name": "ssd"}})["aggregate"]
    admin(world, "POST", f"/os-aggregates/{made['id']}/action", {"set_metadata": {"metadata": {"ssd": "true"}}})
    admin(world, "POST", f"/os-aggregates/{made['id']}/action", {"add_host": {"host": "host2"}})
    world.flavor("fast")
    admin(world, "POST", "/flavors/fast/os-extra_specs", {"extra_specs": {"aggregate_instance_extra_specs:ssd": "true"}})
    for _ in range(2):
        assert world.server(world.boot(networks="none", flavor="fast"))["OS-EXT-SRV-ATTR:host"] == "host2"


def test_servers_spread_over_hosts(two_hosts):
    hosts = [two_hosts.server(two_hosts.boot(networks="none"))["OS-EXT-SRV-ATTR:host"] for _ in range(4)]
    assert sorted(hosts) == ["host1", "host1", "host2", "host2"]


def test_a_host_that_fails_is_left_for_another(two_hosts):
    world = two_hosts
    world.hosts["host1"].fail("create", "no kernel", times=9)
    servers = [world.server(world.boot()) for _ in range(2)]
    assert {s["status"] for s in servers} == {"ACTIVE"} and {s["OS-EXT-SRV-ATTR:host"] for s in servers} == {"host2"}
    assert {p["binding:host_id"] for p in world.networks.ports.values()} == {"host2"}
    world.hosts["host2"].fail("create", "no disk", times=9)
    failed = world.server(world.boot())
    assert failed["status"] == "ERROR" and "no kernel" in failed["fault"]["details"] and "no disk" in failed["fault"]["details"]
    assert len(world.networks.ports) == 2 and world.allocations(failed["id"]) == {}
    assert failed["image"]["id"] == IMAGE
