"""Security groups and rules on the wire."""

from __future__ import annotations

import pytest

from pileus.kernel.testing import ADMIN, MEMBER, OTHER, SERVICE

RULE = {
    "id", "tenant_id", "project_id", "security_group_id", "direction", "ethertype", "protocol", "port_range_min", "port_range_max",
    "remote_ip_prefix", "remote_group_id", "normalized_cidr", "description", "created_at", "updated_at", "revision_number",
}  # fmt: skip


def test_the_default_group_is_there_from_the_first_look_on(net):
    (group,) = net.all("/security-groups")
    assert (group["name"], group["stateful"], group["project_id"]) == ("default", True, MEMBER.project_id)
    rules = {(rule["direction"], rule["ethertype"], rule["remote_group_id"]) for rule in group["security_group_rules"]}
    assert rules == {("egress", "IPv4", None), ("egress", "IPv6", None), ("ingress", "IPv4", group["id"]), ("ingress", "IPv6", group["id"])}
    assert set(group["security_group_rules"][0]) == RULE
    assert [body["id"] for body in net.all("/security-groups")] == [group["id"]]


def test_a_service_finds_the_default_group_of_a_project(net):
    (group,) = net.all(f"/security-groups?name=default&project_id={OTHER.project_id}", as_=SERVICE)
    assert group["project_id"] == OTHER.project_id
    assert net.all("/security-groups", as_=SERVICE) == [group]


def test_a_new_group_lets_everything_out(net):
    group = net.make("security-groups", name="web", description="d")
    assert {(rule["direction"], rule["ethertype"]) for rule in group["security_group_rules"]} == {("egress", "IPv4"), ("egress", "IPv6")}
    assert net.get("security-groups", group["id"]) == group


def test_there_is_one_default_group(net):
    assert net.refused("POST", "/security-groups", {"security_group": {"name": "default"}}) == (409, "SecurityGroupDefaultAlreadyExists")
    (group,) = net.all("/security-groups")
    path = f"/security-groups/{group['id']}"
    assert net.refused("PUT", path, {"security_group": {"name": "x"}}) == (409, "SecurityGroupCannotUpdateDefault")
    assert net.refused("DELETE", path) == (409, "SecurityGroupCannotRemoveDefault")
    assert net.change("security-groups", group["id"], description="ours")["description"] == "ours"


def test_a_group_in_use_stays(net):
    network, _ = net.net()
    group = net.make("security-groups", name="web")
    port = net.make("ports", network_id=network["id"], security_groups=[group["id"]])
    assert net.refused("DELETE", f"/security-groups/{group['id']}") == (409, "SecurityGroupInUse")
    assert net.refused("PUT", f"/security-groups/{group['id']}", {"security_group": {"stateful": False}}) == (409, "SecurityGroupInUse")
    net.change("ports", port["id"], security_groups=[])
    net.delete("security-groups", group["id"])


def test_a_rule_is_shown_as_asked_for(net):
    group = net.make("security-groups", name="web")
    rule = net.make(
        "security-group-rules", security_group_id=group["id"], direction="ingress", protocol="TCP", port_range_min=80, port_range_max="81",
        remote_ip_prefix="10.0.0.7/24", description="web",
    )  # fmt: skip
    assert set(rule) == RULE
    assert (rule["protocol"], rule["port_range_min"], rule["port_range_max"], rule["ethertype"]) == ("tcp", 80, 81, "IPv4")
    assert (rule["remote_ip_prefix"], rule["normalized_cidr"]) == ("10.0.0.7/24", "10.0.0.0/24")
    assert net.get("security-group-rules", rule["id"]) == rule
    assert rule["id"] in [found["id"] for found in net.get("security-groups", group["id"])["security_group_rules"]]


def test_the_same_rule_twice_is_a_conflict(net):
    group = net.make("security-groups", name="web")
    body = {"security_group_id": group["id"], "direction": "ingress", "protocol": "tcp", "port_range_min": 22, "port_range_max": 22}
    net.make("security-group-rules", **body)
    for same in (body, {**body, "protocol": 6}, {**body, "protocol": "6", "description": "again"}):
        assert net.refused("POST", "/security-group-rules", {"security_group_rule": same}) == (409, "SecurityGroupRuleExists")


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        ({"direction": "sideways"}, "HTTPBadRequest"),
        ({"protocol": "morse"}, "HTTPBadRequest"),
        ({"protocol": 256}, "HTTPBadRequest"),
        ({"ethertype": "IPX"}, "HTTPBadRequest"),
        ({"port_range_min": 80, "port_range_max": 80}, "SecurityGroupProtocolRequiredWithPorts"),
        ({"protocol": "tcp", "port_range_min": 81, "port_range_max": 80}, "SecurityGroupInvalidPortRange"),
        ({"protocol": "tcp", "port_range_min": 81}, "SecurityGroupInvalidPortRange"),
        ({"protocol": "tcp", "port_range_min": 0, "port_range_max": 80}, "SecurityGroupInvalidPortValue"),
        ({"protocol": "tcp", "port_range_min": 1, "port_range_max": 70000}, "HTTPBadRequest"),
        ({"protocol": "icmp", "port_range_min": 300}, "SecurityGroupInvalidIcmpValue"),
        ({"protocol": "icmp", "port_range_max": 0}, "SecurityGroupMissingIcmpType"),
        ({"protocol": "ah", "port_range_min": 1, "port_range_max": 2}, "SecurityGroupInvalidProtocolForPort"),
        ({"remote_ip_prefix": "fd00::/8"}, "SecurityGroupRuleParameterConflict"),
        ({"remote_ip_prefix": "10.0.0.0/33"}, "HTTPBadRequest"),
        ({"protocol": "ipv6-icmp"}, "SecurityGroupEthertypeConflictWithProtocol"),
        ({"remote_ip_prefix": "10.0.0.0/8", "remote_group_id": "GROUP"}, "SecurityGroupRemoteGroupAndRemoteIpPrefix"),
    ],
)
def test_rules_that_contradict_themselves_are_refused(net, rule, kind):
    group = net.make("security-groups", name="web")
    body = {"security_group_id": group["id"], "direction": "ingress", **{k: group["id"] if v == "GROUP" else v for k, v in rule.items()}}
    assert net.refused("POST", "/security-group-rules", {"security_group_rule": body}) == (400, kind)


def test_an_address_alone_is_a_prefix_of_its_full_length(net):
    group = net.make("security-groups", name="web")
    rule = net.make("security-group-rules", security_group_id=group["id"], direction="ingress", remote_ip_prefix="10.0.0.7")
    assert rule["remote_ip_prefix"] == "10.0.0.7/32"


def test_groups_of_others_take_no_rules(net):
    (theirs,) = net.all("/security-groups", as_=OTHER)
    mine = net.make("security-groups", name="web")
    body = {"security_group_id": theirs["id"], "direction": "ingress"}
    assert net.refused("POST", "/security-group-rules", {"security_group_rule": body}) == (404, "SecurityGroupNotFound")
    body = {"security_group_id": mine["id"], "direction": "ingress", "remote_group_id": theirs["id"]}
    assert net.refused("POST", "/security-group-rules", {"security_group_rule": body}) == (404, "SecurityGroupNotFound")


def test_rules_come_in_bulk_for_one_group(net):
    one, two = net.make("security-groups", name="one"), net.make("security-groups", name="two")
    rules = [{"security_group_id": one["id"], "direction": "ingress", "protocol": p} for p in ("tcp", "udp")]
    made = net("POST", "/security-group-rules", {"security_group_rules": rules}, ok=201).json["security_group_rules"]
    assert [rule["protocol"] for rule in made] == ["tcp", "udp"]
    rules[1]["security_group_id"] = two["id"]
    assert net.refused("POST", "/security-group-rules", {"security_group_rules": rules}) == (400, "SecurityGroupNotSingleGroupRules")


def test_deleting_a_group_takes_the_rules_that_refer_to_it(net):
    one, two = net.make("security-groups", name="one"), net.make("security-groups", name="two")
    rule = net.make("security-group-rules", security_group_id=one["id"], direction="ingress", remote_group_id=two["id"])
    before = net.used("security_group_rule")
    net.delete("security-groups", two["id"])
    assert net.refused("GET", f"/security-group-rules/{rule['id']}") == (404, "SecurityGroupRuleNotFound")
    assert net.used("security_group_rule") == before - 3


def test_rules_are_deleted_by_their_owner(net):
    group = net.make("security-groups", name="web")
    rule = net.make("security-group-rules", security_group_id=group["id"], direction="ingress")
    assert net.refused("DELETE", f"/security-group-rules/{rule['id']}", as_=OTHER) == (404, "SecurityGroupRuleNotFound")
    net.delete("security-group-rules", rule["id"])
    assert net.refused("DELETE", f"/security-group-rules/{rule['id']}") == (404, "SecurityGroupRuleNotFound")


def test_quota_of_groups_is_upstreams(net):
    for n in range(9):  # and the default one
        net.make("security-groups", name=f"g{n}")
    assert net.refused("POST", "/security-groups", {"security_group": {"name": "one more"}}) == (409, "OverQuota")
    net("PUT", f"/quotas/{MEMBER.project_id}", {"quota": {"security_group": -1}}, as_=ADMIN, ok=200)
    net.make("security-groups", name="one more")
