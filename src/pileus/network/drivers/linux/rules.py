"""Security groups and anti-spoofing as nftables rules: pure text, nothing is read from or written to the host.

A port has a chain for what comes from it (`out-<tap>`) and one for what goes to it (`in-<tap>`); both jump to the chains of its groups
(`gout-`, `gin-<group id>`), so that a changed group changes two chains and no port. Remote groups are sets (`m4-`, `m6-<group id>`).
Whether a packet belongs to a known connection is read from its mark, which the conntrack table sets (see `filter`).
Default-deny, always-allowed and never-allowed packets are those of upstream's firewall drivers.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from pileus.network.wire import GroupItem, PortItem, RuleItem

Rules = tuple[str, ...]
Net = ipaddress.IPv4Network | ipaddress.IPv6Network

MASK, KNOWN, REFUSED = 0x30000000, 0x10000000, 0x20000000
"""Bits of the packet mark: of a known connection, or of none that could be. REFUSED in a connection's mark: the rules allow it no longer."""

PROTOCOLS = {
    "ah": 51, "dccp": 33, "egp": 8, "esp": 50, "gre": 47, "icmp": 1, "icmpv6": 58, "igmp": 2, "ipip": 4, "ipv6-encap": 41,
    "ipv6-frag": 44, "ipv6-icmp": 58, "ipv6-nonxt": 59, "ipv6-opts": 60, "ipv6-route": 43, "ospf": 89, "pgm": 113, "rsvp": 46,
    "sctp": 132, "tcp": 6, "udp": 17, "udplite": 136, "vrrp": 112,
}  # fmt: skip
"""Names the API takes (upstream's list) and their IANA numbers."""

WITH_PORTS = frozenset({6, 17, 33, 132, 136})
ICMP, ICMPV6 = 1, 58

_ICMPV6_FROM_UNSPECIFIED = "{ 131, 135, 143 }"
_ICMPV6_OUT = "{ 130, 131, 132, 135, 136 }"
_ICMPV6_IN = "{ 130, 134, 135, 136 }"
_MARK = f"meta mark and {MASK:#x}"


def filtered(port: PortItem) -> bool:
    """Whether the port's traffic is filtered at all: not with port security off, and not the cloud's own ports."""
    return port.port_security and not port.device_owner.startswith("network:")


def protocol_number(name: str | None, ethertype: str) -> int | None:
    """The number of a rule's protocol, None for any; "icmp" in an IPv6 rule means ICMPv6."""
    if name is None or name.lower() in {"any", "0", ""}:
        return None
    number = int(name) if name.isdigit() else PROTOCOLS[name.lower()]
    return ICMPV6 if number == ICMP and ethertype == "IPv6" else number


def stateless(port: PortItem, groups: dict[str, GroupItem]) -> bool:
    """Whether the port's groups are all stateless: then replies need rules of their own."""
    used = [groups[each] for each in port.groups if each in groups]
    return bool(used) and not any(group.stateful for group in used)


def group_chains(group: GroupItem) -> dict[str, Rules]:
    """The two chains of a group."""
    return {
        f"gin-{group.id}": tuple(dict.fromkeys(_rule(rule) for rule in group.rules if rule.direction == "ingress")),
        f"gout-{group.id}": tuple(dict.fromkeys(_rule(rule) for rule in group.rules if rule.direction == "egress")),
    }


def group_sets(group: GroupItem) -> dict[str, frozenset[str]]:
    """The members of a group by family, as elements of its two sets."""
    single = all("/" not in member and ":" not in member for member in group.members)
    # Nearly all groups have IPv4 addresses alone, which need no parsing; there may be thousands.
    members = group.members if single else [element(net) for net in minimal(group.members)]
    return {
        f"m4-{group.id}": frozenset(member for member in members if ":" not in member),
        f"m6-{group.id}": frozenset(member for member in members if ":" in member),
    }


def port_chains(port: PortItem, *, keep_replies_out: bool = False) -> dict[str, Rules]:
    """The two chains of a filtered port; `keep_replies_out` for ports whose groups are stateless."""
    known = () if keep_replies_out else (f"{_MARK} == {KNOWN:#x} accept", f"{_MARK} == {REFUSED:#x} drop")
    return {
        f"out-{port.tap}": (*_own_addresses_only(port), *known, *(f"jump gout-{each}" for each in sorted(port.groups)), "drop"),
        f"in-{port.tap}": (
            "ether type arp accept",
            "meta protocol ip udp sport 67 udp dport 68 accept",
            f"meta protocol ip6 icmpv6 type {_ICMPV6_IN} accept",
            "meta protocol ip6 ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept",
            *known,
            *(f"jump gin-{each}" for each in sorted(port.groups)),
            "drop",
        ),
    }


def own_pairs(port: PortItem) -> dict[str, list[Net]]:
    """What the port may send from: its MACs, and with each the addresses (its link-local one included)."""
    given: dict[str, list[str]] = {port.mac.lower(): [each.ip for each in port.fixed_ips]}
    for pair in port.allowed_address_pairs:
        given.setdefault((pair.mac or port.mac).lower(), []).append(pair.ip)
    return {mac: minimal([*addresses, link_local(mac)]) for mac, addresses in given.items()}


def link_local(mac: str) -> str:
    """The IPv6 link-local address that a MAC makes (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    suffix = bytes((octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]))
    return str(ipaddress.IPv6Address(b"\xfe\x80" + b"\0" * 6 + suffix))


def minimal(given: Iterable[str]) -> list[Net]:
    """Networks in order without those that lie within others: sets with intervals take no overlaps."""
    networks = sorted({ipaddress.ip_network(each, strict=False) for each in given}, key=lambda net: (net.version, net.prefixlen, net))
    kept: list[Net] = []
    by_length: dict[tuple[int, int], set[int]] = {}
    for net in networks:
        number = int(net.network_address)
        shifts = ((length, net.max_prefixlen - length) for version, length in by_length if version == net.version)
        if not any(number >> shift << shift in by_length[net.version, length] for length, shift in shifts):
            kept.append(net)
            by_length.setdefault((net.version, net.prefixlen), set()).add(number)
    return sorted(kept, key=lambda net: (net.version, net))


def element(net: Net) -> str:
    """A network as nftables lists it: single addresses without a prefix."""
    return str(net.network_address) if net.prefixlen == net.max_prefixlen else str(net)


def _own_addresses_only(port: PortItem) -> list[str]:
    pairs = own_pairs(port)
    macs = _braces(sorted(pairs))
    four = _braces(f"{mac} . {element(net)}" for mac, nets in sorted(pairs.items()) for net in nets if net.version == 4)
    six = _braces(f"{mac} . {element(net)}" for mac, nets in sorted(pairs.items()) for net in nets if net.version == 6)
    probes = _braces(f"{mac} . 0.0.0.0" for mac in sorted(pairs))
    return [
        f"ether saddr != {macs} drop",
        f"ether type arp arp saddr ether . arp saddr ip {probes} accept",
        *([f"ether type arp arp saddr ether . arp saddr ip {four} accept"] if four else []),
        "ether type arp drop",
        "meta protocol ip ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept",
        "meta protocol ip udp sport 67 udp dport 68 drop",
        f"meta protocol ip ether saddr . ip saddr != {four} drop" if four else "meta protocol ip drop",
        "meta protocol ip udp sport 68 udp dport 67 accept",
        f"meta protocol ip6 ip6 saddr :: icmpv6 type {_ICMPV6_FROM_UNSPECIFIED} accept",
        "meta protocol ip6 icmpv6 type 134 drop",
        "meta protocol ip6 udp sport 547 udp dport 546 drop",
        f"meta protocol ip6 ether saddr . ip6 saddr != {six} drop",
        f"meta protocol ip6 icmpv6 type {_ICMPV6_OUT} accept",
        "meta protocol ip6 udp sport 546 udp dport 547 accept",
    ]


def _rule(rule: RuleItem) -> str:
    four = rule.ethertype == "IPv4"
    words = ["meta protocol ip" if four else "meta protocol ip6"]
    side = "saddr" if rule.direction == "ingress" else "daddr"
    family = "ip" if four else "ip6"
    if rule.remote_group:
        words.append(f"{family} {side} @{'m4' if four else 'm6'}-{rule.remote_group}")
    elif rule.remote_cidr:
        remote = ipaddress.ip_network(rule.remote_cidr, strict=False)
        if remote.prefixlen:
            words.append(f"{family} {side} {element(remote)}")
    number = protocol_number(rule.protocol, rule.ethertype)
    if number is not None:
        words += _protocol(number, rule)
    return " ".join([*words, "accept"])


def _protocol(number: int, rule: RuleItem) -> Sequence[str]:
    low, high = rule.port_min, rule.port_max
    own = (ICMP, "icmp") if rule.ethertype == "IPv4" else (ICMPV6, "icmpv6")
    if number == own[0]:
        name = own[1]
        kind = [f"{name} type {low}"] if low is not None else []
        return [f"meta l4proto {number}", *kind, *([f"{name} code {high}"] if kind and high is not None else [])]
    if number in WITH_PORTS and (low is not None or high is not None):
        first, last = low if low is not None else high, high if high is not None else low
        return [f"meta l4proto {number} th dport {first}" + (f"-{last}" if first != last else "")]
    return [f"meta l4proto {number}"]


def _braces(values: Iterable[str]) -> str:
    joined = ", ".join(values)
    return f"{{ {joined} }}" if joined else ""


def group_ids(ports: Iterable[PortItem], groups: dict[str, GroupItem]) -> set[str]:
    """Groups whose chains or sets must exist: those known, those ports use, those rules name as remote."""
    wanted = set(groups)
    for port in ports:
        wanted.update(port.groups)
    for group in groups.values():
        wanted.update(rule.remote_group for rule in group.rules if rule.remote_group)
    return wanted
