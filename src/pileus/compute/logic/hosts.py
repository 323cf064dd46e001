"""Hosts: what they report, whether they are up, in which zone they are."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.compute.options import Options
from pileus.compute.store import hosts as store
from pileus.compute.store.tables import COMPUTE_NODES, SERVICES
from pileus.compute.wire import HostResources
from pileus.kernel import clock, desired, ids
from pileus.kernel.db import insert_ignore

Row = dict[str, Any]
KIND = "server"
"""Kind of the items in the desired state of hosts."""


def is_up(options: Options, service: Mapping[str, Any], now: dt.datetime | None = None) -> bool:
    """Whether a service has reported lately and nobody has declared it down."""
    if service["forced_down"] or service["last_seen_up"] is None:
        return False
    age: dt.timedelta = (now or clock.utcnow()) - service["last_seen_up"]
    return age.total_seconds() <= options.service_down_time


def host_is_up(options: Options, conn: sa.Connection, host: str) -> bool:
    service = store.compute_service(conn, host)
    return service is not None and is_up(options, service)


def with_server(conn: sa.Connection, server: Mapping[str, Any]) -> list[str]:
    """All hosts that have something of the server: where it is, and where it came from or goes to."""
    return sorted({*desired.hosts_of(conn, KIND, server["id"]), *([server["host"]] if server["host"] else [])})


def seen(conn: sa.Connection, host: str, binary: str) -> None:
    """A service of a host is alive now; it is registered when it is new."""
    now = clock.utcnow()
    where = (SERVICES.c.host == host, SERVICES.c.binary == binary)
    values = {"last_seen_up": now, "updated_at": now}
    if conn.execute(SERVICES.update().where(*where).values(**values)).rowcount:
        return
    row = {
        "uuid": ids.new_uuid(),
        "host": host,
        "binary": binary,
        "disabled": False,
        "forced_down": False,
        "was_up": True,
        "created_at": now,
        **values,
    }
    insert_ignore(conn, SERVICES, [row])


def seen_again(conn: sa.Connection, binary: str, moments: Sequence[tuple[str, dt.datetime]]) -> bool:
    """Services of hosts were alive at these moments; whether all of them are registered."""
    query = SERVICES.update().where(SERVICES.c.host == sa.bindparam("of"), SERVICES.c.binary == binary)
    values = [{"of": host, "at": at} for host, at in moments]
    return conn.execute(query.values(last_seen_up=sa.bindparam("at"), updated_at=sa.bindparam("at")), values).rowcount == len(values)


def record_resources(
    conn: sa.Connection, host: str, found: HostResources, version: int, known: Mapping[str, Any] | None = None
) -> None:
    """Store what a host says it has, where that is not `known` already."""
    now = clock.utcnow()
    values = {
        "hypervisor_hostname": found.hypervisor_hostname,
        "hypervisor_type": found.hypervisor_type,
        "hypervisor_version": found.hypervisor_version,
        "host_ip": found.host_ip,
        "vcpus": found.vcpus,
        "memory_mb": found.memory_mb,
        "local_gb": found.local_gb,
        "disk_available_least": found.disk_available_least,
        "cpu_info": found.cpu_info,
        "uptime": found.uptime,
        "applied_version": version,
    }
    if known is not None and all(known[name] == value for name, value in values.items()):
        return
    values["updated_at"] = now
    if conn.execute(COMPUTE_NODES.update().where(COMPUTE_NODES.c.host == host).values(**values)).rowcount:
        return
    insert_ignore(conn, COMPUTE_NODES, [{**values, "uuid": ids.new_uuid(), "host": host, "created_at": now}])


def inventory_of(options: Options, node: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What placement shall know about a host: resource class -> inventory record."""

    def record(total: int, reserved: int, ratio: float) -> dict[str, Any]:
        return {
            "total": total,
            "reserved": min(reserved, total),
            "min_unit": 1,
            "max_unit": total,
            "step_size": 1,
            "allocation_ratio": ratio,
        }

    found = {
        "VCPU": record(node["vcpus"], options.reserved_host_cpus, options.cpu_allocation_ratio),
        "MEMORY_MB": record(node["memory_mb"], options.reserved_host_memory_mb, options.ram_allocation_ratio),
        "DISK_GB": record(node["local_gb"], -(-options.reserved_host_disk_mb // 1024), options.disk_allocation_ratio),
    }
    return {name: entry for name, entry in found.items() if entry["total"] > 0}


def zone_of(options: Options, zones: Mapping[str, str], host: str | None) -> str | None:
    """The availability zone that a host is shown in."""
    if not host:
        return None
    return zones.get(host, options.default_availability_zone)


def available_zones(options: Options, conn: sa.Connection) -> dict[str, set[str]]:
    """Zone -> its hosts that take servers, for all zones that have such a host."""
    zones = store.zones_by_host(conn)
    found: dict[str, set[str]] = {}
    for service in store.services(conn, SERVICES.c.binary == store.COMPUTE, SERVICES.c.disabled.is_(False)):
        found.setdefault(zones.get(service["host"], options.default_availability_zone), set()).add(service["host"])
    return found
