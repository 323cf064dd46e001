"""DHCP: which hosts serve a network, and the port from which each answers."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from pileus.kernel.db import insert_ignore
from pileus.network.logic import addresses, agents, concerns, ports
from pileus.network.logic.change import Change, count, update
from pileus.network.store import tables as t

OWNER = "network:dhcp"


def device_of(host: str, network_id: str) -> str:
    """The device id of a host's DHCP port, as upstream names it."""
    return f"dhcp{uuid.uuid5(uuid.NAMESPACE_DNS, host.partition('.')[0])}-{network_id}"


def ensure(change: Change, network: Any, *, move: bool = False) -> bool:
    """Make the network's DHCP what its subnets ask for: hosts chosen, a port on each with an address in each subnet. With `move` a host that
    does not live is replaced; its port goes along, so that guests renew their leases at the address they know.

    Returns whether it is complete: not without a living DHCP agent. Repeating changes nothing.
    """
    served = [subnet for subnet in addresses.subnets_of(change.conn, network.id) if _is_served(subnet)]
    have = _hosts(change, network.id)
    wanted = _choose(change, network, have, move=move) if served else []
    leaving, coming = [host for host in have if host not in wanted], [host for host in wanted if host not in have]
    for host in coming:
        insert_ignore(change.conn, t.dhcp_bindings, [{"network_id": network.id, "host": host}])
    for old, new in zip(leaving, coming, strict=False):
        _hand_over(change, network.id, old, new)
    for host in leaving:
        leave(change, network.id, host)
    for host in wanted:
        _ensure_port(change, network, host, served)
    return bool(wanted) or not served


def _hand_over(change: Change, network_id: str, old: str, new: str) -> None:
    """Give the port of one host to another that has none yet."""
    port_id = _find_port(change, network_id, old)
    if port_id is None or _find_port(change, network_id, new) is not None:
        return
    _, before = ports.state(change, port_id, lock=True)
    update(change.conn, t.ports, port_id, {"host_id": new, "device_id": device_of(new, network_id), "status": "DOWN"})
    concerns.port_changed(change, before, ports.state(change, port_id)[1])


def serve_from(change: Change, network: Any, host: str) -> None:
    """Serve a network from a host whose binding is written."""
    served = [subnet for subnet in addresses.subnets_of(change.conn, network.id) if _is_served(subnet)]
    if served:
        _ensure_port(change, network, host, served)


def _is_served(subnet: addresses.Subnet) -> bool:
    return subnet.enable_dhcp and subnet.ip_version == 4


def _hosts(change: Change, network_id: str) -> list[str]:
    table = t.dhcp_bindings
    return list(change.conn.execute(sa.select(table.c.host).where(table.c.network_id == network_id).order_by(table.c.host)).scalars())


def _choose(change: Change, network: Any, have: Sequence[str], *, move: bool) -> list[str]:
    """Hosts that serve it stay (with `move`: while they live); the rest are the least loaded ones. With nobody alive all stay."""
    options = change.service.options
    alive = agents.alive_hosts(change.conn, options, agents.DHCP) if move else have
    staying = [host for host in have if host in alive]
    lacking = options.dhcp_agents_per_network - len(staying)
    if lacking <= 0:
        return staying
    hosts = agents.place(
        change.conn, options, agents.DHCP, t.dhcp_bindings.c.host, lacking + len(staying), network.availability_zone_hints
    )
    return (staying + [host for host in hosts if host not in staying])[: options.dhcp_agents_per_network] or list(have)


def _find_port(change: Change, network_id: str, host: str) -> str | None:
    query = sa.select(t.ports.c.id).where(
        t.ports.c.network_id == network_id, t.ports.c.device_owner == OWNER, t.ports.c.device_id == device_of(host, network_id)
    )
    found: str | None = change.conn.execute(query).scalar()
    return found


def _ensure_port(change: Change, network: Any, host: str, served: Sequence[addresses.Subnet]) -> None:
    port_id = _find_port(change, network.id, host)
    if port_id is None:
        ports.insert_port(
            change,
            network,
            project_id=network.project_id,
            device_owner=OWNER,
            device_id=device_of(host, network.id),
            host=host,
            fixed_ips=[{"subnet_id": subnet.id} for subnet in served],
        )
        count(change, network.project_id, "port")
        return
    row, before = ports.state(change, port_id, lock=True)
    if {subnet for subnet, _ in before.ips} == {subnet.id for subnet in served} and row.host_id == host:
        return
    addresses.change(change.conn, served, row, [{"subnet_id": subnet.id} for subnet in served], OWNER)
    update(change.conn, t.ports, port_id, {"host_id": host})
    concerns.port_changed(change, before, ports.state(change, port_id)[1])


def leave(change: Change, network_id: str, host: str) -> None:
    """Stop serving a network from a host."""
    port_id = _find_port(change, network_id, host)
    table = t.dhcp_bindings
    change.conn.execute(sa.delete(table).where(table.c.network_id == network_id, table.c.host == host))
    if port_id is not None:
        ports.remove_port(change, port_id)
