"""`pileus down`, `status`, `logs`, `destroy`: the installation as a whole."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import signal

import urllib3

from pileus.cli import unit
from pileus.cli.session import home_of, load_config
from pileus.cli.terminal import Problem, Steps
from pileus.clients import Clients
from pileus.kernel import clock
from pileus.kernel.assembly import Agent, AgentEnv
from pileus.kernel.bus import LocalBus
from pileus.kernel.config import Config
from pileus.kernel.room import load
from pileus.server import rooms, supervisor
from pileus.server.secrets import node_login

STOP_SECONDS = 120.0


def down(arguments: argparse.Namespace) -> int:
    """Stop Pileus. Guests and their networks keep running unless --guests."""
    home = home_of(arguments)
    steps = Steps(quiet=arguments.quiet)
    if supervisor.running(home) is None:
        steps.say("Pileus is not running.")
    else:
        with steps.step("stop"):
            stop(home)
    if arguments.guests:
        with steps.step("end guests and networks"):
            for agent in reversed(_agents(load_config(home))):
                if agent.halt is not None:
                    agent.halt()
    return 0


def stop(home: pathlib.Path) -> None:
    """End the supervisor of a home and wait for it. Raises Problem when it does not end."""
    pid = supervisor.running(home)
    if pid is None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = clock.monotonic() + STOP_SECONDS
    while supervisor.running(home) is not None:
        if clock.monotonic() > deadline:
            raise Problem(
                f"The supervisor (pid {pid}) did not end in {STOP_SECONDS:g} s; see {home}/logs/supervisor.log."
            )
        clock.sleep(0.05)


def _agents(config: Config) -> list[Agent]:
    """The rooms' host parts, with nothing of them started."""
    bus = LocalBus(f"{config.host}:cli")
    found = []
    for room in rooms.with_agents(config):
        options = config.section(room.name)
        token = (lambda: "") if node_login(config.home) else None
        env = AgentEnv(host=config.host, options=options, config=config, bus=bus, clients=Clients({}), token=token)
        found.append(load(room.agent)(env))
    return found


def destroy(arguments: argparse.Namespace) -> int:
    """Take every trace of this installation off the host."""
    home = home_of(arguments)
    if not arguments.yes:
        raise Problem(f"This deletes all guests, images and databases in {home}. Say so with --yes.")
    steps = Steps(quiet=arguments.quiet)
    if not home.exists():
        steps.say(f"There is nothing in {home}.")
        return 0
    with steps.step("stop"):
        if unit.is_wanted(home):
            unit.remove()
        stop(home)
    with steps.step("remove guests and networks"):
        for agent in reversed(_agents(load_config(home))):
            if agent.remove is not None:
                agent.remove()
    with steps.step(f"delete {home}"):
        shutil.rmtree(home)
    return 0


def status(arguments: argparse.Namespace) -> int:
    """What runs; exit code 0 when everything does."""
    home = home_of(arguments)
    config = load_config(home)
    pid = supervisor.running(home)
    processes: dict[str, dict[str, int]] = {}
    with contextlib.suppress(FileNotFoundError, ValueError):
        processes = json.loads((home / "run" / "processes.json").read_text()) if pid else {}
    local = rooms.enabled(config) if config.is_controller else []
    answers = {room.name: _answers(config, room.prefix) for room in local} if pid else {}
    fine = pid is not None and all(answers.values()) and all(entry["pid"] for entry in processes.values())
    if arguments.json:
        report = {"running": pid is not None, "healthy": fine, "url": config.base_url, "pid": pid}
        print(json.dumps({**report, "processes": processes, "services": answers}))
        return 0 if fine else 1
    url = config.base_url if config.is_controller else f"as a node of {config.internal_url}"
    print(f"Pileus {'is up at ' + url if pid else 'is not running'}")
    for name, entry in processes.items():
        print(f"  process {name:<12} {'pid ' + str(entry['pid']) if entry['pid'] else 'down'}")
    for name, well in answers.items():
        print(f"  service {name:<12} {'answers' if well else 'does not answer'}")
    return 0 if fine else 1


def _answers(config: Config, prefix: str) -> bool:
    pool = urllib3.PoolManager(retries=False, ca_certs=config.ca_file)
    try:
        return int(pool.request("GET", config.internal_url + prefix + "/", timeout=5.0).status) < 400
    except urllib3.exceptions.HTTPError:
        return False


def logs(arguments: argparse.Namespace) -> int:
    """Print the newest lines of all logs in the order of their time."""
    folder = home_of(arguments) / "logs"
    lines: list[tuple[str, str]] = []
    for path in sorted(folder.glob("*.log")):
        if arguments.process and not path.stem.startswith(arguments.process):
            continue
        for line in path.read_text(errors="replace").splitlines()[-arguments.lines :]:
            try:
                entry = json.loads(line)
            except ValueError:
                lines.append(("", line))
                continue
            lines.append((entry["time"], line if arguments.json else _readable(entry)))
    for _, line in sorted(lines, key=lambda pair: pair[0])[-arguments.lines :]:
        print(line)
    return 0


def _readable(entry: dict[str, str]) -> str:
    known = {"time", "level", "process", "pid", "logger", "message", "traceback"}
    extra = " ".join(f"{key}={value}" for key, value in entry.items() if key not in known)
    text = f"{entry['time']} {entry['process']:<11} {entry['level']:<7} {entry['message']} {extra}".rstrip()
    return text + ("\n" + entry["traceback"] if "traceback" in entry else "")
