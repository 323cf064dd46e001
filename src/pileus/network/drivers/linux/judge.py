"""Whether the rules of ports would let a connection begin: the security groups once more, as a function of known connections."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

from pileus.host.conntrack import Connection
from pileus.network.drivers.linux import rules
from pileus.network.wire import GroupItem, PortItem, RuleItem

_DHCP = frozenset({67, 68, 546, 547})
_UDP = 17


class Judge:
    """Judges connections by the filtered ports of one network on this host."""

    def __init__(self, ports: Iterable[PortItem], groups: dict[str, GroupItem]) -> None:
        self._groups = groups
        self._members: dict[str, list[rules.Net]] = {}
        self._exact: dict[str, list[PortItem]] = {}
        self._wide: list[tuple[rules.Net, PortItem]] = []
        for port in ports:
            for address in [*(each.ip for each in port.fixed_ips), *(pair.ip for pair in port.allowed_address_pairs)]:
                net = ipaddress.ip_network(address, strict=False)
                if net.prefixlen == net.max_prefixlen:
                    self._exact.setdefault(str(net.network_address), []).append(port)
                else:
                    self._wide.append((net, port))

    def allows(self, connection: Connection) -> bool:
        """Whether every local port at an end of the connection has a rule for it; connections between others are not ours to judge."""
        if connection.protocol == _UDP and {connection.source_port, connection.destination_port} <= _DHCP:
            return True
        return all(
            self._port_allows(port, direction, remote, connection)
            for direction, local, remote in (
                ("egress", connection.source, connection.destination),
                ("ingress", connection.destination, connection.source),
            )
            for port in self._ports(local)
        )

    def _ports(self, address: str) -> list[PortItem]:
        found = list(self._exact.get(address, ()))
        if self._wide:
            parsed = ipaddress.ip_address(address)
            found += [port for net, port in self._wide if parsed.version == net.version and parsed in net and port not in found]
        return found

    def _port_allows(self, port: PortItem, direction: str, remote: str, connection: Connection) -> bool:
        ethertype = "IPv4" if connection.family == socket.AF_INET else "IPv6"
        return any(
            rule.direction == direction and rule.ethertype == ethertype and self._matches(rule, remote, connection)
            for id_ in port.groups
            if id_ in self._groups
            for rule in self._groups[id_].rules
        )

    def _matches(self, rule: RuleItem, remote: str, connection: Connection) -> bool:
        number = rules.protocol_number(rule.protocol, rule.ethertype)
        if number is not None and (number != connection.protocol or not _detail(rule, number, connection)):
            return False
        if rule.remote_group:
            return self._is_member(rule.remote_group, remote)
        return not rule.remote_cidr or ipaddress.ip_address(remote) in ipaddress.ip_network(rule.remote_cidr, strict=False)

    def _is_member(self, group_id: str, address: str) -> bool:
        if group_id not in self._members:
            group = self._groups.get(group_id)
            self._members[group_id] = rules.minimal(group.members) if group else []
        parsed = ipaddress.ip_address(address)
        return any(net.version == parsed.version and parsed in net for net in self._members[group_id])


def _detail(rule: RuleItem, number: int, connection: Connection) -> bool:
    low, high = rule.port_min, rule.port_max
    if number in {rules.ICMP, rules.ICMPV6}:
        return (low is None or connection.type == low) and (low is None or high is None or connection.code == high)
    if number in rules.WITH_PORTS and (low is not None or high is not None):
        first = low if low is not None else high
        last = high if high is not None else low
        assert first is not None
        assert last is not None
        return first <= connection.destination_port <= last
    return True
