"""`pileus node token`, `list` and `remove`: the machines of a cloud, from a controller, through the public APIs."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from pileus.cli.join import Token
from pileus.cli.session import Session, home_of, load_config
from pileus.cli.terminal import Problem, Steps
from pileus.clients.base import PeerError, PeerNotFound

NODES = "/v3/pileus/nodes"
_SHOWN = 20


@dataclasses.dataclass(frozen=True)
class Hosted:
    """What the services have on record of one host: compute's services, network's agents."""

    services: list[dict[str, Any]]
    agents: list[dict[str, Any]]

    @property
    def compute(self) -> str:
        return _together([service["state"] == "up" for service in self.services])

    @property
    def network(self) -> str:
        return _together([agent["alive"] for agent in self.agents])


def _together(up: list[bool]) -> str:
    return "none" if not up else "up" if all(up) else "down"


def admin(arguments: argparse.Namespace) -> Session:
    """The administrator of the cloud of this machine. Raises Problem."""
    return Session(load_config(home_of(arguments)), "admin", "admin")


def token(arguments: argparse.Namespace) -> int:
    """One line that lets one machine in, once."""
    session = admin(arguments)
    roles = [role.strip() for role in arguments.roles.split(",") if role.strip()]
    wanted = {"roles": roles, "minutes": arguments.minutes, **({"name": arguments.name} if arguments.name else {})}
    try:
        made = session.clients.identity(session.context).post("/v3/pileus/node_tokens", {"node_token": wanted})[
            "node_token"
        ]
    except PeerError as error:
        raise Problem(error.message) from error
    print(Token(made["url"], made["fingerprint"], made["secret"]).text())
    steps = Steps(quiet=arguments.quiet)
    steps.say(f"Good once, for {arguments.minutes} minutes. On the new machine: pileus node join TOKEN")
    if "controller" in roles:
        steps.say("Whoever has it gets every secret of this cloud: send it as you would send the password of root.")
    return 0


def show(arguments: argparse.Namespace) -> int:
    """Every machine, what it does, and whether it is heard."""
    session = admin(arguments)
    nodes = session.clients.identity(session.context).get(NODES)["nodes"]
    hosted = _hosted(session)
    report = []
    for node in nodes:
        of_node = hosted.get(node["name"], Hosted([], []))
        report.append({**node, "compute": of_node.compute, "network": of_node.network})
    if arguments.json:
        print(json.dumps(report))
        return 0
    print(f"{'NAME':<24} {'ROLES':<26} {'STATE':<9} {'COMPUTE':<8} {'NETWORK':<8} {'CERTIFICATE UNTIL':<18} SEEN")
    for entry in report:
        ends, seen = (entry["certificate"] or {"expires_at": "-"})["expires_at"][:10], (entry["seen_at"] or "never")[:19]
        roles = ",".join(entry["roles"])
        print(
            f"{entry['name']:<24} {roles:<26} {entry['state']:<9} {entry['compute']:<8} {entry['network']:<8} {ends:<18} {seen}"
        )
    return 0


def remove(arguments: argparse.Namespace) -> int:
    """A node leaves the cloud. Safe to repeat: each part that is gone already is passed over."""
    session, name, steps = admin(arguments), arguments.name, Steps(quiet=arguments.quiet)
    machine = require(session, name)
    left = servers_on(session, name)
    if left and not arguments.force:
        _print_servers(left)
        raise Problem(f"{len(left)} servers are on {name}. Delete or move them, or give them up with --force.")
    late = ""
    with steps.step(f"{name} is no one any more"):
        try:
            session.clients.identity(session.context).delete(f"{NODES}/{name}")
        except PeerError as error:
            if error.status != 503:
                raise Problem(error.message) from error
            late = error.message
    with steps.step("what the services know of it"):
        _forget(session, name, keep_compute=bool(left))
    if left:
        steps.say(f"{len(left)} servers stay on record as on {name}, and compute's service of it with them, down.")
    if "controller" in machine["roles"]:
        steps.say(f"{name} stops by itself. Is it not to be trusted any more? It knew the passwords of database and broker: change them.")
    if late:
        raise Problem(late)
    return 0


def _forget(session: Session, name: str, *, keep_compute: bool) -> None:
    """Compute's service with its hypervisor and resource provider; network's agents with what they served."""
    hosted = hosted_by(session, name)
    compute, network = session.clients.compute(session.context), session.clients.network(session.context)
    for service in [] if keep_compute else hosted.services:
        try:
            compute.delete(f"/v2.1/os-services/{service['id']}")
        except PeerNotFound:
            continue
        except PeerError as error:
            raise Problem(error.message) from error
    for agent in hosted.agents:
        try:
            network.delete(f"/v2.0/agents/{agent['id']}")
        except PeerNotFound:
            continue


def _hosted(session: Session) -> dict[str, Hosted]:
    """By host."""
    found: dict[str, Hosted] = {}
    services = session.clients.compute(session.context).get("/v2.1/os-services")["services"]
    agents = session.clients.network(session.context).get("/v2.0/agents")["agents"]
    for service in services:
        found.setdefault(service["host"], Hosted([], [])).services.append(service)
    for agent in agents:
        found.setdefault(agent["host"], Hosted([], [])).agents.append(agent)
    return found


def hosted_by(session: Session, name: str) -> Hosted:
    """What the services have on record of a host; empty lists when they know none of this name."""
    return _hosted(session).get(name, Hosted([], []))


def require(session: Session, name: str) -> dict[str, Any]:
    """A node or controller. Raises Problem when there is none of this name."""
    try:
        found: dict[str, Any] = session.clients.identity(session.context).get(f"{NODES}/{name}")["node"]
    except PeerNotFound:
        raise Problem(f"There is no node {name}; `pileus node list` shows all.") from None
    return found


def servers_on(session: Session, name: str) -> list[dict[str, Any]]:
    """All servers of a host with their details, page by page."""
    compute = session.clients.compute(session.context)
    found: list[dict[str, Any]] = []
    while page := compute.list_servers(all_tenants=1, host=name, **({"marker": found[-1]["id"]} if found else {})):
        found += page
    return found


def _print_servers(servers: list[dict[str, Any]]) -> None:
    for server in servers[:_SHOWN]:
        print(f"{server['id']} {server['status']:<10} {server['name']}")
    if len(servers) > _SHOWN:
        print(f"and {len(servers) - _SHOWN} more")

