"""`make conformance`: the outside suites against a simulated cloud that is thrown away afterwards.

Arguments are suites: `probe` (which operations of upstream's API reference exist), `osc` (the functional tests of
python-openstackclient), `identity-compliance` (Tempest's tests of password rules, with such rules), and everything run_tempest.sh knows (identity, image, compute, network, smoke, a regular expression over test
names ...). Results go to conformance-results/; the last lines sum up. CONF_CONCURRENCY and CONF_LIMIT (seconds per suite) may be set.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tools.cloud import TOP, ThrowAway

HERE = Path(__file__).parent
USUAL = ["probe", "identity", "image", "compute", "network"]
PASSWORD_RULES = {"lockout_failure_attempts": 3, "lockout_duration": 5, "unique_last_password_count": 2}
"""Options of identity with which Tempest's tests of them run; by default there are no such rules."""
SERVED = ("keystone", "glance", "placement", "nova", "neutron")


def command(suite: str, results: Path) -> list[str]:
    share = ["-c", os.environ.get("CONF_CONCURRENCY", "2"), "-t", os.environ.get("CONF_LIMIT", "3600")]
    if suite == "probe":
        services = [word for name in SERVED for word in ("--service", name)]
        outputs = ["--missing", str(results / "missing-operations.txt"), "--json", str(results / "operations.json")]
        return [sys.executable, str(HERE / "probe_operations.py"), *services, "--disposable", *outputs]
    if suite == "osc":
        return [str(HERE / "run_osc_functional.sh"), *share]
    return [str(HERE / "run_tempest.sh"), *share, suite]


def settings(suite: str) -> dict[str, str]:
    """What the cloud of a suite needs in its environment."""
    rules = PASSWORD_RULES if suite == "identity-compliance" else {}
    return {f"PILEUS_IDENTITY__{name.upper()}": str(value) for name, value in rules.items()}


def overrides(suite: str, results: Path) -> dict[str, str]:
    """What a suite needs in its own environment: a file that tells Tempest the rules."""
    if suite != "identity-compliance":
        return {}
    lines = [f"user_{name} = {value}" for name, value in PASSWORD_RULES.items()]
    file = results / f"{suite}.ini"
    file.write_text("\n".join(["[identity]", *lines, "[identity-feature-enabled]", "security_compliance = true", ""]))
    return {"CONF_OVERRIDES": str(file.resolve())}


def main(suites: list[str]) -> int:
    results = Path(os.environ.get("CONF_OUT", TOP / "conformance-results"))
    results.mkdir(parents=True, exist_ok=True)
    codes = {}
    for suite in suites or USUAL:
        with ThrowAway(settings(suite)) as cloud:  # each on a fresh one: no suite sees what another left
            print(f"== {suite}", flush=True)
            variables = {**os.environ, **cloud.variables("admin"), "CONF_OUT": str(results), **overrides(suite, results)}
            codes[suite] = subprocess.run(command(suite, results), env=variables).returncode
            if codes[suite]:
                subprocess.run(["cp", "-r", cloud.home / "logs", results / f"{suite.replace('/', '_')}-logs"], check=False)
    print("".join(f"{suite}: exit code {code}\n" for suite, code in codes.items()), end="")
    return max(codes.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
