"""Security groups as rules, and the same groups as a judgement of connections."""

from __future__ import annotations

import dataclasses
import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pileus.host.conntrack import Connection
from pileus.network.drivers.linux import rules
from pileus.network.drivers.linux.judge import Judge
from pileus.network.wire import AddressPair, GroupItem, RuleItem
from tests.contracts.network_world import a_network, a_port, rule

NETWORK = a_network()


def ingress(**more) -> str:
    return rules.group_chains(GroupItem(id="g", rules=(rule(**more),)))["gin-g"][0]


@pytest.mark.parametrize(
    ("given_rule", "text"),
    [
        ({}, "meta protocol ip accept"),
        ({"ethertype": "IPv6"}, "meta protocol ip6 accept"),
        ({"protocol": "tcp"}, "meta protocol ip meta l4proto 6 accept"),
        ({"protocol": "tcp", "port_min": 22, "port_max": 22}, "meta protocol ip meta l4proto 6 th dport 22 accept"),
        ({"protocol": "17", "port_min": 1, "port_max": 65535}, "meta protocol ip meta l4proto 17 th dport 1-65535 accept"),
        ({"protocol": "sctp", "port_min": 9}, "meta protocol ip meta l4proto 132 th dport 9 accept"),
        ({"protocol": "icmp", "port_min": 8}, "meta protocol ip meta l4proto 1 icmp type 8 accept"),
        ({"protocol": "icmp", "port_min": 8, "port_max": 0}, "meta protocol ip meta l4proto 1 icmp type 8 icmp code 0 accept"),
        ({"protocol": "icmp", "ethertype": "IPv6", "port_min": 128}, "meta protocol ip6 meta l4proto 58 icmpv6 type 128 accept"),
        ({"protocol": "ipv6-icmp", "ethertype": "IPv6"}, "meta protocol ip6 meta l4proto 58 accept"),
        ({"protocol": "112"}, "meta protocol ip meta l4proto 112 accept"),
        ({"protocol": "any"}, "meta protocol ip accept"),
        ({"remote_cidr": "0.0.0.0/0"}, "meta protocol ip accept"),
        ({"remote_cidr": "10.0.0.7/24"}, "meta protocol ip ip saddr 10.0.0.0/24 accept"),
        ({"remote_cidr": "10.0.0.7/32"}, "meta protocol ip ip saddr 10.0.0.7 accept"),
        ({"ethertype": "IPv6", "remote_cidr": "fd00::/8"}, "meta protocol ip6 ip6 saddr fd00::/8 accept"),
        ({"remote_group": "other"}, "meta protocol ip ip saddr @m4-other accept"),
        ({"ethertype": "IPv6", "remote_group": "other"}, "meta protocol ip6 ip6 saddr @m6-other accept"),
    ],
)
def test_a_rule_becomes_one_line(given_rule: dict, text: str) -> None:
    assert ingress(**given_rule) == text


def test_an_egress_rule_looks_at_where_packets_go() -> None:
    group = GroupItem(id="g", rules=(rule("egress", remote_cidr="10.0.0.0/8"),))
    assert rules.group_chains(group) == {"gin-g": (), "gout-g": ("meta protocol ip ip daddr 10.0.0.0/8 accept",)}


def test_rules_that_say_the_same_are_loaded_once() -> None:
    assert len(rules.group_chains(GroupItem(id="g", rules=(rule(), rule())))["gin-g"]) == 1


def test_members_are_split_by_family_without_overlaps() -> None:
    group = GroupItem(id="g", members=("10.0.0.5", "10.0.1.0/24", "10.0.1.7", "FD00:0::5"))
    assert rules.group_sets(group) == {"m4-g": {"10.0.0.5", "10.0.1.0/24"}, "m6-g": {"fd00::5"}}


def test_a_mac_makes_its_link_local_address() -> None:
    assert rules.link_local("fa:16:3e:12:34:56") == "fe80::f816:3eff:fe12:3456"


def test_a_port_may_send_from_its_own_addresses_and_its_pairs() -> None:
    pairs = (AddressPair(ip="10.1.0.0/24"), AddressPair(ip="10.9.0.1", mac="FA:16:3E:00:00:02"))
    port = a_port(NETWORK, "10.1.0.5", mac="fa:16:3e:00:00:01", allowed_address_pairs=pairs)
    own = {mac: [str(net) for net in nets if net.version == 4] for mac, nets in rules.own_pairs(port).items()}
    assert own == {"fa:16:3e:00:00:01": ["10.1.0.0/24"], "fa:16:3e:00:00:02": ["10.9.0.1/32"]}


def test_a_port_without_address_sends_no_ip() -> None:
    port = dataclasses.replace(a_port(NETWORK, "10.1.0.5"), fixed_ips=())
    assert "meta protocol ip drop" in rules.port_chains(port)[f"out-{port.tap}"]


def test_ports_of_the_cloud_and_ports_without_security_are_not_filtered() -> None:
    port = a_port(NETWORK, "10.1.0.5")
    assert rules.filtered(port)
    assert not rules.filtered(dataclasses.replace(port, port_security=False))
    assert not rules.filtered(dataclasses.replace(port, device_owner="network:dhcp"))


def test_stateless_groups_need_rules_for_replies() -> None:
    group = GroupItem(id="g", stateful=False)
    port = a_port(NETWORK, "10.1.0.5", group)
    assert rules.stateless(port, {"g": group})
    chains = rules.port_chains(port, keep_replies_out=True)
    assert not [line for line in chains[f"in-{port.tap}"] if "meta mark" in line]


@given(st.lists(st.ip_addresses(v=4).flatmap(lambda ip: st.integers(8, 32).map(lambda n: str(ipaddress.ip_network(f"{ip}/{n}", strict=False)))), max_size=30))
def test_minimal_networks_do_not_overlap_and_cover_the_same(given_networks: list[str]) -> None:
    kept = rules.minimal(given_networks)
    assert all(not one.overlaps(other) for index, one in enumerate(kept) for other in kept[index + 1 :])
    assert all(any(ipaddress.ip_network(each).subnet_of(net) for net in kept) for each in given_networks)
    assert {str(net) for net in kept} <= set(given_networks)


def tcp(source: str, destination: str, port: int = 80) -> Connection:
    return Connection(zone=1, family=socket.AF_INET, protocol=6, source=source, destination=destination, source_port=40000, destination_port=port)


def judged(group: GroupItem, connection: Connection, *others: GroupItem, **more) -> bool:
    port = a_port(NETWORK, "10.1.0.5", group, **more)
    return Judge([port], {each.id: each for each in (group, *others)}).allows(connection)


def test_a_connection_is_allowed_by_a_rule_of_its_direction() -> None:
    group = GroupItem(id="g", rules=(rule(protocol="tcp", port_min=80, port_max=90),))
    assert judged(group, tcp("10.1.0.9", "10.1.0.5"))
    assert not judged(group, tcp("10.1.0.9", "10.1.0.5", 91))
    assert not judged(group, tcp("10.1.0.5", "10.1.0.9"))


def test_connections_of_others_are_not_judged() -> None:
    assert judged(GroupItem(id="g"), tcp("10.1.0.8", "10.1.0.9"))


def test_a_remote_group_is_looked_up_by_its_members() -> None:
    group, friends = GroupItem(id="g", rules=(rule(remote_group="f"),)), GroupItem(id="f", members=("10.1.0.8/30",))
    assert judged(group, tcp("10.1.0.9", "10.1.0.5"), friends)
    assert not judged(group, tcp("10.1.0.12", "10.1.0.5"), friends)
    assert not judged(group, tcp("10.1.0.9", "10.1.0.5"))


def test_addresses_of_a_pair_are_the_ports_too() -> None:
    pairs = (AddressPair(ip="10.7.0.0/16"),)
    assert not judged(GroupItem(id="g"), tcp("10.1.0.9", "10.7.1.1"), allowed_address_pairs=pairs)


def test_dhcp_needs_no_rule() -> None:
    lease = Connection(zone=1, family=socket.AF_INET, protocol=17, source="10.1.0.5", destination="10.1.0.2", source_port=68, destination_port=67)
    assert judged(GroupItem(id="g"), lease)


@pytest.mark.parametrize(("kind", "code", "allowed"), [(8, 0, True), (8, 1, False), (0, 0, False)])
def test_icmp_is_judged_by_type_and_code(kind: int, code: int, allowed: bool) -> None:
    group = GroupItem(id="g", rules=(RuleItem(id="r", direction="ingress", protocol="icmp", port_min=8, port_max=0),))
    ping = Connection(zone=1, family=socket.AF_INET, protocol=1, source="10.1.0.9", destination="10.1.0.5", type=kind, code=code)
    assert judged(group, ping) is allowed
