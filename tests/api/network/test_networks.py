"""Networks on the wire."""

from __future__ import annotations

from pileus.kernel.testing import ADMIN, MEMBER, OTHER, READER

from tests.api.network.world import Network


def test_a_new_network_has_every_attribute_a_member_may_see(net):
    body = net.make("networks", name="n")
    assert set(body) == {
        "id", "name", "tenant_id", "project_id", "admin_state_up", "mtu", "status", "subnets", "shared", "availability_zone_hints",
        "availability_zones", "router:external", "description", "port_security_enabled", "tags", "created_at", "updated_at",
        "revision_number",
    }  # fmt: skip
    assert body["mtu"] == 1450
    assert (body["status"], body["admin_state_up"], body["shared"], body["router:external"]) == ("ACTIVE", True, False, False)
    assert body["project_id"] == body["tenant_id"] == MEMBER.project_id
    assert body["created_at"].endswith("Z")
    assert net.get("networks", body["id"]) == body


def test_administrators_see_the_segment(net):
    body = net.get("networks", net.make("networks", name="n")["id"], as_=ADMIN)
    assert body["provider:network_type"] == "vxlan"
    assert body["provider:physical_network"] is None
    assert 1 <= body["provider:segmentation_id"] <= 65535


def test_segments_are_never_given_twice():
    net = Network(vni_min=10, vni_max=12)
    given = {net.get("networks", net.make("networks", name="n")["id"], as_=ADMIN)["provider:segmentation_id"] for _ in range(3)}
    assert given == {10, 11, 12}
    assert net.refused("POST", "/networks", {"network": {"name": "one more"}}) == (503, "NoNetworkAvailable")
    net.delete("networks", net.all("/networks")[0]["id"])
    net.make("networks", name="in the gap")


def test_a_flat_network_has_its_physical_network_alone(net):
    net.outside()
    body = {"network": {"provider:network_type": "flat", "provider:physical_network": "public"}}
    assert net.refused("POST", "/networks", body, as_=ADMIN) == (409, "FlatNetworkInUse")


def test_a_wanted_vni_is_taken_once(net):
    body = {"network": {"provider:network_type": "vxlan", "provider:segmentation_id": 77}}
    net("POST", "/networks", body, as_=ADMIN, ok=201)
    assert net.refused("POST", "/networks", body, as_=ADMIN) == (409, "TunnelIdInUse")


def test_an_update_raises_the_revision(net):
    body = net.make("networks", name="n")
    changed = net.change("networks", body["id"], name="m", description="d", admin_state_up=False)
    assert (changed["name"], changed["description"], changed["admin_state_up"]) == ("m", "d", False)
    assert changed["revision_number"] == body["revision_number"] + 1


def test_if_match_refuses_another_revision(net):
    body = net.make("networks", name="n")
    path, change = f"/networks/{body['id']}", {"network": {"name": "m"}}
    stale = {"If-Match": "revision_number=7"}
    assert net.refused("PUT", path, change, headers=stale) == (412, "RevisionNumberConstraintFailed")
    assert net.refused("DELETE", path, headers=stale) == (412, "RevisionNumberConstraintFailed")
    assert net.refused("PUT", path, change, headers={"If-Match": "soon"}) == (400, "HTTPBadRequest")
    net("PUT", path, change, headers={"If-Match": f"revision_number={body['revision_number']}"}, ok=200)


def test_others_see_shared_and_external_networks_only(net):
    net.make("networks", name="mine")
    shared = net.make("networks", as_=ADMIN, name="shared", shared=True)
    outside, _ = net.outside()
    assert {body["id"] for body in net.all("/networks", as_=OTHER)} == {shared["id"], outside["id"]}
    assert net.refused("PUT", f"/networks/{shared['id']}", {"network": {"name": "x"}}, as_=OTHER) == (403, "PolicyNotAuthorized")
    assert net.refused("DELETE", f"/networks/{shared['id']}", as_=OTHER) == (403, "PolicyNotAuthorized")


def test_a_network_of_others_is_not_found(net):
    body = net.make("networks", name="mine")
    for method in ("GET", "PUT", "DELETE"):
        assert net.refused(method, f"/networks/{body['id']}", {"network": {"name": "x"}}, as_=OTHER) == (404, "NetworkNotFound")


def test_readers_only_read(net):
    body = net.make("networks", name="n")
    assert net.get("networks", body["id"], as_=READER)["name"] == "n"
    assert net.refused("POST", "/networks", {"network": {}}, as_=READER)[0] == 403
    assert net.refused("DELETE", f"/networks/{body['id']}", as_=READER)[0] == 403


def test_sharing_ends_only_when_nobody_else_uses_the_network(net):
    shared = net.make("networks", as_=ADMIN, name="shared", shared=True)
    port = net.make("ports", network_id=shared["id"])
    refused = net.refused("PUT", f"/networks/{shared['id']}", {"network": {"shared": False}}, as_=ADMIN)
    assert refused == (409, "InvalidSharedSetting")
    net.delete("ports", port["id"])
    assert net.change("networks", shared["id"], as_=ADMIN, shared=False)["shared"] is False


def test_deleting_a_network_takes_its_subnets_and_its_dhcp_along(net):
    network, subnet = net.net()
    assert [port["device_owner"] for port in net.all("/ports")] == ["network:dhcp"]
    net.delete("networks", network["id"])
    assert net.all("/ports") == []
    assert net.refused("GET", f"/subnets/{subnet['id']}") == (404, "SubnetNotFound")
    assert [net.used(name) for name in ("network", "subnet", "port")] == [0, 0, 0]


def test_a_network_with_ports_stays(net):
    network, _ = net.net()
    net.make("ports", network_id=network["id"])
    assert net.refused("DELETE", f"/networks/{network['id']}") == (409, "NetworkInUse")


def test_networks_come_in_bulk_all_or_none(net):
    made = net("POST", "/networks", {"networks": [{"name": "a"}, {"name": "b"}]}, ok=201).json["networks"]
    assert [body["name"] for body in made] == ["a", "b"]
    assert net.refused("POST", "/networks", {"networks": [{"name": "c"}, {"mtu": 9000}]}) == (400, "InvalidInput")
    assert len(net.all("/networks")) == 2


def test_quota_is_refused_with_upstreams_status(net):
    net("PUT", f"/quotas/{MEMBER.project_id}", {"quota": {"network": 1}}, as_=ADMIN, ok=200)
    net.make("networks", name="one")
    assert net.refused("POST", "/networks", {"network": {"name": "two"}}) == (409, "OverQuota")
    assert net.used("network") == 1


def test_access_can_be_given_to_one_project(net):
    network, _ = net.net()
    policy = net.make("rbac-policies", object_type="network", object_id=network["id"], action="access_as_shared", target_tenant=OTHER.project_id)
    seen = net.all("/networks", as_=OTHER)
    assert [(body["id"], body["shared"]) for body in seen] == [(network["id"], True)]
    assert net.get("networks", network["id"])["shared"] is False
    port = net.make("ports", as_=OTHER, network_id=network["id"])
    assert len(net.all("/subnets", as_=OTHER)) == 1
    assert net.refused("DELETE", f"/rbac-policies/{policy['id']}") == (409, "RbacPolicyInUse")
    net.delete("ports", port["id"], as_=OTHER)
    net.delete("rbac-policies", policy["id"])
    assert net.all("/networks", as_=OTHER) == []


def test_sharing_with_everybody_shows_as_a_policy(net):
    network = net.make("networks", as_=ADMIN, name="shared", shared=True)
    (policy,) = net.all(f"/rbac-policies?object_id={network['id']}", as_=ADMIN)
    assert (policy["action"], policy["target_tenant"]) == ("access_as_shared", "*")
    net.delete("rbac-policies", policy["id"], as_=ADMIN)
    assert net.get("networks", network["id"], as_=ADMIN)["shared"] is False
    body = {"object_type": "network", "object_id": net.make("networks")["id"], "action": "access_as_shared", "target_tenant": "*"}
    assert net.refused("POST", "/rbac-policies", {"rbac_policy": body}) == (403, "PolicyNotAuthorized")
