"""Routers: a namespace with a leg in each of its networks, NAT for floating addresses and for the gateway, and static routes."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from pileus.host import conntrack, netlink, netns, sysctl
from pileus.host.netlink import Words
from pileus.host.run import CommandError
from pileus.network.drivers import names
from pileus.network.drivers.base import Settings
from pileus.network.drivers.linux import legs
from pileus.network.drivers.linux.dhcp import METADATA_ADDRESS
from pileus.network.drivers.linux.legs import Leg
from pileus.network.drivers.linux.tables import Change, TableKeeper
from pileus.network.wire import FloatingIp, RouterItem

_HOOKS = {
    "from_outside": "type filter hook prerouting priority mangle ; policy accept",
    "prerouting": "type nat hook prerouting priority dstnat ; policy accept",
    "postrouting": "type nat hook postrouting priority srcnat ; policy accept",
    "input": "type filter hook input priority filter ; policy accept",
}
_FROM_OUTSIDE = 0x2
_SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/all/arp_ignore": "1",
    "net/ipv4/conf/all/arp_announce": "2",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv6/conf/all/forwarding": "1",
}


class Routers:
    """The routers of this host. `bridge_of` gives the bridge of a network's id."""

    def __init__(self, settings: Settings, bridge_of: Callable[[str], str]) -> None:
        self._settings = settings
        self._bridge_of = bridge_of
        self._applied: dict[str, RouterItem] = {}
        self._tables: dict[str, TableKeeper] = {}

    def ensure(self, router: RouterItem, *, compare: bool) -> list[str]:
        """Have the router as it shall be, unless it was applied like that and `compare` is not asked. Returns sentences about static routes
        that the kernel refuses (their next hop is nowhere near); the rest of the router stands.
        """
        before = self._applied.get(router.id)
        if before == router and not compare:
            return []
        self._applied.pop(router.id, None)
        namespace = names.router_namespace(router.id)
        if legs.ensure_namespace(namespace):
            self._tables.pop(router.id, None)
        if compare or router.id not in self._tables:
            netns.inside(namespace, lambda: [sysctl.write(name, value) for name, value in _SYSCTLS.items()])
        wanted = self._legs(router)
        new = legs.ensure(namespace, wanted)
        self._ensure_table(router, namespace, compare=compare)
        refused = _ensure_routes(router, namespace)
        for leg in wanted:
            legs.announce(namespace, leg, new.get(leg.device, ()))
        _forget_floating(before.floating_ips if before else (), router.floating_ips, namespace)
        if not refused:
            self._applied[router.id] = router
        return refused

    def announce(self, router: RouterItem) -> None:
        """Say who has the router's addresses."""
        for leg in self._legs(router):
            legs.announce(names.router_namespace(router.id), leg, leg.addresses)

    def remove(self, router_id: str) -> None:
        """Remove a router's namespace and legs; none there is fine."""
        self._applied.pop(router_id, None)
        self._tables.pop(router_id, None)
        legs.remove_namespace(names.router_namespace(router_id))

    def present(self) -> set[str]:
        """Routers that have a namespace of ours on this host."""
        prefix = names.router_namespace("")
        spaces = [name for name in netns.names() if name.startswith(prefix) and names.NAMESPACE.fullmatch(name)]
        return {name.removeprefix(prefix) for name in spaces if netns.is_ours(name)}

    def is_up(self, router: RouterItem) -> bool:
        """Whether the router stands as it was last asked for."""
        return self._applied.get(router.id) == router and netns.exists(names.router_namespace(router.id))

    def _legs(self, router: RouterItem) -> list[Leg]:
        found = [
            Leg(
                port_id=each.port_id, device=names.router_link(each.port_id), bridge=self._bridge_of(each.network_id), mac=each.mac, mtu=each.mtu,
                addresses=frozenset(f"{ip.ip}/{ip.prefix}" for ip in each.ips),
            )
            for each in router.interfaces
        ]  # fmt: skip
        gateway = router.gateway
        if gateway:
            own = {f"{ip.ip}/{ip.prefix}" for ip in gateway.ips}
            floating = {f"{each.floating}/32" for each in router.floating_ips}
            found.append(Leg(
                port_id=gateway.port_id, device=names.gateway_link(gateway.port_id), bridge=self._bridge_of(gateway.network_id), mac=gateway.mac,
                mtu=gateway.mtu, addresses=frozenset(own | floating),
            ))  # fmt: skip
        return found

    def _ensure_table(self, router: RouterItem, namespace: str, *, compare: bool) -> None:
        keeper = self._tables.get(router.id)
        if keeper is None:
            keeper = self._tables[router.id] = TableKeeper(*names.ROUTER_TABLE, hooks=_HOOKS.get, types={}, namespace=namespace)
        elif compare:
            keeper.forget()
        keeper.apply(Change(chains=dict(chains(router, self._settings.metadata_port))))


def chains(router: RouterItem, metadata_port: int) -> dict[str, tuple[str, ...]]:
    """The router's packet rules. The order in `postrouting` is upstream's: what is only routed keeps its source; a guest with a floating address
    leaves with that; the rest leaves with the gateway's; and what reached an inside guest by its floating address from inside must come back here.
    """
    gateway = router.gateway
    four = next((ip.ip for ip in gateway.ips if ":" not in ip.ip), None) if gateway else None
    outside = names.gateway_link(gateway.port_id) if gateway else ""
    floating = sorted(router.floating_ips, key=lambda each: each.id)
    postrouting: list[str] = []
    if gateway:
        postrouting += [
            f"meta mark and {_FROM_OUTSIDE:#x} == {_FROM_OUTSIDE:#x} accept",
            f'oifname != "{outside}" ct status and dnat == 0 accept',
            *(f"ip saddr {each.fixed} snat to {each.floating}" for each in floating),
        ]
        if gateway.snat and four:
            postrouting += [f'oifname "{outside}" snat to {four}', f"ct status dnat snat to {four}"]
    return {
        "from_outside": (f'iifname "{outside}" meta mark set meta mark or {_FROM_OUTSIDE:#x}',) if gateway else (),
        "prerouting": (
            f'iifname "qr-*" ip daddr {METADATA_ADDRESS} tcp dport 80 redirect to :{metadata_port}',
            *(f"ip daddr {each.floating} dnat to {each.fixed}" for each in floating),
        ),
        "postrouting": tuple(postrouting),
        "input": (f"tcp dport {metadata_port} ct status and dnat == 0 drop",),
    }


def _ensure_routes(router: RouterItem, namespace: str) -> list[str]:
    wanted: dict[str, Words] = {}
    gateway = router.gateway
    if gateway and gateway.gateway_ip:
        hop = ipaddress.ip_address(gateway.gateway_ip)
        near = any(hop in ipaddress.ip_network(f"{ip.ip}/{ip.prefix}", strict=False) for ip in gateway.ips)
        everything = "0.0.0.0/0" if hop.version == 4 else "::/0"
        wanted[everything] = ("via", str(hop), "dev", names.gateway_link(gateway.port_id), *(() if near else ("onlink",)))
    for route in router.routes:
        wanted[str(ipaddress.ip_network(route.destination, strict=False))] = ("via", route.nexthop)
    present = _present_routes(namespace)
    gone = [destination for destination in present if destination not in wanted]
    netlink.ip_batch((("route", "delete", destination, "proto", "static") for destination in gone), namespace=namespace)
    refused = []
    for destination, words in wanted.items():
        if present.get(destination) != words[1]:
            try:
                netlink.ip_batch([("route", "replace", destination, *words, "proto", "static")], namespace=namespace)
            except CommandError as error:
                refused.append(f"route to {destination}: {error}")
    return refused


def _present_routes(namespace: str) -> dict[str, str]:
    """Our routes (proto static) in a router: destination and next hop."""
    found = {}
    for family, everything in (("-4", "0.0.0.0/0"), ("-6", "::/0")):
        for route in netlink.ip_json([family, "route", "show", "proto", "static"], namespace=namespace):
            destination = everything if route["dst"] == "default" else route["dst"]
            found[str(ipaddress.ip_network(destination))] = str(route.get("gateway", ""))
    return found


def _forget_floating(before: tuple[FloatingIp, ...], now: tuple[FloatingIp, ...], namespace: str) -> None:
    """Cut the connections of floating addresses that are gone or moved to another guest."""
    kept = {(each.floating, each.fixed) for each in now}
    gone = [each for each in before if (each.floating, each.fixed) not in kept]
    if gone:
        floating, fixed = {each.floating for each in gone}, {each.fixed for each in gone}

        def forget() -> None:
            conntrack.forget(each for each in conntrack.connections() if each.destination in floating or each.source in fixed)

        netns.inside(namespace, forget)
