"""The sandbox: what it hides, and that tests marked real run in one."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.guest.stock import wait_until
from tests.sandbox import MARK, TOP, CommandFailed, Sandbox, possible


@pytest.mark.real
def test_a_real_test_runs_in_a_sandbox_without_a_way_out() -> None:
    assert os.environ[MARK] == "host1"
    assert [name for _, name in socket.if_nameindex()] == ["lo"]
    assert Path("/proc/net/route").read_text().count("\n") == 1
    assert int(os.environ.get("LISTEN_PID", "0")) == 0
    assert "inside.py" in Path("/proc/1/cmdline").read_text()


@pytest.mark.real
def test_writes_to_etc_var_and_run_stay_inside() -> None:
    for path in ("/etc/pileus-sandbox-test", "/var/lib/pileus-sandbox-test", "/run/pileus-sandbox-test"):
        Path(path).write_text("inside")
        assert Path(path).read_text() == "inside"


def test_a_cloud_that_the_machine_runs_is_hidden_and_untouched(host: Sandbox) -> None:
    host.run(["sh", "-c", "mkdir -p /var/lib/pileus && echo real > /var/lib/pileus/keys"])
    lay = "import tests.sandbox.inside as i, os; i.private_trees('/run/nested', []); print(os.path.exists('/var/lib/pileus'), os.listdir('/var/lib') != [])"
    fresh = "; os.mkdir('/var/lib/pileus'); print(os.listdir('/var/lib/pileus')); os.rmdir('/var/lib/pileus')"
    assert host.run(["unshare", "--mount", sys.executable, "-c", lay + fresh], cwd=TOP).stdout.split() == ["False", "True", "[]"]
    assert host.read("/var/lib/pileus/keys") == "real\n"


def test_closing_a_host_kills_its_processes_and_removes_its_files(host: Sandbox) -> None:
    with host:
        host.run(["sh", "-c", "setsid sleep 4000 & touch /etc/pileus-sandbox-test"])
        assert [command for command in host.processes().values() if command == "sleep 4000"]
        groups, shared, pid = list(host._cgroups), host.dir, host.pid
    assert not Path(f"/proc/{pid}").exists()
    assert not shared.parent.exists()
    assert not any(group.exists() for group in groups)
    assert not Path("/etc/pileus-sandbox-test").exists()


def test_a_failing_command_shows_its_output(host: Sandbox) -> None:
    with pytest.raises(CommandFailed, match="(?s)ended with 3.*the reason"):
        host.run(["sh", "-c", "echo the reason >&2; exit 3"])
    assert host.run(["cat"], input="text").stdout == "text"


def test_two_hosts_reach_each_other_until_the_wire_is_cut(hosts) -> None:
    underlay = hosts(2)
    first, second = underlay.hosts
    ping = ["ping", "-c", "1", "-W", "2", underlay.address(second)]
    first.run(ping)
    underlay.disconnect(second)
    assert first.run(ping, check=False).returncode == 1
    underlay.connect(second)
    first.run(["ping", "-c", "5", "-W", "1", "-i", "0.2", underlay.address(second)])


@pytest.mark.skipif(not possible(), reason="test hosts need root")
def test_a_host_vanishes_with_its_starter() -> None:
    """Even one that is killed: no process, no file and no cgroup stays."""
    script = (
        "import sys; from tests.sandbox import Sandbox\n"
        "h = Sandbox(); h.run(['sh', '-c', 'setsid sleep 4001 &'])\n"
        "print(h.pid, h.dir.parent, *h._cgroups, flush=True); sys.stdin.read()"
    )
    starter = subprocess.Popen([sys.executable, "-c", script], cwd=TOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    pid, *paths = starter.stdout.readline().split()
    assert all(Path(path).exists() for path in [f"/proc/{pid}", *paths])
    starter.kill()
    starter.wait()
    wait_until("nothing left", lambda: not any(Path(path).exists() for path in [f"/proc/{pid}", *paths]), 20, every=0.1)
