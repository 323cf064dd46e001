"""Addresses, segments, quotas and names under several threads, on every database there is."""

from __future__ import annotations

import threading

import pytest

from pileus.kernel.testing import ADMIN, MEMBER, OTHER, SERVICE
from tests.api.network.world import Network
from tests.databases import KINDS, database_url


@pytest.fixture(scope="module", params=KINDS)
def shared(request, tmp_path_factory):
    """One service for all tests of a database: making its tables costs more than the tests. Each test makes networks of its own."""
    with database_url(request.param, tmp_path_factory.mktemp("db")) as url:
        made = Network(db_url=url)
        yield made
        made.client.close()


def at_once(*works):
    """Run functions in threads that start together; their results. A failure fails the test."""
    barrier = threading.Barrier(len(works))
    results = [None] * len(works)

    def run(index, work):
        barrier.wait()
        try:
            results[index] = work()
        except BaseException as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def posts(net, path, body, count, as_=MEMBER):
    """The same request from several threads: how often each status came."""
    answers = at_once(*[lambda: net("POST", path, body, as_=as_)] * count)
    assert all(answer.status < 500 for answer in answers), [answer.text for answer in answers if answer.status >= 500]
    return answers, sorted(answer.status for answer in answers)


def test_every_address_is_given_once(shared):
    network, _ = shared.net("10.0.0.0/28", enable_dhcp=False)
    before = shared.used("port")

    def some():
        return [shared("POST", "/ports", {"port": {"network_id": network["id"]}}) for _ in range(5)]

    answers = [answer for part in at_once(*[some] * 4) for answer in part]
    assert {answer.status for answer in answers} == {201, 409}, [answer.text for answer in answers]
    given = [answer.json["port"]["fixed_ips"][0]["ip_address"] for answer in answers if answer.status == 201]
    assert sorted(given) == sorted(f"10.0.0.{n}" for n in range(2, 15))
    assert shared.used("port") - before == len(given) == 13


def test_a_wanted_address_goes_to_one(shared):
    network, _ = shared.net()
    body = {"port": {"network_id": network["id"], "fixed_ips": [{"ip_address": "10.0.0.99"}]}}
    assert posts(shared, "/ports", body, 4)[1] == [201, 409, 409, 409]


def test_a_mac_goes_to_one(shared):
    network, _ = shared.net()
    body = {"port": {"network_id": network["id"], "mac_address": "fa:16:3e:11:22:33"}}
    assert posts(shared, "/ports", body, 4)[1] == [201, 409, 409, 409]


def test_segments_are_given_once(shared):
    answers, _ = posts(shared, "/networks", {"network": {}}, 8)
    ids = [answer.json["network"]["id"] for answer in answers]
    given = {shared.get("networks", id, as_=ADMIN)["provider:segmentation_id"] for id in ids}
    assert len(given) == 8


def test_quota_is_never_passed(shared):
    limit, path = shared.used("network") + 3, f"/quotas/{MEMBER.project_id}"
    shared("PUT", path, {"quota": {"network": limit}}, as_=ADMIN, ok=200)
    assert posts(shared, "/networks", {"network": {}}, 6)[1] == [201, 201, 201, 409, 409, 409]
    assert shared.used("network") == limit
    shared("DELETE", path, as_=ADMIN, ok=204)


def test_a_project_has_one_default_group(shared):
    network = shared.make("networks", as_=OTHER)
    answers, _ = posts(shared, "/ports", {"port": {"network_id": network["id"]}}, 6, as_=OTHER)
    assert len({tuple(answer.json["port"]["security_groups"]) for answer in answers}) == 1
    assert len(shared.all("/security-groups", as_=OTHER)) == 1
    quota = shared("GET", f"/quotas/{OTHER.project_id}/details.json", as_=OTHER, ok=200).json["quota"]
    assert (quota["security_group"]["used"], quota["security_group_rule"]["used"]) == (1, 4)


def test_the_same_rule_is_written_once(shared):
    group = shared.make("security-groups", name="web")
    body = {"security_group_rule": {"security_group_id": group["id"], "direction": "ingress", "protocol": "tcp"}}
    assert posts(shared, "/security-group-rules", body, 4)[1] == [201, 409, 409, 409]


def test_a_router_gets_one_leg_in_a_subnet(shared):
    _, subnet = shared.net()
    router = shared.make("routers")
    path = f"/routers/{router['id']}/add_router_interface"
    answers = at_once(*[lambda: shared("PUT", path, {"subnet_id": subnet["id"]})] * 4)
    assert sorted(answer.status for answer in answers) == [200, 400, 400, 400], [answer.text for answer in answers]
    assert len(shared.all(f"/ports?device_id={router['id']}")) == 1


def test_a_fixed_address_gets_one_floating_ip(shared):
    outside, _ = shared.outside()
    network, subnet = shared.net()
    shared.routed(subnet, outside)
    guest = shared.guest(network)
    body = {"floatingip": {"floating_network_id": outside["id"], "port_id": guest["id"]}}
    assert posts(shared, "/floatingips", body, 4)[1] == [201, 409, 409, 409]
    assert len(shared.all(f"/floatingips?port_id={guest['id']}")) == 1


def test_a_network_is_deleted_or_gets_a_port(shared):
    for _ in range(4):
        network, _ = shared.net()
        deleted, made = at_once(
            lambda network=network: shared("DELETE", f"/networks/{network['id']}"),
            lambda network=network: shared("POST", "/ports", {"port": {"network_id": network["id"]}}),
        )
        assert (deleted.status, made.status) in {(204, 404), (204, 409), (409, 201)}, (deleted.text, made.text)


def test_a_subnet_is_deleted_or_gives_an_address(shared):
    network = shared.make("networks")
    for _ in range(4):
        subnet = shared.make("subnets", network_id=network["id"], cidr="10.0.0.0/24", ip_version=4)
        fixed = [{"subnet_id": subnet["id"]}]
        deleted, made = at_once(
            lambda subnet=subnet: shared("DELETE", f"/subnets/{subnet['id']}"),
            lambda fixed=fixed: shared("POST", "/ports", {"port": {"network_id": network["id"], "fixed_ips": fixed}}),
        )
        assert (deleted.status, made.status) in {(204, 400), (204, 404), (204, 409), (409, 201)}, (deleted.text, made.text)
        if made.status == 201:
            shared.delete("ports", made.json["port"]["id"])
            shared.delete("subnets", subnet["id"])


def test_a_group_is_deleted_or_joined(shared):
    network, _ = shared.net()
    for _ in range(4):
        group = shared.make("security-groups", name="g")
        body = {"port": {"network_id": network["id"], "security_groups": [group["id"]]}}
        deleted, made = at_once(
            lambda group=group: shared("DELETE", f"/security-groups/{group['id']}"),
            lambda body=body: shared("POST", "/ports", body),
        )
        assert (deleted.status, made.status) in {(204, 404), (204, 409), (409, 201)}, (deleted.text, made.text)


def test_many_bindings_at_once_all_reach_the_host(shared):
    network, _ = shared.net()
    ports = [shared.make("ports", network_id=network["id"]) for _ in range(8)]
    at_once(*[lambda port=port: shared.bind(port, "host1") for port in ports])
    document = shared.desired()
    assert {port["id"] for port in ports} <= {item["id"] for item in document["ports"]}
    members = {address for group in document["groups"] for address in group["members"]}
    assert {port["fixed_ips"][0]["ip_address"] for port in ports} <= members


def test_a_port_is_prepared_and_moved_once(shared):
    for host in ("host2", "host3"):
        shared.beat(host)
    network, _ = shared.net(enable_dhcp=False)
    port = shared.guest(network)
    path = f"/ports/{port['id']}/bindings"
    _, statuses = posts(shared, path, {"binding": {"host": "host2"}}, 4, as_=SERVICE)
    assert statuses == [201, 409, 409, 409]
    shared("POST", path, {"binding": {"host": "host3"}}, as_=SERVICE, ok=201)
    answers = at_once(*[lambda host=host: shared("PUT", f"{path}/{host}/activate", as_=SERVICE) for host in ("host2", "host3") * 2])
    assert sorted({answer.status for answer in answers}) in ([200], [200, 409]), [answer.text for answer in answers]
    bindings = shared("GET", path, as_=SERVICE, ok=200).json["bindings"]
    active = [binding["host"] for binding in bindings if binding["status"] == "ACTIVE"]
    assert len(active) == 1
    assert sorted(binding["host"] for binding in bindings) == ["host1", "host2", "host3"]
    having = [host for host in ("host1", "host2", "host3") if port["id"] in {item["id"] for item in shared.desired(host)["ports"]}]
    assert having == active
