"""What hosts are told: exactly what a change concerns."""

from __future__ import annotations

import pytest

from pileus.kernel import desired
from pileus.kernel.testing import ADMIN
from pileus.network.loops.leftovers import collect_leftovers
from tests.api.network.world import Network, new


@pytest.fixture
def two():
    made = Network(hosts=("host1", "host2"))
    for number in (1, 2):
        made.beat(f"host{number}", vtep=f"192.0.2.{number}")
    yield made
    made.client.close()


def test_a_host_without_ports_has_nothing(net):
    document = net.desired("host9")
    assert (document["networks"], document["ports"], document["routers"], document["groups"]) == ((), (), (), ())


def test_an_unbound_port_concerns_no_host(net):
    network, _ = net.net()
    version = net.desired()["version"]
    net.make("ports", network_id=network["id"])
    assert net.since(version) == {}


def test_binding_a_port_brings_port_network_and_group_to_the_host(net):
    network, _ = net.net()
    version = net.desired()["version"]
    port = net.guest(network)
    assert net.since(version) == {"ports": {port["id"]}, "networks": {network["id"]}, "groups": set(port["security_groups"])}


def test_a_second_port_brings_no_group_again_unless_members_count(net):
    network, _ = net.net()
    group = net.make("security-groups", name="web")
    net.guest(network, security_groups=[group["id"]])
    version = net.desired()["version"]
    port = net.guest(network, security_groups=[group["id"]])
    assert net.since(version) == {"ports": {port["id"]}, "networks": {network["id"]}}


def test_members_are_told_where_a_rule_refers_to_the_group(net):
    network, _ = net.net()
    web, db = net.make("security-groups", name="web"), net.make("security-groups", name="db")
    net.make("security-group-rules", security_group_id=db["id"], direction="ingress", remote_group_id=web["id"])
    net.guest(network, security_groups=[db["id"]])
    assert {item["id"] for item in net.desired()["groups"]} == {web["id"], db["id"]}
    version = net.desired()["version"]
    port = net.make("ports", network_id=network["id"], security_groups=[web["id"]])
    assert net.since(version) == {"groups": {web["id"]}}
    (item,) = net.desired(since=version)["groups"]
    assert item["members"] == (port["fixed_ips"][0]["ip_address"],)


def test_a_rule_concerns_the_hosts_of_its_group_and_brings_the_remote_one(net):
    network, _ = net.net()
    web, db = net.make("security-groups", name="web"), net.make("security-groups", name="db")
    net.guest(network, security_groups=[db["id"]])
    version = net.desired()["version"]
    rule = net.make("security-group-rules", security_group_id=db["id"], direction="ingress", remote_group_id=web["id"])
    assert net.since(version) == {"groups": {web["id"], db["id"]}}
    version = net.desired()["version"]
    net.delete("security-group-rules", rule["id"])
    assert net.since(version) == {"groups": {db["id"]}, "gone": {web["id"]}}


def test_the_last_port_takes_network_and_groups_along(net):
    network, _ = net.net(enable_dhcp=False)
    one, two = net.guest(network), net.guest(network)
    version = net.desired()["version"]
    net.delete("ports", one["id"])
    assert net.since(version)["gone"] == {one["id"]}
    net.delete("ports", two["id"])
    assert net.since(version) == {"gone": {one["id"], two["id"], network["id"], *two["security_groups"]}}
    document = net.desired()
    assert (document["networks"], document["ports"], document["groups"]) == ((), (), ())


@pytest.mark.parametrize("way", ["network", "subnet", "dhcp off", "interface"])
def test_a_network_leaves_the_host_in_whatever_way_its_last_port_goes(net, way):
    network, subnet = net.net(enable_dhcp=way != "interface")
    if way == "interface":
        router = net.routed(subnet)
        net("PUT", f"/routers/{router['id']}/remove_router_interface", {"subnet_id": subnet["id"]}, ok=200)
    elif way == "dhcp off":
        net.change("subnets", subnet["id"], enable_dhcp=False)
    else:
        net.delete(f"{way}s", {"network": network, "subnet": subnet}[way]["id"])
    assert net.desired()["networks"] == ()
    assert network["id"] in net.since(1)["gone"]
    assert collect_leftovers(net.service) == 0


def test_what_a_fault_left_on_a_host_is_taken_away(net):
    network, _ = net.net()
    with net.service.db.write() as conn:
        desired.touch(conn, "host1", "network", [new()])
        desired.touch(conn, "host2", "network", [network["id"]])
        desired.touch(conn, "host2", "port", [new()])
    assert collect_leftovers(net.service) == 3
    assert collect_leftovers(net.service) == 0
    assert [item["id"] for item in net.desired()["networks"]] == [network["id"]]
    assert net.desired("host2")["networks"] == ()


def test_moving_a_port_concerns_both_hosts(two):
    network, _ = two.net(enable_dhcp=False)
    port = two.guest(network)
    one, other = two.desired("host1")["version"], two.desired("host2")["version"]
    two.bind(port, "host2")
    assert two.since(one, "host1") == {"gone": {port["id"], network["id"], *port["security_groups"]}}
    assert set(two.since(other, "host2")) == {"ports", "networks", "groups"}


def test_peers_are_the_ports_on_other_hosts(two):
    network, _ = two.net(enable_dhcp=False)
    one = two.guest(network, "host1")
    version = two.desired("host1")["version"]
    other = two.guest(network, "host2")
    assert two.since(version, "host1").keys() == {"networks", "groups"}
    (item,) = two.desired("host1", version)["networks"]
    (peer,) = item["peers"]
    assert peer["vtep"] == "192.0.2.2"
    assert [(entry["mac"], list(entry["ips"])) for entry in peer["entries"]] == [(other["mac_address"], [other["fixed_ips"][0]["ip_address"]])]
    (item,) = two.desired("host2")["networks"]
    assert item["peers"][0]["entries"][0]["mac"] == one["mac_address"]


def test_a_new_tunnel_address_reaches_the_peers(two):
    network, _ = two.net(enable_dhcp=False)
    two.guest(network, "host1")
    two.guest(network, "host2")
    version = two.desired("host1")["version"]
    two.beat("host2", vtep="192.0.2.77")
    assert two.since(version, "host1") == {"networks": {network["id"]}}
    assert two.desired("host1", version)["networks"][0]["peers"][0]["vtep"] == "192.0.2.77"


def test_a_host_that_is_forgotten_is_nobodys_peer(two):
    network, _ = two.net(enable_dhcp=False)
    two.guest(network, "host1")
    two.guest(network, "host2")
    version = two.desired("host1")["version"]
    *others, last = two.all("/agents?host=host2", as_=ADMIN)
    for agent in others:
        two.delete("agents", agent["id"], as_=ADMIN)
    assert two.since(version, "host1") == {}
    two.delete("agents", last["id"], as_=ADMIN)
    assert two.since(version, "host1") == {"networks": {network["id"]}}
    assert two.desired("host1")["networks"][0]["peers"] == ()


def test_leases_and_metadata_are_with_dhcp(two):
    network, subnet = two.net()
    (dhcp,) = two.all("/ports?device_owner=network:dhcp")
    served = next(host for host in ("host1", "host2") if two.desired(host)["networks"])
    other = {"host1": "host2", "host2": "host1"}[served]
    port = two.guest(network, other)
    (item,) = two.desired(served)["networks"]
    address = port["fixed_ips"][0]["ip_address"]
    assert item["dhcp"]["port_id"] == dhcp["id"]
    (lease,) = item["leases"]
    assert (lease["mac"], lease["ip"], lease["subnet_id"]) == (port["mac_address"], address, subnet["id"])
    assert [(owner["ip"], owner["device_id"]) for owner in item["metadata"]] == [(address, port["device_id"])]
    assert item["isolated"] is True
    (item,) = two.desired(other)["networks"]
    assert (item["dhcp"], item["leases"], item["metadata"]) == (None, (), ())


def test_a_router_ends_isolation(net):
    network, subnet = net.net()
    version = net.desired()["version"]
    router = net.routed(subnet)
    assert net.since(version) == {"networks": {network["id"]}, "routers": {router["id"]}}
    (item,) = net.desired(since=version)["networks"]
    assert item["isolated"] is False


def test_a_deleted_router_leaves_its_host(net):
    _, subnet = net.net()
    router = net.routed(subnet)
    version = net.desired()["version"]
    net("PUT", f"/routers/{router['id']}/remove_router_interface", {"subnet_id": subnet["id"]}, ok=200)
    net.delete("routers", router["id"])
    assert net.since(version)["gone"] == {router["id"]}


def test_the_cost_of_one_port_does_not_grow_with_the_host(net):
    network, _ = net.net("10.0.0.0/16")
    group = net.make("security-groups", name="web")
    counts = []
    for _ in range(3):
        port = net.make("ports", network_id=network["id"], security_groups=[group["id"]])
        with net.client.count_queries() as queries:
            net.bind(port, "host1")
        counts.append(len(queries))
        for _ in range(5):
            net.guest(network, security_groups=[group["id"]])
    assert counts[1] == counts[2] <= 26


def test_a_network_that_is_down_carries_nothing(net):
    outside, _ = net.outside()
    network, subnet = net.net()
    router = net.routed(subnet, outside)
    port = net.guest(network)
    elsewhere = net.guest(net.net("10.7.0.0/24")[0])
    document = net.desired()
    net.report(ports={port["id"]: "ACTIVE", **{leg["id"]: "ACTIVE" for leg in net.all("/ports")}}, complete=True)
    version = document["version"]
    net.change("networks", network["id"], admin_state_up=False)
    changed = net.desired(since=version)
    assert [(item["id"], item["admin_state_up"]) for item in changed["ports"]] == [(port["id"], False)]
    (item,) = changed["networks"]
    assert (item["id"], item["dhcp"], item["leases"]) == (network["id"], None, ())
    (item,) = changed["routers"]
    assert (item["id"], item["interfaces"]) == (router["id"], ())
    assert item["gateway"] is not None
    net.report(ports={port["id"]: "DOWN"})
    assert {found["status"] for found in net.all(f"/ports?network_id={network['id']}")} == {"DOWN"}
    assert net.get("networks", network["id"])["status"] == "ACTIVE"
    assert net.get("ports", elsewhere["id"])["status"] == "ACTIVE"
    version = net.desired()["version"]
    net.change("networks", network["id"], admin_state_up=True)
    changed = net.desired(since=version)
    assert [item["admin_state_up"] for item in changed["ports"]] == [True]
    assert changed["networks"][0]["dhcp"] is not None
    assert len(changed["routers"][0]["interfaces"]) == 1


def test_a_floating_ip_of_an_external_network_that_is_down_leads_nowhere(net):
    outside, _ = net.outside()
    network, subnet = net.net()
    net.routed(subnet, outside)
    floating = net.make("floatingips", floating_network_id=outside["id"], port_id=net.guest(network)["id"])
    net.report(floating_ips={floating["id"]: "ACTIVE"})
    net.change("networks", outside["id"], as_=ADMIN, admin_state_up=False)
    (item,) = net.desired()["routers"]
    assert (item["gateway"], item["floating_ips"]) == (None, ())
    assert net.get("floatingips", floating["id"])["status"] == "DOWN"
