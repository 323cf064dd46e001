"""Legs: the two ends of a pair of links that joins a namespace of ours (DHCP, router) to a network's bridge."""

from __future__ import annotations

import socket
import struct
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from pileus.host import netlink, netns
from pileus.host.dnsmasq import end_process
from pileus.host.netlink import MARK, Words
from pileus.network.drivers import names

_ETHERTYPE_ARP = 0x0806


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """A leg as it shall be. `addresses` carry their prefix ("10.0.0.1/24")."""

    port_id: str
    device: str
    bridge: str
    mac: str
    mtu: int
    addresses: frozenset[str]

    @property
    def outer(self) -> str:
        """The end in the bridge."""
        return names.tap(self.port_id)


def ensure_namespace(namespace: str) -> bool:
    """Have the namespace; True when it was made, or found half made."""
    if not netns.exists(namespace):
        netns.create(namespace)
        return True
    if not netns.is_ours(namespace):
        netns.mark(namespace)
        return True
    return False


def ensure(namespace: str, legs: Iterable[Leg], *, keep: Collection[str] = ()) -> dict[str, frozenset[str]]:
    """Have exactly these legs in a namespace (and devices in `keep`). Returns the addresses that are new, by device: they want announcing."""
    wanted = {leg.device: leg for leg in legs}
    outside: list[Words] = []
    for leg in wanted.values():
        outside += _outer_lines(namespace, leg)
    netlink.ip_batch(outside)
    inside: list[Words] = []
    new: dict[str, frozenset[str]] = {}
    for device in netlink.ip_json(["addr", "show"], namespace=namespace):
        name = device["ifname"]
        if name not in wanted:
            if name != "lo" and name not in keep and device.get("linkinfo", {}).get("info_kind") == "veth":
                inside.append(("link", "delete", "dev", name))
            continue
        lines, added = _inner_lines(wanted[name], device)
        inside += lines
        if added:
            new[name] = added
    netlink.ip_batch(inside, namespace=namespace)
    return new


def announce(namespace: str, leg: Leg, addresses: Iterable[str]) -> None:
    """Tell the network who has these addresses now (gratuitous ARP), for hosts that remember another."""
    sender = bytes.fromhex(leg.mac.replace(":", ""))
    frames = []
    for address in addresses:
        ip = address.partition("/")[0]
        if ":" in ip:
            continue
        packed = socket.inet_aton(ip)
        for operation in (1, 2):
            body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + sender + packed + (b"\xff" * 6 if operation == 2 else b"\0" * 6) + packed
            frames.append(b"\xff" * 6 + sender + struct.pack("!H", _ETHERTYPE_ARP) + body)

    def send() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC) as raw:
            raw.bind((leg.device, 0))
            for frame in frames:
                raw.send(frame)

    if frames:
        netns.inside(namespace, send)


def remove_namespace(namespace: str) -> None:
    """Remove a namespace of ours with its processes and legs; none there, or not ours, is fine.

    The legs go first: the kernel takes a namespace apart later, and the bridge would keep their outer ends until then.
    """
    if not netns.is_ours(namespace):
        return
    for pid in netns.pids(namespace):
        end_process(pid)
    inside = netns.inside(namespace, netlink.links)
    netlink.ip_batch((("link", "delete", "dev", link.name) for link in inside.values() if link.kind == "veth"), namespace=namespace)
    netns.delete(namespace)


def _outer_lines(namespace: str, leg: Leg) -> list[Words]:
    link, bridge = netlink.link(leg.outer), netlink.link(leg.bridge)
    if bridge is None:
        raise LookupError(f"the bridge {leg.bridge} for the port {leg.port_id} is not there")
    lines: list[Words] = []
    if link is not None and netns.inside(namespace, lambda: netlink.link(leg.device)) is None:
        lines.append(("link", "delete", "dev", leg.outer))
        link = None
    if link is None:
        mtu = str(leg.mtu)
        lines += [
            ("link", "add", leg.outer, "mtu", mtu, "type", "veth", "peer", "name", leg.device, "mtu", mtu, "address", leg.mac, "netns", namespace),
            ("link", "set", "dev", leg.outer, "alias", MARK, "addrgenmode", "none"),
            ("link", "set", "dev", leg.outer, "master", leg.bridge, "up"),
        ]
        return lines
    if not link.ours:
        lines.append(("link", "set", "dev", leg.outer, "alias", MARK, "addrgenmode", "none"))
    if link.mtu != leg.mtu:
        lines.append(("link", "set", "dev", leg.outer, "mtu", str(leg.mtu)))
    if link.master != bridge.index or not link.up:
        lines.append(("link", "set", "dev", leg.outer, "master", leg.bridge, "up"))
    return lines


def _inner_lines(leg: Leg, device: dict[str, object]) -> tuple[list[Words], frozenset[str]]:
    lines: list[Words] = []
    if device.get("mtu") != leg.mtu:
        lines.append(("link", "set", "dev", leg.device, "mtu", str(leg.mtu)))
    if str(device.get("address", "")).lower() != leg.mac.lower():
        lines.append(("link", "set", "dev", leg.device, "address", leg.mac))
    infos: list[dict[str, object]] = device.get("addr_info", [])  # type: ignore[assignment]
    present = frozenset(f"{info['local']}/{info['prefixlen']}" for info in infos if info.get("scope") != "link" or str(info["local"]).startswith("169.254."))
    new = leg.addresses - present
    lines += [("addr", "delete", address, "dev", leg.device) for address in sorted(present - leg.addresses)]
    lines += [("addr", "add", address, "dev", leg.device, *(("nodad",) if ":" in address else ())) for address in sorted(new)]
    flags: list[str] = device.get("flags", [])  # type: ignore[assignment]
    if "UP" not in flags:
        lines.append(("link", "set", "dev", leg.device, "up"))
    return lines, new
