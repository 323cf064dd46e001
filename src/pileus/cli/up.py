"""`pileus up`: databases, processes, readiness, first content. Safe to repeat."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
from typing import Any

import urllib3

from pileus.cli import initial, unit
from pileus.cli.env import write_clouds
from pileus.cli.session import Session, home_of, load_config
from pileus.cli.terminal import Problem, Steps
from pileus.clients.base import Client
from pileus.host.run import CommandError
from pileus.kernel import clock
from pileus.kernel.bus import BusTimeout, BusUnavailable, RemoteError
from pileus.kernel.config import Config
from pileus.server import databases, rooms, supervisor
from pileus.server.assembly import make_bus
from pileus.server.secrets import node_login, write_private

READY_SECONDS = 60.0
HOST_SECONDS = 120.0


def run(arguments: argparse.Namespace) -> int:
    """Bring the cloud up, or say that it is."""
    os.umask(0o077)
    home = home_of(arguments)
    (home / "logs").mkdir(mode=0o700, parents=True, exist_ok=True)
    config = load_config(home, chosen(arguments))
    steps = Steps(quiet=arguments.quiet)
    started = clock.monotonic()
    if supervisor.running(home) is not None and config.is_controller:
        wait_until_ready(config, None)
        wait_for_host(config)
        steps.say(f"Pileus is up already at {config.base_url}. Nothing was changed.")
        return 0
    record_choices(home, config)
    if not config.is_controller:
        return run_node(arguments, config, steps)
    with steps.step("databases and keys"):
        databases.prepare_in_child(config)
        write_clouds(config)
    if arguments.foreground:
        supervisor.Supervisor(config, supervisor.bind(config, ports(config))).run()
        return 0
    with steps.step("services answer"):
        wait_until_ready(config, start(config))
    with steps.step("this host is ready for guests"):
        wait_for_host(config)
    initial.make(config, steps)
    steps.say(f"Pileus is up at {config.base_url} after {clock.monotonic() - started:.1f} s.")
    steps.say(f'Credentials: eval "$(pileus env)", or OS_CLIENT_CONFIG_FILE={home}/clouds.yaml with --os-cloud pileus')
    return 0


def run_node(arguments: argparse.Namespace, config: Config, steps: Steps) -> int:
    """Start the agents of a node, which has no database and no API, and see that the controllers hear it."""
    if node_login(config.home) is None:
        raise Problem(f"pileus.roles in {config.home}/pileus.toml names no controller, and this machine has not joined a cloud.")
    if arguments.foreground:
        supervisor.Supervisor(config, []).run()
        return 0
    if supervisor.running(config.home) is None:
        with steps.step("agents"):
            start(config)
    with steps.step(f"{config.internal_url} hears this node"):
        wait_until_member(config)
    steps.say(f"{config.host} is up as a node with {', '.join(config.pileus.roles)}.")
    return 0


def wait_until_member(config: Config) -> None:
    """Until a controller answers over the bus: the broker lets us in, and the registry knows us.

    Raises Problem when it says that we were removed, or time is over.
    """
    bus = make_bus(config, "cli")
    deadline = clock.monotonic() + READY_SECONDS
    try:
        while True:
            try:
                state = bus.call("controller.identity", "identity.seen", {"host": config.host}, timeout=5.0)["state"]
                if state in {"active", "draining"}:
                    return
                raise Problem(f"{config.host} is {state} in the registry: join again with a token of `pileus node token`.")
            except (BusUnavailable, BusTimeout, RemoteError) as error:
                why = str(error)
            if clock.monotonic() > deadline:
                raise Problem(f"No controller hears this node ({why}). Was it removed? See {config.home}/logs/agent.log.")
            clock.sleep(0.2)
    finally:
        bus.close()


def chosen(arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Options given on the command line, as configuration."""
    found: dict[str, dict[str, Any]] = {}
    if arguments.port is not None:
        found.setdefault("api", {})["port"] = arguments.port
    if arguments.host is not None:
        found.setdefault("api", {})["host"] = arguments.host
    if arguments.simulate:
        found["pileus"] = {"simulate": True}
    return found


def record_choices(home: pathlib.Path, config: Config) -> None:
    """So that `status`, `env` and the next `up` speak of the same cloud."""
    values = {
        "api": {"port": config.api.port, "host": config.api.host},
        "pileus": {"simulate": config.pileus.simulate},
    }
    path = home / "run-options.json"
    data = json.dumps(values).encode()
    if not path.exists() or path.read_bytes() != data:
        write_private(path, data)


def ports(config: Config) -> tuple[int, ...]:
    """Classical ports to listen on besides, with `endpoints = "ports"`."""
    if config.api.endpoints != "ports":
        return ()
    return tuple(room.port for room in rooms.enabled(config) if room.port != config.api.port)


def start(config: Config) -> int | None:
    """Start the processes: by systemd where it runs this machine, by ourselves elsewhere. The pid of a child of ours.

    Raises Problem when systemd does not do it.
    """
    if not unit.is_wanted(config.home):
        return start_supervisor(config)
    try:
        unit.install(config.home)
    except CommandError as error:
        raise Problem(f"systemd does not start {unit.NAME}: {error}. `journalctl -u pileus` says more.") from error
    return None


def start_supervisor(config: Config) -> int:
    """Fork the supervisor away from this terminal; its pid. Binding happens here, so that a taken port is said here."""
    sockets = supervisor.bind(config, ports(config)) if config.is_controller else []
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        out = os.open(config.home / "logs" / "output.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(null, 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        code = 1
        try:
            supervisor.Supervisor(config, sockets).run()
            code = 0
        except BaseException:
            import traceback  # noqa: PLC0415 - only on the way down

            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    for listener in sockets:
        listener.close()
    return pid


def wait_for_host(config: Config) -> None:
    """Until the scheduler can use this host as its roles say: its agents report, placement knows what it has.

    Raises Problem when time is over.
    """
    agents = {room.name for room in rooms.with_agents(config)}
    if not agents:
        return
    session = Session(config, "admin", "admin")
    compute, network = session.clients.compute(session.context), session.clients.network(session.context)
    placement = session.clients.placement(session.context)
    deadline = clock.monotonic() + HOST_SECONDS
    while True:
        mine = _hypervisor(compute, config.host)
        heard = network.get("/v2.0/agents", query={"host": config.host})["agents"] if "network" in agents else []
        wired = "network" not in agents or (heard and all(agent["alive"] for agent in heard))
        if wired and ("compute" not in agents or (mine and _is_provider(placement, mine))):
            return
        if clock.monotonic() > deadline:
            missing = "hypervisor" if "compute" in agents and not mine else "network agents"
            raise Problem(f"The {missing} of {config.host} did not report in {HOST_SECONDS:g} s; see {config.home}/logs/agent.log.")
        clock.sleep(0.05)


def _hypervisor(compute: Client, host: str) -> str:
    """The name of the living hypervisor of a host, "" while there is none."""
    nodes = compute.get("/v2.1/os-hypervisors/detail")["hypervisors"]
    mine = [node for node in nodes if node["service"]["host"] == host and node["state"] == "up"]
    return str(mine[0]["hypervisor_hostname"]) if mine else ""


def _is_provider(placement: Client, name: str) -> bool:
    """Whether placement knows what a hypervisor has."""
    found = placement.get("/resource_providers", query={"name": name})["resource_providers"]
    return bool(found and placement.get(f"/resource_providers/{found[0]['uuid']}/inventories")["inventories"])


def wait_until_ready(config: Config, pid: int | None) -> None:
    """Until every service answers. Raises Problem when the supervisor ended, or time is over."""
    pool = urllib3.PoolManager(retries=False, ca_certs=config.ca_file)
    deadline = clock.monotonic() + READY_SECONDS
    waiting = [room.prefix + "/" for room in rooms.enabled(config)] + ["/healthcheck"]
    while waiting:
        if pid is not None and os.waitpid(pid, os.WNOHANG)[0]:
            raise Problem(f"Pileus ended while starting; see {config.home}/logs/output.log and supervisor.log.")
        try:
            answer = pool.request("GET", config.internal_url + waiting[0], timeout=5.0)
            if answer.status < 400:
                waiting.pop(0)
                continue
        except urllib3.exceptions.HTTPError:
            pass
        if clock.monotonic() > deadline:
            raise Problem(f"{waiting[0]} did not answer in {READY_SECONDS:g} s; see {config.home}/logs.")
        clock.sleep(0.02)
