"""The `pileus` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from pileus.cli.terminal import Problem
from pileus.kernel import log
from pileus.kernel.errors import ConfigurationError, Failure
from pileus.kernel.room import load


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    top = argparse.ArgumentParser(prog="pileus", description="OpenStack as one package: run a cloud on this machine.")
    top.add_argument("--home", help="where the cloud lives (default: PILEUS_HOME, or /var/lib/pileus as root)")
    top.add_argument("--quiet", action="store_true", help="print results only")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, function: str, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(function=function)
        return command

    up = add("up", "pileus.cli.up:run", "start the cloud; the first time, make its first content too")
    up.add_argument("--simulate", action="store_true", help="fake guests and networks, same API; needs no root")
    up.add_argument("--foreground", action="store_true", help="stay in this terminal")
    up.add_argument("--port", type=int, help="port of the API (default 5000)")
    up.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    down = add("down", "pileus.cli.state:down", "stop Pileus; guests keep running")
    down.add_argument("--guests", action="store_true", help="end guests and networks too")
    status = add("status", "pileus.cli.state:status", "what runs; exit code 0 when everything does")
    status.add_argument("--json", action="store_true")
    doctor = add("doctor", "pileus.cli.doctor:run", "what is broken here and what to do; exit code 0 when nothing is")
    doctor.add_argument("--json", action="store_true")
    logs = add("logs", "pileus.cli.state:logs", "the newest log lines")
    logs.add_argument("--lines", type=int, default=50)
    logs.add_argument("--process", help="only this process: api, controller, agent, supervisor")
    logs.add_argument("--json", action="store_true")
    env = add("env", "pileus.cli.env:run", "print `export OS_...` lines for the stock clients")
    env.add_argument("--user", choices=["admin", "demo"], default="demo")
    add("first-vm", "pileus.cli.first_vm:run", "boot one guest, wait for its ssh, say how to reach it")
    destroy = add("destroy", "pileus.cli.state:destroy", "take every trace of the cloud off this host")
    destroy.add_argument("--yes", action="store_true", help="yes, delete everything")
    why = add("why", "pileus.cli.why:run", "what happened to a server, port, image or flow, and what comes next")
    why.add_argument("id")
    why.add_argument("--json", action="store_true")
    backup = add("backup", "pileus.cli.backup:backup", "databases, keys, images and configuration into one file")
    backup.add_argument("file")
    restore = add("restore", "pileus.cli.backup:restore", "a backup into an empty home")
    restore.add_argument("file")
    add_operator_commands(commands)
    return top


def add_operator_commands(commands: Any) -> None:
    """Commands with commands of their own, and single services."""

    def group(name: str, text: str) -> Any:
        return commands.add_parser(name, help=text, description=text).add_subparsers(dest="verb", required=True)

    keys = group("keys", "keys of tokens and credentials").add_parser("rotate", help="use the staged key, stage a new one")
    keys.add_argument("--credentials", action="store_true", help="those that encrypt stored secrets, not those of tokens")
    keys.set_defaults(function="pileus.cli.operate:rotate_keys")
    db = group("db", "databases").add_parser("upgrade", help="bring all databases to this release")
    db.set_defaults(function="pileus.cli.operate:upgrade")
    image = group("image", "the guest image").add_parser("build", help="put the built guest image into the home")
    image.set_defaults(function="pileus.cli.operate:build_image")
    add_node_commands(group("node", "machines that join and leave this cloud"))
    tls = commands.add_parser("tls", help="make a CA and a certificate for this installation")
    tls.add_argument("names", nargs="*", help="more names and addresses of the API")
    tls.add_argument("--renew", action="store_true")
    tls.set_defaults(function="pileus.cli.operate:make_tls")
    run = commands.add_parser("run", help="run some services in this terminal, their peers over HTTP")
    run.add_argument("services", nargs="+")
    run.add_argument("--port", type=int)
    run.set_defaults(function="pileus.cli.operate:run_services")


def add_node_commands(commands: Any) -> None:
    """`pileus node ...`: the first four on a controller, the others on the node."""

    def add(name: str, function: str, text: str) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
        command.set_defaults(function=function)
        return command

    token = add("token", "pileus.cli.node:token", "print a line with which one machine may join, once")
    token.add_argument("--roles", default="compute,network", help="what it will do, of controller, compute, network (default: compute,network)")
    token.add_argument("--minutes", type=int, default=60, help="how long the line is good (default: 60)")
    token.add_argument("--name", help="only a machine that takes this name may use it")
    show = add("list", "pileus.cli.node:show", "the machines, what they do and whether they are heard")
    show.add_argument("--json", action="store_true")
    drain = add("drain", "pileus.cli.drain:run", "a node takes nothing new, and what is on it moves to others")
    drain.add_argument("name")
    drain.add_argument("--reason", default="drained", help="why, for others to read")
    drain.add_argument("--undo", action="store_true", help="let it take servers again")
    drain.add_argument("--no-move", dest="stay", action="store_true", help="only list what is on it")
    drain.add_argument("--parallel", type=int, default=2, help="how many servers move at a time (default: 2)")
    drain.add_argument("--json", action="store_true")
    remove = add("remove", "pileus.cli.node:remove", "a node leaves: nobody listens to it from now on")
    remove.add_argument("name")
    remove.add_argument("--force", action="store_true", help="even while servers are on it")
    join = add("join", "pileus.cli.join:run", "make this machine a node or controller, with a token of `pileus node token`")
    join.add_argument("token")
    join.add_argument("--name", help="its name in the cloud (default: the host name)")
    add("renew", "pileus.cli.join:renew", "a new certificate for this node; its agent renews by itself too")


def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    arguments = parser().parse_args(argv)
    log.to_terminal()
    function: Callable[[argparse.Namespace], int] = load(arguments.function)
    try:
        return function(arguments)
    except (Problem, ConfigurationError) as problem:
        print(f"pileus: {problem}", file=sys.stderr)
        return 1
    except Failure as failure:
        print(f"pileus: {failure.message} {failure.inside}".rstrip(), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
