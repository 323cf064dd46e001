"""The client that the other services use, against the service itself in process."""

from __future__ import annotations

import pytest

from pileus.clients.base import LocalBinding, PeerConflict, PeerNotFound, PeerUnavailable
from pileus.clients.network import NetworkClient
from pileus.kernel.testing import ADMIN, MEMBER, SERVICE
from tests.api.network.world import new


@pytest.fixture
def client(net):
    binding = LocalBinding(lambda: net.client.app, "/networking", "http://localhost:5000")
    return lambda context: NetworkClient(binding, context)


def test_what_a_boot_needs(net, client):
    admin, member, service = client(ADMIN), client(MEMBER), client(SERVICE)
    outside = admin.create_network({"name": "public", "router:external": True})
    admin.create_subnet({"network_id": outside["id"], "cidr": "172.24.4.0/24", "ip_version": 4, "enable_dhcp": False})
    network = member.create_network({"name": "n"})
    subnet = member.create_subnet({"network_id": network["id"], "cidr": "10.0.0.0/24", "ip_version": 4})
    router = member.create_router({"name": "r", "external_gateway_info": {"network_id": outside["id"]}})
    member.add_router_interface(router["id"], subnet_id=subnet["id"])
    server = new()
    port = service.create_port({"network_id": network["id"], "project_id": MEMBER.project_id, "device_id": server, "device_owner": "compute:nova"})
    bound = service.bind_port(port["id"], "host1")
    assert bound["binding:vif_type"] == "tap"
    assert [found["id"] for found in service.list_ports(device_id=server)] == [port["id"]]
    assert [found["id"] for found in member.list_networks(router_external=True)] == [outside["id"]]
    floating = member.create_floatingip({"floating_network_id": outside["id"]})
    assert member.update_floatingip(floating["id"], {"port_id": port["id"]})["port_id"] == port["id"]
    group = member.create_security_group({"name": "web"})
    rule = member.create_security_group_rule({"security_group_id": group["id"], "direction": "ingress", "protocol": "tcp"})
    member.delete_security_group_rule(rule["id"])
    with pytest.raises(PeerConflict):
        member.delete_network(network["id"])
    member.delete_floatingip(floating["id"])
    service.delete_port(port["id"])
    service.delete_port(port["id"])
    with pytest.raises(PeerNotFound):
        service.show_port(port["id"])
    member.remove_router_interface(router["id"], subnet_id=subnet["id"])
    member.delete_router(router["id"])
    member.delete_network(network["id"])
    assert member.show_quota_details(MEMBER.project_id)["port"]["used"] == 0


def test_ports_come_in_bulk(net, client):
    network, _ = net.net()
    made = client(MEMBER).create_ports([{"network_id": network["id"], "name": name} for name in ("a", "b")])
    assert [port["name"] for port in made] == ["a", "b"]


def test_a_port_moves_between_hosts(net, client):
    service = client(SERVICE)
    for host in ("host2", "host3.rack7"):
        net.beat(host)
    port = net.guest(net.net(enable_dhcp=False)[0])
    made = service.create_port_binding(port["id"], "host3.rack7", profile={"why": "evacuation"})
    assert (made["host"], made["status"], made["vif_type"]) == ("host3.rack7", "INACTIVE", "tap")
    with pytest.raises(PeerConflict):
        service.create_port_binding(port["id"], "host3.rack7")
    for _ in range(2):
        service.activate_port_binding(port["id"], "host3.rack7")
    assert [found["host"] for found in service.list_port_bindings(port["id"], status="INACTIVE")] == ["host1"]
    for _ in range(2):
        service.delete_port_binding(port["id"], "host1")
    assert service.show_port(port["id"])["binding:host_id"] == "host3.rack7"
    with pytest.raises(PeerNotFound):
        service.activate_port_binding(port["id"], "host2")
    with pytest.raises(PeerUnavailable):
        service.create_port_binding(port["id"], "nowhere")
