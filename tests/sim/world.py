"""The control plane of a whole cloud within one thread: the real services, flows, loops and host agents, on a clock that moves when told.

Nothing runs by itself: `work` lets a worker do some flows, `tick` moves the clock and lets due loops run, `deliver` hands over messages,
`look_after` lets a host pull and report. `rest` does all of it without faults until nothing is left to do.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import os
import pathlib
import random
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from pileus.clients import Clients
from pileus.compute.agent.calls import Calls
from pileus.compute.agent.epochs import EpochBook
from pileus.compute.agent.jobs import Job, Jobs
from pileus.compute.agent.reconcile import Keeper, _Wanted
from pileus.compute.drivers.fake import FakeDriver, FakeHost
from pileus.kernel import clock, ids
from pileus.kernel.assembly import make_app, make_service
from pileus.kernel.config import load as load_config
from pileus.kernel.context import Context
from pileus.kernel.flows import Flow, store
from pileus.kernel.flows.runner import Execution
from pileus.kernel.room import load
from pileus.kernel.testing import ADMIN, MEMBER, TestClient
from pileus.kernel.web.auth import Authenticator
from pileus.network.agent.loops import Keeper as NetworkKeeper
from pileus.network.drivers.base import Settings, Touched
from pileus.network.drivers.fake import FakeDriver as FakeNetworkDriver
from pileus.server import rooms
from pileus.server.assembly import named
from tests import invariants
from tests.sim.fate import Died, Fate, SimBinding, SimBus

SERVICES = ("placement", "image", "network", "compute")
HOSTS = ("host1", "host2", "host3")
_log = logging.getLogger(__name__)


class _Nudged:
    """In place of the runner of loops: notes what was nudged."""

    def __init__(self) -> None:
        self.due: set[str] = set()

    def nudge(self, name: str) -> bool:
        self.due.add(name)
        return True


class _JobsAtOnce(Jobs):
    """Work that outlasts a call is done within it: there are no threads here."""

    def ensure(self, server_id: str, key: Any, work: Any) -> Job:
        job = self._jobs[server_id] = Job(server_id, key)
        self._run(job, work)
        return job


class Host:
    """A host with its two agents. `down`: it does not run; its guests are off until it does."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name, self.down = world, name, False
        self.home = world.home / name
        self.boots = 1
        self.driver = FakeDriver(self.home, FakeHost(hostname=name, vcpus=100, memory_mb=100_000, local_gb=1000))
        self.network = FakeNetworkDriver(Settings(home=self.home, host=name))
        self.begin()

    def begin(self) -> None:
        """Start the agents: nothing is remembered but what is in files."""
        bus = self.world.bus
        self.driver.start(lambda server_id: None)
        self.book = EpochBook(self.home / "epochs.sqlite")
        wake = lambda server_id: bus.cast("controller.compute", "compute.wake", {"id": server_id})  # noqa: E731
        self.calls = Calls(self.driver, self.book, None, wake)  # type: ignore[arg-type] - the fake driver fetches nothing
        self.calls.jobs = _JobsAtOnce(wake)
        self.calls.ready.set()
        self.keeper = Keeper(self.name, self.calls, bus, self.home, 10.0)
        self.keeper._has_booted = self._has_booted  # type: ignore[method-assign] - one machine pretends to be three
        self.keeper._remember_boot = self._remember_boot  # type: ignore[method-assign]
        self.calls.nudged = self.keeper.nudged
        self.net = NetworkKeeper(self.name, self.network, bus)
        bus.serve(f"agent.{self.name}", {**self.calls.methods(), "network.nudge": self.net.nudged, "network.taps": self.net.taps_changed})
        self.due = {"pull": 0.0, "report": 0.0, "beat": 0.0, "all": 0.0}

    def end(self) -> None:
        self.world.bus.leave(f"agent.{self.name}")
        self.driver.stop()
        self.book.close()

    def boot(self) -> None:
        """Everything was off: guests are shut down, networks are gone."""
        self.boots += 1
        self.network = FakeNetworkDriver(Settings(home=self.home, host=self.name))
        self.driver.start(lambda server_id: None)
        for server_id, state in self.driver.states().items():
            if state not in {"missing", "shutdown"}:
                self.driver.happen(server_id, "shutdown")
        self.driver.stop()
        self.begin()

    def _has_booted(self) -> bool:
        mark = self.home / "boot"
        return not mark.exists() or mark.read_text() != str(self.boots)

    def _remember_boot(self) -> None:
        (self.home / "boot").write_text(str(self.boots))

    def look_after(self) -> None:
        """What the agents' threads and loops do: what was nudged, and what is due by time."""
        if self.down:
            return
        now = clock.monotonic()
        due = {name for name, moment in self.due.items() if moment <= now}
        for name, every in (("pull", 30.0), ("report", 10.0), ("beat", 5.0), ("all", 30.0)):
            if name in due:
                self.due[name] = now + every
        wanted, self.keeper._wanted = self.keeper._wanted, _Wanted()
        wanted = _Wanted(wanted.pull or "pull" in due, wanted.report or "report" in due, wanted.changed)
        again = self.keeper._do(wanted)
        self.keeper._wanted.pull |= again.pull
        self.keeper._wanted.report |= again.report
        if "beat" in due:
            self.net.heartbeat()
        net = self.net
        pull, everything, what = True, net._report_all or "all" in due, net._due
        net._pull, net._report_all, net._due = False, False, Touched()
        if net._failed:
            what, net._failed = what | net._failed, Touched()
        try:
            net._pass(pull=pull, everything=everything or net._unsaid, due=what)
        except Exception:
            _log.exception("a pass of the network agent failed")


class World:
    """The cloud. `close` it; `as a context manager` it owns clock and random numbers."""

    def __init__(self, chance: random.Random) -> None:
        shm = pathlib.Path("/dev/shm")
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="pileus-sim-", dir=shm if os.access(shm, os.W_OK) else None))
        self.fate = Fate()
        self.bus = SimBus(self.fate)
        self.chance = chance
        sections = rooms.option_types()
        limits = {name: -1 for name in ("quota_instances", "quota_cores", "quota_ram")}
        overrides = {
            "pileus": {"host": "controller", "simulate": True},
            "compute": limits,
            "image": {"store_driver": "fake"},
            "network": {"quota_port": -1},
        }
        config = load_config(self.home, sections, environ={}, overrides=overrides)
        self.apps: dict[str, Any] = {}
        self.rooms = {name: rooms.room(name) for name in SERVICES}
        bindings = {name: SimBinding(self.fate, lambda name=name: self.apps[name], room.prefix) for name, room in self.rooms.items()}
        clients = Clients(bindings)
        self.services = {name: make_service(room, config, self.bus, clients) for name, room in self.rooms.items()}
        self.loops: dict[str, tuple[Any, Any, float]] = {}
        self.nudged = _Nudged()
        self.callers: dict[str, TestClient] = {}
        for name, room in self.rooms.items():
            self._furnish(name, room)
        self.flows = {name: self._mortal(flow) for name, flow in named(load(self.rooms["compute"].flows)).items()}
        self.worker = ids.new_id()
        self.abandoned: list[tuple[str, int]] = []
        self.fate.overtake = self._others_work
        self.hosts = {name: Host(self, name) for name in HOSTS}
        self.ended = itertools.count()

    def _furnish(self, name: str, room: Any) -> None:
        service = self.services[name]
        load(room.tables).create_all(service.db.engine)
        self.apps[name] = make_app(room, service, Authenticator(_no_tokens, lambda: 0))
        caller = TestClient.__new__(TestClient)
        caller.room, caller.app, caller.service = room, self.apps[name], service
        self.callers[name] = caller
        calls = {method: (lambda payload, act=act, service=service: act(service, payload)) for method, act in (load(room.calls) if room.calls else {}).items()}
        calls |= {"flows.nudge": lambda _payload: None, "loops.nudge": lambda payload: self.nudged.nudge(payload["name"])}
        self.bus.serve(f"controller.{name}", calls)
        service.loops.attach(self.nudged)  # type: ignore[arg-type]
        for loop in named(load(room.loops)).values() if room.loops else ():
            self.loops[loop.name] = (loop, service, 0.0)

    def _mortal(self, flow: Flow) -> Flow:
        """The flow, in whose steps a worker may die."""

        def around(act: Any) -> Any:
            def do(run: Any) -> Any:
                self.fate.may_die("a worker dies before a step")
                result = act(run)
                self.fate.may_die("a worker dies after a step")
                return result

            return do

        steps = tuple(dataclasses.replace(s, do=around(s.do), undo=around(s.undo) if s.undo else None) for s in flow.steps)
        return dataclasses.replace(flow, steps=steps)

    # --- asking -----------------------------------------------------------------------------------------------------

    def ask(self, service: str, method: str, path: str, body: Any = None, *, as_: Context = MEMBER, v: str = "2.96", data: bytes | None = None) -> Any:
        headers = {"OpenStack-API-Version": f"compute {v}"} if service == "compute" else {}
        if data is not None:
            headers["Content-Type"] = "application/octet-stream"
        return self.callers[service].request(method, path, json=body, body=data, as_=as_, headers=headers)

    def must(self, *arguments: Any, **options: Any) -> Any:
        answer = self.ask(*arguments, **options)
        assert answer.status < 300, (arguments, answer.status, answer.text)
        return answer.json

    def begin(self) -> None:
        """Hosts that report, a flavor, an image, a network."""
        for _ in range(3):
            self.tick(1.0)
            for host in self.hosts.values():
                host.look_after()
        flavor = {"id": "small", "name": "small", "ram": 512, "vcpus": 1, "disk": 1}
        self.must("compute", "POST", "/v2.1/flavors", {"flavor": flavor}, as_=ADMIN)
        image = {"name": "guest", "disk_format": "raw", "container_format": "bare", "visibility": "public"}
        self.image = self.must("image", "POST", "/v2/images", image, as_=ADMIN)["id"]
        self.must("image", "PUT", f"/v2/images/{self.image}/file", data=b"guest", as_=ADMIN)
        self.network = self.must("network", "POST", "/v2.0/networks", {"network": {"name": "net"}})["network"]["id"]
        subnet = {"network_id": self.network, "ip_version": 4, "cidr": "10.0.0.0/16"}
        self.must("network", "POST", "/v2.0/subnets", {"subnet": subnet})
        assert not self.rest()

    # --- stepping ---------------------------------------------------------------------------------------------------

    def work(self, limit: int) -> int:
        """A worker does some flows, each as far as it comes; how many. It may die of it, and a new one takes its place."""
        service, done = self.services["compute"], 0
        worker = self.worker
        try:
            with service.db.write(durable=False) as conn:
                store.renew(conn, worker, service.host, os.getpid())
                records = store.claim(conn, worker, list(self.flows), limit)
            self.fate.working = True
            for record in records:
                done += 1
                try:
                    Execution(service, self.flows[record.kind], record).go()
                except Exception:
                    self.abandoned.append((record.id, record.epoch))
        except Died:
            self.worker = ids.new_id()
        except sa.exc.OperationalError:
            pass
        finally:
            self.fate.working = False
        return done

    def _others_work(self) -> None:
        """What a second controller does when the first seems to be dead."""
        first, self.worker = self.worker, ids.new_id()
        clock.sleep(store.LEASE_SECONDS + 1)
        self._release()
        self.work(20)
        self.worker = first

    def _release(self) -> None:
        service = self.services["compute"]
        with contextlib.suppress(sa.exc.OperationalError), service.db.write(durable=False) as conn:
            store.release_expired(conn)
            for flow_id, epoch in self.abandoned:
                store.update_owned(conn, flow_id, epoch, state="ready", worker_id=None, wake_at=clock.utcnow())
            self.abandoned = []

    def tick(self, seconds: float) -> None:
        """Time passes; leases run out, loops that are due or nudged run."""
        clock.sleep(seconds)
        self._release()
        nudged, self.nudged.due = self.nudged.due, set()
        for name, (loop, service, due) in self.loops.items():
            if due <= clock.monotonic() or name in nudged:
                self.loops[name] = (loop, service, clock.monotonic() + loop.every)
                try:
                    loop.run(service)
                except Exception as error:
                    _log.info("loop %s failed: %s", name, error)

    def rest(self, seconds: float = 1800.0) -> list[str]:
        """Everything works and time passes until nothing is left to do and all is right; what is not, when it takes too long."""
        self.fate.harm = 0.0
        for host in self.hosts.values():
            if host.down:
                host.down = False
                host.boot()
        begun, view, wrong = clock.monotonic(), self.view(), ["nothing was looked at"]
        while wrong and clock.monotonic() < begun + seconds:
            self.tick(5.0)
            for _ in range(6):
                busy = self.bus.deliver() + self.work(50)
                for host in self.hosts.values():
                    host.look_after()
                if not busy:
                    break
            if clock.monotonic() > begun + 30:
                wrong = invariants.restless(view) or invariants.broken(view)
        return wrong

    def view(self) -> invariants.View:
        def rows(service: str, query: str) -> list[tuple[Any, ...]]:
            with self.services[service].db.read() as conn:
                return [tuple(row) for row in conn.execute(sa.text(query))]

        def guests() -> dict[str, dict[str, str]]:
            return {name: dict(host.driver.states()) for name, host in self.hosts.items()}

        def ports_on() -> dict[str, set[str]]:
            return {name: set(host.network.rules) for name, host in self.hosts.items()}

        return invariants.View(rows=rows, guests=guests, ports_on=ports_on)

    def close(self) -> None:
        for host in self.hosts.values():
            host.end()
        for service in self.services.values():
            service.db.close()
        shutil.rmtree(self.home, ignore_errors=True)


def _no_tokens(_token: str) -> dict[str, Any]:
    raise AssertionError("nobody has tokens here")


@contextlib.contextmanager
def owned(seed: int) -> Iterator[random.Random]:
    """Clock and random numbers belong to us meanwhile, the database's clock too."""
    chance = random.Random(seed)
    hexes = lambda: f"{chance.getrandbits(128):032x}"  # noqa: E731

    def uuid() -> str:
        digits = hexes()
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"

    mine = {"new_uuid": uuid, "new_id": hexes, "request_id": lambda: "req-" + uuid(), "token_bytes": chance.randbytes, "random_below": chance.randrange}
    before = {name: getattr(ids, name) for name in mine}
    time_of_database = store.database_time
    real = clock.use(clock.VirtualClock())
    try:
        for name, function in mine.items():
            setattr(ids, name, function)
        store.database_time = lambda _conn: clock.utcnow()  # type: ignore[assignment]
        yield chance
    finally:
        clock.use(real)
        store.database_time = time_of_database
        for name, function in before.items():
            setattr(ids, name, function)
