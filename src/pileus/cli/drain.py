"""`pileus node drain`: a host takes nothing new, and what is on it moves to others, through the public APIs."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

from pileus.cli.node import NODES, admin, hosted_by, require, servers_on
from pileus.cli.session import Session
from pileus.cli.terminal import Problem, Steps
from pileus.clients.base import PeerError, PeerNotFound
from pileus.kernel import clock

_LOOK_SECONDS = 0.5
_SHOWN = 20
_LIVE = {"ACTIVE", "PAUSED"}
_COLD = {"SHUTOFF"}
_AGENTS = {"L3 agent": "routers", "DHCP agent": "networks"}
"""The kinds of agents whose work is moved, and the name of that work in answers."""


_RESIZE = "its owner has to confirm or revert its resize first"


@dataclasses.dataclass
class Move:
    """One server on its way: `how` is live, cold or "" (something else is under way, its end is waited for)."""

    server: dict[str, Any]
    how: str
    began: float
    """A monotonic time, in seconds."""


@dataclasses.dataclass(frozen=True)
class Moved:
    """What went: a server, or a router or network's DHCP."""

    kind: str
    id: str
    name: str
    to: str
    how: str
    seconds: float


@dataclasses.dataclass(frozen=True)
class Left:
    """What stays, and why."""

    kind: str
    id: str
    name: str
    why: str


def run(arguments: argparse.Namespace) -> int:
    """No new servers on a node, and those it has go elsewhere; with --undo it takes servers again. 1 when something is left."""
    session, name, steps = admin(arguments), arguments.name, Steps(quiet=arguments.quiet or arguments.json)
    require(session, name)
    if arguments.parallel < 1:
        raise Problem("--parallel is the number of servers that move at a time: 1 or more.")
    _close(session, name, arguments)
    if arguments.undo:
        steps.say(f"{name} takes servers, routers and networks again.")
        return 0
    steps.say(f"{name} takes no new servers.")
    moved: list[Moved] = []
    left: list[Left] = []
    try:
        for outcome in _outcomes(session, name, arguments):
            moved.append(outcome) if isinstance(outcome, Moved) else left.append(outcome)
            steps.say(_sentence(outcome))
    except KeyboardInterrupt:
        steps.say("Moves that have begun go on; the same command goes on with the others.")
        raise
    if arguments.json:
        found = {"moved": [dataclasses.asdict(each) for each in moved], "left": [dataclasses.asdict(each) for each in left]}
        print(json.dumps({"host": name, **found}))
    elif not left:
        steps.say(f"Nothing is left on {name}: `pileus node remove {name}`.")
    if left and not arguments.json:
        _print_left(name, left)
    return 1 if left and not arguments.stay else 0


def _close(session: Session, name: str, arguments: argparse.Namespace) -> None:
    """Say to identity, compute and network that the host takes nothing new, or takes it again."""
    identity, compute, network = (getattr(session.clients, kind)(session.context) for kind in ("identity", "compute", "network"))
    hosted = hosted_by(session, name)
    change = {"status": "enabled"} if arguments.undo else {"status": "disabled", "disabled_reason": arguments.reason}
    try:
        identity.patch(f"{NODES}/{name}", {"node": {"state": "active" if arguments.undo else "draining"}})
        for service in hosted.services:
            compute.put(f"/v2.1/os-services/{service['id']}", change)
        for agent in hosted.agents:
            if agent["agent_type"] in _AGENTS and not arguments.stay:
                network.put(f"/v2.0/agents/{agent['id']}", {"agent": {"admin_state_up": arguments.undo}})
    except PeerError as error:
        raise Problem(error.message) from error


def _outcomes(session: Session, name: str, arguments: argparse.Namespace) -> Iterator[Moved | Left]:
    if arguments.stay:
        for server in servers_on(session, name):
            yield Left("server", server["id"], server["name"], f"is {server['status']} there")
        return
    yield from _move_work(session, name)
    yield from Servers(session, name, arguments.parallel).go()


def _sentence(outcome: Moved | Left) -> str:
    label = f"{outcome.kind} {outcome.name or outcome.id}"
    if isinstance(outcome, Left):
        return f"  {label} stays: {outcome.why}"
    how = f" ({outcome.how}, {outcome.seconds:.1f} s)" if outcome.kind == "server" else ""
    return f"  {label} is on {outcome.to} now{how}"


def _print_left(name: str, left: list[Left]) -> None:
    for each in left[:_SHOWN]:
        print(f"{each.kind} {each.id} {each.name}: {each.why}")
    if len(left) > _SHOWN:
        print(f"and {len(left) - _SHOWN} more")
    servers = sum(each.kind == "server" for each in left)
    print(f"{servers} servers and {len(left) - servers} routers or networks are left on {name}.")


# -- servers -----------------------------------------------------------------------------------------------------------


class Servers:
    """Moves the servers of a host, some at a time. Whatever it asks for goes on without it: it can be broken off and run again."""

    def __init__(self, session: Session, host: str, parallel: int) -> None:
        self.compute = session.clients.compute(session.context)
        self.host = host
        self.parallel = parallel
        self.on_the_way: dict[str, Move] = {}
        self._waiting = [server["id"] for server in servers_on(session, host)]

    def go(self) -> Iterator[Moved | Left]:
        yield from self._unanswered()
        while self._waiting or self.on_the_way:
            while self._waiting and len(self.on_the_way) < self.parallel:
                left = self._begin(self._waiting.pop(0))
                if left is not None:
                    yield left
            for server_id in list(self.on_the_way):
                ended = self._look(server_id)
                if ended is not None:
                    del self.on_the_way[server_id]
                    yield from ended
            if self.on_the_way:
                clock.sleep(_LOOK_SECONDS)

    def _begin(self, server_id: str) -> Left | None:
        """Ask for its move; what an earlier drain began is followed. A sentence when it cannot move."""
        server = self._show(server_id)
        if server is None or server["OS-EXT-SRV-ATTR:host"] != self.host:
            return None
        how, action, body = _way(server)
        if server["OS-EXT-STS:task_state"] is not None:
            how = ""
        elif not how:
            return self._left(server, _unmovable(server["status"]))
        else:
            try:
                self.compute.act(server_id, action, body)
            except PeerError as error:
                return self._left(server, error.message)
        self.on_the_way[server_id] = Move(server, how, clock.monotonic())
        return None

    def _look(self, server_id: str) -> list[Moved | Left] | None:
        """How it ended for a server: None while it is on its way, nothing when it can now be begun."""
        move, server = self.on_the_way[server_id], self._show(server_id)
        seconds = clock.monotonic() - move.began
        if server is None:
            return [Moved("server", server_id, move.server["name"], "no host", "deleted", seconds)]
        if server["OS-EXT-STS:task_state"] is not None:
            return None
        if server["status"] == "VERIFY_RESIZE" and move.how == "cold":
            self._confirm(server_id)
            return None
        if server["OS-EXT-SRV-ATTR:host"] != self.host:
            return [Moved("server", server_id, server["name"], server["OS-EXT-SRV-ATTR:host"], move.how, seconds)]
        if not move.how:
            self._waiting.append(server_id)
            return []
        return [self._left(server, self._why(server_id))]

    def _unanswered(self) -> Iterator[Left]:
        """Servers that are elsewhere while their old disk waits here: an administrator's moves are confirmed, a resize is its owner's."""
        query = {"source_compute": self.host, "status": "finished"}
        for move in self.compute.get("/v2.1/os-migrations", query)["migrations"]:
            server = self._show(move["instance_uuid"])
            if server is None or server["status"] != "VERIFY_RESIZE":
                continue
            if move["migration_type"] == "migration":
                self._confirm(server["id"])
                self.on_the_way[server["id"]] = Move(server, "cold", clock.monotonic())
            else:
                yield self._left(server, _RESIZE)

    def _left(self, server: dict[str, Any], why: str) -> Left:
        return Left("server", server["id"], server["name"], why)

    def _confirm(self, server_id: str) -> None:
        try:
            self.compute.act(server_id, "confirmResize")
        except PeerError as error:
            if error.status != 409:  # its owner was quicker
                raise Problem(error.message) from error

    def _show(self, server_id: str) -> dict[str, Any] | None:
        try:
            return self.compute.show_server(server_id)
        except PeerNotFound:
            return None

    def _why(self, server_id: str) -> str:
        """What the newest action of a server says of its failure."""
        path = f"/v2.1/servers/{server_id}/os-instance-actions"
        newest = self.compute.get(path)["instanceActions"][0]
        action = self.compute.get(f"{path}/{newest['request_id']}")["instanceAction"]
        told = [event.get("details") for event in action.get("events", []) if event.get("details")]
        return str((told or [action["message"] or "its move ended where it began"])[-1])


def _way(server: dict[str, Any]) -> tuple[str, str, Any]:
    """How a server can leave, and the action and body that ask for it; "" when it cannot."""
    if server["status"] in _LIVE:
        return "live", "os-migrateLive", {"host": None, "block_migration": "auto"}
    return ("cold", "migrate", None) if server["status"] in _COLD else ("", "", None)


def _unmovable(status: str) -> str:
    if status == "VERIFY_RESIZE":
        return _RESIZE
    return f"servers that are {status} cannot move"


# -- routers and DHCP --------------------------------------------------------------------------------------------------


def _move_work(session: Session, name: str) -> Iterator[Moved | Left]:
    """Routers and the DHCP of networks go to other hosts that serve such."""
    network = session.clients.network(session.context)
    agents = network.get("/v2.0/agents")["agents"]
    for agent in agents:
        if agent["host"] != name or agent["agent_type"] not in _AGENTS:
            continue
        others = [
            each
            for each in agents
            if each["agent_type"] == agent["agent_type"] and each["host"] != name and each["alive"] and each["admin_state_up"]
        ]
        if agent["agent_type"] == "L3 agent":
            yield from _move_each(network, agent, others, "l3-routers", "router", later=True)
        else:
            yield from _move_each(network, agent, others, "dhcp-networks", "network", later=False)


def _move_each(network: Any, agent: dict[str, Any], others: list[dict[str, Any]], path: str, kind: str, *, later: bool) -> Iterator[Moved | Left]:
    """`later`: the new host can only take it when the old one has let go (a router is on one host; DHCP can be on two)."""
    old = f"/v2.0/agents/{agent['id']}/{path}"
    for number, resource in enumerate(network.get(old)[f"{kind}s"]):
        id, label = resource["id"], resource.get("name", "")
        if not others:
            yield Left(kind, id, label, f"no other living host has a {agent['agent_type']}")
            continue
        new = others[number % len(others)]

        def give(id: str = id) -> None:
            network.delete(f"{old}/{id}")

        def take(id: str = id, new: dict[str, Any] = new) -> None:
            network.post(f"/v2.0/agents/{new['id']}/{path}", {f"{kind}_id": id})

        try:
            _both(*((give, take) if later else (take, give)))
        except PeerError as error:
            yield Left(kind, id, label, error.message)
        else:
            yield Moved(kind, id, label, new["host"], "", 0.0)


def _both(first: Callable[[], None], second: Callable[[], None]) -> None:
    """One after the other. That somebody else has done either already (404, 409) is right."""
    for step in (first, second):
        try:
            step()
        except PeerError as error:
            if error.status not in {404, 409}:
                raise
