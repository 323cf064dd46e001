"""Subnet pools on the wire."""

from __future__ import annotations

import pytest

from pileus.kernel.testing import ADMIN, MEMBER, OTHER


def test_a_new_pool_has_upstreams_lengths(net):
    body = net.make("subnetpools", name="p", prefixes=["10.1.0.0/16", "10.0.0.0/16"])
    assert set(body) == {
        "id", "name", "tenant_id", "project_id", "prefixes", "ip_version", "min_prefixlen", "default_prefixlen", "max_prefixlen",
        "default_quota", "shared", "is_default", "address_scope_id", "description", "tags", "created_at", "updated_at", "revision_number",
    }  # fmt: skip
    assert body["prefixes"] == ["10.0.0.0/15"]
    assert (body["min_prefixlen"], body["default_prefixlen"], body["max_prefixlen"], body["ip_version"]) == ("8", "8", "32", 4)
    assert net.get("subnetpools", body["id"]) == body


def test_subnets_of_a_pool_never_overlap(net):
    pool = net.make("subnetpools", name="p", prefixes=["10.0.0.0/22"], default_prefixlen=24, min_prefixlen=22)
    cidrs = []
    for _ in range(3):
        network = net.make("networks")
        subnet = net.make("subnets", network_id=network["id"], subnetpool_id=pool["id"], ip_version=4)
        assert (subnet["subnetpool_id"], subnet["gateway_ip"]) == (pool["id"], subnet["cidr"].replace(".0/24", ".1"))
        cidrs.append(subnet["cidr"])
    assert cidrs == ["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24"]
    network = net.make("networks")
    body = {"network_id": network["id"], "subnetpool_id": pool["id"], "ip_version": 4}
    assert net.refused("POST", "/subnets", {"subnet": {**body, "prefixlen": 23}}) == (409, "SubnetAllocationError")
    assert net.refused("POST", "/subnets", {"subnet": {**body, "cidr": "10.0.1.0/24"}}) == (409, "SubnetAllocationError")
    assert net("POST", "/subnets", {"subnet": {**body, "cidr": "10.0.3.0/24"}}, ok=201).json["subnet"]["cidr"] == "10.0.3.0/24"
    assert net.refused("DELETE", f"/subnetpools/{pool['id']}") == (409, "SubnetPoolDeleteError")
    assert len(net.all(f"/subnets?subnetpool_id={pool['id']}")) == 4


@pytest.mark.parametrize(
    ("wish", "answer"),
    [
        ({"prefixlen": 20}, (400, "MinPrefixSubnetAllocationError")),
        ({"prefixlen": 30}, (400, "MaxPrefixSubnetAllocationError")),
        ({"ip_version": 6}, (400, "HTTPBadRequest")),
    ],
)
def test_lengths_beyond_the_bounds_are_refused(net, wish, answer):
    pool = net.make("subnetpools", name="p", prefixes=["10.0.0.0/16"], min_prefixlen=24, max_prefixlen=28)
    network = net.make("networks")
    assert net.refused("POST", "/subnets", {"subnet": {"network_id": network["id"], "subnetpool_id": pool["id"], **wish}}) == answer


def test_a_projects_share_of_a_pool_is_limited(net):
    pool = net.make("subnetpools", name="p", prefixes=["10.0.0.0/16"], min_prefixlen=24, default_quota=300)
    network = net.make("networks")
    body = {"subnet": {"network_id": network["id"], "subnetpool_id": pool["id"], "ip_version": 4}}
    net("POST", "/subnets", body, ok=201)
    assert net.refused("POST", "/subnets", body) == (409, "SubnetPoolQuotaExceeded")


def test_the_default_pool_is_used_when_asked_for(net):
    pool = net.make("subnetpools", as_=ADMIN, name="p", prefixes=["10.0.0.0/16"], default_prefixlen=26, shared=True, is_default=True)
    network = net.make("networks")
    subnet = net.make("subnets", network_id=network["id"], use_default_subnetpool=True, ip_version=4)
    assert (subnet["cidr"], subnet["subnetpool_id"]) == ("10.0.0.0/26", pool["id"])
    body = {"subnetpool": {"name": "q", "prefixes": ["10.9.0.0/16"], "is_default": True}}
    assert net.refused("POST", "/subnetpools", body, as_=ADMIN) == (400, "InvalidInput")
    assert net.refused("POST", "/subnetpools", body) == (403, "PolicyNotAuthorized")


def test_prefixes_are_added_and_never_taken_away(net):
    pool = net.make("subnetpools", name="p", prefixes=["10.0.0.0/24"])
    changed = net.change("subnetpools", pool["id"], prefixes=["10.0.0.0/24", "10.5.0.0/24"], name="q")
    assert (changed["name"], changed["prefixes"]) == ("q", ["10.0.0.0/24", "10.5.0.0/24"])
    path = f"/subnetpools/{pool['id']}"
    assert net.refused("PUT", path, {"subnetpool": {"prefixes": ["10.5.0.0/24"]}}) == (400, "IllegalSubnetPoolUpdate")
    assert net.refused("PUT", path, {"subnetpool": {"min_prefixlen": 30, "max_prefixlen": 20}}) == (400, "IllegalSubnetPoolPrefixBounds")
    assert net.refused("POST", "/subnetpools", {"subnetpool": {"name": "m", "prefixes": ["10.0.0.0/24", "fd00::/48"]}}) == (400, "InvalidInput")
    net.delete("subnetpools", pool["id"])


def test_prefixes_come_and_go_one_by_one(net):
    pool = net.make("subnetpools", name="p", prefixes=["10.0.0.0/24"], min_prefixlen=24)
    path = f"/subnetpools/{pool['id']}"
    added = net("PUT", path + "/add_prefixes", {"prefixes": ["10.0.1.0/24", "10.8.0.0/24"]}, ok=200).json
    assert added == {"prefixes": ["10.0.0.0/23", "10.8.0.0/24"]}
    network = net.make("networks")
    net.make("subnets", network_id=network["id"], subnetpool_id=pool["id"])
    assert net.refused("PUT", path + "/remove_prefixes", {"prefixes": ["10.0.0.0/23"]}) == (400, "IllegalSubnetPoolUpdate")
    left = net("PUT", path + "/remove_prefixes", {"prefixes": ["10.0.1.0/24"]}, ok=200).json
    assert left == {"prefixes": ["10.0.0.0/24", "10.8.0.0/24"]}
    for body in ({}, {"prefixes": ["x"]}, {"prefixes": [], "more": 1}):
        assert net.refused("PUT", path + "/add_prefixes", body)[0] == 400
    assert net.refused("PUT", path + "/add_prefixes", {"prefixes": ["10.9.0.0/24"]}, as_=OTHER) == (404, "SubnetPoolNotFound")


def test_pools_of_others_are_seen_when_shared(net):
    mine = net.make("subnetpools", name="mine", prefixes=["10.0.0.0/16"])
    shared = net.make("subnetpools", as_=ADMIN, name="shared", prefixes=["10.0.0.0/16"], shared=True)
    assert [body["id"] for body in net.all("/subnetpools", as_=OTHER)] == [shared["id"]]
    assert net.refused("GET", f"/subnetpools/{mine['id']}", as_=OTHER) == (404, "SubnetPoolNotFound")
    assert net.refused("PUT", f"/subnetpools/{shared['id']}", {"subnetpool": {"name": "x"}}, as_=OTHER) == (403, "PolicyNotAuthorized")
    assert net("GET", f"/quotas/{MEMBER.project_id}/details.json", ok=200).json["quota"]["subnetpool"]["used"] == 1
