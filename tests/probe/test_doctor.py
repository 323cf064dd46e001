"""The doctor looks at a real cloud of processes."""

from __future__ import annotations

import json
import os
import signal

from tests.probe.probed import wait_until


def report(probed):
    answer = probed.cloud.pileus("doctor", "--json", check=False)
    told = json.loads(answer.stdout)
    assert answer.returncode == (0 if told["healthy"] else 1)
    return told


def test_a_healthy_cloud_is_healthy(probed):
    told = report(probed)
    assert told == {"healthy": True, "running": True, "findings": []}
    assert "Nothing is broken." in probed.cloud.pileus("doctor").stdout


def test_a_key_that_others_can_read_is_found(probed):
    key = probed.home / "keys" / "passwords.json"
    key.chmod(0o644)
    try:
        assert [(finding["check"], str(key) in finding["what"]) for finding in report(probed)["findings"]] == [("files", True)]
    finally:
        key.chmod(0o600)
    assert report(probed)["healthy"]


def test_processes_that_outlive_their_supervisor_are_found(probed):
    stopped = probed.pid("agent")
    os.kill(stopped, signal.SIGSTOP)  # so that it cannot notice
    try:
        supervisor = probed.pid("supervisor")
        os.kill(supervisor, signal.SIGKILL)
        wait_until(lambda: any(f["check"] == "supervisor" and f"agent (pid {stopped})" in f["what"] for f in report(probed)["findings"]), "it is found")
    finally:
        os.kill(stopped, signal.SIGCONT)
    probed.cloud.up()
    wait_until(lambda: report(probed)["healthy"], "all is well again", explain=lambda: str(report(probed)))
