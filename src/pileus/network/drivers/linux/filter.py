"""Security groups on the host: the table that marks packets of known connections, and the one that filters what taps send and get.

Family bridge has no connection tracking on every kernel, so br_netfilter hands bridged packets of *our* bridges (a flag of each bridge, not the
setting for all) to conntrack; the table `inet pileus_ct` gives every network a zone of its own, so that tenants may use the same addresses, and
writes the verdict into two bits of the packet's mark; `bridge pileus_sg` reads them. Zones are remembered by the kernel's own map.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from pileus.host import conntrack, nft, sysctl
from pileus.host.run import CommandError, run
from pileus.network.drivers import names
from pileus.network.drivers.base import HostState, Settings, Touched
from pileus.network.drivers.linux import judge, rules
from pileus.network.drivers.linux.tables import Change, TableKeeper
from pileus.network.wire import GroupItem, PortItem

_ANY = "policy accept"
_FILTER_HOOKS = {
    "from_forward": f"type filter hook forward priority 0 ; {_ANY}",
    "from_input": f"type filter hook input priority 0 ; {_ANY}",
    "to_forward": f"type filter hook forward priority 10 ; {_ANY}",
    "to_output": f"type filter hook output priority 10 ; {_ANY}",
}
_CONNTRACK_HOOKS = {
    "zone": f"type filter hook prerouting priority raw ; {_ANY}",
    "tunnel": f"type filter hook output priority raw ; {_ANY}",
    "state": f"type filter hook prerouting priority mangle ; {_ANY}",
    "state_out": f"type filter hook postrouting priority mangle ; {_ANY}",
}
_BR_NETFILTER = Path("/proc/sys/net/bridge")
_LAST_ZONE = 65535


class Filter:
    """What is filtered on this host, and the zones of its networks."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._filter = TableKeeper(
            *names.FILTER_TABLE, hooks=_FILTER_HOOKS.get,
            types={"m4-": "type ipv4_addr ; flags interval", "m6-": "type ipv6_addr ; flags interval", "from": "type ifname : verdict",
                   "to": "type ifname : verdict"},
        )  # fmt: skip
        self._conntrack = TableKeeper(
            *names.CONNTRACK_TABLE, hooks=_CONNTRACK_HOOKS.get, types={"bridges": "type ifname", "zones": "typeof iifname : ct zone"}
        )
        self._guard = TableKeeper(*names.GUARD_TABLE, hooks=_guard_hook, types={})
        self._rules: dict[str, rules.Rules] = {}
        self._stateful: dict[str, bool] = {}
        self._refused_zones: set[int] = set()

    def prepare(self, vtep: str) -> None:
        """Have the kernel see bridged packets, and both tables with what does not depend on ports. Compares with the host anew."""
        enable_bridge_filtering()
        self._filter.forget()
        self._conntrack.forget()
        self._guard.forget()
        external = self._settings.external_bridge
        self._filter.apply(Change(
            maps={"from": {}, "to": {}},
            chains={
                "from_forward": ("iifname vmap @from",), "from_input": ("iifname vmap @from",),
                "to_forward": ("oifname vmap @to",), "to_output": ("oifname vmap @to",),
            },
        ))  # fmt: skip
        tunnel = f"ip daddr {vtep} udp dport 4789 notrack" if vtep else ""
        self._conntrack.apply(Change(
            maps={"zones": {}},
            sets={"bridges": frozenset({*self._conntrack.known.sets.get("bridges", ()), external})},
            chains={
                "zone": (*([f"iifname != @bridges {tunnel}"] if tunnel else ()), "ct zone set iifname map @zones"),
                "tunnel": ("udp dport 4789 ip saddr " + vtep + " notrack",) if vtep else (),
                "state": _marks("iifname @bridges "),
                "state_out": _marks(f'oifname "{external}" '),
            },
        ))  # fmt: skip

    def zone(self, bridge: str) -> int:
        """The conntrack zone of a bridge's packets; 0, the host's own, for the external bridge."""
        return int(self._conntrack.known.maps.get("zones", {}).get(bridge, 0))

    def bridges(self) -> set[str]:
        """Bridges that have a zone."""
        return set(self._conntrack.known.maps.get("zones", {}))

    def add_bridges(self, bridges: Iterable[str]) -> None:
        """Give bridges a zone, before anything is attached to them."""
        zones = self._conntrack.known.maps["zones"]
        new = [bridge for bridge in bridges if bridge not in zones and bridge != self._settings.external_bridge]
        if not new:
            return
        used = {int(zone) for zone in zones.values()}
        free = [zone for zone in range(1, min(_LAST_ZONE, len(used) + len(new)) + 1) if zone not in used]
        if len(free) < len(new):
            raise ValueError(f"this host has {len(used)} networks, there is no conntrack zone for another")
        members = frozenset({*self._conntrack.known.sets["bridges"], *new})
        self._conntrack.apply(Change(maps={"zones": {bridge: str(zone) for bridge, zone in zip(new, free, strict=False)}}, sets={"bridges": members}))

    def guard(self, bridges: Collection[str], created: Collection[str]) -> None:
        """Keep what guests send to a bridge itself from the host: it would answer ARP for its own addresses, and take (or route) packets to them.

        `created` were made just now: a guard of an earlier bridge of that name may have gone with it.
        """
        external = self._settings.external_bridge
        stale = [bridge for bridge in created if bridge in self._guard.known.chains]
        if stale:
            self._guard.forget()
            self._guard.apply(Change(chains=dict.fromkeys(stale)))
        self._guard.apply(Change(chains={bridge: ("drop",) for bridge in bridges if bridge != external}))

    def drop_bridges(self, bridges: Iterable[str]) -> None:
        """Take zones back, after the bridges are gone; connections in them are forgotten, so that the next owner finds a clean zone."""
        gone = [bridge for bridge in bridges if bridge in self.bridges()]
        if not gone:
            return
        for bridge in gone:
            conntrack.forget(conntrack.connections(self.zone(bridge)))
        # Some kernels take the guard away with its bridge.
        self._guard.forget()
        self._guard.apply(Change(chains=dict.fromkeys(gone)))
        members = frozenset(self._conntrack.known.sets["bridges"]) - frozenset(gone)
        self._conntrack.apply(Change(maps={"zones": dict.fromkeys(gone)}, sets={"bridges": members}))

    def load(self, state: HostState, touched: Touched, new: Collection[str] = ()) -> tuple[set[str], dict[str, str]]:
        """Load rules of touched groups and ports in one transaction. Returns the ports whose connections must be judged again, and failures by id.

        `new` are ports that were not on this host before: they have no connections yet.
        A part that the kernel refuses does not hold up the others: they are loaded one by one then.
        """
        failures: dict[str, str] = {}
        parts = self._parts(state, touched, failures)
        judge_again = self._judged_again(state, parts) - set(new)
        whole = Change()
        for part in parts.values():
            whole.add(part)
        try:
            self._filter.apply(whole)
        except CommandError:
            for id_, part in parts.items():
                try:
                    self._filter.apply(part)
                except CommandError as error:
                    failures[id_] = str(error)
                    if id_ not in state.ports:
                        # Its ports jump to its chains: a group that cannot be loaded allows nothing.
                        self._filter.apply(Change(sets=part.sets, chains=dict.fromkeys(part.chains, ())))
        for id_, part in parts.items():
            if id_ not in failures:
                self._rules.update({name: lines for name, lines in part.chains.items() if lines is not None})
        return judge_again, failures

    def unload(self, state: HostState, taps: Iterable[str]) -> None:
        """Remove the rules of ports that are gone or not filtered any more, after their taps have been detached or while they stay open."""
        change = Change()
        for tap in taps:
            change.add(_no_port(tap))
        wanted = rules.group_ids(state.ports.values(), state.groups)
        for name in [*self._filter.known.chains, *self._filter.known.sets]:
            kind, _, group = name.partition("-")
            if kind in {"gin", "gout", "m4", "m6"} and group not in wanted:
                (change.chains if kind.startswith("g") else change.sets)[name] = None
        self._filter.apply(change)
        for name in [name for name in self._rules if name not in self._filter.known.chains]:
            del self._rules[name]

    def loaded_taps(self) -> set[str]:
        """Taps that have rules."""
        return set(self._filter.known.maps.get("to", {}))

    def is_loaded(self, port: PortItem) -> bool:
        """Whether a port's rules are in force."""
        maps = self._filter.known.maps
        return not rules.filtered(port) or (port.tap in maps.get("to", ()) and port.tap in maps.get("from", ()))

    def judge(self, state: HostState, ports: Iterable[PortItem], bridge_of: dict[str, str]) -> None:
        """Refuse the connections of ports that their rules allow no longer, and allow again what they now do (`bridge_of` a network's id).

        Refused connections are marked and not deleted: an end that keeps sending would else open them again from its side.
        """
        zones = {port.network_id: self.zone(bridge_of[port.network_id]) for port in ports}
        by_zone: dict[int, list[conntrack.Connection]] = {zone: [] for zone in zones.values()}
        # The kernel walks its whole table for each question, so several zones are asked for at once.
        for connection in conntrack.connections(None) if len(by_zone) > 1 else conntrack.connections(*by_zone):
            if connection.zone in by_zone:
                by_zone[connection.zone].append(connection)
        for network_id, zone in zones.items():
            local = [port for port in state.ports.values() if port.network_id == network_id and rules.filtered(port)]
            refused = _refuse(by_zone[zone], judge.Judge(local, state.groups))
            (self._refused_zones.add if refused else self._refused_zones.discard)(zone)

    def forget_connections(self, addresses: Iterable[str], bridge: str) -> None:
        """Forget connections of addresses that have left a network: their next owner is another."""
        conntrack.forget_addresses(addresses, self.zone(bridge))

    def remove(self) -> None:
        for bridge in self.bridges():
            conntrack.forget(conntrack.connections(self.zone(bridge)))
        for table in (self._filter, self._conntrack, self._guard):
            table.remove()

    def _parts(self, state: HostState, touched: Touched, failures: dict[str, str]) -> dict[str, Change]:
        """What to load, by the id of the group or port it is for: groups first, since ports jump to them."""
        port_ids = set(state.ports) if touched.full else set(touched.ports) & set(state.ports)
        group_ids = set(rules.group_ids(state.ports.values(), state.groups) if touched.full else ())
        group_ids |= {id_ for id_ in touched.groups if id_ in state.groups or f"gin-{id_}" in self._filter.known.chains}
        for group_id in list(group_ids):
            group = state.groups.get(group_id)
            if group and self._stateful.get(group_id, group.stateful) != group.stateful:
                port_ids.update(port.id for port in state.ports.values() if group_id in port.groups)
            if group:
                self._stateful[group_id] = group.stateful
        filtered = [state.ports[id_] for id_ in sorted(port_ids) if rules.filtered(state.ports[id_])]
        group_ids |= {id_ for port in filtered for id_ in port.groups if f"gin-{id_}" not in self._filter.known.chains}
        named = {rule.remote_group for id_ in group_ids if id_ in state.groups for rule in state.groups[id_].rules if rule.remote_group}
        parts: dict[str, Change] = {}
        for id_ in sorted({*named, *group_ids}):
            group = state.groups.get(id_) or GroupItem(id=id_)
            parts[id_] = Change(sets=dict(rules.group_sets(group)))
        for id_ in sorted(group_ids):
            try:
                parts[id_].chains.update(rules.group_chains(state.groups.get(id_) or GroupItem(id=id_)))
            except (ValueError, KeyError) as error:
                failures[id_] = f"a rule of the security group cannot be understood: {error}"
                parts[id_].chains.update(rules.group_chains(GroupItem(id=id_)))
        for port in filtered:
            try:
                chains = rules.port_chains(port, keep_replies_out=rules.stateless(port, state.groups))
            except ValueError as error:
                failures[port.id] = f"an address of the port cannot be understood: {error}"
                continue
            maps: dict[str, dict[str, str | None]] = {
                "from": {port.tap: f"jump out-{port.tap}"},
                "to": {port.tap: f"jump in-{port.tap}"},
            }
            parts[port.id] = Change(chains=dict(chains), maps=maps)
        return parts

    def _judged_again(self, state: HostState, parts: dict[str, Change]) -> set[str]:
        """Ports that may allow less than before (or more, where connections have been refused)."""
        known = self._filter.known
        ports, groups = set[str](), set[str]()
        for id_, part in parts.items():
            chains = [name for name, lines in part.chains.items() if lines is not None and self._tighter(name, lines)]
            members = [name for name, wanted in part.sets.items() if known.sets.get(name, set()) - (wanted or frozenset())]
            if id_ in state.ports:
                ports.update({id_} if chains else ())
            elif chains or members:
                groups.add(id_)
        if self._refused_zones:
            groups.update(id_ for id_ in parts if id_ not in state.ports)
        if groups:
            touching = {
                group.id for group in state.groups.values()
                if group.id in groups or any(rule.remote_group in groups for rule in group.rules)
            }  # fmt: skip
            ports.update(port.id for port in state.ports.values() if touching.intersection(port.groups))
        return ports

    def _tighter(self, chain: str, lines: rules.Rules) -> bool:
        loaded = self._filter.known.chains.get(chain)
        if loaded is None:
            return chain.startswith("in-")
        if chain in self._rules and chain.startswith("g"):
            return not set(self._rules[chain]) <= set(lines)
        return loaded != nft.version(lines)


def enable_bridge_filtering() -> None:
    """Have br_netfilter in the kernel; where we are the one who loads it, other bridges than ours are kept out of it."""
    if _BR_NETFILTER.exists():
        return
    run(["modprobe", "br_netfilter"])
    for name in ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables"):
        sysctl.write(f"net/bridge/{name}", "0")


def _refuse(connections: Iterable[conntrack.Connection], verdict: judge.Judge) -> bool:
    """Mark connections by what the rules say of them now; True when some are refused."""
    refused = False
    for connection in connections:
        allowed = verdict.allows(connection)
        refused = refused or not allowed
        if allowed == bool(connection.mark & rules.REFUSED):
            conntrack.set_mark(connection, 0 if allowed else rules.REFUSED, rules.REFUSED)
    return refused


def _guard_hook(bridge: str) -> str:
    return f'type filter hook ingress device "{bridge}" priority 0 ; {_ANY}'


def _marks(which: str) -> tuple[str, ...]:
    return (
        f"{which}meta mark set meta mark and {0xFFFFFFFF ^ rules.MASK:#x}",
        f"{which}ct mark and {rules.REFUSED:#x} == {rules.REFUSED:#x} meta mark set meta mark or {rules.REFUSED:#x} return",
        f"{which}ct state established,related meta mark set meta mark or {rules.KNOWN:#x} return",
        f"{which}ct state invalid meta mark set meta mark or {rules.REFUSED:#x}",
    )


def _no_port(tap: str) -> Change:
    return Change(chains={f"out-{tap}": None, f"in-{tap}": None}, maps={"from": {tap: None}, "to": {tap: None}})
