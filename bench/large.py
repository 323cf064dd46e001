"""One controller and thousands of simulated hosts (tools/swarm.py): what a boot costs, how lists and idle hosts weigh.

    python bench/large.py --hosts 1000                             a throw-away cloud: arrival, idle, boots, lists
    python bench/large.py --hosts 5000 --parts arrival,idle
    python bench/large.py --hosts 5000 --servers 200 --per-project 1 --copies 99 --parts arrival,boots,seed,lists       20,000 servers of 200 projects
    python bench/large.py --home DIR --hosts 1000 --parts boots    a cloud that is up stays up, its swarm too: for a run in parts

One JSON line per figure. `cpu_ms` are by process: the API workers together, the controller, the hosts together. Hosts run on the same machine, so what
they use is missing to the controller: figures are of the whole, not of a controller that has its cores to itself.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import contextlib
import json
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from benchlib import Client, pct
from benchlib import Cloud as Api
from tools import seed as seeding
from tools.cloud import Cloud, ThrowAway

from pileus.cli.session import load_config

PARTS = ("arrival", "idle", "boots", "lists")
"""Those that run without being asked for; there is `seed` too."""
TICK = os.sysconf("SC_CLK_TCK")
SETTINGS = {"PILEUS_COMPUTE__QUOTA_INSTANCES": "-1", "PILEUS_COMPUTE__QUOTA_CORES": "-1", "PILEUS_COMPUTE__QUOTA_RAM": "-1",
            "PILEUS_NETWORK__QUOTA_PORT": "-1", "PILEUS_NETWORK__QUOTA_NETWORK": "-1", "PILEUS_NETWORK__QUOTA_SUBNET": "-1"}  # fmt: skip


def emit(name: str, unit: str, value: float | None, **more: Any) -> None:
    rounded = None if value is None else round(value, 2)
    print(json.dumps({"name": f"large.{name}", "unit": unit, "value": rounded, **more, "load1": round(os.getloadavg()[0], 1)}), flush=True)


class Watched:
    """The processes of a cloud and of its swarm: processor time and memory by kind."""

    def __init__(self, home: pathlib.Path, swarm: int) -> None:
        found = json.loads((home / "run" / "processes.json").read_text())
        self.pids = {"api": [], "controller": [], "agent": []}
        for name, child in found.items():
            self.pids[name.partition("-")[0]].append(child["pid"])
        children = pathlib.Path(f"/proc/{swarm}/task/{swarm}/children")
        self.pids["swarm"] = [int(pid) for pid in children.read_text().split()] if swarm else []

    def cpu(self) -> dict[str, float]:
        return {kind: sum(map(self._cpu, pids)) for kind, pids in self.pids.items()}

    def pss(self) -> dict[str, float]:
        return {kind: round(sum(map(self._pss, pids)), 1) for kind, pids in self.pids.items()}

    @contextlib.contextmanager
    def measured(self) -> Iterator[dict[str, float]]:
        """Processor seconds by kind, and `wall`."""
        used: dict[str, float] = {}
        before, began = self.cpu(), time.monotonic()
        yield used
        used.update({kind: value - before[kind] for kind, value in self.cpu().items()}, wall=time.monotonic() - began)

    @staticmethod
    def _cpu(pid: int) -> float:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    @staticmethod
    def _pss(pid: int) -> float:
        lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


class Bench:
    def __init__(self, cloud: Cloud, hosts: int, swarm: int, arguments: argparse.Namespace) -> None:
        os.environ.update(cloud.variables("admin"))
        self.cloud, self.hosts, self.arguments = cloud, hosts, arguments
        self.api = Api()
        self.watched = Watched(cloud.home, swarm)
        self.compute, self.placement = self.api.client("compute", "compute 2.90"), self.api.client("placement", "placement 1.39")

    def up(self) -> int:
        """How many hosts could take a server now: as compute's and placement's databases say, so that looking costs nothing."""
        return min(self._count("compute", "SELECT count(*) FROM compute_nodes WHERE inventory IS NOT NULL"),
                   self._count("network", "SELECT count(DISTINCT host) FROM agents"))  # fmt: skip

    def arrival(self) -> None:
        with self.watched.measured() as used:
            end = time.monotonic() + self.arguments.limit
            while self.up() <= self.hosts and time.monotonic() < end:
                time.sleep(0.5)
        emit("arrival", "s", used["wall"], hosts=self.up() - 1, ramp=self.arguments.ramp, cpu_s=rounded(used))
        if self.hosts:
            self.compute("PUT", f"/os-services/{self._own_service()}", {"status": "disabled"})

    def idle(self) -> None:
        time.sleep(10)
        with self.watched.measured() as used:
            time.sleep(self.arguments.seconds)
        wall = used.pop("wall")
        for kind in ("controller", "swarm"):
            emit(f"idle.{kind}", "% of a core", 100 * used[kind] / wall, hosts=self.hosts, servers=self._servers("ACTIVE"))
        pss = self.watched.pss()
        emit("idle.pss", "MiB", pss["controller"], hosts=self.hosts, by_process=pss, per_host=round(pss["swarm"] / max(self.hosts, 1), 2))
        emit("down", "hosts", len(self.down()), hosts=self.hosts)

    def boots(self) -> None:
        image = next(i["id"] for i in self.api.client("image").get("/images")["images"])
        flavor = self._flavor()
        projects = [self._project(number) for number in range(-(-self.arguments.servers // self.arguments.per_project))]
        asked = []
        for number, (compute, network) in enumerate(projects):
            count = min(self.arguments.per_project, self.arguments.servers - number * self.arguments.per_project)
            spec = {"name": f"large-{number}", "imageRef": image, "flavorRef": flavor, "networks": [{"uuid": network}]}
            sizes = [min(self.arguments.batch, count - start) for start in range(0, count, self.arguments.batch)]
            asked.append((compute, [{"server": {**spec, "min_count": size, "max_count": size}} for size in sizes]))
        had, failed = self._servers("ACTIVE"), self._servers("ERROR")
        with self.watched.measured() as used:
            end = time.monotonic() + self.arguments.limit
            with concurrent.futures.ThreadPoolExecutor(8) as askers:  # so many projects ask at the same time
                list(askers.map(lambda each: [each[0]("POST", "/servers", body) for body in each[1]], asked))
            accepted = time.monotonic()
            while time.monotonic() < end:
                done, errors = self._servers("ACTIVE") - had, self._servers("ERROR") - failed
                if done + errors >= self.arguments.servers:
                    break
                time.sleep(0.3)
        wall = used.pop("wall")
        per_boot = {kind: round(1000 * seconds / max(done, 1), 2) for kind, seconds in used.items()}
        emit("boots", "boots/s", done / wall, hosts=self.hosts, servers=done, errors=errors, projects=len(projects),
             accepted_s=round(wall - (time.monotonic() - accepted), 1), cpu_ms=per_boot, steps_ms=self._steps(done))  # fmt: skip

    def seed(self) -> None:
        """Copies of every server there is (tools/seed.py), with all that belongs to them."""
        os.environ.update(SETTINGS)
        config = load_config(self.cloud.home)
        with self.watched.measured() as used:
            made = seeding.seed(config, seeding.active_servers(config), self.arguments.copies)
        wall = used.pop("wall")
        per_server = {kind: round(1000 * seconds / max(made, 1), 2) for kind, seconds in used.items()}
        emit("seed", "servers/s", made / wall, hosts=self.hosts, servers=made, cpu_ms=per_server)

    def lists(self) -> None:
        servers = self._count("compute", "SELECT count(*) FROM servers WHERE NOT deleted")
        self._timed("servers.detail_1000", lambda: self.compute.get("/servers/detail?limit=1000&all_tenants=1"), "servers", servers=servers)
        self._timed("servers_1000", lambda: self.compute.get("/servers?limit=1000&all_tenants=1"), "servers", servers=servers)
        some = self.compute.get("/servers?limit=500&all_tenants=1")["servers"]
        if some:
            mark = f"/servers/detail?limit=1000&all_tenants=1&marker={some[-1]['id']}"
            self._timed("servers.detail_page", lambda: self.compute.get(mark), "servers", servers=servers)
        self._every_server(servers)
        self._timed("hypervisors.detail", lambda: self.compute.get("/os-hypervisors/detail"), "hypervisors", hosts=self.hosts)
        self._timed("services", lambda: self.compute.get("/os-services"), "services", hosts=self.hosts)
        self._timed("providers", lambda: self.placement.get("/resource_providers"), "resource_providers", hosts=self.hosts)
        query = "/allocation_candidates?limit=1000&resources=VCPU:1,MEMORY_MB:64,DISK_GB:1"
        self._timed("candidates_1000", lambda: self.placement.get(query), "allocation_requests", hosts=self.hosts)
        agents = self.api.client("network")
        self._timed("ports_1000", lambda: agents.get("/ports?limit=1000"), "ports", servers=servers)
        self._timed("network.agents", lambda: agents.get("/agents"), "agents", hosts=self.hosts)

    def _every_server(self, servers: int) -> None:
        """All servers of all projects, a thousand a page."""
        began, rows, query = time.perf_counter(), 0, "/servers/detail?limit=1000&all_tenants=1"
        mark = ""
        while page := self.compute.get(query + mark)["servers"]:
            rows, mark = rows + len(page), f"&marker={page[-1]['id']}"
        emit("list.servers.all", "s", time.perf_counter() - began, rows=rows, servers=servers)

    def down(self) -> list[str]:
        """Hosts that count as dead though they live."""
        return [row["host"] for row in self.compute.get("/os-services?binary=nova-compute")["services"] if row["state"] != "up"]

    def _timed(self, name: str, act: Callable[[], Any], key: str, **more: Any) -> None:
        lat = []
        for _ in range(7):
            began = time.perf_counter()
            rows = len(act()[key])
            lat.append(time.perf_counter() - began)
        emit(f"list.{name}", "ms p50", pct(lat, 50) * 1000, rows=rows, slowest_ms=round(max(lat) * 1000, 1), **more)

    def _flavor(self) -> str:
        for flavor in self.compute.get("/flavors")["flavors"]:
            if flavor["name"] == "large.nano":
                return str(flavor["id"])
        return str(self.compute("POST", "/flavors", {"flavor": {"name": "large.nano", "ram": 64, "vcpus": 1, "disk": 1}})[2]["flavor"]["id"])

    def _project(self, number: int) -> tuple[Client, str]:
        """Compute as a new project sees it, and its network."""
        identity, name = self.api.client("identity"), f"large-{os.getpid()}-{number}"
        project = identity("POST", "/projects", {"project": {"name": name}})[2]["project"]["id"]
        role = identity.get("/roles?name=admin")["roles"][0]["id"]
        identity("PUT", f"/projects/{project}/users/{self.api.user_id}/roles/{role}")
        os.environ["OS_PROJECT_NAME"] = name
        api = Api()
        return api.client("compute", "compute 2.90"), self._network(api.client("network"), number)

    def _network(self, network: Client, number: int) -> str:
        made = network("POST", "/networks", {"network": {"name": f"large-{number}"}})[2]["network"]["id"]
        subnet = {"network_id": made, "ip_version": 4, "cidr": "10.64.0.0/13"}
        network("POST", "/subnets", {"subnet": subnet})
        return str(made)

    def _own_service(self) -> str:
        found = self.compute.get("/os-services?binary=nova-compute")["services"]
        return str(next(row["id"] for row in found if not row["host"].startswith("swarm-")))

    def _count(self, service: str, query: str) -> int:
        with contextlib.closing(sqlite3.connect(f"file:{self.cloud.home}/databases/{service}.sqlite?mode=ro", uri=True, timeout=20)) as db:
            return int(db.execute(query).fetchone()[0])

    def _servers(self, state: str) -> int:
        column = {"ACTIVE": "active", "ERROR": "error"}[state]
        return self._count("compute", f"SELECT count(*) FROM servers WHERE NOT deleted AND vm_state = '{column}' AND task_state IS NULL")

    def _steps(self, count: int) -> dict[str, float]:
        """Median wall time of the steps of the last flows."""
        query = (
            "SELECT name, (julianday(ended_at) - julianday(started_at)) * 86400000 FROM flow_steps WHERE state = 'done'"
            f" AND flow_id IN (SELECT id FROM flows WHERE kind = 'build_server' ORDER BY seq DESC LIMIT {count})"
        )
        with contextlib.closing(sqlite3.connect(f"file:{self.cloud.home}/databases/compute.sqlite?mode=ro", uri=True)) as db:
            found = collections.defaultdict(list)
            for name, took in db.execute(query):
                found[name].append(took)
        return {name: round(pct(took, 50), 1) for name, took in found.items()}


def rounded(used: dict[str, float]) -> dict[str, float]:
    return {kind: round(value, 1) for kind, value in used.items()}


@contextlib.contextmanager
def swarm(cloud: Cloud, hosts: int, ramp: float, *, keep: bool) -> Iterator[int]:
    """Hosts beside the cloud; the pid of their parent."""
    mark = cloud.home / "run" / "swarm.pid"
    if not hosts:
        yield 0
        return
    if mark.exists() and pathlib.Path(f"/proc/{mark.read_text()}").exists():
        yield int(mark.read_text())
        return
    argv = [sys.executable, "-m", "tools.swarm", "--hosts", str(hosts), "--ramp", str(ramp), "--home", str(cloud.home)]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=pathlib.Path(__file__).resolve().parent.parent, start_new_session=True)
    mark.write_text(str(process.pid))
    time.sleep(1.5)
    try:
        yield process.pid
    finally:
        if not keep:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            mark.unlink()


@contextlib.contextmanager
def some_cloud(home: pathlib.Path | None) -> Iterator[Cloud]:
    if home is None:
        with ThrowAway(settings=SETTINGS) as cloud:
            yield cloud
        return
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    recorded = home / "run-options.json"
    port = json.loads(recorded.read_text())["api"]["port"] if recorded.exists() else None
    cloud = Cloud(home, settings=SETTINGS, port=port)
    cloud.up()
    yield cloud


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=1000, help="0: the cloud's own host alone")
    parser.add_argument("--ramp", type=float, default=30.0, help="seconds in which the hosts arrive")
    parser.add_argument("--servers", type=int, default=300, help="how many to boot")
    parser.add_argument("--batch", type=int, default=20, help="servers per request")
    parser.add_argument("--per-project", type=int, default=100, help="servers per project and network")
    parser.add_argument("--copies", type=int, default=99, help="of each server, for the part `seed`")
    parser.add_argument("--seconds", type=float, default=40.0, help="how long to watch idle hosts")
    parser.add_argument("--limit", type=float, default=240.0, help="seconds a part may take")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--home", type=pathlib.Path, default=None, help="a cloud to keep, started when it is down")
    arguments = parser.parse_args()
    with some_cloud(arguments.home) as cloud, swarm(cloud, arguments.hosts, arguments.ramp, keep=arguments.home is not None) as pid:
        bench = Bench(cloud, arguments.hosts, pid, arguments)
        for part in arguments.parts.split(","):
            getattr(bench, part)()
    return 0


if __name__ == "__main__":
    sys.exit(main())
