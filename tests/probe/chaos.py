"""Chaos: clients use a simulated cloud through its public API while whatever it is made of is killed and started again.

Clients keep a journal of what they were told. What was acknowledged is compared with what there is when the cloud has come to rest:
an acknowledged resource exists until its deletion was asked for, an acknowledged deletion ends. A request whose answer was lost may
have been done or not; its resource is found by its name, which nobody uses twice.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
import random
import signal
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

from pileus.clients.base import PeerNotFound
from pileus.kernel import clock
from pileus.kernel.errors import Failure
from tests.brokers import RabbitMQ
from tests.databases import PostgreSQL
from tests.probe.probed import Probed, patiently, wait_until
from tools.cloud import CommandFailed

PROCESSES = ("api-0", "api-1", "controller", "agent", "supervisor")


class Journal:
    """What clients asked for and what they were told."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.asked: dict[str, set[str]] = {"server": set(), "port": set(), "image": set()}
        self.made: dict[str, dict[str, str]] = {"server": {}, "port": {}, "image": {}}
        self.deleting: set[str] = set()
        self.deleted: dict[str, set[str]] = {"server": set(), "port": set(), "image": set()}
        self.uploaded: dict[str, str] = {}
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    def count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    def ask(self, kind: str, name: str) -> None:
        with self._lock:
            self.asked[kind].add(name)

    def acknowledge(self, kind: str, resource_id: str, name: str) -> None:
        with self._lock:
            self.made[kind][resource_id] = name
            self.counts["acknowledged"] += 1

    def ask_deletion(self, resource_id: str) -> None:
        with self._lock:
            self.deleting.add(resource_id)

    def acknowledge_deletion(self, kind: str, resource_id: str) -> None:
        with self._lock:
            self.deleted[kind].add(resource_id)
            self.counts["acknowledged"] += 1

    def complain(self, sentence: str) -> None:
        with self._lock:
            self.wrong.append(sentence)

    def kept(self, kind: str) -> list[str]:
        """What was acknowledged, and not asked to be deleted."""
        with self._lock:
            return sorted(set(self.made[kind]) - self.deleting)


class Customer(threading.Thread):
    """One client at work until it is told to stop. Raises nothing: what surprises it stands in the journal."""

    def __init__(self, probed: Probed, journal: Journal, number: int, chance: random.Random) -> None:
        super().__init__(name=f"customer {number}", daemon=True)
        self.number, self.journal, self.chance = number, journal, chance
        self.done = threading.Event()
        self.made = 0
        self.image, self.network = probed.image, probed.network
        context, clients = probed.session.context, probed.session.clients
        self.peers = {"server": clients.compute(context), "port": clients.network(context), "image": clients.image(context)}

    def run(self) -> None:
        deeds = [self.make_server] * 4 + [self.delete_server] * 3 + [self.switch_server] * 2 + [self.list_servers]
        deeds += [self.make_port] * 2 + [self.delete_port] * 2 + [self.make_image] * 2 + [self.delete_image] * 2
        while not self.done.is_set():
            try:
                self.chance.choice(deeds)()
            except Exception:
                self.journal.complain(traceback.format_exc())
            self.done.wait(self.chance.uniform(0.0, 0.1))

    def ask(self, what: str, request: Callable[[], Any], expected: tuple[int, ...] = ()) -> Any:
        """The answer; None when there was none or it was an expected refusal."""
        self.journal.count("requests")
        try:
            return request() or {}
        except Failure as failure:
            if failure.status < 500 and failure.status not in expected:
                self.journal.complain(f"{what}: {failure.status} {failure.message}")
            if failure.status >= 500:
                self.journal.count("unanswered")
                self.done.wait(0.1)
            return None

    def name(self, kind: str) -> str:
        self.made += 1
        name = f"chaos-{self.number}-{self.made}"
        self.journal.ask(kind, name)
        return name

    def some(self, kind: str) -> str | None:
        """One of mine: others do not touch it."""
        mine = [each for each in self.journal.kept(kind) if self.journal.made[kind][each].startswith(f"chaos-{self.number}-")]
        return self.chance.choice(mine) if mine else None

    def make_server(self) -> None:
        if len(self.journal.kept("server")) > 60:
            return
        body = {"name": (name := self.name("server")), "imageRef": self.image, "flavorRef": "42", "networks": [{"uuid": self.network}]}
        told = self.ask(f"create server {name}", lambda: self.peers["server"].post("/v2.1/servers", {"server": body}))
        if told:
            self.journal.acknowledge("server", told["server"]["id"], name)

    def make_port(self) -> None:
        body = {"name": (name := self.name("port")), "network_id": self.network}
        told = self.ask(f"create port {name}", lambda: self.peers["port"].post("/v2.0/ports", {"port": body}))
        if told:
            self.journal.acknowledge("port", told["port"]["id"], name)

    def make_image(self) -> None:
        body = {"name": (name := self.name("image")), "disk_format": "raw", "container_format": "bare"}
        told = self.ask(f"create image {name}", lambda: self.peers["image"].post("/v2/images", body))
        if not told:
            return
        self.journal.acknowledge("image", told["id"], name)
        data = self.chance.randbytes(self.chance.choice((1 << 10, 1 << 18, 3 << 20)))
        pieces = (data[start : start + (1 << 16)] for start in range(0, len(data), 1 << 16))
        headers = {"Content-Type": "application/octet-stream"}
        path = f"/v2/images/{told['id']}/file"
        answer = self.ask(f"fill image {name}", lambda: self.peers["image"].request("PUT", path, pieces, headers=headers).read() or True)
        if answer:
            self.journal.uploaded[told["id"]] = hashlib.md5(data, usedforsecurity=False).hexdigest()
            self.journal.count("acknowledged")

    def delete(self, kind: str, path: str) -> None:
        resource_id = self.some(kind)
        if resource_id is None:
            return
        self.journal.ask_deletion(resource_id)
        for _ in range(3):
            # 404: the answer to an earlier try was lost. 409: an image that is being written by a worker that was killed.
            told = self.ask(f"delete {kind} {resource_id}", lambda: self.peers[kind].delete(path.format(resource_id)) or True, (404, 409))
            if told:
                self.journal.acknowledge_deletion(kind, resource_id)
                return

    def delete_server(self) -> None:
        self.delete("server", "/v2.1/servers/{}")

    def delete_port(self) -> None:
        self.delete("port", "/v2.0/ports/{}")

    def delete_image(self) -> None:
        self.delete("image", "/v2/images/{}")

    def switch_server(self) -> None:
        server_id = self.some("server")
        if server_id is None:
            return
        action = self.chance.choice(("os-stop", "os-start", "pause", "unpause"))
        path = f"/v2.1/servers/{server_id}/action"
        if self.ask(f"{action} {server_id}", lambda: self.peers["server"].post(path, {action: None}) or True, (409,)):
            self.journal.count("acknowledged")

    def list_servers(self) -> None:
        """What was acknowledged before the question is in the answer, unless its deletion was asked for meanwhile."""
        before = self.journal.kept("server")
        told = self.ask("list servers", lambda: self.peers["server"].get("/v2.1/servers", query={"limit": 1000}))
        if told is not None:
            there = {server["id"] for server in told["servers"]}
            for server_id in before:
                if server_id not in there and server_id not in self.journal.deleting:
                    self.journal.complain(f"server {server_id} was acknowledged and is not listed")


@dataclasses.dataclass
class Monkey(threading.Thread):
    """Kills one thing after the other."""

    deeds: list[tuple[str, Callable[[], None]]]
    chance: random.Random
    pause: tuple[float, float]

    def __post_init__(self) -> None:
        super().__init__(name="monkey", daemon=True)
        self.done, self.rests = threading.Event(), threading.Event()
        self.did: Counter[str] = Counter()
        self.wrong: list[str] = []

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        while not self.done.wait(self.chance.uniform(*self.pause)):
            name, act = self.chance.choice(self.deeds)
            try:
                act()
            except Exception:
                self.wrong.append(traceback.format_exc())
            self.did[name] += 1
        self.rests.set()
        threading.Event().wait()  # what it has started is killed by the kernel when this thread ends


class Chaos:
    """A cloud, its customers and what happens to it, all from one seed."""

    def __init__(self, probed: Probed, broker: RabbitMQ, server: PostgreSQL, seed: int, customers: int = 4) -> None:
        self.probed, self.broker, self.server = probed, broker, server
        self.journal = Journal()
        self.customers = [Customer(probed, self.journal, n, random.Random(f"{seed} {n}")) for n in range(customers)]
        self._outside = random.Random(f"{seed} outside")
        kills = [(f"kill {name}", functools.partial(self._kill, name)) for name in (*PROCESSES[:4] * 2, PROCESSES[4])]
        outside = [("restart RabbitMQ", self._restart_broker), ("restart PostgreSQL", self._restart_database)]
        outside += [("kill a backend of PostgreSQL", self._kill_backend)]
        self.monkeys = [Monkey(kills, random.Random(f"{seed} kills"), (0.3, 2.5)), Monkey(outside, self._outside, (1.0, 4.0))]

    def rage(self, seconds: float) -> None:
        """Customers and monkeys for a while; afterwards everything that was killed runs again."""
        for worker in (*self.customers, *self.monkeys):
            worker.start()
        clock.sleep(seconds)
        for monkey in self.monkeys:
            monkey.done.set()
        for monkey in self.monkeys:
            if not monkey.rests.wait(240):
                self.journal.complain("a monkey does not end")
        self._up()
        clock.sleep(1.0)  # customers meet a cloud that is whole again, too
        for customer in self.customers:
            customer.done.set()
        for customer in self.customers:
            customer.join(120)
        self.journal.wrong += [f"{customer.name} does not end" for customer in self.customers if customer.is_alive()]
        self.journal.wrong += [wrong for monkey in self.monkeys for wrong in monkey.wrong]

    @property
    def injected(self) -> Counter[str]:
        return sum((monkey.did for monkey in self.monkeys), Counter())

    def _kill(self, name: str) -> None:
        with contextlib.suppress(OSError, ValueError, KeyError):  # at the moment there is none of that name
            pid = self.probed.pid(name)
            if pid:
                os.kill(pid, signal.SIGKILL)
                if name == "supervisor":
                    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "the killed supervisor is gone")
        if name == "supervisor":
            self._up()

    def _up(self) -> None:
        """As a person would: `pileus up` again until it says that it is up, whatever else is away now."""
        deadline = clock.monotonic() + 180
        while True:
            try:
                self.probed.cloud.up()
                return
            except CommandFailed:
                if clock.monotonic() > deadline:
                    raise
                clock.sleep(0.5)

    def _restart_broker(self) -> None:
        self.broker.kill()
        clock.sleep(self._outside.uniform(0.0, 3.0))
        self.broker.start()

    def _restart_database(self) -> None:
        self.server.kill()
        clock.sleep(self._outside.uniform(0.0, 3.0))
        self.server.start()

    def _kill_backend(self) -> None:
        """PostgreSQL ends all connections and recovers when one of its backends is killed."""
        backends = self.server.backends()
        if backends:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._outside.choice(backends), signal.SIGKILL)

    # --- what was told, and what there is ----------------------------------------------------------------------------

    def lost(self) -> list[str]:
        """Every acknowledged thing that is not so."""
        found = list(self.journal.wrong)
        for kind in ("server", "port", "image"):
            there = self._there(kind)
            names = Counter(there.values())
            found += [f"{kind} {name} was asked for once and exists {n} times" for name, n in names.items() if n > 1]
            found += [f"{kind} {name} was never asked for" for name in names if name not in self.journal.asked[kind]]
            found += [f"{kind} {i} was acknowledged and is lost" for i in self.journal.kept(kind) if i not in there]
            found += [f"{kind} {i} was deleted and is there" for i in self.journal.deleted[kind] if i in there]
        for image_id, checksum in self.journal.uploaded.items():
            if image_id not in self.journal.deleting:
                image = patiently(lambda image_id=image_id: self._peer("image").get(f"/v2/images/{image_id}"))
                if (image["status"], image["checksum"]) != ("active", checksum):
                    found.append(f"image {image_id} was filled, and is {image['status']} with checksum {image['checksum']}")
        return found

    def _peer(self, kind: str) -> Any:
        return self.customers[0].peers[kind]

    def _there(self, kind: str) -> dict[str, str]:
        path = {"server": "/v2.1/servers", "port": "/v2.0/ports", "image": "/v2/images"}[kind]
        found: dict[str, str] = {}
        query: dict[str, Any] = {"limit": 500}
        while True:
            page = patiently(lambda: self._peer(kind).get(path, query=query))[f"{kind}s"]
            found |= {entry["id"]: entry["name"] for entry in page if (entry["name"] or "").startswith("chaos-")}
            if len(page) < 500:
                return found
            query["marker"] = page[-1]["id"]

    def statuses(self) -> Counter[str]:
        return Counter(server["status"] for server in self._detail())

    def reasons(self) -> list[str]:
        """Why servers are in error."""
        return [server["fault"]["message"] for server in self._detail() if server["status"] == "ERROR"]

    def _detail(self) -> list[dict[str, Any]]:
        query = {"limit": 1000, "name": "chaos-"}
        return list(patiently(lambda: self._peer("server").get("/v2.1/servers/detail", query=query))["servers"])

    def clean(self) -> None:
        """Delete all that is left: whatever state it is in, it can be left."""
        paths = {"server": "/v2.1/servers/{}", "port": "/v2.0/ports/{}", "image": "/v2/images/{}"}
        for kind, path in paths.items():
            for resource_id in self._there(kind):
                with contextlib.suppress(PeerNotFound):
                    patiently(lambda: self._peer(kind).delete(path.format(resource_id)))  # noqa: B023 - called at once
