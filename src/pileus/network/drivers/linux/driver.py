"""The driver for Linux hosts: what is done in which order, and what of it stands."""

from __future__ import annotations

import contextlib
import ipaddress
import threading
from collections.abc import Callable, Collection, Iterable

from pileus.host import netlink
from pileus.host.netlink import Words
from pileus.host.run import CommandError
from pileus.network.drivers import names
from pileus.network.drivers.base import HostState, Listener, NetworkDriver, Settings, Statuses, Touched
from pileus.network.drivers.linux.bridges import Bridges, macs_of_peers
from pileus.network.drivers.linux.dhcp import METADATA_ADDRESS, Dhcp, serves_metadata
from pileus.network.drivers.linux.external import External
from pileus.network.drivers.linux.filter import Filter
from pileus.network.drivers.linux.routers import Routers
from pileus.network.wire import ACTIVE, DOWN, ERROR, NetworkItem, PortItem

_FAILURES = (CommandError, OSError, LookupError, ValueError)
"""What the host's refusals look like; anything else is an error of ours and ends the pass."""


class LinuxDriver(NetworkDriver):
    """Bridges, VXLAN, nftables and namespaces."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bridges = Bridges(settings)
        self._filter = Filter(settings)
        self._dhcp = Dhcp(settings)
        self._routers = Routers(settings, self._bridge_of)
        self._external = External(settings)
        self._vtep: str | None = None
        self._names: dict[str, str] = {}
        self._known_ports: dict[str, PortItem] = {}
        self._prepared = False
        self._closed = threading.Event()
        self._events: netlink.LinkEvents | None = None

    def apply(self, state: HostState, touched: Touched) -> dict[str, str]:
        """Rules before taps, bridges before what stands in them; removals the other way round and last."""
        failures: dict[str, str] = {}
        if touched.full or not self._prepared:
            self._prepare(failures)
            touched = Touched(full=True) if touched.full else touched
        self._names.update((network.id, self._bridges.name(network)) for network in state.networks.values())
        networks = self._touched_networks(state, touched)
        self._ensure_networks(networks, failures)
        port_ids = list(state.ports) if touched.full else [id_ for id_ in touched.ports if id_ in state.ports]
        moved = self._departed(state, touched)
        self._detach(moved)
        judged = self._ensure_ports(state, touched, port_ids, failures)
        if not touched.full:
            with _noting(failures, "host"):
                # What a network's peers have no longer may be here.
                changed = touched.networks & set(state.networks)
                self._place(state, [port for port in state.ports.values() if port.network_id in changed], ())
        self._ensure_services(state, touched, networks, failures)
        with _noting(failures, "host"):
            self._remove_gone(state, touched, moved)
        if judged:
            with _noting(failures, "host"):
                known = [port for port in state.ports.values() if port.id in judged and port.network_id in self._names]
                self._filter.judge(state, known, self._names)
        return failures

    def statuses(self, state: HostState, only: Touched | None = None) -> Statuses:
        chosen = None if only is None or only.full else only
        links = netlink.links() if chosen is None or len(chosen.ports) > len(state.ports) // 2 else None
        look: Callable[[str], netlink.Link | None] = links.get if links is not None else netlink.link
        ports = {
            port.id: ACTIVE if self._port_up(port, look) else DOWN for port in state.ports.values() if chosen is None or port.id in chosen.ports
        }
        for network in state.networks.values():
            if network.dhcp and (chosen is None or network.id in chosen.networks):
                ports[network.dhcp.port_id] = ACTIVE if self._dhcp.is_up(network) else DOWN
        routers, floating = {}, {}
        for router in state.routers.values():
            if chosen is None or router.id in chosen.routers:
                up = not router.admin_state_up or self._routers.is_up(router)
                passing = router.admin_state_up and up
                routers[router.id] = ACTIVE if up else ERROR
                floating.update({each.id: ACTIVE if passing else DOWN for each in router.floating_ips})
                ports.update({leg.port_id: ACTIVE if passing else DOWN for leg in router.legs()})
        return Statuses(ports=ports, routers=routers, floating_ips=floating)

    def listeners(self, state: HostState) -> tuple[Listener, ...]:
        found = [
            Listener(kind="router", id=router.id, namespace=names.router_namespace(router.id), address="0.0.0.0", port=self._settings.metadata_port)
            for router in state.routers.values()
            if router.admin_state_up and router.interfaces
        ]
        found += [
            Listener(kind="network", id=network.id, namespace=names.dhcp_namespace(network.id), address=METADATA_ADDRESS, port=80)
            for network in state.networks.values()
            if serves_metadata(network)
        ]
        return tuple(found)

    def announce(self, state: HostState) -> None:
        for router in state.routers.values():
            # One that fell meanwhile is put up again by others, and announced then.
            with contextlib.suppress(*_FAILURES):
                if self._routers.is_up(router):
                    self._routers.announce(router)

    def vtep(self) -> str:
        known = self._vtep
        if known is None:
            known = self._vtep = self._settings.vtep or _default_address()
        return known

    def remove_everything(self) -> None:
        for network_id in self._dhcp.present():
            self._dhcp.remove(network_id)
        for router_id in self._routers.present():
            self._routers.remove(router_id)
        found = netlink.links()
        bridges = {link.index for link in found.values() if link.ours and link.kind == "bridge"}
        netlink.ip_batch_if_there(("link", "set", "dev", link.name, "nomaster") for link in found.values() if link.master in bridges and not link.ours)
        self._bridges.remove(self._bridges.ours())
        self._external.remove()
        strays = [link.name for link in netlink.links().values() if link.ours and link.name != "lo" and link.kind in {"veth", "vxlan", "bridge"}]
        netlink.ip_batch_if_there(("link", "delete", "dev", name) for name in strays)
        self._filter.remove()
        self._dhcp.remove_directories()
        self._bridges.forget()
        self._known_ports.clear()
        self._prepared = False

    def watch(self, changed: Callable[[Collection[str], bool], None]) -> None:
        self._events = netlink.LinkEvents()
        try:
            while not self._closed.is_set():
                events = self._events.read(5.0)
                taps = {event.name for event in events if event.name.startswith("tap")}
                lost = any(event.lost for event in events)
                if taps or lost:
                    changed(taps, lost)
        finally:
            self._events.close()

    def close(self) -> None:
        self._closed.set()
        if self._events is not None:
            with contextlib.suppress(OSError):
                self._events.wake()

    def _prepare(self, failures: dict[str, str]) -> None:
        """Read the host anew, and have what does not depend on the state."""
        self._bridges.forget()
        self._vtep = None
        with _noting(failures, "host"):
            self._filter.prepare(self.vtep())
            self._prepared = True
            self._external.ensure()

    def _bridge_of(self, network_id: str) -> str:
        return self._names.get(network_id) or names.bridge(network_id)

    def _touched_networks(self, state: HostState, touched: Touched) -> list[NetworkItem]:
        """Networks to look at: all, or those touched and those of touched ports whose bridge is missing."""
        if touched.full:
            return list(state.networks.values())
        ids = set(touched.networks)
        ids |= {state.ports[id_].network_id for id_ in touched.ports if id_ in state.ports}
        for id_ in touched.routers & set(state.routers):
            ids |= {leg.network_id for leg in state.routers[id_].legs()}
        return [state.networks[id_] for id_ in sorted(ids) if id_ in state.networks]

    def _ensure_networks(self, networks: Iterable[NetworkItem], failures: dict[str, str]) -> None:
        given = list(networks)
        try:
            self._ensure_bridges(given)
        except _FAILURES:
            for network in given:
                with _noting(failures, network.id):
                    self._ensure_bridges([network])

    def _ensure_bridges(self, networks: list[NetworkItem]) -> None:
        bridges = [self._bridges.name(network) for network in networks]
        self._filter.add_bridges(bridges)
        self._filter.guard(bridges, self._bridges.ensure(networks, self.vtep()))

    def _departed(self, state: HostState, touched: Touched) -> list[PortItem]:
        """Ports we knew that are gone, or have changed their tap or network."""
        ids = list(self._known_ports) if touched.full else [id_ for id_ in touched.ports if id_ in self._known_ports]
        found = []
        for id_ in ids:
            before, now = self._known_ports[id_], state.ports.get(id_)
            if now is None or (before.tap, before.network_id) != (now.tap, now.network_id):
                found.append(before)
                del self._known_ports[id_]
        return found

    def _detach(self, ports: Iterable[PortItem]) -> None:
        lines: list[Words] = []
        for port in ports:
            link = netlink.link(port.tap)
            if link is not None and link.master and not link.ours:
                lines.append(("link", "set", "dev", port.tap, "nomaster"))
        netlink.ip_batch_if_there(lines)

    def _ensure_ports(self, state: HostState, touched: Touched, port_ids: list[str], failures: dict[str, str]) -> set[str]:
        judged: set[str] = set()
        try:
            new = [id_ for id_ in port_ids if id_ not in self._known_ports] if self._known_ports else []
            judged, refused = self._filter.load(state, touched, new)
            failures.update(refused)
            if not self._known_ports:
                # An earlier life may have refused connections, or ended before it did.
                judged = {port.id for port in state.ports.values() if port.network_id in self._names}
        except _FAILURES as error:
            failures["host"] = str(error)
        ports = [state.ports[id_] for id_ in port_ids]
        opened = [port.tap for port in ports if not port.port_security and port.tap in self._filter.loaded_taps()]
        if opened:
            self._filter.unload(state, opened)
        ready = [port for port in ports if port.network_id in state.networks and self._filter.is_loaded(port) and port.id not in failures]
        try:
            self._attach(state, ready)
        except _FAILURES:
            for port in ready:
                with _noting(failures, port.id):
                    self._attach(state, [port])
        self._known_ports.update((port.id, port) for port in ports)
        return judged

    def _attach(self, state: HostState, ports: Iterable[PortItem]) -> None:
        """Put taps into their bridges, and have their MACs forwarded to them."""
        given = [(port, self._attach_lines(state, port)) for port in ports]
        netlink.ip_batch(line for _, lines in given for line in lines)
        self._place(state, [port for port, _ in given], {port.tap for port, lines in given if any("master" in line for line in lines)})

    def _place(self, state: HostState, ports: Iterable[PortItem], joined: Collection[str]) -> None:
        """Have MACs forwarded to the taps of their ports: a guest that is silent for long would else be sought on all hosts.

        A port whose MAC is behind a peer is only prepared for: until it is activated here, its packets go where it is.
        """
        elsewhere: dict[str, set[str]] = {}
        macs, away = dict[str, str](), set[str]()
        for port in ports:
            if port.network_id not in elsewhere:
                elsewhere[port.network_id] = macs_of_peers(state.networks[port.network_id])
            mac = port.mac.lower()
            if mac in elsewhere[port.network_id]:
                away.add(port.tap)
            elif (port.tap in joined or not self._bridges.is_placed(port.tap, mac)) and (link := netlink.link(port.tap)) and link.master:
                macs[port.tap] = mac
        self._bridges.place(macs, joined, away)

    def _attach_lines(self, state: HostState, port: PortItem) -> list[Words]:
        link = netlink.link(port.tap)
        if link is None or link.ours:
            return []
        network = state.networks[port.network_id]
        name = self._bridge_of(port.network_id)
        bridge = netlink.link(name)
        if bridge is None:
            raise LookupError(f"the bridge {name} for the port {port.id} is not there")
        words: list[str] = []
        if link.mtu != network.mtu:
            words += ["mtu", str(network.mtu)]
        if link.master != bridge.index:
            words += ["addrgenmode", "none", "master", name]
        if link.up != port.admin_state_up:
            words.append("up" if port.admin_state_up else "down")
        return [("link", "set", "dev", port.tap, *words)] if words else []

    def _ensure_services(self, state: HostState, touched: Touched, networks: Iterable[NetworkItem], failures: dict[str, str]) -> None:
        macs: dict[str, str] = {}
        for network in networks:
            if network.dhcp:
                with _noting(failures, network.id):
                    self._dhcp.ensure(network, self._bridges.name(network), compare=touched.full)
                    macs[names.tap(network.dhcp.port_id)] = network.dhcp.mac.lower()
        for router in [state.routers[id_] for id_ in (state.routers if touched.full else touched.routers & set(state.routers))]:
            if router.admin_state_up:
                with _noting(failures, router.id):
                    refused = self._routers.ensure(router, compare=touched.full)
                    if refused:
                        failures[router.id] = "; ".join(refused)
                    macs.update((names.tap(leg.port_id), leg.mac.lower()) for leg in router.legs())
        with _noting(failures, "host"):
            self._bridges.place(macs)

    def _remove_gone(self, state: HostState, touched: Touched, moved: list[PortItem]) -> None:
        """Services and rules of what is gone, then the bridges; on a full pass also what an earlier life has left."""
        dhcp = self._dhcp.present() if touched.full else set(touched.networks)
        for network_id in sorted(dhcp):
            if network_id not in state.networks or state.networks[network_id].dhcp is None:
                self._dhcp.remove(network_id)
        for router_id in sorted(self._routers.present() if touched.full else touched.routers):
            if router_id not in state.routers or not state.routers[router_id].admin_state_up:
                self._routers.remove(router_id)
        kept = {port.tap for port in state.ports.values()}
        taps = {port.tap for port in moved if port.tap not in kept}
        if touched.full:
            taps |= self._filter.loaded_taps() - kept
            self._detach_strangers(state)
        gone_groups = touched.full or any(id_ not in state.groups for id_ in touched.groups)
        if taps or gone_groups:
            self._filter.unload(state, taps)
        left: dict[str, list[str]] = {}
        for port in moved:
            addresses = [each.ip for each in port.fixed_ips] + [pair.ip for pair in port.allowed_address_pairs if "/" not in pair.ip]
            left.setdefault(self._bridge_of(port.network_id), []).extend(addresses)
        for bridge, addresses in left.items():
            self._filter.forget_connections(addresses, bridge)
        self._remove_bridges(state, touched)

    def _detach_strangers(self, state: HostState) -> None:
        """Take links out of our bridges that no port accounts for: they would be in a network without any rule."""
        found = netlink.links()
        kept = {port.tap: self._bridge_of(port.network_id) for port in state.ports.values()}
        by_index = {link.index: link.name for link in found.values() if link.ours and link.kind == "bridge" and link.name.startswith("brq")}
        strangers = [
            link.name for link in found.values() if link.master in by_index and not link.ours and kept.get(link.name) != by_index[link.master]
        ]
        netlink.ip_batch_if_there(("link", "set", "dev", name, "nomaster") for name in strangers)

    def _remove_bridges(self, state: HostState, touched: Touched) -> None:
        wanted = {self._bridges.name(network) for network in state.networks.values()}
        if touched.full:
            gone = (self._bridges.ours() | self._filter.bridges()) - wanted
        else:
            gone = {self._bridge_of(id_) for id_ in touched.networks if id_ not in state.networks} - wanted
        gone.discard(self._settings.external_bridge)
        if gone:
            self._bridges.remove(gone)
            self._filter.drop_bridges(gone)
        for id_ in [id_ for id_ in self._names if id_ not in state.networks]:
            del self._names[id_]

    def _port_up(self, port: PortItem, look: Callable[[str], netlink.Link | None]) -> bool:
        if not port.admin_state_up or not self._prepared:
            return False
        link, bridge = look(port.tap), look(self._bridge_of(port.network_id))
        attached = link is not None and bridge is not None and link.master == bridge.index and link.up
        return attached and self._filter.is_loaded(port)


class _noting(contextlib.AbstractContextManager["_noting"]):  # noqa: N801
    """Note a refusal of the host under an id and go on."""

    def __init__(self, failures: dict[str, str], id_: str) -> None:
        self._failures, self._id = failures, id_

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        if not isinstance(error, _FAILURES):
            return False
        self._failures[self._id] = str(error)
        return True


def _default_address() -> str:
    """The host's address toward its default route, "" without one."""
    for route in netlink.ip_json(["-4", "route", "show", "default"]):
        if "prefsrc" in route:
            return str(route["prefsrc"])
        for entry in netlink.ip_json(["-4", "addr", "show", "dev", route["dev"]]):
            for info in entry["addr_info"]:
                if info["scope"] == "global":
                    return str(ipaddress.ip_address(info["local"]))
    return ""


