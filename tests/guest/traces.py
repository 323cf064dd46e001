"""What a cloud may leave on its host, to be compared before and after: links, namespaces, firewall, processes, sysctls, files."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from tests.sandbox import Sandbox


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


def mentions(databases: Path, needle: str, records: tuple[str, ...]) -> Iterator[str]:
    """Rows of live tables below a directory of SQLite files that hold `needle`: `database.table.column`.

    `records` are parts of the names of tables that remember what was (events, finished flows, deleted rows); rows marked as deleted do not count.
    """
    for path in sorted(databases.rglob("*.db")) + sorted(databases.rglob("*.sqlite*")):
        if path.name.endswith(("-wal", "-shm")):
            continue
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                if any(part in table for part in records):
                    continue
                columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
                alive = " AND ".join(f'("{c}" IS NULL OR "{c}" IN (0, \'0\', \'\'))' for c in columns if c in {"deleted", "deleted_at"}) or "1"
                for column in columns:
                    query = f'SELECT count(*) FROM "{table}" WHERE {alive} AND CAST("{column}" AS TEXT) LIKE ?'
                    if connection.execute(query, (f"%{needle}%",)).fetchone()[0]:
                        yield f"{path.stem}.{table}.{column}"
