"""A history: what customers and fate do to a simulated cloud, one deed after the other, and what must hold at every quiet point.

Each deed has a number that chooses its details, whatever happened before. So a history that fails can be made shorter: deeds are left
out as long as it fails.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.sim.world import HOSTS, World, owned

QUIET_EVERY = 60


@dataclasses.dataclass(frozen=True)
class Deed:
    kind: str
    number: int

    def __str__(self) -> str:
        return f"{self.kind} ({self.number})"


def deeds_of(seed: int, count: int) -> list[Deed]:
    """A history of a seed, with quiet points in it."""
    chance = random.Random(f"history {seed}")
    kinds, weights = zip(*_WEIGHTS.items(), strict=True)
    found = []
    for number in range(count):
        kind = "quiet" if number % QUIET_EVERY == QUIET_EVERY - 1 else chance.choices(kinds, weights)[0]
        found.append(Deed(kind, chance.getrandbits(32)))
    return [*found, Deed("quiet", 0)]


@dataclasses.dataclass
class Outcome:
    """`wrong` is what does not hold, empty when all does; `deeds` is how many were done until then."""

    wrong: list[str]
    deeds: int
    acknowledged: int
    happened: Counter[str]
    story: list[str]


def play(seed: int, deeds: Sequence[Deed], harm: float = 1.0) -> Outcome:
    """Live through a history on a new cloud."""
    with owned(seed) as chance:
        world = World(chance)
        try:
            world.begin()
            return Player(world, harm).play(deeds)
        finally:
            world.close()


def shortest(seed: int, deeds: Sequence[Deed], seconds: float = 120.0) -> list[Deed]:
    """As few of the deeds as still make it fail, as far as they are found in that time."""
    until, current, size = time.monotonic() + seconds, list(deeds), max(1, len(deeds) // 2)
    while True:
        start, shorter = 0, False
        while start < len(current) and time.monotonic() < until:
            rest = [*current[:start], *current[start + size :]]
            outcome = play(seed, rest) if rest else None
            if outcome and outcome.wrong:
                current, shorter = rest[: outcome.deeds], True
            else:
                start += size
        if time.monotonic() >= until or (size == 1 and not shorter):
            return current
        size = max(1, size // 2)


class Player:
    """Does the deeds, and keeps the journal of what customers were told."""

    def __init__(self, world: World, harm: float) -> None:
        self.world, self.harm = world, harm
        self.made: dict[str, dict[str, str]] = {"server": {}, "port": {}}
        self.deleting: set[str] = set()
        self.deleted: dict[str, set[str]] = {"server": set(), "port": set()}
        self.acknowledged = 0
        self.names = 0
        self.story: list[str] = []
        self.wrong: list[str] = []

    def play(self, deeds: Sequence[Deed]) -> Outcome:
        number = 0
        for number, deed in enumerate(deeds, 1):
            self.chance = random.Random(deed.number)
            self.world.fate.chance = random.Random(deed.number + 1)
            self.world.fate.harm = self.harm
            before = self.world.fate.happened.copy()
            said = getattr(self, f"do_{deed.kind}")()
            struck = self.world.fate.happened - before
            self.story.append(f"{deed}: {said or ''} {dict(struck) if struck else ''}".rstrip())
            if self.wrong:
                break
        return Outcome(self.wrong, number, self.acknowledged, self.world.fate.happened, self.story)

    # --- customers --------------------------------------------------------------------------------------------------

    def _ask(self, service: str, method: str, path: str, body: Any = None, *, fine: tuple[int, ...] = ()) -> Any:
        """The answer's JSON when it was acknowledged, None otherwise; a refusal that nobody understands is wrong."""
        answer = self.world.ask(service, method, path, body)
        if answer.status < 300:
            self.acknowledged += 1
            return answer.json or {}
        if answer.status < 500 and answer.status not in fine:
            self.wrong.append(f"{method} {path}: {answer.status} {answer.text}")
        if answer.status == 500 and "OperationalError" not in answer.text and not self.world.fate.happened:
            self.wrong.append(f"{method} {path}: {answer.text}")
        return None

    def _some(self, kind: str) -> str | None:
        left = [each for each in self.made[kind] if each not in self.deleting]
        return self.chance.choice(left) if left else None

    def _name(self) -> str:
        self.names += 1
        return f"sim-{self.names}"

    def _boot(self, network: dict[str, str]) -> str:
        body = {"name": self._name(), "imageRef": self.world.image, "flavorRef": "small", "networks": [network]}
        told = self._ask("compute", "POST", "/v2.1/servers", {"server": body}, fine=(400, 409) if "port" in network else ())
        if told is None:
            return "not acknowledged"
        self.made["server"][told["server"]["id"]] = body["name"]
        return str(told["server"]["id"])

    def do_boot(self) -> str:
        return self._boot({"uuid": self.world.network})

    def do_boot_with_port(self) -> str:
        """The port is the customer's: it stays when the server goes."""
        port = self._some("port")
        return self._boot({"port": port}) if port else "no port"

    def do_delete(self) -> str:
        server = self._some("server")
        if server is None:
            return "no server"
        self.deleting.add(server)
        if self._ask("compute", "DELETE", f"/v2.1/servers/{server}", fine=(404,)) is not None:
            self.deleted["server"].add(server)
        return server

    def do_act(self) -> str:
        server = self._some("server")
        if server is None:
            return "no server"
        action = self.chance.choice(({"os-stop": None}, {"os-start": None}, {"pause": None}, {"unpause": None}, {"reboot": {"type": "HARD"}}))
        self._ask("compute", "POST", f"/v2.1/servers/{server}/action", action, fine=(409,))
        return f"{next(iter(action))} {server}"

    def do_rebuild(self) -> str:
        server = self._some("server")
        if server is None:
            return "no server"
        self._ask("compute", "POST", f"/v2.1/servers/{server}/action", {"rebuild": {"imageRef": self.world.image}}, fine=(409,))
        return server

    def do_make_port(self) -> str:
        body = {"name": self._name(), "network_id": self.world.network}
        told = self._ask("network", "POST", "/v2.0/ports", {"port": body})
        if told is None:
            return "not acknowledged"
        self.made["port"][told["port"]["id"]] = body["name"]
        return str(told["port"]["id"])

    def do_delete_port(self) -> str:
        port = self._some("port")
        if port is None:
            return "no port"
        self.deleting.add(port)
        if self._ask("network", "DELETE", f"/v2.0/ports/{port}", fine=(404, 409)) is not None:
            self.deleted["port"].add(port)
        return port

    # --- the cloud works ----------------------------------------------------------------------------------------------

    def do_work(self) -> str:
        return f"{self.world.work(self.chance.randint(1, 3))} flows"

    def do_deliver(self) -> str:
        return f"{self.world.bus.deliver()} messages"

    def do_tick(self) -> str:
        seconds = self.chance.choice((0.3, 1.0, 3.0, 6.0, 20.0))
        self.world.tick(seconds)
        return f"{seconds:g} s"

    def do_look_after(self) -> str:
        host = self.world.hosts[self.chance.choice(HOSTS)]
        host.look_after()
        return host.name

    # --- what happens to hosts ----------------------------------------------------------------------------------------

    def do_host_dies(self) -> str:
        host = self.world.hosts[self.chance.choice(HOSTS)]
        if host.down or sum(each.down for each in self.world.hosts.values()) > 1:
            return "nothing"
        host.down = True
        host.end()
        return host.name

    def do_host_returns(self) -> str:
        host = self.world.hosts[self.chance.choice(HOSTS)]
        if host.down:
            host.down = False
            host.boot()
        return host.name

    def do_agent_restarts(self) -> str:
        host = self.world.hosts[self.chance.choice(HOSTS)]
        if not host.down:
            host.end()
            host.begin()
        return host.name

    def do_guest_stops(self) -> str:
        """A guest switches itself off."""
        host = self.world.hosts[self.chance.choice(HOSTS)]
        running = sorted(server for server, state in host.driver.states().items() if state == "running")
        if host.down or not running:
            return "nothing"
        server = self.chance.choice(running)
        host.driver.happen(server, "shutdown")
        return server

    def do_echo(self) -> None:
        self.world.bus.echo(self.chance)

    # --- what must hold -------------------------------------------------------------------------------------------------

    def do_quiet(self) -> str:
        self.wrong += self.world.rest()
        there = {"server": self._there("compute", "servers"), "port": self._there("network", "ports")}
        for kind, made in self.made.items():
            self.wrong += [f"{kind} {i} was acknowledged and is lost" for i in made if i not in there[kind] and i not in self.deleting]
            self.wrong += [f"{kind} {i} was deleted and is there" for i in self.deleted[kind] if i in there[kind]]
        servers = self.world.must("compute", "GET", "/v2.1/servers/detail?limit=1000")["servers"]
        self.wrong += [f"server {s['id']} rests as {s['status']}" for s in servers if s["status"] not in _STATES]
        return str(dict(Counter(server["status"] for server in servers)))

    def _there(self, service: str, table: str) -> set[str]:
        query = f"SELECT id FROM {table}" + (" WHERE deleted_at IS NULL" if table == "servers" else "")
        return {row[0] for row in self.world.view().rows(service, query)}


_STATES = {"ACTIVE", "SHUTOFF", "PAUSED", "ERROR"}
_WEIGHTS = {
    "boot": 7,
    "boot_with_port": 2,
    "delete": 6,
    "act": 7,
    "rebuild": 2,
    "make_port": 3,
    "delete_port": 2,
    "work": 22,
    "deliver": 10,
    "tick": 10,
    "look_after": 8,
    "host_dies": 1,
    "host_returns": 2,
    "agent_restarts": 1,
    "guest_stops": 1,
    "echo": 2,
}
