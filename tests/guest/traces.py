"""What a cloud may leave on its host, to be compared before and after: links, namespaces, firewall, processes, sysctls, files."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from tests.sandbox import TOP, Sandbox


@dataclass(frozen=True)
class Traces:
    """State of a test host; equal when nothing was left."""

    links: frozenset[str]
    addresses: frozenset[str]
    routes: frozenset[str]
    rules: frozenset[str]
    namespaces: frozenset[str]
    firewall: str
    processes: frozenset[str]
    sysctls: frozenset[str]
    files: frozenset[str]
    cgroups: frozenset[str]

    def differences(self, later: Traces) -> str:
        """What is different later, as text; empty when nothing is."""
        lines = []
        for field in fields(self):
            before, after = getattr(self, field.name), getattr(later, field.name)
            if before == after:
                continue
            if isinstance(before, frozenset):
                lines += [f"{field.name}: + {item}" for item in sorted(after - before)[:20]]
                lines += [f"{field.name}: - {item}" for item in sorted(before - after)[:20]]
            else:
                lines.append(f"{field.name}: was\n{before}\nis\n{after}")
        return "\n".join(lines)


# counters and caches of the kernel that move by themselves
MOVING = ("fs.", "kernel.", "vm.", "net.netfilter.nf_conntrack_count", "net.ipv4.tcp_fastopen_key", "net.ipv4.route", "dev.", "user.", "debug.", "abi.", "crypto.", "sunrpc.")


# what the tools leave, whoever uses them: iproute2's mount point for namespaces, the stock client's cache of entry points
TOOLS = ("/run/netns", "/root/.cache")


def take(host: Sandbox) -> Traces:
    def lines(*argv: str) -> frozenset[str]:
        return frozenset(filter(None, host.run(argv, check=False).stdout.splitlines()))

    sysctls = frozenset(line for line in lines("sysctl", "-a") if not line.startswith(MOVING))
    rules = json.loads(host.run(["nft", "-j", "list", "ruleset"]).stdout)["nftables"]
    links = json.loads(host.run(["ip", "-j", "link"]).stdout)
    return Traces(
        links=frozenset(f"{link['ifname']} mtu {link['mtu']} {link['operstate']}" for link in links),
        addresses=frozenset(f"{link['ifname']} {a['local']}/{a['prefixlen']}" for link in json.loads(host.run(["ip", "-j", "address"]).stdout) for a in link["addr_info"]),
        routes=lines("ip", "route", "show", "table", "all"),
        rules=lines("ip", "rule"),
        namespaces=lines("ip", "netns", "list"),
        firewall=json.dumps([rule for rule in rules if "metainfo" not in rule], indent=1),
        processes=frozenset(host.processes().values()),
        sysctls=sysctls,
        files=frozenset(path for path in host.changed_files() if not path.startswith(TOOLS)),
        cgroups=frozenset(host.run(["find", "/sys/fs/cgroup", "-mindepth", "2", "-type", "d"]).stdout.splitlines()),
    )


def mentions(host: Sandbox, home: str, needles: list[str], records: tuple[str, ...]) -> list[str]:
    """Where live rows of a cloud's SQLite databases hold one of `needles`: `database.table.column needle`.

    `records` are parts of the names of tables that remember what was (events, finished flows, deleted rows); rows marked as deleted do not count.
    The search runs on the host: SQLite follows /proc/PID/root back to the outside.
    """
    question = json.dumps({"home": home, "needles": needles, "records": records})
    return list(json.loads(host.run([sys.executable, "-m", "tests.guest.traces"], input=question, cwd=TOP).stdout))


def search(home: str, needles: list[str], records: list[str]) -> Iterator[str]:
    for path in sorted(p for p in Path(home).rglob("*") if p.suffix in {".db", ".sqlite", ".sqlite3"} and is_database(p)):
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                if any(part in table for part in records):
                    continue
                columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
                alive = " AND ".join(f'("{c}" IS NULL OR "{c}" IN (0, \'0\', \'\'))' for c in columns if c in {"deleted", "deleted_at"}) or "1"
                for column in columns:
                    query = f'SELECT count(*) FROM "{table}" WHERE {alive} AND CAST("{column}" AS TEXT) LIKE ?'
                    for needle in needles:
                        if connection.execute(query, (f"%{needle}%",)).fetchone()[0]:
                            yield f"{path.stem}.{table}.{column} {needle}"


def is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


if __name__ == "__main__":
    print(json.dumps(list(search(**json.load(sys.stdin)))))
