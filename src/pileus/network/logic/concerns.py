"""Which items of which hosts a change concerns: exactly those whose content it changes.

A host has the networks of the ports bound to it, those ports (where compute makes the tap), the security groups of those ports with the groups
their rules refer to, and the routers placed on it. An inactive binding brings all that too: the host prepares for a port that comes to it. What a host has now is read from the desired state itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable
from typing import Any

import sqlalchemy as sa

from pileus.network.logic.binding import TAP
from pileus.network.logic.change import Change
from pileus.network.store import tables as t


@dataclasses.dataclass(frozen=True)
class PortState:
    """What hosts see of a port; two equal states look the same to every host."""

    id: str
    network_id: str
    host: str
    mac: str
    device_id: str
    device_owner: str
    ips: frozenset[tuple[str, str]]
    groups: frozenset[str]
    pairs: tuple[str, ...]
    options: tuple[str, ...]
    flags: tuple[bool, bool]
    prepared: frozenset[str] = frozenset()
    """Hosts that attach its tap too, without being where it is (yet): they have an inactive binding."""

    @property
    def hosts(self) -> frozenset[str]:
        """All hosts that have the port."""
        return self.prepared | {self.host} if self.host else self.prepared

    @property
    def has_tap(self) -> bool:
        """Ports of routers and DHCP are made by the network's own agent."""
        return not self.device_owner.startswith("network:")


def state_of(row: Any, ips: Iterable[tuple[str, str]], groups: Iterable[str], prepared: Iterable[str] = ()) -> PortState:
    """From a row of the ports table (or its values), its addresses, its groups and the hosts prepared for it."""
    return PortState(
        id=row.id,
        network_id=row.network_id,
        host=row.host_id,
        mac=row.mac_address,
        device_id=row.device_id,
        device_owner=row.device_owner,
        ips=frozenset(ips),
        groups=frozenset(groups),
        pairs=tuple(sorted(f"{pair['ip_address']} {pair.get('mac_address', '')}" for pair in row.allowed_address_pairs)),
        options=tuple(sorted(str(sorted(option.items())) for option in row.extra_dhcp_opts)),
        flags=(row.admin_state_up, row.port_security_enabled),
        prepared=frozenset(prepared),
    )


def ports_on(host: str) -> sa.CompoundSelect[Any]:
    """Ids of the ports that a host has, by an active or a prepared binding."""
    table = t.port_bindings
    there = sa.select(table.c.port_id).where(table.c.host == host, table.c.vif_type == TAP)
    return sa.select(t.ports.c.id).where(t.ports.c.host_id == host).union(there)


def port_changed(change: Change, before: PortState | None, after: PortState | None) -> None:
    """Note whom a port's creation (before None), change or removal (after None) concerns. The rows are already written."""
    if before == after:
        return
    left: list[str] = []
    if before:
        left = sorted(before.hosts - (after.hosts if after else frozenset()))
        for host in left:
            _leave_host(change, host, before)
    if after:
        for host in _concerned(before, after):
            if after.has_tap:
                change.touch(host, "port", [after.id])
            change.touch(host, "network", [after.network_id])
    _touch_network(change, before, after, left)
    _touch_groups(change, before, after, left)


def _concerned(before: PortState | None, after: PortState) -> frozenset[str]:
    """The hosts for which the port is new, has changed, or has become theirs: a status of it is waited for."""
    if before is None or dataclasses.replace(before, host=after.host, prepared=after.prepared) != after:
        return after.hosts
    return (after.hosts - before.hosts) | ({after.host} - {before.host, ""})


def _leave_host(change: Change, host: str, before: PortState) -> None:
    if before.has_tap:
        change.drop(host, "port", [before.id])
    query = sa.select(t.ports.c.id).where(t.ports.c.network_id == before.network_id, t.ports.c.id.in_(ports_on(host))).limit(1)
    if change.conn.execute(query).first() is None:
        change.drop(host, "network", [before.network_id])
    else:
        change.touch(host, "network", [before.network_id])


def _touch_network(change: Change, before: PortState | None, after: PortState | None, left: Collection[str]) -> None:
    """Leases, metadata owners and peers speak of ports with an active binding only.

    Leases and owners are wanted at once, where the network has its DHCP and routers, and so is a peer that goes or moves; of one more peer hosts
    learn soon.
    """
    if _in_network(before) == _in_network(after):
        return
    some = after or before
    if some is None:
        return
    table = t.ports
    serving = sa.select(table.c.host_id).where(table.c.network_id == some.network_id, table.c.device_owner.in_(_SERVING)).distinct()
    urgent = set(change.conn.execute(serving).scalars())
    new = before is None or not before.host
    for host in change.hosts_with("network", [some.network_id]):
        if host not in left:
            change.touch(host, "network", [some.network_id], soon=new and host not in urgent)


_SERVING = ("network:dhcp", "network:router_interface", "network:router_gateway")


def _in_network(state: PortState | None) -> Any:
    if state is None or not state.host:
        return None
    return (state.host, state.mac, state.ips, state.device_id, state.device_owner, state.options)


def _touch_groups(change: Change, before: PortState | None, after: PortState | None, left: Collection[str]) -> None:
    old = before.groups if before else frozenset()
    new = after.groups if after else frozenset()
    same_addresses = before and after and (before.ips, before.pairs) == (after.ips, after.pairs)
    changed = (old ^ new) if same_addresses else (old | new)
    members_changed(change, changed, soon=_only_joins(before, after))
    if after and after.hosts and new:
        wanted = new | remotes(change.conn, new)
        for host in sorted(after.hosts):
            change.touch(host, "group", wanted - change.has(host, "group", wanted))
    poorer = (before.hosts if old - new else left) if before and old else ()
    if poorer:
        needless = old | remotes(change.conn, old)
        for host in sorted(poorer):
            drop_unneeded_groups(change, host, needless)


def _only_joins(before: PortState | None, after: PortState | None) -> bool:
    """Whether no group loses an address."""
    if before is None or after is None:
        return before is None
    return before.groups <= after.groups and before.ips <= after.ips and set(before.pairs) <= set(after.pairs)


def members_changed(change: Change, groups: Iterable[str], *, soon: bool = False) -> None:
    """Addresses joined or left these groups: hosts that have a group which a rule refers to must learn of it.

    `soon`: none has left, so that no host lets anybody in who is no member any more.
    """
    wanted = list(groups)
    if not wanted:
        return
    table = t.security_group_rules
    referred = set(change.conn.execute(sa.select(table.c.remote_group_id).where(table.c.remote_group_id.in_(wanted)).distinct()).scalars())
    for host, ids in change.hosts_with("group", [id for id in referred if id]).items():
        change.touch(host, "group", ids, soon=soon)


def remotes(conn: sa.Connection, groups: Iterable[str]) -> set[str]:
    """The groups that rules of these refer to."""
    table = t.security_group_rules
    query = sa.select(table.c.remote_group_id).where(
        table.c.security_group_id.in_(list(groups)), table.c.remote_group_id.is_not(None)
    )
    return {id for id in conn.execute(query.distinct()).scalars() if id}


def drop_unneeded_groups(change: Change, host: str, candidates: Iterable[str]) -> None:
    """Take groups off a host that none of its ports uses or refers to."""
    table = t.port_groups
    query = sa.select(table.c.security_group_id).where(table.c.port_id.in_(ports_on(host))).distinct()
    used = set(change.conn.execute(query).scalars())
    gone = set(candidates) - used
    if gone:
        change.drop(host, "group", gone - remotes(change.conn, used))


def rules_changed(change: Change, group: str, remote: Iterable[str] = ()) -> None:
    """A group's rules (or statefulness) changed; `remote` are the groups that the changed rules refer to."""
    for host in change.hosts_with("group", [group]):
        change.touch(host, "group", [group])
    wanted = {id for id in remote if id}
    if not wanted:
        return
    still = remotes(change.conn, [group])
    for host in _hosts_of_group(change.conn, group):
        change.touch(host, "group", wanted & still)
        drop_unneeded_groups(change, host, wanted - still)


def _hosts_of_group(conn: sa.Connection, group: str) -> list[str]:
    """The hosts of the group's ports."""
    member, inactive = t.port_groups, t.port_bindings
    mine = sa.select(member.c.port_id).where(member.c.security_group_id == group)
    active = sa.select(t.ports.c.host_id).where(t.ports.c.id.in_(mine), t.ports.c.host_id != "")
    prepared = sa.select(inactive.c.host).where(inactive.c.port_id.in_(mine), inactive.c.vif_type == TAP)
    return sorted(conn.execute(active.union(prepared)).scalars())


def network_changed(change: Change, network_id: str) -> None:
    """A network or one of its subnets changed."""
    for host in change.hosts_with("network", [network_id]):
        change.touch(host, "network", [network_id])


def tunnel_changed(change: Change, host: str) -> None:
    """A host's tunnel address came, changed or went: the hosts that share a network with it must learn it."""
    query = sa.select(t.ports.c.network_id).where(t.ports.c.host_id == host).distinct()
    for peer, networks in change.hosts_with("network", change.conn.execute(query).scalars()).items():
        if peer != host:
            change.touch(peer, "network", networks)


def ports_of_network_changed(change: Change, network_id: str) -> None:
    """What hosts see of all ports with taps in a network changed."""
    inactive = t.port_bindings
    mine = sa.and_(t.ports.c.network_id == network_id, t.ports.c.device_owner.not_like("network:%"))
    active = sa.select(t.ports.c.host_id, t.ports.c.id).where(mine, t.ports.c.host_id != "")
    prepared = sa.select(inactive.c.host, inactive.c.port_id).join(t.ports, t.ports.c.id == inactive.c.port_id).where(mine, inactive.c.vif_type == TAP)
    for host, port_id in change.conn.execute(active.union(prepared)):
        change.touch(host, "port", [port_id])


def routers_of_network_changed(change: Change, network_id: str) -> None:
    """The routers with a leg in the network show its gateway, prefix or MTU."""
    owners = ("network:router_interface", "network:router_gateway")
    query = (
        sa.select(t.routers.c.id, t.routers.c.host)
        .join(t.ports, t.ports.c.device_id == t.routers.c.id)
        .where(t.ports.c.network_id == network_id, t.ports.c.device_owner.in_(owners), t.routers.c.host != "")
        .distinct()
    )
    for router_id, host in change.conn.execute(query):
        change.touch(host, "router", [router_id])


def router_changed(change: Change, router_id: str, host: str) -> None:
    """A router's legs, addresses or routes changed."""
    change.touch(host, "router", [router_id])
