"""Segments: what carries a network between hosts, each in one network only."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pileus.kernel import ids
from pileus.kernel.db import insert_ignore
from pileus.network import errors
from pileus.network.store import tables as t

VXLAN_OVERHEAD = 50
_HIGHEST_VNI = 2**24 - 1
_CANDIDATES = 16


def check(options: Any, network_type: str, physical_network: str | None, segmentation_id: int | None) -> None:
    """Whether the wanted segment can exist. Raises InvalidInput."""
    if network_type not in {"vxlan", "flat", "local"}:
        raise errors.InvalidInput(f"network_type value '{network_type}' not supported")
    if network_type == "vxlan":
        if physical_network is not None:
            raise errors.InvalidInput("provider:physical_network specified for vxlan network")
        if segmentation_id is not None and not 1 <= segmentation_id <= _HIGHEST_VNI:
            raise errors.InvalidInput(f"segmentation_id {segmentation_id} is outside of 1 to {_HIGHEST_VNI}")
        return
    if segmentation_id is not None:
        raise errors.InvalidInput(f"provider:segmentation_id specified for {network_type} network")
    if network_type == "local" and physical_network is not None:
        raise errors.InvalidInput("provider:physical_network specified for local network")
    if network_type == "flat":
        if physical_network is None:
            raise errors.InvalidInput("physical_network required for flat provider network")
        if physical_network not in options.flat_networks:
            raise errors.InvalidInput(f"physical_network '{physical_network}' unknown for flat provider network")


def highest_mtu(options: Any, network_type: str) -> int:
    """The largest MTU a network of the type can have."""
    mtu: int = options.physical_mtu
    return mtu - VXLAN_OVERHEAD if network_type == "vxlan" else mtu


def take(
    conn: sa.Connection, options: Any, network_id: str, network_type: str, physical_network: str | None, segmentation_id: int | None
) -> int | None:
    """Take the wanted segment, or any free one, for a network whose row is there; its id, None where the type has none.

    Raises FlatNetworkInUse, TunnelIdInUse, NoNetworkAvailable.
    """
    if network_type == "local":
        return None
    if network_type == "flat":
        if not _insert(conn, network_id, "flat", physical_network or "", 0):
            raise errors.FlatNetworkInUse(
                f"Unable to create the flat network. Physical network {physical_network} is in use."
            )
        return None
    if segmentation_id is not None:
        if not _insert(conn, network_id, "vxlan", "", segmentation_id):
            raise errors.TunnelIdInUse(f"Unable to create the network. The tunnel ID {segmentation_id} is in use.")
        return segmentation_id
    return _take_vni(conn, options, network_id)


def _insert(conn: sa.Connection, network_id: str, network_type: str, physical_network: str, segmentation_id: int) -> bool:
    row = {
        "network_type": network_type,
        "physical_network": physical_network,
        "segmentation_id": segmentation_id,
        "network_id": network_id,
    }
    return insert_ignore(conn, t.segments, [row]) == 1


def _take_vni(conn: sa.Connection, options: Any, network_id: str) -> int:
    """Random ones first, a gap found by the database when the range is nearly full."""
    table = t.segments
    low, high = int(options.vni_min), int(options.vni_max)
    wanted = {low + ids.random_below(high - low + 1) for _ in range(_CANDIDATES)}
    query = sa.select(table.c.segmentation_id).where(
        table.c.network_type == "vxlan", table.c.physical_network == "", table.c.segmentation_id.in_(wanted)
    )
    for vni in wanted - set(conn.execute(query).scalars()):
        if _insert(conn, network_id, "vxlan", "", vni):
            return vni
    start: int | None = low
    while start is not None and start <= high:
        start = _free_from(conn, start, high)
        if start is not None and _insert(conn, network_id, "vxlan", "", start):
            return start
    raise errors.NoNetworkAvailable("Unable to create the network. No tenant network is available for allocation.")


def _free_from(conn: sa.Connection, start: int, high: int) -> int | None:
    table, successor = t.segments, t.segments.alias()
    mine = sa.and_(table.c.network_type == "vxlan", table.c.physical_network == "")
    if conn.execute(sa.select(table.c.network_id).where(mine, table.c.segmentation_id == start)).first() is None:
        return start
    after = sa.exists().where(
        successor.c.network_type == "vxlan",
        successor.c.physical_network == "",
        successor.c.segmentation_id == table.c.segmentation_id + 1,
    )
    query = (
        sa.select(table.c.segmentation_id + 1)
        .where(mine, table.c.segmentation_id >= start, table.c.segmentation_id < high, ~after)
        .order_by(table.c.segmentation_id)
        .limit(1)
    )
    return conn.execute(query).scalar_one_or_none()
