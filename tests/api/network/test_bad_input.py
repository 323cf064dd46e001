"""Bodies and paths that make no sense are refused in the API's own form, never with a failure of ours."""

from __future__ import annotations

import random

import pytest

from pileus.kernel.testing import ADMIN
from pileus.network.api import floatingips, networks, ports, rbac_policies, routers, security_groups, subnetpools, subnets
from tests.api.network.world import new

KINDS = {
    "networks": ("network", networks.ATTRIBUTES),
    "subnets": ("subnet", subnets.ATTRIBUTES),
    "subnetpools": ("subnetpool", subnetpools.ATTRIBUTES),
    "ports": ("port", ports.ATTRIBUTES),
    "routers": ("router", routers.ATTRIBUTES),
    "floatingips": ("floatingip", floatingips.ATTRIBUTES),
    "security-groups": ("security_group", security_groups.GROUP),
    "security-group-rules": ("security_group_rule", security_groups.RULE),
    "rbac-policies": ("rbac_policy", rbac_policies.ATTRIBUTES),
}
VALUES = [
    None, True, -1, 0, 2**64 - 1, 2**62, 1.5, "", "x" * 300, "\x00", "é", "10.0.0.1", "10.0.0.0/24", "fd00::1", "::/0", "fa:16:3e:00:00:01", [], [None],
    [[]], ["a", "a"], [{}], [{"a": 1}], {}, {"a": {"b": []}}, [{"subnet_id": "x"}], [{"ip_address": "300.1.1.1"}], [1] * 40,
]  # fmt: skip


@pytest.mark.parametrize("collection", KINDS)
@pytest.mark.parametrize("body", [None, [], "text", 7, {}, {"other": {}}, {"NAME": None}, {"NAME": []}, {"NAME": "x"}, {"NAMES": []}, {"NAMES": [None]}])
def test_bodies_of_another_shape_are_refused(net, collection, body):
    name = KINDS[collection][0]
    plural = {"rbac_policy": "rbac_policies"}.get(name, name + "s")
    if isinstance(body, dict):
        body = {{"NAME": name, "NAMES": plural}.get(key, key): value for key, value in body.items()}
    status, kind = net.refused("POST", f"/{collection}", body, as_=ADMIN)
    assert (status, kind) == (400, "HTTPBadRequest")


@pytest.mark.parametrize("collection", KINDS)
def test_no_value_of_any_attribute_breaks_the_service(net, collection):
    name, attributes = KINDS[collection]
    network, _ = net.net()
    group = net.make("security-groups", name="g")
    good = {
        "subnets": {"network_id": network["id"], "cidr": "10.7.0.0/24"},
        "subnetpools": {"name": "p", "prefixes": ["10.0.0.0/8"]},
        "ports": {"network_id": network["id"]},
        "floatingips": {"floating_network_id": network["id"]},
        "security-groups": {"name": "h"},
        "security-group-rules": {"security_group_id": group["id"], "direction": "ingress"},
        "rbac-policies": {"object_type": "network", "object_id": network["id"], "action": "access_as_shared", "target_tenant": new()},
    }.get(collection, {})
    chance = random.Random(collection)
    for attribute in [*attributes, "tenant_id", "colour"]:
        for value in chance.sample(VALUES, 7):
            response = net("POST", f"/{collection}", {name: {**good, attribute: value}}, as_=ADMIN)
            assert response.status in {201, 400, 403, 404, 409}, (attribute, value, response.text)
            if response.status == 201:
                made = response.json[name]
                changed = net("PUT", f"/{collection}/{made['id']}", {name: {attribute: value}}, as_=ADMIN)
                assert changed.status in {200, 400, 403, 404, 405, 409}, (attribute, value, changed.text)
                net("DELETE", f"/{collection}/{made['id']}", as_=ADMIN, ok=204)


@pytest.mark.parametrize("collection", KINDS)
def test_read_only_attributes_are_refused(net, collection):
    name, attributes = KINDS[collection]
    for attribute, rule in attributes.items():
        if not rule.create:
            assert net.refused("POST", f"/{collection}", {name: {attribute: "x"}}, as_=ADMIN) == (400, "HTTPBadRequest")


@pytest.mark.parametrize("collection", KINDS)
def test_no_filter_breaks_the_service(net, collection):
    chance = random.Random(7)
    values = ["", "x", "-1", "true", "99999999999999999999", "%27", "%00", "a%2Cb", "10.0.0.1", "%FF", "ip_address=1", "a=b,c=d"]
    name, attributes = KINDS[collection]
    for attribute in [*attributes, "fields", "limit", "marker", "sort_key", "sort_dir", "page_reverse", "tags", "not-tags-any", "changed_since"]:
        for value in chance.sample(values, 6):
            response = net("GET", f"/{collection}?{attribute}={value}", as_=ADMIN)
            assert response.status in {200, 400, 404}, (attribute, value, response.text)


@pytest.mark.parametrize("id", ["x", "%00", "é", "a" * 300, "1' OR '1'='1", "..%2F..", "details.json"])
def test_ids_that_are_none_are_not_found(net, id):
    from urllib.parse import quote

    for collection in KINDS:
        assert net.client.get(f"/v2.0/{collection}/{quote(id)}").status == 404


def test_another_method_is_refused(net):
    assert net("PATCH", "/networks").status == 405
    assert net("POST", "/networks", headers={"Content-Type": "application/json"}).status == 400
    assert net.client.request("POST", "/v2.0/networks", body=b"{", headers={"Content-Type": "application/json"}).status == 400
