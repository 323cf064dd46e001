"""Agents, zones, placement, versions, extensions and quotas on the wire."""

from __future__ import annotations

import pytest

from pileus.kernel import clock
from pileus.kernel.testing import ADMIN, MEMBER, OTHER, READER
from pileus.network.loops.placement import keep_placed
from tests.api.network.world import AGENTS, Network, new


@pytest.fixture
def later():
    """A clock that the test moves."""
    virtual = clock.VirtualClock(clock.time())
    previous = clock.use(virtual)
    yield virtual
    clock.use(previous)


def agent(net, kind, host="host1"):
    (found,) = net.all(f"/agents?agent_type={kind}&host={host}".replace(" ", "%20"), as_=ADMIN)
    return found


def test_agents_are_listed_alive(net):
    body = agent(net, "DHCP agent")
    assert set(body) == {
        "id", "agent_type", "binary", "topic", "host", "availability_zone", "admin_state_up", "alive", "description", "configurations",
        "created_at", "started_at", "heartbeat_timestamp", "resources_synced",
    }  # fmt: skip
    assert (body["host"], body["alive"], body["topic"], body["availability_zone"]) == ("host1", True, "dhcp_agent", "nova")
    assert net("GET", f"/agents/{body['id']}", as_=ADMIN, ok=200).json["agent"] == body


def test_a_silent_agent_is_dead(net, later):
    later.advance(76)
    assert [body["alive"] for body in net.all("/agents", as_=ADMIN)] == [False] * 3
    assert net.all("/agents?alive=True", as_=ADMIN) == []
    net.beat("host1")
    assert len(net.all("/agents?alive=True", as_=ADMIN)) == 3


def test_agents_are_taken_out_of_service_and_forgotten(net):
    body = agent(net, "DHCP agent")
    path = f"/agents/{body['id']}"
    changed = net("PUT", path, {"agent": {"admin_state_up": False, "description": "d"}}, as_=ADMIN, ok=200).json["agent"]
    assert (changed["admin_state_up"], changed["description"]) == (False, "d")
    net.net()
    assert net.all("/ports") == []
    assert net.refused("PUT", path, {"agent": {"host": "x"}}, as_=ADMIN) == (400, "HTTPBadRequest")
    net("DELETE", path, as_=ADMIN, ok=204)
    assert net.refused("GET", path, as_=ADMIN) == (404, "AgentNotFound")


def test_agents_are_for_administrators(net):
    body = agent(net, "DHCP agent")
    assert net.all("/agents") == []
    for method in ("GET", "PUT", "DELETE"):
        assert net.refused(method, f"/agents/{body['id']}", {"agent": {}}) == (404, "AgentNotFound")


def test_zones_are_those_of_agents(net):
    assert net.all("/availability_zones") == [
        {"name": "nova", "resource": "network", "state": "available"},
        {"name": "nova", "resource": "router", "state": "available"},
    ]
    body = {"network": {"availability_zone_hints": ["mars"]}}
    assert net.refused("POST", "/networks", body) == (404, "AvailabilityZoneNotFound")
    assert net.make("networks", availability_zone_hints=["nova"])["availability_zone_hints"] == ["nova"]


def test_dhcp_and_routers_wait_for_a_host():
    net = Network(hosts=())
    network, subnet = net.net()
    router = net.routed(subnet)
    assert [port["device_owner"] for port in net.all("/ports")] == ["network:router_interface"]
    net.beat("host1")
    assert keep_placed(net.service) == 2
    assert {port["device_owner"] for port in net.all("/ports")} == {"network:router_interface", "network:dhcp"}
    document = net.desired()
    assert [item["id"] for item in document["routers"]] == [router["id"]]
    assert document["networks"][0]["id"] == network["id"]
    assert keep_placed(net.service) == 0
    net.client.close()


def pass_time(net, later, seconds, *living):
    """Time in which these hosts are heard and the loop looks; how many were moved."""
    moved = 0
    for _ in range(seconds // 5):
        later.advance(5)
        for host in living:
            net.beat(host)
        moved += keep_placed(net.service)
    return moved


def test_the_work_of_a_dead_host_moves(later):
    net = Network(hosts=("host1",))
    network, subnet = net.net()
    router = net.routed(subnet)
    (before,) = net.all("/ports?device_owner=network:dhcp")
    assert pass_time(net, later, 60, "host1", "host2") == 0
    assert pass_time(net, later, 70, "host2") == 0
    assert pass_time(net, later, 10, "host2") == 2
    document = net.desired("host2")
    assert [item["id"] for item in document["routers"]] == [router["id"]]
    assert document["networks"][0]["dhcp"] is not None
    assert net.desired("host1")["routers"] == net.desired("host1")["networks"] == ()
    (after,) = net.all("/ports?device_owner=network:dhcp")
    same = ("id", "mac_address", "fixed_ips")
    assert [after[name] for name in same] == [before[name] for name in same], "guests renew their leases at the address they know"
    assert after["device_id"] != before["device_id"]
    assert [body["host"] for body in net.all(f"/networks/{network['id']}/dhcp-agents", as_=ADMIN)] == ["host2"]
    assert pass_time(net, later, 100, "host1", "host2") == 0, "what has moved stays where it is"
    net.client.close()


def test_the_work_of_a_dead_host_is_spread(later):
    net = Network(hosts=("host1",))
    routers = [net.routed(net.net(f"10.0.{number}.0/24")[1]) for number in range(4)]
    pass_time(net, later, 80, "host1", "host2", "host3")
    assert pass_time(net, later, 80, "host2", "host3") == 8
    for host in ("host2", "host3"):
        document = net.desired(host)
        assert len(document["routers"]) == 2
        assert sum(1 for item in document["networks"] if item["dhcp"]) == 2
    assert len(routers) == 4
    net.client.close()


def test_after_an_outage_the_first_host_heard_does_not_get_the_work_of_all(later):
    net = Network(hosts=("host1",))
    _, subnet = net.net()
    net.routed(subnet)
    pass_time(net, later, 80, "host1", "host2")
    assert pass_time(net, later, 120) == 0, "nobody is heard"
    assert pass_time(net, later, 30, "host2") == 0, "the others are given time"
    assert pass_time(net, later, 60, "host1", "host2") == 0
    later.advance(300)  # the controller itself was stopped
    net.beat("host2")
    assert keep_placed(net.service) == 0
    assert pass_time(net, later, 90, "host2") == 2, "one that stays silent is dead"
    net.client.close()


@pytest.mark.parametrize("option", ["allow_automatic_dhcp_failover", "allow_automatic_l3agent_failover"])
def test_what_shall_not_move_by_itself_waits_for_its_host(later, option):
    net = Network(hosts=("host1",), **{option: False})
    _, subnet = net.net()
    net.routed(subnet)
    pass_time(net, later, 80, "host1", "host2")
    assert pass_time(net, later, 100, "host2") == 1
    document = net.desired("host1")
    assert bool(document["routers"]) is (option == "allow_automatic_l3agent_failover")
    net.client.close()


def test_a_host_taken_out_of_service_hands_its_work_over(later):
    net = Network(hosts=("host1",))
    _, subnet = net.net()
    net.routed(subnet)
    pass_time(net, later, 80, "host1", "host2")
    for kind in ("DHCP agent", "L3 agent"):
        net("PUT", f"/agents/{agent(net, kind)['id']}", {"agent": {"admin_state_up": False}}, as_=ADMIN, ok=200)
    assert pass_time(net, later, 10, "host1", "host2") == 2
    assert net.desired("host1")["routers"] == ()
    net.client.close()


def test_a_living_agent_that_is_forgotten_announces_itself_again(net):
    body = agent(net, "L3 agent")
    net("DELETE", f"/agents/{body['id']}", as_=ADMIN, ok=204)
    net.beat("host1")
    assert agent(net, "L3 agent")["alive"]


def test_a_deleted_port_of_dhcp_comes_back(net):
    net.net()
    (port,) = net.all("/ports")
    net.delete("ports", port["id"])
    assert keep_placed(net.service) == 1
    (again,) = net.all("/ports")
    assert (again["device_owner"], again["device_id"]) == ("network:dhcp", port["device_id"])
    assert net.desired()["networks"][0]["dhcp"]["port_id"] == again["id"]


def test_administrators_place_by_hand():
    net = Network(hosts=("host1", "host2"))
    network, subnet = net.net()
    router = net.routed(subnet)
    (dhcp,) = net.all(f"/networks/{network['id']}/dhcp-agents", as_=ADMIN)
    other = {"host1": "host2", "host2": "host1"}[dhcp["host"]]
    second = agent(net, "DHCP agent", other)
    net("POST", f"/agents/{second['id']}/dhcp-networks", {"network_id": network["id"]}, as_=ADMIN, ok=201)
    assert [body["id"] for body in net.all(f"/agents/{second['id']}/dhcp-networks", as_=ADMIN)] == [network["id"]]
    assert len(net.all("/ports?device_owner=network:dhcp")) == 2
    refused = net.refused("POST", f"/agents/{second['id']}/dhcp-networks", {"network_id": network["id"]}, as_=ADMIN)
    assert refused == (409, "NetworkHostedByDHCPAgent")
    net("DELETE", f"/agents/{dhcp['id']}/dhcp-networks/{network['id']}", as_=ADMIN, ok=204)
    assert [body["host"] for body in net.all(f"/networks/{network['id']}/dhcp-agents", as_=ADMIN)] == [other]
    (l3,) = net.all(f"/routers/{router['id']}/l3-agents", as_=ADMIN)
    elsewhere = agent(net, "L3 agent", {"host1": "host2", "host2": "host1"}[l3["host"]])
    body = {"router_id": router["id"]}
    assert net.refused("POST", f"/agents/{elsewhere['id']}/l3-routers", body, as_=ADMIN) == (409, "RouterHostedByL3Agent")
    net("DELETE", f"/agents/{l3['id']}/l3-routers/{router['id']}", as_=ADMIN, ok=204)
    net("POST", f"/agents/{elsewhere['id']}/l3-routers", body, as_=ADMIN, ok=201)
    assert [found["id"] for found in net.all(f"/agents/{elsewhere['id']}/l3-routers", as_=ADMIN)] == [router["id"]]
    assert net.refused("POST", f"/agents/{dhcp['id']}/l3-routers", body, as_=ADMIN) == (409, "InvalidL3Agent")
    net.client.close()


def test_a_disabled_dhcp_agent_takes_no_new_network(net):
    body = agent(net, "DHCP agent")
    net("PUT", f"/agents/{body['id']}", {"agent": {"admin_state_up": False}}, as_=ADMIN, ok=200)
    network = net.make("networks")
    refused = net.refused("POST", f"/agents/{body['id']}/dhcp-networks", {"network_id": network["id"]}, as_=ADMIN)
    assert refused == (409, "InvalidDHCPAgent")


def test_a_heartbeat_of_a_known_agent_keeps_its_id(net):
    before = agent(net, "L3 agent")["id"]
    net.beat("host1", [{**AGENTS[2], "configurations": {"routers": 3}}])
    after = agent(net, "L3 agent")
    assert (after["id"], after["configurations"]) == (before, {"routers": 3})


# -- quotas ----------------------------------------------------------------------------------------------------------


def test_quotas_have_upstreams_defaults(net):
    body = net("GET", f"/quotas/{MEMBER.project_id}", as_=READER, ok=200).json["quota"]
    assert body == {
        "network": 100, "subnet": 100, "subnetpool": -1, "port": 500, "router": 10, "floatingip": 50, "security_group": 10, "security_group_rule": 100,
        "rbac_policy": 10,
    }  # fmt: skip
    assert net("GET", f"/quotas/{MEMBER.project_id}/default", ok=200).json["quota"] == body


def test_quotas_are_set_and_forgotten(net):
    path = f"/quotas/{MEMBER.project_id}"
    assert net("PUT", path, {"quota": {"port": 7, "router": -1}}, as_=ADMIN, ok=200).json["quota"]["port"] == 7
    (listed,) = net.all("/quotas", as_=ADMIN)
    assert (listed["project_id"], listed["port"], listed["router"]) == (MEMBER.project_id, 7, -1)
    net("DELETE", path, as_=ADMIN, ok=204)
    assert net("GET", path, ok=200).json["quota"]["port"] == 500
    assert net.all("/quotas", as_=ADMIN) == []
    for body in ({"quota": {"port": -2}}, {"quota": {"port": "many"}}, {"quota": {"colour": 1}}, {"port": 1}):
        assert net.refused("PUT", path, body, as_=ADMIN) == (400, "HTTPBadRequest")


def test_limits_below_usage_are_refused_on_request(net):
    net.make("networks")
    path = f"/quotas/{MEMBER.project_id}"
    assert net.refused("PUT", path, {"quota": {"network": 0, "check_limit": True}}, as_=ADMIN) == (409, "InvalidQuotaValue")
    net("PUT", path, {"quota": {"network": 0}}, as_=ADMIN, ok=200)


def test_quotas_of_others_are_not_shown(net):
    assert net.refused("GET", f"/quotas/{MEMBER.project_id}", as_=OTHER)[0] == 403
    assert net.refused("PUT", f"/quotas/{MEMBER.project_id}", {"quota": {"port": 1}})[0] == 403


# -- documents -------------------------------------------------------------------------------------------------------


def test_versions_need_no_token(net):
    for path in ("", "/"):
        body = net.client.get(path or "/", as_=None).json
        assert body["versions"][0]["id"] == "v2.0"
        assert body["versions"][0]["links"][0]["href"] == "http://localhost:5000/networking/v2.0/"
    for path in ("/v2.0", "/v2.0/"):
        body = net.client.get(path, as_=None).json
        assert {"networks", "ports", "security-groups"} <= {r["links"][0]["href"].rpartition("/")[2] for r in body["resources"]}


def test_every_listed_extension_is_shown(net):
    for body in net.all("/extensions"):
        assert net("GET", f"/extensions/{body['alias']}", ok=200).json["extension"] == body
        assert body["name"]
        assert body["description"].endswith(".")
    assert net.refused("GET", "/extensions/telepathy") == (404, "ExtensionNotFound")


def test_what_is_not_there_is_not_found(net):
    for path in ("/networks/", "/subnets/", "/ports/", "/routers/", "/floatingips/", "/security-groups/", "/security-group-rules/", "/rbac-policies/"):
        status, kind = net.refused("GET", path + new())
        assert status == 404
        assert kind.endswith("NotFound")
    assert net.refused("GET", "/trunks")[0] == 404
