"""Links, addresses and routes of the host and of its network namespaces.

Reading single links and watching link events speaks rtnetlink directly (a question costs well under a millisecond and needs no
process); everything that changes the host goes through one `ip` or `bridge` batch, so that fifty ports cost one process.
"""

from __future__ import annotations

import errno
import re
import select
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from pileus.host.run import CommandFailed, run

Words = tuple[str, ...]
"""One line of a batch, word by word."""

MARK = "pileus"
"""The alias that links made by Pileus carry: what does not carry it is never removed."""

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_RTMGRP_LINK = 0x1
_IFF_UP = 0x1
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_IFALIAS = 1, 3, 4, 10, 18, 20
_IFLA_INFO_KIND, _IFLA_INFO_DATA = 1, 2
_IFLA_VXLAN_ID, _IFLA_VXLAN_LOCAL = 1, 4
_HEADER = struct.Struct("=IHHII")
_IFINFO = struct.Struct("=BxHiII")
_ATTRIBUTE = struct.Struct("=HH")
_BUFFER = 1 << 17
_EVENT_BUFFER = 1 << 21
_ABSENT = re.compile(r"Cannot find device|No such device")
_WORD = re.compile(r"[^\s\"'\\#]+")


@dataclass(frozen=True, slots=True)
class Link:
    """A network device. `master` is the index of the bridge it is in (0: none); `kind` is "bridge", "tun", "veth", "vxlan", ...;
    `vni` and `local` (packed address) are a VXLAN's.
    """

    index: int
    name: str
    up: bool
    mtu: int = 0
    mac: str = ""
    master: int = 0
    kind: str = ""
    alias: str = ""
    vni: int = 0
    local: bytes = b""

    @property
    def ours(self) -> bool:
        """Whether Pileus made it."""
        return self.alias == MARK


@dataclass(frozen=True, slots=True)
class LinkEvent:
    """A link came, changed or went; with `lost`, events were dropped by the kernel and everything must be looked at again."""

    name: str = ""
    gone: bool = False
    lost: bool = False


def link(name: str) -> Link | None:
    """The device of that name in this thread's namespace, or None."""
    data = name.encode() + b"\0"
    request = _IFINFO.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + _attribute(_IFLA_IFNAME, data)
    try:
        return next((found for kind, found in _ask(request, _NLM_F_REQUEST) if kind == _RTM_NEWLINK), None)
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None
        raise


def links() -> dict[str, Link]:
    """All devices of this thread's namespace by name."""
    request = _IFINFO.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    return {found.name: found for kind, found in _ask(request, _NLM_F_REQUEST | _NLM_F_DUMP) if kind == _RTM_NEWLINK}


class LinkEvents:
    """A subscription to the link events of the namespace it is made in."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _EVENT_BUFFER)
        self._socket.bind((0, _RTMGRP_LINK))
        self._wake_reader, self._wake_writer = socket.socketpair()

    def read(self, timeout: float | None) -> list[LinkEvent]:
        """Wait up to `timeout` seconds for events; an empty list when none came or `wake` was called."""
        ready, _, _ = select.select([self._socket, self._wake_reader], [], [], timeout)
        if self._wake_reader in ready:
            self._wake_reader.recv(4096)
        if self._socket not in ready:
            return []
        try:
            data = self._socket.recv(_BUFFER)
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return [LinkEvent(lost=True)]
            raise
        return [LinkEvent(name=found.name, gone=kind == _RTM_DELLINK) for kind, found in _messages(data)]

    def wake(self) -> None:
        """Make a waiting `read` return."""
        self._wake_writer.send(b"x")

    def close(self) -> None:
        for each in (self._socket, self._wake_reader, self._wake_writer):
            each.close()


def ip_batch(lines: Iterable[Words], *, namespace: str | None = None) -> None:
    """Apply `ip` commands in order in one process; CommandFailed names the line that failed, lines before it have been applied."""
    _batch("ip", lines, namespace)


def ip_batch_if_there(lines: Iterable[Words]) -> None:
    """Apply `ip` commands that take something away: each is tried, and a device that has gone meanwhile is fine."""
    given = list(lines)
    if not given:
        return
    _check(given)
    done = run(["ip", "-force", "-batch", "-"], stdin=_text(given), ok=(0, 1, 2))
    wrong = [line for line in done.stderr.splitlines() if not _ABSENT.search(line) and not line.startswith("Command failed")]
    if wrong:
        raise CommandFailed(done.argv, done.code, done.stderr, f"said: {wrong[0]}")


def bridge_batch(lines: Iterable[Words]) -> None:
    """Apply `bridge` commands in order in one process."""
    _batch("bridge", lines, None)


def ip_json(words: Sequence[str], *, namespace: str | None = None) -> list[dict[str, Any]]:
    """The answer of `ip -json ...` as a list of objects."""
    return _json(["ip", *(("-n", namespace) if namespace else ()), "-json", "-details", *words])


def bridge_json(words: Sequence[str]) -> list[dict[str, Any]]:
    """The answer of `bridge -json ...` as a list of objects."""
    return _json(["bridge", "-json", *words])


def default_route_link() -> str | None:
    """The device of the host's IPv4 default route, or None."""
    return next((str(route["dev"]) for route in ip_json(["-4", "route", "show", "default"]) if "dev" in route), None)


def _batch(program: str, lines: Iterable[Words], namespace: str | None) -> None:
    given = list(lines)
    if not given:
        return
    _check(given)
    argv = [program, *(("-n", namespace) if namespace else ()), "-batch", "-"]
    try:
        run(argv, stdin=_text(given))
    except CommandFailed as error:
        where = re.search(r"-:(\d+)", error.stderr)
        failed = " ".join(given[int(where[1]) - 1]) if where and int(where[1]) <= len(given) else "?"
        said = error.stderr.strip().splitlines()[0] if error.stderr.strip() else "nothing"
        raise CommandFailed((*argv, failed), error.code, error.stderr, f"said: {said}") from error


def _check(lines: list[Words]) -> None:
    for line in lines:
        for word in line:
            if not _WORD.fullmatch(word):
                raise ValueError(f"{word!r} cannot be a word of a network command")


def _text(lines: list[Words]) -> str:
    return "".join(" ".join(line) + "\n" for line in lines)


def _json(argv: list[str]) -> list[dict[str, Any]]:
    text = run(argv).stdout.strip()
    decoded: list[dict[str, Any]] = msgspec.json.decode(text) if text else []
    return [entry for entry in decoded if entry]


def _ask(body: bytes, flags: int) -> Iterator[tuple[int, Link]]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as rtnl:
        rtnl.settimeout(5)
        rtnl.send(_HEADER.pack(_HEADER.size + len(body), _RTM_GETLINK, flags, 1, 0) + body)
        while True:
            data = rtnl.recv(_BUFFER)
            done = not flags & 0x200
            for kind, payload in _frames(data):
                if kind == _NLMSG_DONE:
                    done = True
                elif kind == _NLMSG_ERROR:
                    code = -struct.unpack_from("=i", payload)[0]
                    if code:
                        raise OSError(code, "the kernel refused to list links")
                else:
                    yield kind, _parse(payload)
            if done:
                return


def _messages(data: bytes) -> Iterator[tuple[int, Link]]:
    for kind, payload in _frames(data):
        if kind in (_RTM_NEWLINK, _RTM_DELLINK):
            yield kind, _parse(payload)


def _frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            return
        yield kind, data[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3


def _attribute(kind: int, data: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(data)
    return _ATTRIBUTE.pack(length, kind) + data + b"\0" * (-length % 4)


def _attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            break
        found[kind & 0x3FFF] = data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return found


def _parse(payload: bytes) -> Link:
    _, _, index, flags, _ = _IFINFO.unpack_from(payload)
    found = _attributes(payload, _IFINFO.size)
    info = _attributes(found.get(_IFLA_LINKINFO, b""))
    kind = _string(info.get(_IFLA_INFO_KIND, b""))
    data = _attributes(info.get(_IFLA_INFO_DATA, b"")) if kind == "vxlan" else {}
    return Link(
        index=index,
        name=_string(found.get(_IFLA_IFNAME, b"")),
        up=bool(flags & _IFF_UP),
        mtu=_number(found.get(_IFLA_MTU)),
        mac=":".join(f"{byte:02x}" for byte in found.get(_IFLA_ADDRESS, b"")),
        master=_number(found.get(_IFLA_MASTER)),
        kind=kind,
        alias=_string(found.get(_IFLA_IFALIAS, b"")),
        vni=_number(data.get(_IFLA_VXLAN_ID)),
        local=data.get(_IFLA_VXLAN_LOCAL, b""),
    )


def _string(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="replace")


def _number(data: bytes | None) -> int:
    return int(struct.unpack_from("=I", data)[0]) if data else 0
