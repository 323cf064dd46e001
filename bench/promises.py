"""`make bench`: is what docs/promises.md says still so?

Starts a simulated cloud that is thrown away, measures it with startup.py, footprint.py and bench.py, and compares each figure with the
recorded figure of upstream on the same kind of machine (RESULTS.jsonl; `upstream_up.sh` makes such an upstream, and bench.py measures it
with the same command). One JSON line per promise: its figure, upstream's, the ratio, what was promised. The exit code is 1 when a promise is broken.

    bench/promises.py [--small] [SUITE...]          suites: startup footprint identity placement network image compute
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from tools.cloud import ThrowAway  # noqa: E402

SUITES = ("startup", "footprint", "identity", "placement", "network", "image", "compute")
# figure -> (what is promised, bound). "ratio": so many times upstream; "at most": an absolute bound in the figure's unit
PROMISES = {
    "startup.up": ("at most", 4.0),
    "footprint.pss.TOTAL": ("at most", 300.0),
    "identity.token_issue.c1": ("ratio", 8.0),  # most of ours is the password hash
    "identity.token_validate.c1": ("at most", 1.0),
    "identity.token_validate.c8": ("ratio", 8.0),
    "identity.list_users_1000": ("ratio", 10.0),
    "placement.rp_create.c4": ("ratio", 3.0),
    "placement.allocation_candidates.limit1000": ("at most", 15.0),
    "placement.put_allocations.c8": ("ratio", 5.0),
    "network.create_network_subnet.c1": ("ratio", 10.0),
    "network.create_port.c1": ("at most", 8.0),
    "network.create_port.c8": ("ratio", 10.0),
    "network.list_ports_1000": ("at most", 60.0),
    "image.list_500": ("ratio", 5.0),
    "image.upload_256MiB": ("ratio", 1.0),
    "compute.boot_net.c1": ("at most", 120.0),
    "compute.boot_net_beside_120.c1": ("at most", 120.0),
    "compute.boot50_net.posts": ("at most", 4.0),
    "compute.boot50_net.min_count": ("ratio", 10.0),
    "compute.delete_net.c1": ("ratio", 10.0),
    "compute.list_servers_detail_500": ("at most", 60.0),
    "compute.get_server.c1": ("ratio", 10.0),
}
# as upstream was measured
UNLIMITED = """
[compute]
quota_instances = -1
quota_cores = -1
quota_ram = -1
[network]
quota_network = -1
quota_subnet = -1
quota_port = -1
quota_security_group_rule = -1
"""
MORE_IS_BETTER = ("req/s", "ports/s", "MB/s", "rows/s")


def recorded() -> dict[str, dict]:
    """Upstream's figures: the best of its runs, the most favourable reading for upstream."""
    runs: dict[str, list[dict]] = {}
    for line in (HERE / "RESULTS.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row.get("value") is not None and "unit" in row:
            runs.setdefault(row["name"], []).append(row)
    better = {name: max if rows[0]["unit"] in MORE_IS_BETTER else min for name, rows in runs.items()}
    return {name: better[name](rows, key=lambda row: row["value"]) for name, rows in runs.items()}


def measure(suites: list[str], small: bool) -> dict[str, dict]:
    found: dict[str, dict] = {}
    begin = time.monotonic()
    with ThrowAway(toml=UNLIMITED) as cloud:
        found["startup.up"] = {"unit": "s", "value": round(time.monotonic() - begin, 2)}
        variables = {**os.environ, **cloud.variables("admin")}
        if "footprint" in suites:
            for row in json_lines([sys.executable, HERE / "footprint.py", f"--group=pileus={cloud.supervisor_pid()}"], variables):
                found[row["name"]] = row
        chosen = [suite for suite in suites if suite not in ("startup", "footprint")]
        if chosen:
            size = ["--small"] if small else []
            for row in json_lines([sys.executable, HERE / "bench.py", *size, *chosen], variables):
                found[row["name"]] = row
    return found


def json_lines(argv: list, variables: dict[str, str]) -> list[dict]:
    with tempfile.TemporaryFile("w+") as out:
        subprocess.run([str(a) for a in argv], env=variables, stdout=out)
        out.seek(0)
        return [json.loads(line) for line in out if line.startswith("{")]


def judge(name: str, row: dict, upstream: dict | None) -> dict:
    kind, bound = PROMISES[name]
    answer = {"promise": name, "unit": row.get("unit"), "value": row.get("value"), "promised": f"{kind} {bound:g}"}
    if row.get("value") is None:
        return {**answer, "kept": False, "error": row.get("error")}
    if kind == "at most":
        return {**answer, "kept": row["value"] <= bound}
    if upstream is None or not row["value"]:
        return {**answer, "kept": False, "error": "nothing to compare with"}
    ratio = row["value"] / upstream["value"] if row["unit"] in MORE_IS_BETTER else upstream["value"] / row["value"]
    return {**answer, "upstream": upstream["value"], "ratio": round(ratio, 1), "kept": ratio >= bound}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=", ".join(SUITES))
    parser.add_argument("--small", action="store_true", help="a tenth of the data: figures for a quick look, no verdicts")
    arguments = parser.parse_args()
    suites = arguments.suites or list(SUITES)
    if unknown := set(suites) - set(SUITES):
        parser.error(f"unknown suite {', '.join(sorted(unknown))}")
    found, upstream = measure(suites, arguments.small), recorded()
    if arguments.small:
        for row in found.values():
            print(json.dumps(row))
        return 0
    wanted = [name for name in PROMISES if name.split(".")[0] in suites]
    broken = 0
    for name in wanted:
        verdict = judge(name, found.get(name, {"error": "not measured"}), upstream.get(name))
        broken += not verdict["kept"]
        print(json.dumps(verdict), flush=True)
    ratios = [r for name in wanted if (r := judge(name, found.get(name, {}), upstream.get(name)).get("ratio"))]
    middle = f"; median ratio to upstream {statistics.median(ratios):.1f}" if ratios else ""
    print(f"{len(wanted) - broken} of {len(wanted)} promises kept{middle}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
