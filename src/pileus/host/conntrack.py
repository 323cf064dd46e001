"""The kernel's connection table: list the connections of a zone, mark or delete single ones (ctnetlink, in this thread's namespace).

The `conntrack` command cannot change a mark in a zone, and one process per connection would be slow where hundreds must be judged.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

_NETLINK_NETFILTER = 12
_HEADER = struct.Struct("=IHHII")
_NFGEN = struct.Struct("!BBH")
_ATTRIBUTE = struct.Struct("=HH")
_NEW, _GET, _DELETE = 0x100, 0x101, 0x102
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_ERROR, _DONE = 2, 3
_NESTED = 0x8000
_CTA_TUPLE_ORIG, _CTA_MARK, _CTA_ZONE, _CTA_MARK_MASK = 1, 8, 18, 21
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_PROTO_NUM, _SRC_PORT, _DST_PORT = 1, 2, 3
_ICMP_KINDS = ((5, 6), (8, 9))
_BUFFER = 1 << 18


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection as its first packet went: for ICMP, `type` and `code` instead of ports. `tuple_` is the kernel's own form of it."""

    zone: int
    family: int
    protocol: int
    source: str
    destination: str
    source_port: int = 0
    destination_port: int = 0
    type: int = 0
    code: int = 0
    mark: int = 0
    tuple_: bytes = field(default=b"", repr=False)


def connections(zone: int | None = 0) -> list[Connection]:
    """The connections of a zone (None: of all), both families."""
    # The kernel walks its whole table for each question: one for both families. Older ones ignore the zone in the question.
    request = _NFGEN.pack(socket.AF_UNSPEC, 0, 0) + (_pack(_CTA_ZONE, struct.pack("!H", zone)) if zone else b"")
    return [each for payload in _talk(_GET, request, _REQUEST | _DUMP) if (each := _parse(payload)) and zone in {None, each.zone}]


def set_mark(connection: Connection, value: int, mask: int) -> None:
    """Set the bits of `mask` in a connection's mark; one that has ended meanwhile is fine."""
    _change(_NEW, connection, _pack(_CTA_MARK, struct.pack("!I", value)) + _pack(_CTA_MARK_MASK, struct.pack("!I", mask)))


def forget(given: Iterable[Connection]) -> None:
    """Delete connections; those that have ended meanwhile are fine."""
    for connection in given:
        _change(_DELETE, connection, b"")


def forget_addresses(addresses: Iterable[str], zone: int = 0) -> None:
    """Delete every connection of a zone that comes from or goes to one of the addresses."""
    wanted = set(addresses)
    if wanted:
        forget(each for each in connections(zone) if each.source in wanted or each.destination in wanted)


def _change(kind: int, connection: Connection, attributes: bytes) -> None:
    zone = _pack(_CTA_ZONE, struct.pack("!H", connection.zone)) if connection.zone else b""
    body = _NFGEN.pack(connection.family, 0, 0) + _pack(_CTA_TUPLE_ORIG | _NESTED, connection.tuple_) + zone + attributes
    try:
        list(_talk(kind, body, _REQUEST | _ACK))
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise


def _talk(kind: int, body: bytes, flags: int) -> Iterator[bytes]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as netlink:
        netlink.settimeout(5)
        netlink.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body)
        while True:
            data = netlink.recv(_BUFFER)
            offset = 0
            while offset + _HEADER.size <= len(data):
                length, answer, _, _, _ = _HEADER.unpack_from(data, offset)
                payload = data[offset + _HEADER.size : offset + length]
                offset += (length + 3) & ~3
                if answer == _DONE:
                    return
                if answer == _ERROR:
                    code = -struct.unpack_from("=i", payload)[0]
                    if code:
                        raise OSError(code, "the kernel refused a change of its connection table")
                    return
                yield payload


def _pack(kind: int, data: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), kind) + data + b"\0" * (-len(data) % 4)


def _attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            break
        found[kind & 0x3FFF] = data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return found


def _parse(payload: bytes) -> Connection | None:
    family = payload[0]
    found = _attributes(payload, _NFGEN.size)
    original = found.get(_CTA_TUPLE_ORIG, b"")
    parts = _attributes(original)
    addresses = _attributes(parts.get(_TUPLE_IP, b""))
    protocol = _attributes(parts.get(_TUPLE_PROTO, b""))
    source, destination = (1, 2) if family == socket.AF_INET else (3, 4)
    if source not in addresses or _PROTO_NUM not in protocol:
        return None
    kind, code = next((pair for pair in _ICMP_KINDS if pair[0] in protocol), (0, 0))
    return Connection(
        zone=_number(found.get(_CTA_ZONE)),
        family=family,
        protocol=_number(protocol.get(_PROTO_NUM)),
        source=socket.inet_ntop(family, addresses[source]),
        destination=socket.inet_ntop(family, addresses[destination]),
        source_port=_number(protocol.get(_SRC_PORT)),
        destination_port=_number(protocol.get(_DST_PORT)),
        type=_number(protocol.get(kind)),
        code=_number(protocol.get(code)),
        mark=_number(found.get(_CTA_MARK)),
        tuple_=original,
    )


def _number(data: bytes | None) -> int:
    return int.from_bytes(data, "big") if data else 0
