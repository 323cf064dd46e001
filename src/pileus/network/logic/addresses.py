"""Addresses of ports: which a port gets, and how a free one is found without reading those in use.

An address is taken by inserting its row, whose key is (network, address): two who want the same one cannot both have it, on any database. Free ones are
found by trying random ones, a handful per query; only when a subnet is nearly full does the database look for a gap.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.kernel import ids
from pileus.kernel.db import insert_ignore
from pileus.network import errors
from pileus.network.store import tables as t

_TRIES = 3
_CANDIDATES = 8
_MODULUS = 2**62

Pairs = list[tuple[str, str]]
"""(subnet_id, address)"""


@dataclasses.dataclass(frozen=True)
class Subnet:
    """What allocation has to know of a subnet."""

    id: str
    network_id: str
    ip_version: int
    cidr: str
    gateway_ip: str | None
    enable_dhcp: bool
    pools: tuple[tuple[int, int], ...]
    service_types: tuple[str, ...]

    @property
    def network(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        return ipaddress.ip_network(self.cidr)

    def text(self, number: int) -> str:
        """An address from its integer."""
        return str(ipaddress.IPv4Address(number) if self.ip_version == 4 else ipaddress.IPv6Address(number))

    def number(self, address: str) -> int:
        """Distance from the subnet's first address, as stored."""
        return (int(ipaddress.ip_address(address)) - int(self.network.network_address)) % _MODULUS

    def holds(self, address: str) -> bool:
        """Whether a host may have the address here: inside, and neither the network's own address nor (IPv4) its broadcast."""
        parsed, network = ipaddress.ip_address(address), self.network
        if parsed.version != self.ip_version or parsed not in network:
            return False
        if self.ip_version == 4 and network.prefixlen < 31:
            return parsed not in (network.network_address, network.broadcast_address)
        return not (self.ip_version == 6 and network.prefixlen < 127 and parsed == network.network_address)


def subnet_of(row: Any) -> Subnet:
    """From a row of the subnets table."""
    return Subnet(
        id=row.id,
        network_id=row.network_id,
        ip_version=row.ip_version,
        cidr=row.cidr,
        gateway_ip=row.gateway_ip,
        enable_dhcp=row.enable_dhcp,
        pools=tuple((int(ipaddress.ip_address(p["start"])), int(ipaddress.ip_address(p["end"]))) for p in row.allocation_pools),
        service_types=tuple(row.service_types),
    )


_OF_NETWORK = sa.select(t.subnets).where(t.subnets.c.network_id == sa.bindparam("network_id")).order_by(t.subnets.c.created_at, t.subnets.c.id)


def subnets_of(conn: sa.Connection, network_id: str) -> list[Subnet]:
    """The subnets of a network, oldest first."""
    return [subnet_of(row) for row in conn.execute(_OF_NETWORK, {"network_id": network_id})]


def allocate(
    conn: sa.Connection,
    subnets: Sequence[Subnet],
    network_id: str,
    port_id: str,
    device_owner: str,
    requests: Sequence[Mapping[str, str]] | None,
) -> Pairs:
    """Take addresses for a port: those requested, or (None) one of each IP version the network has.

    Raises InvalidIpForNetwork, InvalidIpForSubnet, IpAddressAlreadyAllocated, IpAddressGenerationFailure, InvalidInput.
    """
    if requests is None:
        return _one_of_each(conn, subnets, network_id, port_id, device_owner)
    taken: Pairs = []
    exact = [request for request in requests if "ip_address" in request]
    for request in exact:
        subnet = _subnet_for(subnets, network_id, request)
        take(conn, subnet, port_id, request["ip_address"])
        taken.append((subnet.id, request["ip_address"]))
    for request in requests:
        if "ip_address" not in request:
            subnet = _subnet_for(subnets, network_id, request)
            taken.append((subnet.id, take_any(conn, [subnet], network_id, port_id)))
    return taken


def _one_of_each(conn: sa.Connection, subnets: Sequence[Subnet], network_id: str, port_id: str, device_owner: str) -> Pairs:
    """Subnets kept for certain services serve those alone, and those prefer them."""
    fitting = [subnet for subnet in subnets if _serves(subnet, device_owner)]
    if subnets and not fitting:
        raise errors.IpAddressGenerationFailure(f"No more IP addresses available on network {network_id}.")
    taken: Pairs = []
    for version in (4, 6):
        family = [subnet for subnet in fitting if subnet.ip_version == version]
        if family:
            address = take_any(conn, family, network_id, port_id)
            taken.append((next(s.id for s in family if s.holds(address)), address))
    return taken


def _serves(subnet: Subnet, device_owner: str) -> bool:
    return not subnet.service_types or any(device_owner.startswith(kind) for kind in subnet.service_types)


def _subnet_for(subnets: Sequence[Subnet], network_id: str, request: Mapping[str, str]) -> Subnet:
    wanted, address = request.get("subnet_id"), request.get("ip_address")
    if wanted is not None:
        for subnet in subnets:
            if subnet.id == wanted:
                if address is not None and not subnet.holds(address):
                    raise errors.InvalidIpForSubnet(f"IP address {address} is not a valid IP for the specified subnet.")
                return subnet
        raise errors.InvalidInput(
            f"Failed to create port on network {network_id}, because fixed_ips included invalid subnet {wanted}"
        )
    if address is None:
        raise errors.InvalidInput("IP allocation requires subnet_id or ip_address")
    for subnet in subnets:
        if subnet.holds(address):
            return subnet
    raise errors.InvalidIpForNetwork(f"IP address {address} is not a valid IP for any of the subnets on the specified network.")


def take(conn: sa.Connection, subnet: Subnet, port_id: str, address: str) -> None:
    """Take one address. Raises IpAddressAlreadyAllocated."""
    if not _insert(conn, subnet, port_id, address):
        raise errors.IpAddressAlreadyAllocated(f"IP address {address} already allocated in subnet {subnet.id}")


def _insert(conn: sa.Connection, subnet: Subnet, port_id: str, address: str) -> bool:
    row = {
        "network_id": subnet.network_id,
        "ip_address": address,
        "subnet_id": subnet.id,
        "port_id": port_id,
        "number": subnet.number(address),
    }
    return insert_ignore(conn, t.allocations, [row]) == 1


def take_any(conn: sa.Connection, subnets: Sequence[Subnet], network_id: str, port_id: str) -> str:
    """Take a free address of the first subnet that has one. Raises IpAddressGenerationFailure."""
    for subnet in subnets:
        address = _take_random(conn, subnet, port_id) or _take_gap(conn, subnet, port_id)
        if address is not None:
            return address
    raise errors.IpAddressGenerationFailure(f"No more IP addresses available on network {network_id}.")


def _take_random(conn: sa.Connection, subnet: Subnet, port_id: str) -> str | None:
    for _ in range(_TRIES):
        candidates = _candidates(subnet)
        if not candidates:
            return None
        used = _used(conn, subnet.network_id, candidates)
        for address in candidates:
            if address not in used and _insert(conn, subnet, port_id, address):
                return address
    return None


def _candidates(subnet: Subnet) -> list[str]:
    """A few different addresses, each of the pools' addresses equally likely."""
    total = sum(last - first + 1 for first, last in subnet.pools)
    found: dict[str, None] = {}
    for _ in range(min(_CANDIDATES, total)):
        index = ids.random_below(total)
        for first, last in subnet.pools:
            if index <= last - first:
                found[subnet.text(first + index)] = None
                break
            index -= last - first + 1
    if subnet.gateway_ip:
        found.pop(subnet.gateway_ip, None)
    return list(found)


def _used(conn: sa.Connection, network_id: str, addresses: Iterable[str]) -> set[str]:
    table = t.allocations
    query = sa.select(table.c.ip_address).where(table.c.network_id == network_id, table.c.ip_address.in_(list(addresses)))
    return set(conn.execute(query).scalars())


def _take_gap(conn: sa.Connection, subnet: Subnet, port_id: str) -> str | None:
    """The first free address of a pool, found by the database: the pool's first, or the one after an address whose successor is free."""
    base = int(subnet.network.network_address)
    for first, last in subnet.pools:
        if last - first >= _MODULUS:
            continue  # a random address of so many is free
        start, end = first - base, last - base
        for _ in range(_TRIES * _CANDIDATES):  # another may take what we found: look again
            number = _gap(conn, subnet.id, start, end)
            if number is None:
                break
            address = subnet.text(base + number)
            if address != subnet.gateway_ip and _insert(conn, subnet, port_id, address):
                return address
            start = number + 1
            if start > end:
                break
    return None


def _gap(conn: sa.Connection, subnet_id: str, start: int, end: int) -> int | None:
    table, successor = t.allocations, t.allocations.alias()
    taken = sa.select(table.c.number).where(table.c.subnet_id == subnet_id, table.c.number == start)
    if conn.execute(taken).first() is None:
        return start
    after = sa.exists().where(successor.c.subnet_id == subnet_id, successor.c.number == table.c.number + 1)
    query = (
        sa.select(table.c.number + 1)
        .where(table.c.subnet_id == subnet_id, table.c.number >= start, table.c.number < end, ~after)
        .order_by(table.c.number)
        .limit(1)
    )
    return conn.execute(query).scalar_one_or_none()


_HELD = sa.select(t.allocations.c.subnet_id, t.allocations.c.ip_address).where(t.allocations.c.port_id == sa.bindparam("port"))


def give_back(conn: sa.Connection, network_id: str, addresses: Sequence[str]) -> None:
    """Free addresses of a network."""
    if addresses:
        table = t.allocations
        conn.execute(sa.delete(table).where(table.c.network_id == network_id, table.c.ip_address.in_(addresses)))


def held(conn: sa.Connection, port_id: str) -> Pairs:
    """The addresses a port has."""
    return [(row[0], row[1]) for row in conn.execute(_HELD, {"port": port_id})]


def change(
    conn: sa.Connection, subnets: Sequence[Subnet], port: Any, requests: Sequence[Mapping[str, str]], device_owner: str
) -> Pairs:
    """Make a port's addresses those requested: what fits a request is kept, the others are freed, what lacks is taken."""
    now = held(conn, port.id)
    keep: Pairs = []
    lacking: list[Mapping[str, str]] = []
    rest = list(now)
    for request in sorted(requests, key=lambda item: "ip_address" not in item):  # exact ones choose first
        found = next((pair for pair in rest if _fits(pair, request)), None)
        if found is None:
            lacking.append(request)
        else:
            rest.remove(found)
            keep.append(found)
    give_back(conn, port.network_id, [address for _, address in rest])
    return keep + allocate(conn, subnets, port.network_id, port.id, device_owner, lacking)


def _fits(pair: tuple[str, str], request: Mapping[str, str]) -> bool:
    subnet_id, address = pair
    return request.get("ip_address", address) == address and request.get("subnet_id", subnet_id) == subnet_id
