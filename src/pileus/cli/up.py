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
from pileus.host.run import CommandError
from pileus.kernel import clock
from pileus.kernel.config import Config
from pileus.server import databases, rooms, supervisor
from pileus.server.secrets import write_private

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
    if supervisor.running(home) is not None:
        wait_until_ready(config, None)
        wait_for_host(config)
        steps.say(f"Pileus is up already at {config.base_url}. Nothing was changed.")
        return 0
    record_choices(home, config)
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
    sockets = supervisor.bind(config, ports(config))
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
    """Until the scheduler can use this host: hypervisor and network agents report, placement knows what it has.

    Raises Problem when time is over.
    """
    if "compute" not in config.pileus.services:
        return
    session = Session(config, "admin", "admin")
    compute, network = session.clients.compute(session.context), session.clients.network(session.context)
    placement = session.clients.placement(session.context)
    deadline = clock.monotonic() + HOST_SECONDS
    while True:
        nodes = compute.get("/v2.1/os-hypervisors/detail")["hypervisors"]
        mine = [node for node in nodes if node["service"]["host"] == config.host and node["state"] == "up"]
        agents = network.get("/v2.0/agents", query={"host": config.host})["agents"]
        if mine and agents and all(agent["alive"] for agent in agents):
            name = mine[0]["hypervisor_hostname"]
            found = placement.get("/resource_providers", query={"name": name})["resource_providers"]
            if found and placement.get(f"/resource_providers/{found[0]['uuid']}/inventories")["inventories"]:
                return
        if clock.monotonic() > deadline:
            missing = "network agents" if mine else "hypervisor"
            raise Problem(f"The {missing} of {config.host} did not report in {HOST_SECONDS:g} s; see {config.home}/logs/agent.log.")
        clock.sleep(0.05)


def wait_until_ready(config: Config, pid: int | None) -> None:
    """Until every service answers. Raises Problem when the supervisor ended, or time is over."""
    pool = urllib3.PoolManager(retries=False, ca_certs=config.api.certificate or None)
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
