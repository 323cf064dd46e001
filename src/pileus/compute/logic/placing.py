"""Finding a host for a server and claiming it there, so that two servers never get the same room."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from pileus.compute.logic import hosts, outlook, placement, scheduler, states
from pileus.compute.store import hosts as host_store
from pileus.compute.store import servers as store
from pileus.compute.store.tables import COMPUTE_NODES, SERVER_GROUP_MEMBERS, SERVER_GROUPS, SERVERS, SERVICES
from pileus.kernel.context import Context
from pileus.kernel.service import Service

Row = Mapping[str, Any]

NO_HOST = "No valid host was found. There are not enough hosts available."


class NoValidHost(Exception):
    """No host takes the server; `reasons` says of each why not."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        super().__init__(NO_HOST)
        self.reasons = dict(reasons)


class Overtaken(Exception):
    """The server is being deleted."""


_IN_WORK = (states.SCHEDULING, states.NETWORKING, states.SPAWNING)


def place(service: Service, context: Context, server: Row) -> host_store.Row:
    """Choose a host, claim it in placement and record it; the compute node.

    Raises `NoValidHost` or `Overtaken`. May be repeated: a claim that is there already is replaced.
    """
    wish, node = _wish(service, server)
    if node is None and not (_traits_of(server) or wish.policy or wish.hints or wish.tried):
        remembered = _by_memory(service, context, server, wish, scheduler.resources_of(server["flavor"]))
        if remembered is not None:
            return remembered
    return _found(_settle(service, context, server, wish, node, lambda state: _record(service, server, state, wish)))


def _traits_of(server: Row) -> list[str]:
    return scheduler.traits_of(server["flavor"], server["image"])


def place_move(
    service: Service,
    context: Context,
    server: Row,
    *,
    target: str | None,
    ignored: frozenset[str],
    forced: bool,
    record: Callable[[scheduler.HostState], None],
) -> None:
    """Choose another host for a server and claim it there; `record` writes it down. `server` has the flavor that it shall have.

    Group, zone, aggregates and hints count as for a new server. Raises `NoValidHost`.
    """
    asked = {"host": target, "forced": forced}
    wish, node = _wish(service, {**server, "placement": asked})
    wish = replace(wish, ignored=ignored)

    def accept(state: scheduler.HostState) -> bool:
        with service.db.write(durable=False) as conn:
            if wish.policy in {"anti-affinity", "affinity"} and not _group_agrees(conn, server, state, wish):
                return False
        record(state)
        return True

    _settle(service, context, {**server, "placement": asked}, wish, node, accept)


def _settle(
    service: Service,
    context: Context,
    server: Row,
    wish: scheduler.Wish,
    node: host_store.Row | None,
    record: Callable[[scheduler.HostState], bool],
) -> scheduler.HostState:
    """Claim the best host that agrees. Raises `NoValidHost`."""
    found = placement.candidates(
        service,
        context,
        scheduler.resources_of(server["flavor"]),
        required=_traits_of(server),
        provider=node["uuid"] if node else None,
        limit=service.options.max_candidates,
    )
    with service.db.read() as conn:
        known = host_states(service, conn, found, wish)
    by_provider = {candidate.provider: candidate for candidate in reversed(found)}
    if (server["placement"] or {}).get("forced"):
        choice = scheduler.Choice([state for state in known if state.host not in wish.tried | wish.ignored], {})
    else:
        choice = scheduler.choose(service.options, wish, known)
    reasons = dict(choice.refused)
    for state in choice.hosts:
        if not _claim(service, context, server, by_provider[state.provider]):
            reasons[state.host] = "its room was taken meanwhile"
        elif record(state):
            return state
        else:
            reasons[state.host] = "the server group's policy does not allow it meanwhile"
    _add_silent_hosts(service, reasons, {state.host for state in known}, wish)
    raise NoValidHost(reasons)


_TRIES = 3


def _by_memory(
    service: Service, context: Context, server: Row, wish: scheduler.Wish, wanted: Mapping[str, int]
) -> host_store.Row | None:
    """Place a server where there are many hosts by what is remembered of them; None when that does not do, or hosts are few."""
    memory = outlook.memory(service)
    seen = memory.recall(wanted)
    if seen is None:
        with memory.looking:
            seen = memory.recall(wanted) or _look(service, context, wish, wanted)
        if seen is None:
            return None
    for _ in range(_TRIES):
        best = memory.pick(service.options, wish, wanted, seen)
        if best is None:
            return None
        candidate = seen.candidates[best.provider]
        with service.db.read() as conn:
            now = host_states(service, conn, [candidate], wish)
        fitting = scheduler.choose(service.options, wish, now).hosts
        if fitting and _claim(service, context, server, candidate) and _record(service, server, fitting[0], wish):
            return _found(fitting[0])
    return None


def _look(service: Service, context: Context, wish: scheduler.Wish, wanted: Mapping[str, int]) -> outlook.Outlook | None:
    """Look at all hosts for those who ask for the same; None when they are few."""
    with service.db.read() as conn:
        if host_store.fewer_than(conn, outlook.FEW):
            return None
    found = placement.candidates(service, context, wanted, limit=service.options.max_candidates)
    with service.db.read() as conn:
        known = host_states(service, conn, found, wish)
    seen = outlook.Outlook({candidate.provider: candidate for candidate in reversed(found)}, known)
    return seen if outlook.memory(service).keep(wanted, seen) else None


def _claim(service: Service, context: Context, server: Row, candidate: placement.Candidate) -> bool:
    owner = {"project_id": server["project_id"], "user_id": server["user_id"]}
    return placement.claim(service, context, server["id"], candidate.allocations, **owner)


def _found(state: scheduler.HostState) -> host_store.Row:
    return {"host": state.host, "node": state.node, "provider": state.provider, "zone": state.zone}


def _wish(service: Service, server: Row) -> tuple[scheduler.Wish, host_store.Row | None]:
    """What the server asks for, and the one compute node when it names it."""
    asked = server["placement"] or {}
    with service.db.read() as conn:
        group = store.group_of(conn, server["id"])
        members: frozenset[str] = frozenset()
        if group:
            query = sa.select(SERVER_GROUP_MEMBERS.c.server_id).where(
                SERVER_GROUP_MEMBERS.c.group_uuid == group["uuid"], SERVER_GROUP_MEMBERS.c.server_id != server["id"]
            )
            members = frozenset(conn.execute(query).scalars())
        node = host_store.node_of(conn, asked["host"]) if asked.get("host") else None
        if node is None and asked.get("node"):
            found = host_store.nodes(conn, COMPUTE_NODES.c.hypervisor_hostname == asked["node"])
            node = found[0] if found else None
        if group and group["policy"] == "affinity" and members:
            node = _affinity_node(conn, members) or node
    wish = scheduler.Wish(
        zone=server["pinned_zone"] or service.options.default_schedule_zone or None,
        host=asked.get("host"),
        node=asked.get("node"),
        extra_specs=server["flavor"]["extra_specs"],
        image_properties=(server["image"] or {}).get("properties") or {},
        hints=server["scheduler_hints"] or {},
        policy=group["policy"] if group else None,
        max_server_per_host=int((group["rules"] or {}).get("max_server_per_host", 1)) if group else 1,
        group_members=members,
        tried=frozenset(asked.get("tried", ())),
    )
    return wish, node


def _affinity_node(conn: sa.Connection, members: frozenset[str]) -> host_store.Row | None:
    """The host on which the group is."""
    query = sa.select(SERVERS.c.host).where(
        SERVERS.c.id.in_(list(members)), SERVERS.c.deleted.is_(False), SERVERS.c.host.is_not(None)
    )
    host = conn.execute(query.limit(1)).scalar()
    return host_store.node_of(conn, host) if host else None


def host_states(
    service: Service, conn: sa.Connection, found: Sequence[placement.Candidate], wish: scheduler.Wish
) -> list[scheduler.HostState]:
    """The hosts of the candidates as the decision sees them, in placement's order; a constant number of queries."""
    free = {candidate.provider: candidate.free for candidate in found}
    if not free:
        return []
    nodes = {row["uuid"]: row for row in host_store.nodes(conn, COMPUTE_NODES.c.uuid.in_(list(free)))}
    names = [row["host"] for row in nodes.values()]
    services = {
        row["host"]: row
        for row in host_store.services(conn, SERVICES.c.binary == host_store.COMPUTE, SERVICES.c.host.in_(names))
    }
    aggregates = [a for a in host_store.aggregates(conn) if a.hosts]
    in_work = store.count_building(conn) if len(names) > 1 else {}
    watched = _servers_by_host(conn, wish)
    result = []
    for provider, amounts in free.items():
        node = nodes.get(provider)
        service_row = services.get(node["host"]) if node else None
        if node is None or service_row is None:
            continue
        mine = [a for a in aggregates if node["host"] in a.hosts]
        metadata: dict[str, set[str]] = {}
        for aggregate in mine:
            for key, value in aggregate.metadata.items():
                metadata.setdefault(key, set()).update(part.strip() for part in value.split(","))
        zone = next((a.zone for a in mine if a.zone), None) or service.options.default_availability_zone
        result.append(
            scheduler.HostState(
                host=node["host"],
                node=node["hypervisor_hostname"],
                provider=provider,
                up=hosts.is_up(service.options, service_row),
                enabled=not service_row["disabled"],
                disabled_reason=service_row["disabled_reason"],
                zone=zone,
                free_vcpus=amounts.get("VCPU", 0),
                free_memory_mb=amounts.get("MEMORY_MB", 0),
                free_disk_gb=amounts.get("DISK_GB", 0),
                in_work=in_work.get(node["host"], 0),
                hypervisor_type=node["hypervisor_type"],
                hypervisor_version=node["hypervisor_version"],
                architecture=(node["cpu_info"] or {}).get("arch") or platform.machine(),
                aggregate_metadata={key: frozenset(values) for key, values in metadata.items()},
                servers=frozenset(watched.get(node["host"], ())),
            )
        )
    return result


def _servers_by_host(conn: sa.Connection, wish: scheduler.Wish) -> dict[str, set[str]]:
    """Host -> those of its servers that the wish speaks of."""
    named = set(wish.group_members)
    for hint in ("same_host", "different_host"):
        value = wish.hints.get(hint)
        named |= set(value) if isinstance(value, list) else ({value} if value else set())
    if not named:
        return {}
    query = sa.select(SERVERS.c.host, SERVERS.c.id).where(
        SERVERS.c.id.in_(sorted(named)), SERVERS.c.deleted.is_(False), SERVERS.c.host.is_not(None)
    )
    found: dict[str, set[str]] = {}
    for host, server_id in conn.execute(query):
        found.setdefault(host, set()).add(server_id)
    return found


def _record(service: Service, server: Row, state: scheduler.HostState, wish: scheduler.Wish) -> bool:
    """Write the host to the server. False when the group's policy is broken by a member that came meanwhile."""
    with service.db.write(durable=False) as conn:
        if wish.policy in {"anti-affinity", "affinity"} and not _group_agrees(conn, server, state, wish):
            return False
        moved = store.swap_task(
            conn,
            server["id"],
            _IN_WORK,
            host=state.host,
            node=state.node,
            availability_zone=state.zone,
            task_state=states.NETWORKING,
        )
    if not moved:
        raise Overtaken
    return True


def _group_agrees(conn: sa.Connection, server: Row, state: scheduler.HostState, wish: scheduler.Wish) -> bool:
    """Look at the group again with its row locked: members are placed one after another."""
    group = store.group_of(conn, server["id"])
    if group is None:
        return True
    conn.execute(sa.select(SERVER_GROUPS.c.id).where(SERVER_GROUPS.c.uuid == group["uuid"]).with_for_update())
    query = (
        sa.select(SERVERS.c.host)
        .join(SERVER_GROUP_MEMBERS, SERVER_GROUP_MEMBERS.c.server_id == SERVERS.c.id)
        .where(
            SERVER_GROUP_MEMBERS.c.group_uuid == group["uuid"],
            SERVERS.c.id != server["id"],
            SERVERS.c.deleted.is_(False),
            SERVERS.c.host.is_not(None),
        )
    )
    used = list(conn.execute(query).scalars())
    if wish.policy == "affinity":
        return all(host == state.host for host in used)
    return used.count(state.host) < wish.max_server_per_host


def _add_silent_hosts(service: Service, reasons: dict[str, str], seen: set[str], wish: scheduler.Wish) -> None:
    """Say of the hosts that placement did not propose why not, as far as we know."""
    with service.db.read() as conn:
        for node in host_store.nodes(conn):
            host = node["host"]
            if host in seen or host in reasons:
                continue
            if host in wish.tried:
                reasons[host] = "the server was tried here before"
            elif node["inventory"] is None:
                reasons[host] = "placement does not know the host yet"
            else:
                reasons[host] = "not enough free CPUs, memory or disk, or a required trait is missing"
