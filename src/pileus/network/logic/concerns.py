"""Which items of which hosts a change concerns: exactly those whose content it changes.

A host has the networks of the ports bound to it, those ports (where compute makes the tap), the security groups of those ports with the groups
their rules refer to, and the routers placed on it. What a host has now is read from the desired state itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

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

    @property
    def has_tap(self) -> bool:
        """Ports of routers and DHCP are made by the network's own agent."""
        return not self.device_owner.startswith("network:")


def state_of(row: Any, ips: Iterable[tuple[str, str]], groups: Iterable[str]) -> PortState:
    """From a row of the ports table (or its values), its addresses and its groups."""
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
    )


def port_changed(change: Change, before: PortState | None, after: PortState | None) -> None:
    """Note whom a port's creation (before None), change or removal (after None) concerns. The rows are already written."""
    if before == after:
        return
    if before and before.host and (after is None or after.host != before.host):
        _leave_host(change, before)
    if after and after.host:
        if after.has_tap:
            change.touch(after.host, "port", [after.id])
        change.touch(after.host, "network", [after.network_id])
    _touch_network(change, before, after)
    _touch_groups(change, before, after)


def _leave_host(change: Change, before: PortState) -> None:
    if before.has_tap:
        change.drop(before.host, "port", [before.id])
    query = sa.select(t.ports.c.id).where(t.ports.c.network_id == before.network_id, t.ports.c.host_id == before.host).limit(1)
    if change.conn.execute(query).first() is None:
        change.drop(before.host, "network", [before.network_id])
    else:
        change.touch(before.host, "network", [before.network_id])


def _touch_network(change: Change, before: PortState | None, after: PortState | None) -> None:
    """Leases, metadata owners and peers speak of bound ports only."""
    if _in_network(before) == _in_network(after):
        return
    some = after or before
    if some is None:
        return
    for host in change.hosts_with("network", [some.network_id]):
        left = before is not None and host == before.host and (after is None or after.host != host)
        if not left:
            change.touch(host, "network", [some.network_id])


def _in_network(state: PortState | None) -> Any:
    if state is None or not state.host:
        return None
    return (state.host, state.mac, state.ips, state.device_id, state.device_owner, state.options)


def _touch_groups(change: Change, before: PortState | None, after: PortState | None) -> None:
    old = before.groups if before else frozenset()
    new = after.groups if after else frozenset()
    same_addresses = before and after and (before.ips, before.pairs) == (after.ips, after.pairs)
    changed = (old ^ new) if same_addresses else (old | new)
    members_changed(change, changed)
    if after and after.host and new:
        wanted = new | remotes(change.conn, new)
        change.touch(after.host, "group", wanted - change.has(after.host, "group", wanted))
    if before and before.host and old and (after is None or after.host != before.host or old - new):
        drop_unneeded_groups(change, before.host, old | remotes(change.conn, old))


def members_changed(change: Change, groups: Iterable[str]) -> None:
    """Addresses joined or left these groups: hosts that have a group which a rule refers to must learn of it."""
    wanted = list(groups)
    if not wanted:
        return
    table = t.security_group_rules
    referred = set(change.conn.execute(sa.select(table.c.remote_group_id).where(table.c.remote_group_id.in_(wanted)).distinct()).scalars())
    for host, ids in change.hosts_with("group", [id for id in referred if id]).items():
        change.touch(host, "group", ids)


def remotes(conn: sa.Connection, groups: Iterable[str]) -> set[str]:
    """The groups that rules of these refer to."""
    table = t.security_group_rules
    query = sa.select(table.c.remote_group_id).where(
        table.c.security_group_id.in_(list(groups)), table.c.remote_group_id.is_not(None)
    )
    return {id for id in conn.execute(query.distinct()).scalars() if id}


def drop_unneeded_groups(change: Change, host: str, candidates: Iterable[str]) -> None:
    """Take groups off a host that none of its ports uses or refers to."""
    query = (
        sa.select(t.port_groups.c.security_group_id)
        .join(t.ports, t.ports.c.id == t.port_groups.c.port_id)
        .where(t.ports.c.host_id == host)
        .distinct()
    )
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
    query = (
        sa.select(t.ports.c.host_id)
        .join(t.port_groups, t.ports.c.id == t.port_groups.c.port_id)
        .where(t.port_groups.c.security_group_id == group, t.ports.c.host_id != "")
        .distinct()
    )
    still = remotes(change.conn, [group])
    for host in change.conn.execute(query).scalars().all():
        change.touch(host, "group", wanted & still)
        drop_unneeded_groups(change, host, wanted - still)


def network_changed(change: Change, network_id: str) -> None:
    """A network or one of its subnets changed."""
    for host in change.hosts_with("network", [network_id]):
        change.touch(host, "network", [network_id])


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
