"""A bridge per network, and VXLAN between hosts whose forwarding entries come from the controller: nothing is learned from tunnels.

The bridge answers ARP for addresses behind tunnels itself (the tunnel is a port with `proxy_arp_wifi`, the neighbours are the bridge's), so that requests for
what is known stay on the host. Requests for what is not known, and announcements, go to all hosts of the network: `neigh_suppress` would swallow
announcements too, and with them addresses that move between guests (allowed address pairs).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from pileus.host import netlink
from pileus.host.netlink import MARK, Words
from pileus.network.drivers import names
from pileus.network.drivers.base import Settings
from pileus.network.wire import NetworkItem

VXLAN_PORT = 4789
_FLOOD = "00:00:00:00:00:00"


@dataclass(slots=True)
class Entries:
    """Forwarding of one VXLAN device: hosts to flood to, the host behind each MAC, the MAC behind each address."""

    flood: set[str] = field(default_factory=set)
    hosts: dict[str, str] = field(default_factory=dict)
    neighbours: dict[str, str] = field(default_factory=dict)


class Bridges:
    """The bridges of networks and their tunnels. What is known of forwarding entries comes from the host once, then follows our changes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._entries: dict[str, Entries] = {}
        self._placed: dict[str, str] | None = None

    def forget(self) -> None:
        """Read forwarding entries from the host before the next comparison."""
        self._entries.clear()
        self._placed = None

    def name(self, network: NetworkItem) -> str:
        """The bridge of a network: its own, or the external one for the physical network that this is."""
        if network.type == "flat" and network.physical_network == self._settings.physical_network:
            return self._settings.external_bridge
        return names.bridge(network.id)

    def ensure(self, networks: Iterable[NetworkItem], vtep: str) -> set[str]:
        """Have bridges and tunnels as the networks say, in one process for all. Returns the bridges that were made."""
        lines: list[Words] = []
        made = set[str]()
        tunnelled = []
        for network in networks:
            bridge = self.name(network)
            if network.type == "flat" and bridge != self._settings.external_bridge:
                raise ValueError(f"this host has no physical network {network.physical_network!r}, only {self._settings.physical_network!r}")
            if bridge != self._settings.external_bridge:
                link = netlink.link(bridge)
                made.update(() if link else (bridge,))
                lines += _bridge_lines(bridge, link, network.mtu)
            if network.type == "vxlan" and network.segmentation_id:
                lines += self._tunnel_lines(network, bridge, vtep)
                tunnelled.append(network)
        netlink.ip_batch(lines)
        for network in tunnelled:
            if network.peers and vtep:
                self._ensure_entries(network, self.name(network))
        return made

    def place(self, macs: Mapping[str, str], joined: Collection[str] = (), away: Iterable[str] = ()) -> None:
        """Forward MACs to the links of this host that have them (`macs`, by link); `joined` have just been put into their bridge, what
        links `away` have is behind a tunnel.
        """
        placed = self._known_places()
        for link in away:
            placed.pop(link, None)
        lines: list[Words] = []
        for link, mac in macs.items():
            before = None if link in joined else placed.get(link)
            if before != mac:
                lines += [("fdb", "delete", before, "dev", link, "master")] if before else []
                lines.append(("fdb", "replace", mac, "dev", link, "master", "static"))
        self._placed = None
        netlink.bridge_batch(lines)
        self._placed = {**placed, **macs}

    def is_placed(self, link: str, mac: str) -> bool:
        """Whether packets for the MAC are known to be forwarded to the link."""
        return self._known_places().get(link) == mac

    def _known_places(self) -> dict[str, str]:
        if self._placed is None:
            entries = netlink.bridge_json(["fdb", "show"])
            self._placed = {entry["ifname"]: entry["mac"] for entry in entries if entry.get("state") == "static" and entry["ifname"].startswith("tap")}
        return self._placed

    def remove(self, bridges: Iterable[str]) -> None:
        """Remove bridges of ours with their tunnels; guests' links that are still attached stay without a bridge."""
        found = netlink.links()
        lines: list[Words] = []
        for bridge in bridges:
            link = found.get(bridge)
            if link is None or not link.ours:
                continue
            for each in found.values():
                if each.master == link.index and each.kind == "vxlan" and each.ours:
                    self._entries.pop(each.name, None)
                    lines.append(("link", "delete", "dev", each.name))
            lines.append(("link", "delete", "dev", bridge))
        netlink.ip_batch_if_there(lines)

    def ours(self) -> set[str]:
        """Bridges of networks that we made, by the kernel's word."""
        return {link.name for link in netlink.links().values() if link.ours and link.kind == "bridge" and link.name.startswith("brq")}

    def _tunnel_lines(self, network: NetworkItem, bridge: str, vtep: str) -> list[Words]:
        assert network.segmentation_id is not None
        device = names.vxlan(network.segmentation_id)
        link = netlink.link(device)
        lines: list[Words] = []
        wanted = bool(network.peers and vtep)
        usable = link is not None and link.vni == network.segmentation_id and bool(vtep) and link.local == ipaddress.ip_address(vtep).packed
        if link is not None and link.ours and not (wanted and usable):
            lines += [("link", "delete", "dev", device), ("neigh", "flush", "dev", bridge, "nud", "permanent")]
            self._entries.pop(device, None)
            link = None
        if not wanted:
            return lines
        if link is None:
            self._entries[device] = Entries()
            lines += [
                ("link", "add", device, "mtu", str(network.mtu), "type", "vxlan", "id", str(network.segmentation_id), "local", vtep,
                 "dstport", str(VXLAN_PORT), "nolearning"),
                ("link", "set", "dev", device, "alias", MARK, "addrgenmode", "none"),
                ("link", "set", "dev", device, "master", bridge, "up"),
                ("link", "set", "dev", device, "type", "bridge_slave", "learning", "off", "proxy_arp_wifi", "on"),
            ]  # fmt: skip
        elif link.mtu != network.mtu:
            lines.append(("link", "set", "dev", device, "mtu", str(network.mtu)))
        return lines

    def _ensure_entries(self, network: NetworkItem, bridge: str) -> None:
        device = names.vxlan(network.segmentation_id or 0)
        known = self._entries.get(device)
        if known is None:
            known = self._entries[device] = _read_entries(device, bridge)
        wanted = _wanted_entries(network)
        forwarding, neighbours = _difference(device, bridge, known, wanted)
        if not forwarding and not neighbours:
            return
        self._entries.pop(device)
        netlink.bridge_batch(forwarding)
        netlink.ip_batch(neighbours)
        self._entries[device] = wanted


def _bridge_lines(bridge: str, link: netlink.Link | None, mtu: int) -> list[Words]:
    """A bridge without addresses of the host's; `link` is what there is of it."""
    mac = names.bridge_mac(bridge)
    if link is None:
        return [
            ("link", "add", bridge, "address", mac, "mtu", str(mtu), "type", "bridge", "stp_state", "0", "forward_delay", "0", "mcast_snooping", "0",
             "nf_call_iptables", "1", "nf_call_ip6tables", "1"),
            ("link", "set", "dev", bridge, "alias", MARK, "addrgenmode", "none"),
            ("link", "set", "dev", bridge, "up"),
        ]  # fmt: skip
    lines: list[Words] = []
    if not link.ours:
        lines.append(("link", "set", "dev", bridge, "alias", MARK, "addrgenmode", "none"))
    if link.mtu != mtu:
        lines.append(("link", "set", "dev", bridge, "mtu", str(mtu)))
    if link.mac != mac:
        lines.append(("link", "set", "dev", bridge, "address", mac))
    if not link.up:
        lines.append(("link", "set", "dev", bridge, "up"))
    return lines


def macs_of_peers(network: NetworkItem) -> set[str]:
    """The MACs that are on other hosts."""
    return {entry.mac.lower() for peer in network.peers for entry in peer.entries}


def _wanted_entries(network: NetworkItem) -> Entries:
    wanted = Entries()
    for peer in network.peers:
        wanted.flood.add(peer.vtep)
        for entry in peer.entries:
            wanted.hosts[entry.mac.lower()] = peer.vtep
            wanted.neighbours.update((ip, entry.mac.lower()) for ip in entry.ips)
    return wanted


def _read_entries(device: str, bridge: str) -> Entries:
    found = Entries()
    for entry in netlink.bridge_json(["fdb", "show", "dev", device]):
        if "dst" not in entry:
            continue
        if entry["mac"] == _FLOOD:
            found.flood.add(entry["dst"])
        else:
            found.hosts[entry["mac"]] = entry["dst"]
    for entry in netlink.ip_json(["neigh", "show", "dev", bridge, "nud", "permanent"]):
        found.neighbours[entry["dst"]] = entry.get("lladdr", "")
    return found


def _difference(device: str, bridge: str, known: Entries, wanted: Entries) -> tuple[list[Words], list[Words]]:
    """Lines for `bridge` and for `ip` that lead from known to wanted; additions first, so that no moment lacks an entry."""
    lines: list[Words] = [("fdb", "append", _FLOOD, "dev", device, "dst", vtep, "self", "permanent") for vtep in sorted(wanted.flood - known.flood)]
    for mac, vtep in wanted.hosts.items():
        if known.hosts.get(mac) != vtep:
            lines.append(("fdb", "replace", mac, "dev", device, "dst", vtep, "self", "permanent"))
            lines.append(("fdb", "replace", mac, "dev", device, "master", "static"))
    for mac in known.hosts.keys() - wanted.hosts.keys():
        lines.append(("fdb", "delete", mac, "dev", device, "dst", known.hosts[mac], "self"))
        lines.append(("fdb", "replace", mac, "dev", device, "master", "static"))
        lines.append(("fdb", "delete", mac, "dev", device, "master"))
    lines += [("fdb", "delete", _FLOOD, "dev", device, "dst", vtep, "self") for vtep in sorted(known.flood - wanted.flood)]
    neighbours: list[Words] = [
        ("neigh", "replace", ip, "lladdr", mac, "dev", bridge, "nud", "permanent")
        for ip, mac in wanted.neighbours.items() if known.neighbours.get(ip) != mac
    ]  # fmt: skip
    neighbours += [("neigh", "delete", ip, "dev", bridge) for ip in known.neighbours.keys() - wanted.neighbours.keys()]
    return lines, neighbours
