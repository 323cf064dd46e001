"""Hypervisors: /os-hypervisors."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from pileus.compute.api import schemas as s
from pileus.compute.errors import BadRequest
from pileus.compute.logic import hosts
from pileus.compute.store import hosts as store
from pileus.compute.store.tables import COMPUTE_NODES, SERVICES
from pileus.kernel import ids
from pileus.kernel.errors import NotFound
from pileus.kernel.web import Call, Operations

operations = Operations()

_RULE = "os_compute_api:os-hypervisors"
_FILTER = {"hypervisor_hostname_pattern": s.once(s.ANY_TEXT), "with_servers": s.once(s.ANY_TEXT)}
_LIST = [
    ("2.1", s.query({})),
    ("2.33", s.query(s.PAGING)),
    ("2.53", s.query({**s.PAGING, **_FILTER}, additional=False)),
]
_SHOW = [("2.1", s.query({})), ("2.53", s.query({"with_servers": s.once(s.ANY_TEXT)}, additional=False))]


class _Facts:
    """What views need beside the node: services, usage, servers; read once."""

    def __init__(self, call: Call, conn: sa.Connection, nodes: list[dict[str, Any]], *, servers: bool) -> None:
        names = [node["host"] for node in nodes]
        self.services = {row["host"]: row for row in store.services(conn, SERVICES.c.binary == store.COMPUTE)}
        self.usage = store.usage(conn, names) if names else {}
        self.servers = store.servers_on(conn, names) if servers and names else None
        self.options = call.service.options


def _id(call: Call, node: dict[str, Any]) -> Any:
    return node["uuid"] if call.at_least(2, 53) else node["id"]


def _brief(call: Call, node: dict[str, Any], facts: _Facts) -> dict[str, Any]:
    service = facts.services.get(node["host"])
    view = {
        "id": _id(call, node),
        "hypervisor_hostname": node["hypervisor_hostname"],
        "state": "up" if service and hosts.is_up(facts.options, service) else "down",
        "status": "disabled" if not service or service["disabled"] else "enabled",
    }
    if facts.servers is not None:
        listed = [{"uuid": server_id, "name": name} for server_id, name in facts.servers.get(node["host"], [])]
        if listed or call.at_least(2, 75):
            view["servers"] = listed
    return view


def _full(call: Call, node: dict[str, Any], facts: _Facts) -> dict[str, Any]:
    service = facts.services.get(node["host"])
    used = facts.usage.get(node["host"], store.Usage())
    view = {
        **_brief(call, node, facts),
        "hypervisor_type": node["hypervisor_type"],
        "hypervisor_version": node["hypervisor_version"],
        "host_ip": node["host_ip"],
        "service": {
            "id": (service["uuid"] if call.at_least(2, 53) else service["id"]) if service else None,
            "host": node["host"],
            "disabled_reason": service["disabled_reason"] if service else None,
        },
    }
    if call.at_least(2, 88):
        view["uptime"] = node["uptime"]
        return view
    reserved = facts.options.reserved_host_memory_mb
    cpu_info = node["cpu_info"] or {}
    return {
        **view,
        "vcpus": node["vcpus"],
        "memory_mb": node["memory_mb"],
        "local_gb": node["local_gb"],
        "vcpus_used": used.vcpus,
        "memory_mb_used": used.memory_mb + reserved,
        "local_gb_used": used.disk_gb,
        "free_ram_mb": node["memory_mb"] - used.memory_mb - reserved,
        "free_disk_gb": node["local_gb"] - used.disk_gb,
        "current_workload": used.in_work,
        "running_vms": used.servers,
        "disk_available_least": node["disk_available_least"],
        "cpu_info": cpu_info if call.at_least(2, 28) else json.dumps(cpu_info),
    }


def _with_servers(call: Call) -> bool:
    given = call.query.one("with_servers") if call.at_least(2, 53) else None
    if given is None:
        return False
    try:
        return s.boolean(given)
    except ValueError as error:
        raise BadRequest(str(error)) from None


def _listing(call: Call, *, detail: bool) -> dict[str, Any]:
    paged = call.at_least(2, 33)
    limit = s.limit_of(call) if paged else None
    where: list[sa.ColumnElement[bool]] = []
    pattern = call.query.one("hypervisor_hostname_pattern") if call.at_least(2, 53) else None
    if pattern is not None:
        if call.query.one("limit") or call.query.one("marker"):
            raise BadRequest(
                "Paging over hypervisors with the hypervisor_hostname_pattern query parameter is not supported."
            )
        where.append(COMPUTE_NODES.c.hypervisor_hostname.contains(pattern, autoescape=True))
    with call.service.db.read() as conn:
        if paged and (marker := call.query.one("marker")) is not None:
            where.append(
                COMPUTE_NODES.c.id > _node(call, conn, marker, BadRequest(f"marker [{marker}] not found"))["id"]
            )
        nodes = store.nodes(conn, *where)[:limit]
        if pattern is not None and not nodes:
            raise NotFound(f"No hypervisor matching '{pattern}' could be found.")
        facts = _Facts(call, conn, nodes, servers=_with_servers(call))
        shown = [_full(call, node, facts) if detail else _brief(call, node, facts) for node in nodes]
    answer: dict[str, Any] = {"hypervisors": shown}
    if paged and nodes and len(nodes) == limit:
        path = "/os-hypervisors/detail" if detail else "/os-hypervisors"
        answer["hypervisors_links"] = s.next_link(call, call.link(path), str(_id(call, nodes[-1])))
    return answer


def _node(call: Call, conn: sa.Connection, wanted: str, missing: Exception) -> dict[str, Any]:
    """The node by the id of the microversion: a UUID from 2.53 on, a number before."""
    where = None
    if call.at_least(2, 53):
        if not ids.is_uuid_like(wanted):
            raise BadRequest(f"Invalid uuid {wanted}")
        where = COMPUTE_NODES.c.uuid == wanted
    elif wanted.isdigit():
        where = COMPUTE_NODES.c.id == int(wanted)
    found = store.nodes(conn, where) if where is not None else []
    if not found:
        raise missing
    return found[0]


@operations("GET", "/os-hypervisors", rule=f"{_RULE}:list", query=_LIST)
def list_hypervisors(call: Call) -> dict[str, Any]:
    """List hypervisors"""
    return _listing(call, detail=False)


@operations("GET", "/os-hypervisors/detail", rule=f"{_RULE}:list-detail", query=_LIST)
def list_hypervisors_detail(call: Call) -> dict[str, Any]:
    """List hypervisors with details"""
    return _listing(call, detail=True)


@operations("GET", "/os-hypervisors/statistics", rule=f"{_RULE}:statistics", versions="2.1-2.87")
def statistics(call: Call) -> dict[str, Any]:
    """Sum up all hypervisors"""
    with call.service.db.read() as conn:
        services = {row["host"]: row for row in store.services(conn, SERVICES.c.binary == store.COMPUTE)}
        nodes = [n for n in store.nodes(conn) if n["host"] in services and not services[n["host"]]["disabled"]]
        usage = store.usage(conn)
    used = [usage.get(node["host"], store.Usage()) for node in nodes]
    reserved = call.service.options.reserved_host_memory_mb * len(nodes)
    memory, disk = sum(n["memory_mb"] for n in nodes), sum(n["local_gb"] for n in nodes)
    memory_used, disk_used = sum(u.memory_mb for u in used) + reserved, sum(u.disk_gb for u in used)
    return {
        "hypervisor_statistics": {
            "count": len(nodes),
            "vcpus": sum(n["vcpus"] for n in nodes),
            "vcpus_used": sum(u.vcpus for u in used),
            "memory_mb": memory,
            "memory_mb_used": memory_used,
            "free_ram_mb": memory - memory_used,
            "local_gb": disk,
            "local_gb_used": disk_used,
            "free_disk_gb": disk - disk_used,
            "disk_available_least": sum(n["disk_available_least"] or 0 for n in nodes),
            "current_workload": sum(u.in_work for u in used),
            "running_vms": sum(u.servers for u in used),
        }
    }


@operations("GET", "/os-hypervisors/{hypervisor_id}", rule=f"{_RULE}:show", query=_SHOW)
def show_hypervisor(call: Call) -> dict[str, Any]:
    """Show a hypervisor"""
    wanted = call.params["hypervisor_id"]
    with call.service.db.read() as conn:
        node = _node(call, conn, wanted, NotFound(f"Hypervisor with ID '{wanted}' could not be found."))
        facts = _Facts(call, conn, [node], servers=_with_servers(call))
    return {"hypervisor": _full(call, node, facts)}


@operations("GET", "/os-hypervisors/{hypervisor_id}/uptime", rule=f"{_RULE}:uptime", versions="2.1-2.87")
def show_uptime(call: Call) -> dict[str, Any]:
    """Show how long a hypervisor is up"""
    wanted = call.params["hypervisor_id"]
    with call.service.db.read() as conn:
        node = _node(call, conn, wanted, NotFound(f"Hypervisor with ID '{wanted}' could not be found."))
        facts = _Facts(call, conn, [node], servers=False)
    view = _brief(call, node, facts)
    if view["state"] != "up":
        raise BadRequest(f"Service for host {node['host']} is unavailable at this time.")
    return {"hypervisor": {**view, "uptime": node["uptime"] or ""}}


def _matching(call: Call, pattern: str, *, servers: bool) -> dict[str, Any]:
    with call.service.db.read() as conn:
        nodes = store.nodes(conn, COMPUTE_NODES.c.hypervisor_hostname.contains(pattern, autoescape=True))
        if not nodes:
            raise NotFound(f"No hypervisor matching '{pattern}' could be found.")
        facts = _Facts(call, conn, nodes, servers=servers)
    return {"hypervisors": [_brief(call, node, facts) for node in nodes]}


@operations("GET", "/os-hypervisors/{pattern}/search", rule=f"{_RULE}:search", versions="2.1-2.52")
def search(call: Call) -> dict[str, Any]:
    """List hypervisors by a part of their names"""
    return _matching(call, call.params["pattern"], servers=False)


@operations("GET", "/os-hypervisors/{pattern}/servers", rule=f"{_RULE}:servers", versions="2.1-2.52")
def servers(call: Call) -> dict[str, Any]:
    """List servers of hypervisors by a part of their names"""
    return _matching(call, call.params["pattern"], servers=True)
