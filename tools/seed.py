"""Many servers in little time: copies of servers that a simulated cloud has built, with ports and guests, on hosts that are up.

    python -m tools.seed --home DIR --copies 99               99 more of every active server
    python -m tools.seed --home DIR --copies 10 --server ID   of this one

A copy leaves what a build leaves, written by the functions that a build uses: quota, allocations, ports, the calls of the host, the diary and the record
of its flow. What is spared are the flow's steps, the requests between services and a transaction for each: servers of one project are made a hundred
at a time. Hosts are taken in turn; the quota of the projects must allow it.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import itertools
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.cli.session import load_config
from pileus.compute.flows.build_server import BUILD_SERVER, EVENT
from pileus.compute.logic import actions, documents, hosts, quotas, scheduler, states
from pileus.compute.store import servers as store
from pileus.compute.store.tables import COMPUTE_NODES, PLUGGED_PORTS, SERVER_PORTS, SERVERS, SERVICES
from pileus.kernel import clock, desired, ids
from pileus.kernel.assembly import make_service
from pileus.kernel.bus import LocalBus
from pileus.kernel.config import Config
from pileus.kernel.context import Context
from pileus.kernel.flows import store as flow_store
from pileus.network.logic import ports as network_ports
from pileus.placement.logic.allocations import Change, set_allocations
from pileus.server import rooms

BATCH = 100
_PATIENCE = 120.0
Row = dict[str, Any]


@dataclasses.dataclass
class Copy:
    """A server on its way: its row, where it goes, its records, and in the end its port."""

    row: Row
    provider: str
    action: int = 0
    flow: str = ""
    port: Row = dataclasses.field(default_factory=dict)
    spawned: float = 0.0

    @property
    def id(self) -> str:
        return str(self.row["id"])


class Seeder:
    """Makes copies in the cloud of a home, beside its processes."""

    def __init__(self, config: Config) -> None:
        bus = LocalBus(f"seed:{os.getpid()}", config.home / "run" / "bus")
        services = [make_service(rooms.room(name), config, bus, None) for name in ("compute", "network", "placement")]
        self.compute, self.network, self.placement = services
        self._hosts: Iterator[Row] = itertools.cycle(self._living_hosts())

    def copy(self, template_id: str, count: int) -> list[str]:
        """So many more of a server, at most `BATCH`; their ids. Ends when all of them run and their ports are plugged."""
        with self.compute.db.read() as conn:
            template = store.get(conn, template_id)
            if template is None or template["vm_state"] != states.ACTIVE or len(template["network_info"] or []) != 1:
                raise SystemExit(f"server {template_id} is no active server with one port")
            asked_by = conn.execute(sa.select(flow_store.FLOWS.c.asked_by).where(flow_store.FLOWS.c.resource_id == template_id).limit(1)).scalar()
        copies = self._record(template, count, asked_by or {})
        self._claim(copies)
        self._add_ports(template, copies)
        for each in copies:
            self._make_guest(each)
        self._wait_for_ports([each.id for each in copies])
        self._finish(copies)
        return [each.id for each in copies]

    def _living_hosts(self) -> list[Row]:
        """Compute nodes that take servers."""
        with self.compute.db.read() as conn:
            query = sa.select(COMPUTE_NODES, SERVICES.c.last_seen_up, SERVICES.c.forced_down).join(
                SERVICES, sa.and_(SERVICES.c.host == COMPUTE_NODES.c.host, SERVICES.c.binary == "nova-compute", SERVICES.c.disabled.is_(False))
            )
            rows = [dict(row) for row in conn.execute(query.order_by(COMPUTE_NODES.c.host)).mappings()]
        found = [row for row in rows if hosts.is_up(self.compute.options, row)]
        if not found:
            raise SystemExit("no host takes servers")
        return found

    def _record(self, template: Row, count: int, asked_by: Row) -> list[Copy]:
        """Quota, rows, the diary, and flows that nobody has to run."""
        asker = Context(user_id=template["user_id"], project_id=template["project_id"], request_id=asked_by.get("request_id") or "")
        copies = []
        with self.compute.db.write() as conn:
            size = {"instances": count, "cores": template["vcpus"] * count, "ram": template["memory_mb"] * count}
            quotas.reserve(self.compute, conn, template["project_id"], size)
            for number in range(count):
                node = next(self._hosts)
                each = Copy(_copied(template, number, node["host"], node["hypervisor_hostname"]), node["uuid"])
                store.insert(conn, each.row)
                each.action = actions.start(conn, asker, each.id, actions.CREATE)
                work = {"epoch": 1000, "action": each.action}
                each.flow = flow_store.insert(conn, BUILD_SERVER.name, each.id, work, asked_by)
                copies.append(each)
            mine = flow_store.FLOWS.c.id.in_([each.flow for each in copies])
            conn.execute(sa.update(flow_store.FLOWS).where(mine).values(state="done", epoch=1, step=len(BUILD_SERVER.steps), finished_at=clock.utcnow()))
        return copies

    def _claim(self, copies: Sequence[Copy]) -> None:
        amounts = scheduler.resources_of(copies[0].row["flavor"])
        changes = [
            Change(each.id, {each.provider: amounts}, each.row["project_id"], each.row["user_id"], "INSTANCE", None) for each in copies
        ]
        set_allocations(self.placement, changes)

    def _add_ports(self, template: Row, copies: Sequence[Copy]) -> None:
        """A port for each, as compute asks for it, and what its server shows of it."""
        zone = template["availability_zone"]
        wanted = template["requested_networks"] or {}
        items = []
        for each in copies:
            body = {
                **_PORT, "network_id": template["network_info"][0]["network_id"], "project_id": template["project_id"],
                "device_id": each.id, "device_owner": f"compute:{zone}", "binding:host_id": each.row["host"],
            }  # fmt: skip
            items.append(body | ({"security_groups": wanted["security_groups"]} if wanted.get("security_groups") else {}))
        for each, port in zip(copies, network_ports.create_ports(self.network, items), strict=True):
            if port["binding:vif_type"] == "binding_failed":
                raise SystemExit(f"host {each.row['host']} attaches no port")
            each.port = port
            each.row["network_info"] = [_shown(template["network_info"][0], port)]

    def _make_guest(self, each: Copy) -> None:
        """The three calls by which a host makes a guest and lets it run."""
        doc = documents.server_doc(self.compute.options, each.row, {}, [], epoch=_EPOCH, power="running").to_dict()
        for method in ("prepare", "create", "resume"):
            answer = self.compute.bus.call(f"agent.{each.row['host']}", f"compute.{method}", {"id": each.id, "epoch": _EPOCH, "doc": doc}, timeout=60)
            if method == "prepare" and (answer or {}).get("state") != "ready":
                raise SystemExit(f"host {each.row['host']} prepares no guest: {answer}")
        each.spawned = clock.time()

    def _wait_for_ports(self, server_ids: Sequence[str]) -> None:
        """Until compute has heard that every port is plugged."""
        end = time.monotonic() + _PATIENCE
        query = sa.select(sa.func.count()).where(PLUGGED_PORTS.c.server_id.in_(server_ids))
        while time.monotonic() < end:
            with self.compute.db.read() as conn:
                if conn.execute(query).scalar_one() >= len(server_ids):
                    return
            time.sleep(0.1)
        raise SystemExit("ports are not plugged")

    def _finish(self, copies: Sequence[Copy]) -> None:
        """What the build's last words write, and its steps."""
        now = clock.utcnow()
        with self.compute.db.write() as conn:
            for each in copies:
                info = [{**vif, "active": True} for vif in each.row["network_info"]]
                store.set_network_info(conn, each.id, info)
                done = {"vm_state": states.ACTIVE, "task_state": None, "power_state": states.RUNNING, "epoch": _EPOCH, "launched_at": now, "updated_at": now}
                conn.execute(sa.update(SERVERS).where(SERVERS.c.id == each.id).values(done))
                actions.finish(conn, each.action, EVENT, host=each.row["host"])
            ports = [{"port_id": each.port["id"], "server_id": each.id, "mine": True, "tag": None, "position": 0} for each in copies]
            conn.execute(sa.insert(SERVER_PORTS), ports)
            conn.execute(sa.insert(flow_store.STEPS), [step for each in copies for step in self._steps(each)])
            for each in copies:
                conn.execute(sa.update(flow_store.FLOWS).where(flow_store.FLOWS.c.id == each.flow).values(results=_results(each), finished_at=now))
            wanted: dict[tuple[str, str], dict[str, bool]] = {}
            for each in copies:
                wanted.setdefault((each.row["host"], hosts.KIND), {})[each.id] = False
            desired.record(conn, wanted)

    def _steps(self, each: Copy) -> Iterator[Row]:
        at = {"state": "done", "attempts": 1, "host": self.compute.host, "started_at": clock.from_epoch(each.spawned), "ended_at": clock.utcnow()}
        for number, step in enumerate(BUILD_SERVER.steps):
            yield {**at, "flow_id": each.flow, "number": number, "name": step.name}


_EPOCH = 1001
"""Of a server that was built by one flow in one go."""
_PORT: Mapping[str, Any] = {
    "name": "", "description": "", "admin_state_up": True, "allowed_address_pairs": [], "extra_dhcp_opts": [], "binding:vnic_type": "normal",
    "binding:profile": {},
}  # fmt: skip


def _copied(template: Row, number: int, host: str, node: str) -> Row:
    server_id = ids.new_uuid()
    name = f"{template['name']}-{server_id[:8]}"
    fresh = {"updated_at": None, "launched_at": None, "power_state": states.NOSTATE, "vm_state": states.BUILDING, "task_state": states.SPAWNING}
    mine = {"id": server_id, "name": name, "hostname": name, "launch_index": number, "host": host, "node": node, "network_info": [], "epoch": 1000}
    return {**template, **fresh, **mine, "created_at": clock.utcnow()}


def _shown(vif: Row, port: Row) -> Row:
    """The part of `network_info` about a port in the same network."""
    ips = [{"address": ip["ip_address"], "version": 6 if ":" in ip["ip_address"] else 4, "type": "fixed", "subnet_id": ip["subnet_id"]} for ip in port["fixed_ips"]]
    return {**vif, "port_id": port["id"], "mac": port["mac_address"], "active": False, "ips": ips}


def _results(each: Copy) -> Row:
    host = each.row["host"]
    return {"claim": {"host": host}, "ports": {"ports": [each.port["id"]]}, "spawn": {"host": host, "at": each.spawned}, "activate": {}}


def seed(config: Config, templates: Sequence[str], copies: int, *, at_once: int = 3) -> int:
    """So many copies of each template; how many there are now."""
    seeder = Seeder(config)
    parts = [(template, min(BATCH, copies - start)) for start in range(0, copies, BATCH) for template in templates]
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        return sum(len(made) for made in pool.map(lambda part: seeder.copy(*part), parts))


def active_servers(config: Config) -> list[str]:
    """Ids of all active servers."""
    db = Seeder(config).compute.db
    with db.read() as conn:
        return list(conn.execute(sa.select(SERVERS.c.id).where(SERVERS.c.deleted.is_(False), SERVERS.c.vm_state == states.ACTIVE)).scalars())


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools.seed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=pathlib.Path, default=None)
    parser.add_argument("--copies", type=int, required=True, help="of each server")
    parser.add_argument("--server", action="append", help="id of a server to copy; every active one without")
    arguments = parser.parse_args(argv)
    config = load_config(arguments.home or pathlib.Path(os.environ["PILEUS_HOME"]))
    began = time.monotonic()
    made = seed(config, arguments.server or active_servers(config), arguments.copies)
    print(f"{made} servers in {time.monotonic() - began:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
