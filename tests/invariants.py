"""What must hold of a cloud that has come to rest, whatever went wrong before: nothing stuck, nothing left over, every count right.

    broken = invariants.broken(view)            sentences, empty when all is well
    restless = invariants.restless(view)        what is still being worked on; look again later

A `View` is how to look at one cloud: a query of one service's database, and the hosts as they are. Probes look at a cloud of real
processes, the simulation at one within the test, so that all of them mean the same by "right". Each invariant is one function; each
names the rows that break it, because a count that is off by one tells nobody where to look.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

Rows = Callable[[str, str], list[tuple[Any, ...]]]
LIVE = "deleted_at IS NULL"


@dataclasses.dataclass(frozen=True)
class View:
    """`rows(service, query)`; `guests()` is what each fake host has, as server id -> power state; `image_files()` the names of files of data.

    `ports_on()` is which ports each host's network agent has, or None where nobody can look into the agents. `down` are hosts that
    do not run now: what they have is not looked at, they will be told when they are back.
    """

    rows: Rows
    guests: Callable[[], Mapping[str, Mapping[str, str]]]
    image_files: Callable[[], set[str]] | None = None
    ports_on: Callable[[], Mapping[str, set[str]]] | None = None
    down: frozenset[str] = frozenset()


def restless(view: View) -> list[str]:
    """Work that somebody still has to do: there must be none after a while of quiet."""
    return [sentence for look in _RESTLESS for sentence in look(view)]


def broken(view: View) -> list[str]:
    """The invariants that do not hold. Only to be judged when nothing is restless."""
    return [sentence for look in _INVARIANTS for sentence in look(view)]


# --- still at work ----------------------------------------------------------------------------------------------------


def _unfinished_flows(view: View) -> Iterator[str]:
    query = "SELECT id, kind, resource_id, state, waiting_for FROM flows WHERE state NOT IN ('done', 'failed')"
    for flow_id, kind, resource_id, state, waiting in view.rows("compute", query):
        yield f"flow {flow_id} ({kind} of {resource_id}) is {state}: {waiting or 'no reason recorded'}"


def _servers_at_work(view: View) -> Iterator[str]:
    query = f"SELECT id, vm_state, task_state FROM servers WHERE {LIVE} AND (task_state IS NOT NULL OR vm_state = 'building')"
    for server_id, vm_state, task_state in view.rows("compute", query):
        yield f"server {server_id} is {vm_state}, {task_state}"


def _images_at_work(view: View) -> Iterator[str]:
    for image_id, status, key in view.rows("image", "SELECT id, status, upload_key FROM images WHERE upload_key IS NOT NULL"):
        yield f"image {image_id} is {status}, written as {key}"
    for (key,) in view.rows("image", "SELECT data_key FROM removals"):
        yield f"data {key} is to be removed"


def _events_untold(view: View) -> Iterator[str]:
    for name, server, tag in view.rows("network", "SELECT name, server_uuid, tag FROM port_events"):
        yield f"compute has not been told {name} of port {tag} of server {server}"


# --- nothing stuck, nothing left over --------------------------------------------------------------------------------


def _guests_are_as_their_servers(view: View) -> Iterator[str]:
    """Every guest has a server that lives on that host; every server that runs has a guest in its state, and no other host has one."""
    query = f"SELECT id, host, vm_state, power_state FROM servers WHERE {LIVE}"
    servers = {row[0]: row[1:] for row in view.rows("compute", query)}
    on = {host: guests for host, guests in view.guests().items() if host not in view.down}
    for host, guests in on.items():
        for server_id, state in guests.items():
            if server_id not in servers:
                yield f"guest {server_id} ({state}) is left over on {host}: no such server lives"
            elif servers[server_id][0] != host:
                yield f"guest {server_id} ({state}) is on {host}, its server on {servers[server_id][0]}"
    for server_id, (host, vm_state, power_state) in servers.items():
        if vm_state in {"active", "stopped", "paused", "suspended"} and not host:
            yield f"server {server_id} is {vm_state} on no host"
        elif host in on:
            state = on[host].get(server_id, "missing")
            if state != _POWER.get(vm_state, state):
                yield f"server {server_id} is {vm_state}, its guest on {host} is {state}"
            if vm_state in _POWER and power_state != _NUMBERS.get(state, power_state):
                yield f"server {server_id} shows power state {power_state}, its guest on {host} is {state}"


_POWER = {"active": "running", "stopped": "shutdown", "paused": "paused", "suspended": "suspended"}
_NUMBERS = {"running": 1, "paused": 3, "shutdown": 4, "suspended": 7}


def _servers_that_failed_say_why(view: View) -> Iterator[str]:
    for (server_id,) in view.rows("compute", f"SELECT id FROM servers WHERE {LIVE} AND vm_state = 'error' AND fault IS NULL"):
        yield f"server {server_id} is in error and does not say why"


def _ports_are_their_servers(view: View) -> Iterator[str]:
    """What compute has recorded of ports and what network has of servers agree, both ways; a port is on its server's host."""
    live = {row[0]: row[1] for row in view.rows("compute", f"SELECT id, host FROM servers WHERE {LIVE}")}
    recorded = dict(view.rows("compute", "SELECT port_id, server_id FROM server_ports"))
    query = "SELECT id, device_id, host_id, status, admin_state_up FROM ports WHERE device_owner LIKE 'compute:%'"
    ports = {row[0]: row[1:] for row in view.rows("network", query)}
    for port_id, (server_id, host, _status, _up) in ports.items():
        if server_id not in live:
            yield f"port {port_id} is left over of server {server_id}, which does not live"
        elif recorded.get(port_id) != server_id:
            yield f"port {port_id} says that it is of server {server_id}, which does not know it"
        elif host != (live[server_id] or ""):
            yield f"port {port_id} is bound to {host!r}, its server {server_id} is on {live[server_id]!r}"
    for port_id, server_id in recorded.items():
        if server_id in live and port_id not in ports:
            yield f"server {server_id} has port {port_id}, which network does not have as a server's"


def _marks_are_of_living_servers(view: View) -> Iterator[str]:
    """A port without an owner carries no mark of a server: it could never be given to another."""
    for port_id, server_id in view.rows("network", "SELECT id, device_id FROM ports WHERE device_owner = '' AND device_id <> ''"):
        yield f"port {port_id} is marked with {server_id} and owned by nobody"


def _allocations_are_of_servers(view: View) -> Iterator[str]:
    """Placement holds what each placed server needs, for no other, and counts it right."""
    query = f"SELECT id, host, vcpus, memory_mb, disk_gb FROM servers WHERE {LIVE}"
    servers = {row[0]: row[1:] for row in view.rows("compute", query)}
    nodes = dict(view.rows("compute", "SELECT uuid, host FROM compute_nodes"))
    query = (
        "SELECT c.uuid, p.uuid, a.resource_class, a.used FROM consumers c "
        "LEFT JOIN allocations a ON a.consumer_id = c.id LEFT JOIN resource_providers p ON p.id = a.provider_id"
    )
    held: dict[str, dict[str, int]] = {}
    for consumer, provider, resource_class, used in view.rows("placement", query):
        if consumer not in servers:
            yield f"placement holds {used} {resource_class} for {consumer}, which does not live"
            continue
        if provider is not None and nodes.get(provider) != servers[consumer][0]:
            yield f"placement holds {resource_class} for {consumer} on {nodes.get(provider)}, it is on {servers[consumer][0]}"
        held.setdefault(consumer, {})[resource_class] = used
    for server_id, (host, vcpus, memory, disk) in servers.items():
        wanted = {"VCPU": vcpus, "MEMORY_MB": memory, "DISK_GB": disk} if host else {}
        if held.get(server_id, {}) != {name: number for name, number in wanted.items() if number}:
            yield f"placement holds {held.get(server_id, {})} for server {server_id} on {host}, which needs {wanted}"
    query = (
        "SELECT i.provider_id, i.resource_class, i.used, COALESCE((SELECT SUM(a.used) FROM allocations a "
        "WHERE a.provider_id = i.provider_id AND a.resource_class = i.resource_class), 0) FROM inventories i"
    )
    for provider, resource_class, counted, used in view.rows("placement", query):
        if int(counted) != int(used):
            yield f"placement counts {counted} {resource_class} of provider {provider} as used, allocated are {used}"


def _hosts_shall_have_what_is_there(view: View) -> Iterator[str]:
    """The desired state names bound ports and placed servers, and nothing else."""
    wanted = set(view.rows("network", "SELECT host, item_id FROM desired_items WHERE kind = 'port' AND NOT gone"))
    query = "SELECT host_id, id FROM ports WHERE host_id <> '' AND device_owner LIKE 'compute:%'"
    for host, port_id in set(view.rows("network", query)) - wanted:
        yield f"port {port_id} is bound to {host}, which is not told so"
    known = set(view.rows("network", "SELECT host_id, id FROM ports"))
    for host, port_id in wanted - known:
        yield f"{host} is told to have port {port_id}, which is not bound there"
    placed = set(view.rows("compute", f"SELECT host, id FROM servers WHERE {LIVE} AND host IS NOT NULL"))
    for host, server_id in set(view.rows("compute", "SELECT host, item_id FROM desired_items WHERE kind = 'server' AND NOT gone")) - placed:
        yield f"{host} is told to have server {server_id}, which is not there"
    if view.ports_on is None:
        return
    told = set(view.rows("network", "SELECT host_id, id FROM ports WHERE host_id <> '' AND device_owner LIKE 'compute:%'"))
    for host, ports in view.ports_on().items():
        if host not in view.down and ports != {port_id for on, port_id in told if on == host}:
            yield f"{host} has ports {sorted(ports)}, and shall have {sorted(port_id for on, port_id in told if on == host)}"


def _addresses_are_of_ports(view: View) -> Iterator[str]:
    query = "SELECT a.ip_address, a.port_id FROM ip_allocations a LEFT JOIN ports p ON p.id = a.port_id WHERE p.id IS NULL"
    for address, port_id in view.rows("network", query):
        yield f"address {address} is of port {port_id}, which does not exist"


def _image_data_is_of_images(view: View) -> Iterator[str]:
    images = {row[0]: row[1:] for row in view.rows("image", "SELECT id, status, data_key FROM images")}
    for image_id, (status, key) in images.items():
        if (status in {"active", "deactivated"}) != (key is not None) and status != "uploading":
            yield f"image {image_id} is {status} with data {key}"
    if view.image_files is None:
        return
    files, keys = view.image_files(), {key for _, key in images.values() if key}
    for name in files - keys:
        yield f"file {name} is left over: no image has it"
    for name in keys - files:
        yield f"the data {name} of an image is lost"


# --- counts -----------------------------------------------------------------------------------------------------------


def _usage_is_what_exists(view: View) -> Iterator[str]:
    """Quota usage of every project equals what it has."""
    for service, resource, query in _COUNTED:
        there = {project: int(number or 0) for project, number in view.rows(service, query)}
        used = dict(view.rows(service, f"SELECT project_id, used FROM quota_usages WHERE resource = '{resource}'"))
        for project in sorted({*there, *used}):
            if int(used.get(project, 0)) != there.get(project, 0):
                yield f"{service} counts {used.get(project, 0)} {resource} of project {project}, it has {there.get(project, 0)}"


def _per_project(table: str) -> str:
    return f"SELECT project_id, COUNT(*) FROM {table} WHERE project_id <> '' GROUP BY project_id"


_COUNTED: tuple[tuple[str, str, str], ...] = (
    ("compute", "instances", f"SELECT project_id, COUNT(*) FROM servers WHERE {LIVE} GROUP BY project_id"),
    ("compute", "cores", f"SELECT project_id, SUM(vcpus) FROM servers WHERE {LIVE} GROUP BY project_id"),
    ("compute", "ram", f"SELECT project_id, SUM(memory_mb) FROM servers WHERE {LIVE} GROUP BY project_id"),
    ("compute", "server_groups", _per_project("server_groups")),
    ("network", "port", _per_project("ports")),
    ("network", "network", _per_project("networks")),
    ("network", "subnet", _per_project("subnets")),
    ("network", "router", _per_project("routers")),
    ("network", "floatingip", _per_project("floatingips")),
    ("network", "security_group", _per_project("security_groups")),
    ("network", "security_group_rule", _per_project("security_group_rules")),
    ("image", "image_count_total", "SELECT owner, COUNT(*) FROM images WHERE owner IS NOT NULL GROUP BY owner"),
    (
        "image",
        "image_size_total",
        "SELECT owner, SUM(size) FROM images WHERE owner IS NOT NULL AND data_key IS NOT NULL AND status <> 'uploading' GROUP BY owner",
    ),
    (
        "image",
        "image_count_uploading",
        "SELECT owner, COUNT(*) FROM images WHERE owner IS NOT NULL AND status IN ('saving', 'uploading') GROUP BY owner",
    ),
)

_RESTLESS: Iterable[Callable[[View], Iterator[str]]] = (_unfinished_flows, _servers_at_work, _images_at_work, _events_untold)
_INVARIANTS: Iterable[Callable[[View], Iterator[str]]] = (
    _guests_are_as_their_servers,
    _servers_that_failed_say_why,
    _ports_are_their_servers,
    _marks_are_of_living_servers,
    _allocations_are_of_servers,
    _hosts_shall_have_what_is_there,
    _addresses_are_of_ports,
    _image_data_is_of_images,
    _usage_is_what_exists,
)
