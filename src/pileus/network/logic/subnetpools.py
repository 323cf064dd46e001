"""Subnet pools: prefixes from which subnets take theirs, so that no two overlap."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.kernel import ids
from pileus.kernel.db import retried
from pileus.kernel.service import Service
from pileus.network import errors
from pileus.network.logic.change import (
    Change,
    changing,
    check_revision,
    fetch,
    forget_tags,
    release,
    reserve,
    standard,
    update,
)
from pileus.network.store import render
from pileus.network.store import tables as t

Values = Mapping[str, Any]
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
_SHORTEST, _LONGEST = {4: 8, 6: 64}, {4: 32, 6: 128}


@retried
def create_pools(service: Service, items: Sequence[Values]) -> list[dict[str, Any]]:
    """Create pools, all or none. Raises InvalidInput, IllegalSubnetPoolPrefixBounds, OverQuota."""
    with changing(service) as change:
        made = [_create(change, values) for values in items]
        rows = {row.id: row for row in change.conn.execute(sa.select(t.subnetpools).where(t.subnetpools.c.id.in_(made)))}
        return render.subnetpools(change.conn, [rows[id] for id in made])


def _create(change: Change, values: Values) -> str:
    prefixes = _merged(values["prefixes"])
    version = prefixes[0].version
    reserve(change, values["project_id"], "subnetpool")
    row = {
        "id": ids.new_uuid(),
        "project_id": values["project_id"],
        "name": values["name"],
        "description": values["description"],
        "prefixes": [str(prefix) for prefix in prefixes],
        "ip_version": version,
        **_bounds(version, values, {}),
        "default_quota": values.get("default_quota"),
        "shared": values["shared"],
        "is_default": values["is_default"],
        **standard(),
    }
    _only_default(change, row)
    change.conn.execute(sa.insert(t.subnetpools), row)
    return str(row["id"])


def _merged(texts: Iterable[str]) -> list[IpNetwork]:
    """The prefixes without overlaps, in order. Raises InvalidInput."""
    networks = [ipaddress.ip_network(text) for text in texts]
    if not networks:
        raise errors.InvalidInput("a subnet pool needs a prefix")
    if len({network.version for network in networks}) > 1:
        raise errors.InvalidInput("Cannot mix IPv4 and IPv6 prefixes in a subnet pool.")
    return list(ipaddress.collapse_addresses(networks))  # type: ignore[type-var]


def _bounds(version: int, values: Values, now: Mapping[str, int]) -> dict[str, int]:
    """Prefix lengths: what is asked for, else what is, else upstream's defaults. Raises IllegalSubnetPoolPrefixBounds."""
    low = _first(values.get("min_prefixlen"), now.get("min_prefixlen"), _SHORTEST[version])
    high = _first(values.get("max_prefixlen"), now.get("max_prefixlen"), _LONGEST[version])
    usual = _first(values.get("default_prefixlen"), now.get("default_prefixlen"), low)
    for name, length in (("min_prefixlen", low), ("max_prefixlen", high), ("default_prefixlen", usual)):
        if not 0 <= length <= _LONGEST[version]:
            raise errors.IllegalSubnetPoolPrefixBounds(f"Illegal prefix bounds: {name}={length} for IPv{version}.")
    if not low <= usual <= high:
        raise errors.IllegalSubnetPoolPrefixBounds(
            f"Illegal prefix bounds: min_prefixlen={low}, default_prefixlen={usual}, max_prefixlen={high}."
        )
    return {"min_prefixlen": low, "max_prefixlen": high, "default_prefixlen": usual}


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)


def _only_default(change: Change, row: Mapping[str, Any]) -> None:
    if not row["is_default"]:
        return
    table = t.subnetpools
    query = sa.select(table.c.id).where(table.c.is_default, table.c.ip_version == row["ip_version"], table.c.id != row["id"])
    if change.conn.execute(query).first():
        raise errors.InvalidInput("A default subnetpool for this IP family has already been set. Only one default may exist per IP family")


@retried
def update_pool(service: Service, pool_id: str, values: Values, revision: int | None = None) -> dict[str, Any]:
    """Change a pool; prefixes are added, never taken away. Raises SubnetPoolNotFound, IllegalSubnetPoolUpdate, IllegalSubnetPoolPrefixBounds."""
    with changing(service) as change:
        row = fetch(change.conn, t.subnetpools, pool_id, errors.SubnetPoolNotFound, lock=True)
        check_revision(row, revision)
        columns = {name: value for name, value in values.items() if not name.endswith("_prefixlen")}
        columns.update(_bounds(row.ip_version, values, row._mapping))  # noqa: SLF001 - SQLAlchemy's documented way to a mapping
        if "prefixes" in columns:
            columns["prefixes"] = _extended(row, columns["prefixes"])
        _only_default(change, {"id": row.id, "ip_version": row.ip_version, "is_default": columns.get("is_default")})
        update(change.conn, t.subnetpools, pool_id, columns)
        return render.subnetpools(change.conn, [fetch(change.conn, t.subnetpools, pool_id, errors.SubnetPoolNotFound)])[0]


def _extended(row: Any, texts: Sequence[str]) -> list[str]:
    wanted = _merged(texts)
    if wanted[0].version != row.ip_version:
        raise errors.IllegalSubnetPoolUpdate("Illegal subnetpool update: prefixes of another IP version.")
    for text in row.prefixes:
        old = ipaddress.ip_network(text)
        if not any(old.subnet_of(new) for new in wanted):  # type: ignore[arg-type]
            raise errors.IllegalSubnetPoolUpdate("Illegal subnetpool update: existing prefixes must be a subset of the new prefixes.")
    return [str(prefix) for prefix in wanted]


@retried
def add_prefixes(service: Service, pool_id: str, texts: Sequence[str]) -> list[str]:
    """Add prefixes; all the pool then has. Raises SubnetPoolNotFound, IllegalSubnetPoolUpdate."""
    with changing(service) as change:
        row = fetch(change.conn, t.subnetpools, pool_id, errors.SubnetPoolNotFound, lock=True)
        wanted = _extended(row, [*row.prefixes, *texts])
        update(change.conn, t.subnetpools, pool_id, {"prefixes": wanted})
        return wanted


@retried
def remove_prefixes(service: Service, pool_id: str, texts: Sequence[str]) -> list[str]:
    """Remove prefixes from which no subnet is; what the pool then has. Raises SubnetPoolNotFound, IllegalSubnetPoolUpdate."""
    with changing(service) as change:
        row = fetch(change.conn, t.subnetpools, pool_id, errors.SubnetPoolNotFound, lock=True)
        left = _prefixes(row)
        for gone in _merged(texts):
            if any(gone.overlaps(prefix) for _, prefix in _taken(change, pool_id)):
                raise errors.IllegalSubnetPoolUpdate(f"Illegal subnetpool update: subnets are allocated from {gone}.")
            left = [part for prefix in left for part in _without(prefix, gone)]
        if not left:
            raise errors.IllegalSubnetPoolUpdate("Illegal subnetpool update: a subnet pool needs a prefix.")
        wanted = [str(prefix) for prefix in sorted(left)]
        update(change.conn, t.subnetpools, pool_id, {"prefixes": wanted})
        return wanted


def _without(prefix: IpNetwork, gone: IpNetwork) -> list[IpNetwork]:
    """What of a prefix is left without another."""
    if prefix.version != gone.version or not prefix.overlaps(gone):
        return [prefix]
    if prefix.subnet_of(gone):  # type: ignore[arg-type]
        return []
    return list(prefix.address_exclude(gone))  # type: ignore[arg-type]


@retried
def delete_pool(service: Service, pool_id: str, revision: int | None = None) -> None:
    """Delete a pool from which no subnet is. Raises SubnetPoolNotFound, SubnetPoolDeleteError."""
    with changing(service) as change:
        row = fetch(change.conn, t.subnetpools, pool_id, errors.SubnetPoolNotFound, lock=True)
        check_revision(row, revision)
        if change.conn.execute(sa.select(t.subnets.c.id).where(t.subnets.c.subnetpool_id == pool_id).limit(1)).first():
            raise errors.SubnetPoolDeleteError("Unable to delete subnet pool: Subnet pool has existing allocations.")
        change.conn.execute(sa.delete(t.subnetpools).where(t.subnetpools.c.id == pool_id))
        forget_tags(change.conn, [pool_id])
        release(change, row.project_id, "subnetpool")


# -- allocation ------------------------------------------------------------------------------------------------------


def allocate(change: Change, values: Values) -> tuple[IpNetwork, str]:
    """A prefix for a subnet and the pool it is from; the pool stays locked until the subnet is written.

    Raises SubnetPoolNotFound, InvalidInput, SubnetAllocationError, SubnetPoolQuotaExceeded and the errors of wrong lengths.
    """
    pool = _pool(change, values)
    taken = _taken(change, pool.id)
    if values.get("cidr") is not None:
        prefix = ipaddress.ip_network(values["cidr"])
        _check_length(pool, prefix.prefixlen)
        inside = any(prefix.version == p.version and prefix.subnet_of(p) for p in _prefixes(pool))  # type: ignore[arg-type]
        if not inside or any(prefix.overlaps(other) for _, other in taken):
            raise errors.SubnetAllocationError("Failed to allocate subnet: Cannot allocate requested subnet from the available set of prefixes.")
    else:
        length = values["prefixlen"] if values.get("prefixlen") is not None else pool.default_prefixlen
        _check_length(pool, length)
        prefix = _free(pool, length, [other for _, other in taken])
    _check_quota(pool, values["project_id"], prefix, taken)
    return prefix, pool.id


def _pool(change: Change, values: Values) -> Any:
    table = t.subnetpools
    if values.get("subnetpool_id"):
        pool = fetch(change.conn, table, values["subnetpool_id"], errors.SubnetPoolNotFound, lock=True)
    else:
        query = sa.select(table.c.id).where(table.c.is_default, table.c.ip_version == (values.get("ip_version") or 4))
        found = change.conn.execute(query).scalar()
        if found is None:
            raise errors.HTTPBadRequest(f"No default subnetpool found for IPv{values.get('ip_version') or 4}")
        pool = fetch(change.conn, table, found, errors.SubnetPoolNotFound, lock=True)
    if values.get("ip_version") not in {None, pool.ip_version}:
        raise errors.HTTPBadRequest("Cannot allocate requested subnet from the available set of prefixes: the IP versions differ.")
    return pool


def _taken(change: Change, pool_id: str) -> list[tuple[str, IpNetwork]]:
    """(project, prefix) of the subnets from a pool."""
    query = sa.select(t.subnets.c.project_id, t.subnets.c.cidr).where(t.subnets.c.subnetpool_id == pool_id)
    return [(row[0], ipaddress.ip_network(row[1])) for row in change.conn.execute(query)]


def _prefixes(pool: Any) -> list[IpNetwork]:
    return [ipaddress.ip_network(text) for text in pool.prefixes]


def _check_length(pool: Any, length: int) -> None:
    if length < pool.min_prefixlen:
        raise errors.MinPrefixSubnetAllocationError(
            f"Unable to allocate subnet with prefix length {length}, minimum allowed prefix is {pool.min_prefixlen}."
        )
    if length > pool.max_prefixlen:
        raise errors.MaxPrefixSubnetAllocationError(
            f"Unable to allocate subnet with prefix length {length}, maximum allowed prefix is {pool.max_prefixlen}."
        )


def _free(pool: Any, length: int, taken: Sequence[IpNetwork]) -> IpNetwork:
    """The first prefix of the length that overlaps no taken one: one walk over the taken ones in order."""
    used = sorted((int(other.network_address), int(other.broadcast_address)) for other in taken)
    size = 1 << (_LONGEST[pool.ip_version] - length)
    kind: Any = ipaddress.IPv4Network if pool.ip_version == 4 else ipaddress.IPv6Network
    for prefix in _prefixes(pool):
        start, end = int(prefix.network_address), int(prefix.broadcast_address)
        for low, high in used:
            if high >= start and low <= start + size - 1:
                start = (high // size + 1) * size  # behind it, aligned
        if start + size - 1 <= end:
            found: IpNetwork = kind((start, length))
            return found
    raise errors.SubnetAllocationError(f"Failed to allocate subnet: Insufficient prefix space to allocate subnet size /{length}.")


def _check_quota(pool: Any, project_id: str, prefix: IpNetwork, taken: Sequence[tuple[str, IpNetwork]]) -> None:
    """The pool's quota counts addresses of IPv4 and /64 networks of IPv6, per project."""
    if pool.default_quota is None:
        return
    unit = 1 if pool.ip_version == 4 else 2**64
    used = sum(other.num_addresses for owner, other in taken if owner == project_id)
    if used + prefix.num_addresses > pool.default_quota * unit:
        raise errors.SubnetPoolQuotaExceeded("Per-tenant subnet pool prefix quota exceeded.")
