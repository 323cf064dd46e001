#!/usr/bin/env python3
"""One run, two clouds: suites of bench.py in turn against an upstream that is running on this machine and a simulated Pileus.

    SERVICES=keystone UPSTREAM_DIR=/tmp/upstream bench/upstream_up.sh
    .venv/bin/python -m bench.beside /tmp/upstream [--rounds N] [SUITE...]      identity unless others are named

Both are up all the time and only one is asked at once. Prints a table of the best round of each figure, with the CPU time of the
servers for each request where it was counted, and the memory of both (PSS) when all is done.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tools.cloud import TOP, ThrowAway

BENCH = TOP / "bench"


def openrc(path: Path) -> dict[str, str]:
    """The variables that a shell would have after `. openrc`."""
    words = [word for line in path.read_text().splitlines() for word in line.removeprefix("export ").split()]
    return dict(word.split("=", 1) for word in words if "=" in word)


def measure(variables: dict[str, str], pids: Path, suites: list[str]) -> list[dict[str, Any]]:
    """The figures of one round against one cloud."""
    command = [sys.executable, str(BENCH / "bench.py"), "--pids-dir", str(pids), "--quiet", "10", *suites]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
    done = subprocess.run(command, env={**plain, **variables}, capture_output=True, text=True, timeout=1800)
    if done.returncode:
        sys.exit(done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def footprint(pids: Path) -> dict[str, Any]:
    done = subprocess.run([sys.executable, str(BENCH / "footprint.py"), "--pids-dir", str(pids)], capture_output=True, text=True, timeout=60)
    return {line["name"]: line for line in map(json.loads, (line for line in done.stdout.splitlines() if line.startswith("{")))}


def best(rounds: list[list[dict[str, Any]]], name: str) -> dict[str, Any] | None:
    """None for what was not measured: seeding is, by the one round that seeds."""
    found = [figure for figures in rounds for figure in figures if figure["name"] == name]
    if not found:
        return None
    return (max if found[0]["unit"].startswith("req") else min)(found, key=lambda figure: figure["value"])


def cpu(figure: dict[str, Any]) -> str:
    used = figure.get("server_cpu_ms_per_op")
    return "-" if used is None else f"{sum(used.values()):.2f}"


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("upstream", type=Path, help="its UPSTREAM_DIR")
    parser.add_argument("suites", nargs="*", default=["identity"])
    parser.add_argument("--rounds", type=int, default=2)
    wanted = parser.parse_args(arguments)
    theirs = openrc(wanted.upstream / "openrc")
    with ThrowAway() as cloud, tempfile.TemporaryDirectory() as folder:
        own_pids = Path(folder)
        (own_pids / "pileus").write_text(str(cloud.supervisor_pid()))
        rounds: dict[str, list[list[dict[str, Any]]]] = {"upstream": [], "pileus": []}
        for _ in range(wanted.rounds):
            rounds["upstream"].append(measure(theirs, wanted.upstream / "pid", wanted.suites))
            rounds["pileus"].append(measure(cloud.variables("admin"), own_pids, wanted.suites))
        memory = {"upstream": footprint(wanted.upstream / "pid"), "pileus": footprint(own_pids)}
    print("| figure | unit | upstream | CPU ms | Pileus | CPU ms | ratio |\n|---|---|---:|---:|---:|---:|---:|")
    for name in dict.fromkeys(figure["name"] for figure in rounds["pileus"][0]):
        up, our = best(rounds["upstream"], name), best(rounds["pileus"], name)
        if up is None or our is None:
            continue
        ratio = our["value"] / up["value"] if our["unit"].startswith("req") else up["value"] / our["value"]
        print(f"| {name} | {our['unit']} | {up['value']} | {cpu(up)} | {our['value']} | {cpu(our)} | {ratio:.1f} |")
    print(json.dumps(memory, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
