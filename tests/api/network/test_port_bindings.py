"""Ports bound to several hosts: what is said on the wire, what hosts are told, what compute hears."""

from __future__ import annotations

import pytest

from pileus.kernel.testing import ADMIN, MEMBER, OTHER, READER, SERVICE
from pileus.network.loops.leftovers import collect_leftovers
from pileus.network.loops.port_events import deliver_events
from tests.api.network.test_port_events import Compute, names
from tests.api.network.world import Network, new

HOSTS = ("host1", "host2", "host3")


@pytest.fixture
def compute():
    return Compute()


@pytest.fixture
def net(compute):
    made = Network(hosts=HOSTS, clients=compute)
    for number, host in enumerate(HOSTS, 1):
        made.beat(host, vtep=f"192.0.2.{number}")
    yield made
    made.client.close()


@pytest.fixture
def port(net):
    network, _ = net.net(enable_dhcp=False)
    return net.guest(network)


def bindings(net, port, query="", as_=SERVICE):
    return net("GET", f"/ports/{port['id']}/bindings{query}", as_=as_, ok=200).json["bindings"]


def prepare(net, port, host="host2", **more):
    return net("POST", f"/ports/{port['id']}/bindings", {"binding": {"host": host, **more}}, as_=SERVICE, ok=201).json["binding"]


def activate(net, port, host="host2"):
    return net("PUT", f"/ports/{port['id']}/bindings/{host}/activate", as_=SERVICE, ok=200).json["binding"]


def drop(net, port, host="host2"):
    net("DELETE", f"/ports/{port['id']}/bindings/{host}", as_=SERVICE, ok=204)


def ids(document, kind):
    return {item["id"] for item in document[kind]}


def test_a_bound_port_has_one_binding(net, port):
    details = {"bridge_name": f"brq{port['network_id'][:11]}", "connectivity": "l2", "port_filter": True}
    one = {"host": "host1", "vif_type": "tap", "vif_details": details, "vnic_type": "normal", "profile": {}, "status": "ACTIVE"}
    assert bindings(net, port) == [one]
    assert bindings(net, port, as_=ADMIN) == [one]


def test_a_second_binding_is_inactive_until_it_is_activated(net, port):
    made = prepare(net, port, profile={"migrating_to": "host2"})
    assert (made["host"], made["vif_type"], made["status"], made["profile"]) == ("host2", "tap", "INACTIVE", {"migrating_to": "host2"})
    assert [(b["host"], b["status"]) for b in bindings(net, port)] == [("host1", "ACTIVE"), ("host2", "INACTIVE")]
    assert net.get("ports", port["id"], as_=ADMIN)["binding:host_id"] == "host1"
    active = activate(net, port)
    assert (active["host"], active["status"], active["profile"]) == ("host2", "ACTIVE", {"migrating_to": "host2"})
    body = net.get("ports", port["id"], as_=ADMIN)
    assert (body["binding:host_id"], body["binding:vif_type"], body["binding:profile"]) == ("host2", "tap", {"migrating_to": "host2"})
    left = bindings(net, port)[1]
    assert (left["host"], left["status"], left["vif_type"], left["vif_details"]) == ("host1", "INACTIVE", "unbound", {})
    drop(net, port, "host1")
    assert [b["host"] for b in bindings(net, port)] == ["host2"]


def test_bindings_are_filtered_and_cut_to_fields(net, port):
    prepare(net, port)
    assert [b["host"] for b in bindings(net, port, "?status=INACTIVE")] == ["host2"]
    assert bindings(net, port, "?host=host1&fields=host&fields=status") == [{"host": "host1", "status": "ACTIVE"}]


def test_an_unbound_port_can_be_prepared_and_moved_too(net):
    network, _ = net.net(enable_dhcp=False)
    port = net.guest(network, host=None)
    assert [(b["host"], b["vif_type"]) for b in bindings(net, port)] == [("", "unbound")]
    prepare(net, port)
    activate(net, port)
    assert [(b["host"], b["status"]) for b in bindings(net, port)] == [("host2", "ACTIVE")]


def test_what_contradicts_the_bindings_is_refused(net, port):
    prepare(net, port)
    path = f"/ports/{port['id']}/bindings"
    for host in ("host1", "host2"):
        assert net.refused("POST", path, {"binding": {"host": host}}, as_=SERVICE) == (409, "PortBindingAlreadyExists")
    assert net.refused("PUT", f"{path}/host1/activate", as_=SERVICE) == (409, "PortBindingAlreadyActive")
    assert net.refused("PUT", f"{path}/host3/activate", as_=SERVICE) == (404, "PortBindingNotFound")
    assert net.refused("DELETE", f"{path}/host3", as_=SERVICE) == (404, "PortBindingNotFound")
    assert net.refused("GET", f"/ports/{new()}/bindings", as_=SERVICE) == (404, "PortNotFound")


def test_a_host_that_cannot_take_the_port_is_an_error(net, port):
    path = f"/ports/{port['id']}/bindings"
    assert net.refused("POST", path, {"binding": {"host": "nowhere"}}, as_=SERVICE) == (500, "PortBindingError")
    assert net.refused("POST", path, {"binding": {"host": "host2", "vnic_type": "direct"}}, as_=SERVICE) == (500, "PortBindingError")
    assert len(bindings(net, port)) == 1


@pytest.mark.parametrize("body", [
    None, {}, {"binding": 1}, {"binding": {}}, {"binding": {"host": ""}}, {"binding": {"host": 5}}, {"binding": {"host": "host2", "profile": 5}},
    {"binding": {"host": "host2", "vnic_type": "odd"}}, {"binding": {"host": "host2", "status": "ACTIVE"}}, {"binding": {"host": "h", "x": 1}},
])  # fmt: skip
def test_wrong_bodies_are_refused(net, port, body):
    assert net.refused("POST", f"/ports/{port['id']}/bindings", body, as_=SERVICE) == (400, "HTTPBadRequest")


def test_only_ports_of_servers_are_bound_to_several_hosts(net):
    network, _ = net.net(enable_dhcp=False)
    port = net.make("ports", network_id=network["id"])
    path = f"/ports/{port['id']}/bindings"
    assert net.refused("POST", path, {"binding": {"host": "host2"}}, as_=SERVICE) == (400, "BadRequest")
    assert net.refused("PUT", f"{path}/host2/activate", as_=SERVICE) == (400, "BadRequest")
    assert net.refused("DELETE", f"{path}/host2", as_=SERVICE) == (400, "BadRequest")


def test_services_bind_and_administrators_look(net, port):
    prepare(net, port)
    path = f"/ports/{port['id']}/bindings"
    assert bindings(net, port, as_=MEMBER) == []
    assert net.refused("GET", path, as_=OTHER) == (404, "PortNotFound")
    for who in (ADMIN, MEMBER, READER):
        assert net.refused("POST", path, {"binding": {"host": "host3"}}, as_=who) == (403, "PolicyNotAuthorized")
        assert net.refused("PUT", f"{path}/host2/activate", as_=who) == (403, "PolicyNotAuthorized")
        assert net.refused("DELETE", f"{path}/host2", as_=who) == (403, "PolicyNotAuthorized")


def test_a_prepared_host_has_the_port_its_network_and_its_groups(net, port):
    one, version = net.desired("host1")["version"], net.desired("host2")["version"]
    prepare(net, port)
    assert net.since(version, "host2") == {"ports": {port["id"]}, "networks": {port["network_id"]}, "groups": set(port["security_groups"])}
    assert net.since(one, "host1") == {}, "nothing changes where the port is"
    assert collect_leftovers(net.service) == 0
    version = net.desired("host2")["version"]
    drop(net, port)
    assert net.since(version, "host2") == {"gone": {port["id"], port["network_id"], *port["security_groups"]}}


def test_forwarding_follows_the_active_binding(net, port):
    network = {"id": port["network_id"]}
    net.guest(network, "host3")

    def behind():
        (item,) = net.desired("host3")["networks"]
        return {entry["mac"]: peer["vtep"] for peer in item["peers"] for entry in peer["entries"]}.get(port["mac_address"])

    prepare(net, port)
    assert behind() == "192.0.2.1"
    versions = {host: net.desired(host)["version"] for host in HOSTS}
    activate(net, port)
    assert behind() == "192.0.2.2"
    gone = {port["id"], port["network_id"], *port["security_groups"]}
    assert net.since(versions["host1"], "host1") == {"gone": gone}
    assert net.since(versions["host2"], "host2") == {"ports": {port["id"]}, "networks": {network["id"]}}
    assert net.since(versions["host3"], "host3") == {"networks": {network["id"]}}
    assert collect_leftovers(net.service) == 0


def test_a_port_goes_back_where_it_was(net, port):
    prepare(net, port)
    activate(net, port)
    activate(net, port, "host1")
    assert [(b["host"], b["status"]) for b in bindings(net, port)] == [("host1", "ACTIVE"), ("host2", "INACTIVE")]
    assert ids(net.desired("host1"), "ports") == {port["id"]}
    assert net.desired("host2")["ports"] == ()


def test_changes_of_the_port_reach_the_prepared_host(net, port):
    prepare(net, port)
    group = net.make("security-groups", name="web")
    version = net.desired("host2")["version"]
    net.change("ports", port["id"], security_groups=[group["id"]])
    assert net.since(version, "host2") == {
        "ports": {port["id"]}, "networks": {port["network_id"]}, "groups": {group["id"]}, "gone": set(port["security_groups"])
    }  # fmt: skip
    version = net.desired("host2")["version"]
    rule = net.make("security-group-rules", security_group_id=group["id"], direction="ingress", remote_group_id=port["security_groups"][0])
    assert net.since(version, "host2") == {"groups": {group["id"], port["security_groups"][0]}}
    net.delete("security-group-rules", rule["id"])
    assert ids(net.desired("host2"), "groups") == {group["id"]}
    net.delete("ports", port["id"])
    assert net.desired("host2")["ports"] == net.desired("host2")["groups"] == ()


def test_binding_the_port_itself_to_a_prepared_host_leaves_one_binding(net, port):
    prepare(net, port)
    net.bind(port, "host2")
    assert [(b["host"], b["status"]) for b in bindings(net, port)] == [("host2", "ACTIVE")]
    assert net.desired("host1")["ports"] == ()
    assert collect_leftovers(net.service) == 0


def test_compute_hears_of_a_tap_on_the_prepared_host_once(net, port, compute):
    net.report("host1", ports={port["id"]: "ACTIVE"})
    prepare(net, port)
    for _ in range(2):
        net.report("host2", ports={port["id"]: "ACTIVE"})
    deliver_events(net.service)
    assert names(compute, port) == ["network-vif-plugged"] * 2
    assert net.get("ports", port["id"])["status"] == "ACTIVE"
    net.report("host2", complete=True)
    deliver_events(net.service)
    assert names(compute, port) == ["network-vif-plugged"] * 2, "a tap that goes where the port is not concerns nobody"


def test_the_status_after_a_move_is_what_the_new_host_has_reported(net, port):
    net.report("host1", ports={port["id"]: "ACTIVE"})
    prepare(net, port)
    prepare(net, port, "host3")
    net.report("host3", ports={port["id"]: "ACTIVE"})
    activate(net, port, "host2")
    assert net.get("ports", port["id"])["status"] == "DOWN"
    net.report("host1", complete=True)
    activate(net, port, "host3")
    assert net.get("ports", port["id"])["status"] == "ACTIVE"


def test_taking_the_active_binding_away_unbinds_the_port(net, port):
    net.report("host1", ports={port["id"]: "ACTIVE"})
    drop(net, port, "host1")
    body = net.get("ports", port["id"], as_=ADMIN)
    assert (body["binding:host_id"], body["binding:vif_type"], body["status"]) == ("", "unbound", "DOWN")
    assert net.desired("host1")["ports"] == ()


def test_floating_ips_and_leases_stay_with_the_active_binding(net):
    outside, _ = net.outside()
    network, subnet = net.net()
    net.routed(subnet, outside)
    port = net.guest(network)
    floating = net.make("floatingips", floating_network_id=outside["id"], port_id=port["id"])
    prepare(net, port)
    activate(net, port)
    assert net.get("floatingips", floating["id"])["port_id"] == port["id"]
    leases = [lease["mac"] for host in HOSTS for item in net.desired(host)["networks"] for lease in item["leases"]]
    assert leases == [port["mac_address"]]

