"""`pileus doctor`: every precondition that is broken, by name, and what to do about it.

Each check is one function of the facts to findings. "info" is worth knowing; "problem" makes the exit code 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Literal

from pileus.cli.facts import Facts
from pileus.cli.session import home_of, load_config
from pileus.kernel import clock
from pileus.server import rooms

LEAST_MEMORY_MB = 512
LEAST_DISK_MB = 1024
LEAST_CERTIFICATE_DAYS = 14
MOST_SKEW = 1.0
"""Seconds between our clock and a database server's; leases are judged by the one, tokens by the other."""

COMMANDS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "libvirtd": "libvirt-daemon",
    "virtlogd": "libvirt-daemon",
    "nft": "nftables",
    "ip": "iproute2",
    "dnsmasq": "dnsmasq-base",
    "conntrack": "conntrack",
    "genisoimage": "genisoimage",
}
"""Commands that the real drivers run, and the Debian package of each."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing about this installation, and what to do."""

    check: str
    level: Literal["problem", "info"]
    what: str
    todo: str = ""


Check = Callable[[Facts], Iterator[Finding]]


def _problem(check: str, what: str, todo: str) -> Finding:
    return Finding(check, "problem", what, todo)


def check_kvm(facts: Facts) -> Iterator[Finding]:
    """Guests run without KVM too, slowly."""
    if facts.config.pileus.simulate or "compute" not in facts.config.pileus.roles:
        return
    works, reason = facts.kvm()
    if not works:
        todo = "Guests run emulated, several times slower. Enable virtualization in the firmware, or nested virtualization."
        yield Finding("kvm", "info", f"There is no usable KVM: {reason}", todo)


def check_port(facts: Facts) -> Iterator[Finding]:
    """Only while we are not running: then the ports are ours."""
    if facts.supervisor() is not None or not facts.config.is_controller:
        return
    config = facts.config
    ports = [config.api.port]
    if config.api.endpoints == "ports":
        ports = sorted({config.api.port, *(room.port for room in rooms.enabled(config))})
    for port in ports:
        owner = facts.port_owner(port)
        if owner is not None:
            what = f"Port {port} of {config.api.host} is taken by {owner}."
            yield _problem("port", what, "End that process, or choose another port with `pileus up --port`.")


def check_memory(facts: Facts) -> Iterator[Finding]:
    free = facts.memory_mb()
    if free < LEAST_MEMORY_MB and facts.supervisor() is None:
        what = f"{free} MiB of memory are available; Pileus alone wants {LEAST_MEMORY_MB}."
        yield _problem("memory", what, "End other programs or give this machine more memory.")


def check_disk(facts: Facts) -> Iterator[Finding]:
    free = facts.disk_mb()
    if free < LEAST_DISK_MB:
        what = f"{free} MiB are free where {facts.config.home} is; {LEAST_DISK_MB} are the least for images and databases."
        yield _problem("disk", what, "Delete images or other files there, or move the home to a larger disk.")


def check_commands(facts: Facts) -> Iterator[Finding]:
    """What the real drivers need on the host."""
    if facts.config.pileus.simulate or not rooms.with_agents(facts.config):
        return
    if not facts.is_root():
        yield _problem("root", "Real guests and networks need root.", "Run as root, or with `pileus up --simulate`.")
    missing = [name for name in COMMANDS if not facts.has_command(name)]
    if missing:
        packages = " ".join(sorted({COMMANDS[name] for name in missing}))
        yield _problem("commands", f"Commands are missing: {', '.join(missing)}.", f"`apt-get install {packages}`, or `make install`.")
    if not facts.has_module("libvirt"):
        yield _problem("libvirt", "The Python module libvirt is missing.", "`make install` as root, or `pip install 'pileus[host]'`.")


def check_forwarding(facts: Facts) -> Iterator[Finding]:
    """`pileus up` switches it on; somebody may have switched it off since."""
    if facts.config.pileus.simulate or not rooms.with_agents(facts.config):
        return
    if facts.supervisor() is not None and not facts.forwards():
        what = "The host does not forward packets, so guests do not reach the outside."
        yield _problem("forwarding", what, "`sysctl -w net.ipv4.ip_forward=1`, and look who switched it off.")
    for sentence in facts.forward_policies_that_drop():
        todo = "Let the bridges brq* and br-ex pass there: nothing of ours can overrule that chain."
        yield _problem("firewall", sentence[0].upper() + sentence[1:] + ".", todo)


def check_files(facts: Facts) -> Iterator[Finding]:
    """Keys and databases are their owner's alone."""
    for path in facts.open_files():
        yield _problem("files", f"{path} can be read by others.", f"`chmod 600 {path}`, and think of its secret as known.")


def check_databases(facts: Facts) -> Iterator[Finding]:
    """A node has none."""
    if not facts.config.is_controller:
        return
    for entry in facts.databases():
        name = f"The database of {entry.service}"
        if entry.error:
            yield _problem("database", f"{name}: {entry.error}", "Start its server, or correct `database.url` in pileus.toml.")
        elif entry.present != entry.newest and entry.present is not None and entry.present > entry.newest:
            what = f"{name} has revision {entry.present}, this release knows {entry.newest}."
            yield _problem("database", what, "Install the newer release that used it.")
        elif entry.present != entry.newest:
            what = f"{name} is at revision {entry.present or 'none'}, the newest is {entry.newest}."
            yield _problem("database", what, "`pileus db upgrade`, or `pileus up`, which does it too.")
        if entry.skew is not None and abs(entry.skew) > MOST_SKEW:
            what = f"The clock of the database server of {entry.service} is {entry.skew:+.1f} s from ours."
            yield _problem("clock", what, "Synchronize the clocks of both machines (chrony or systemd-timesyncd).")


def check_brokers(facts: Facts) -> Iterator[Finding]:
    for where, error in facts.brokers():
        if error:
            todo = "Start it, or correct `bus.url` in pileus.toml. What was asked for meanwhile is done when it is back."
            yield _problem("broker", f"The broker {where} cannot be used: {error}", todo)


def check_processes(facts: Facts) -> Iterator[Finding]:
    """The supervisor and its children belong together."""
    processes = facts.processes()
    if facts.supervisor() is None:
        alive = [f"{name} (pid {pid})" for name, pid in processes.items() if pid]
        if alive:
            what = f"The supervisor is dead while {', '.join(alive)} live."
            yield _problem("supervisor", what, "They end within seconds by themselves; if not, kill them, then `pileus up`.")
        return
    dead = [name for name, pid in processes.items() if not pid]
    if dead:
        home = facts.config.home
        yield _problem("processes", f"Not running: {', '.join(dead)}.", f"They are restarted; {home}/logs says why they end.")


def check_agents(facts: Facts) -> Iterator[Finding]:
    """Only of a cloud that runs."""
    config = facts.config
    if facts.supervisor() is None or not config.is_controller or "identity" not in config.pileus.services:
        return
    silent, error = facts.cloud()
    if error:
        yield _problem("services", f"The cloud does not answer: {error}", "`pileus logs` and `pileus status` say more.")
    for agent in silent:
        yield _problem("agents", f"{agent} does not report.", "Look at logs/agent.log on that host.")


def check_certificates(facts: Facts) -> Iterator[Finding]:
    """Whoever's certificate has ended is no one to the others."""
    now = clock.utcnow()
    for certificate in facts.certificates():
        left = (certificate.ends - now).total_seconds() / 86400
        if left < LEAST_CERTIFICATE_DAYS:
            when = f"ends in {left:.1f} days" if left > 0 else "has ended"
            yield _problem("certificate", f"The certificate of {certificate.of} {when}.", certificate.todo)


CHECKS: tuple[Check, ...] = (
    check_kvm, check_port, check_memory, check_disk, check_commands, check_forwarding, check_files, check_databases, check_brokers,
    check_processes, check_agents, check_certificates,
)  # fmt: skip


def examine(facts: Facts) -> list[Finding]:
    """All findings, in the order of the checks."""
    return [finding for check in CHECKS for finding in check(facts)]


def run(arguments: argparse.Namespace) -> int:
    """Print what is wrong; 1 when there is a problem, 0 otherwise."""
    facts = Facts(load_config(home_of(arguments)))
    findings = examine(facts)
    problems = [finding for finding in findings if finding.level == "problem"]
    if arguments.json:
        print(json.dumps({"healthy": not problems, "running": facts.supervisor() is not None, "findings": [dataclasses.asdict(f) for f in findings]}))
        return 1 if problems else 0
    for finding in findings:
        print(f"{finding.level} ({finding.check}): {finding.what}")
        if finding.todo:
            print(f"    {finding.todo}")
    if not problems:
        print("Nothing is broken." if facts.supervisor() else "Nothing is in the way of `pileus up`.")
    return 1 if problems else 0
