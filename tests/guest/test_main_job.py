"""The main job on a real cloud: `pileus up` on an empty host, the stock clients, real guests, and nothing left at the end.

The steps run in order on one test host; everything is done with the stock clients, ssh and ping. The last one compares the host
with what it was before `pileus up`.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guest import traces
from tests.guest.steps import RANGE, ClientSteps, Job, delete_everything
from tests.guest.stock import Guest, User, wait_until
from tests.sandbox import Sandbox, possible
from tools.cloud import Cloud

pytestmark = pytest.mark.timeout(400)
HOME = "/var/lib/pileus"
# tables that remember what was: they may name what is deleted. A host keeps epochs for a while, to refuse orders that come too late; the
# metadata of a deleted server goes with its row, after compute's `deleted_retention`
RECORDS = ("epochs", "server_metadata", "action", "event", "flow", "step", "deleted", "history", "tombstone", "nudge", "desired", "alembic")


@pytest.fixture(scope="class")
def host() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="class")
def job(host: Sandbox) -> Iterator[Job]:
    before = traces.take(host)
    cloud = Cloud(Path(HOME), host.run, simulate=False, port=5000)
    cloud.up()
    job = Job(cloud, host.run, host.dir)
    job.before, job.host = before, host
    yield job


def grows(file: Path, seconds: float = 6) -> bool:
    """Does a file that something writes to become longer within so many seconds?"""
    length = file.stat().st_size
    try:
        return bool(wait_until("growth", lambda: file.stat().st_size > length, seconds, every=0.25))
    except AssertionError:
        return False


@pytest.mark.skipif(not possible(), reason="test hosts need root")
class TestMainJob(ClientSteps):
    def test_ssh_with_the_generated_key_reaches_the_guest(self, job: Job) -> None:
        job.demo.wait_for_console("main-1", r"GUEST: ready", 180)
        guest = Guest(job.run, job.floating, job.key)
        guest.wait()
        assert guest("hostname") == "main-1"
        assert guest("ip -4 -o addr show eth0 | awk '{print $4}'") == f"{job.address}/24"
        job.guest = guest
        assert not Guest(job.run, job.floating, job.imported_key).works("true")

    def test_user_data_ran_once(self, job: Job) -> None:
        assert "MAIN-JOB user-data ran as root" in job.demo.console("main-1")
        assert job.guest("cat /root/user-data-ran") == "once"

    def test_the_guest_reads_its_metadata(self, job: Job) -> None:
        base = "http://169.254.169.254"
        data = json.loads(job.guest.get(f"{base}/openstack/latest/meta_data.json"))
        assert (data["uuid"], data["name"], data["meta"]) == (job.server, "main-1", {"purpose": "main-job"})
        assert list(data["public_keys"]) == ["main-key"]
        assert "MAIN-JOB" in job.guest.get(f"{base}/openstack/latest/user_data")
        assert job.guest.get(f"{base}/latest/meta-data/local-ipv4") == job.address
        assert job.guest.get(f"{base}/latest/meta-data/public-ipv4") == job.floating
        networks = json.loads(job.guest.get(f"{base}/openstack/latest/network_data.json"))
        assert [link["ethernet_mac_address"] for link in networks["links"]] == [job.guest("cat /sys/class/net/eth0/address")]
        forged = f"timeout 8 wget -q -O - --header 'X-Instance-ID: {job.sdk_server}' {base}/openstack/latest/meta_data.json"
        assert json.loads(job.guest(forged))["uuid"] == job.server

    def test_the_config_drive_is_readable_in_the_guest(self, job: Job) -> None:
        found = job.demo.wait_for_console("main-sdk", r"GUEST: cloud source=(\S+) host=(\S+) uuid=(\S+) key=(\S+)", 180)
        source, hostname, uuid, key = found.groups()
        assert source.startswith("configdrive")
        assert (hostname, uuid, key) == ("main-sdk", job.sdk_server, "yes")

    def test_two_guests_of_one_network_reach_each_other(self, job: Job) -> None:
        second = job.demo("server", "create", "--image", "main-qcow2", "--flavor", job.flavor, "--key-name", "main-imported", "--network", "main",
                          "--security-group", "main", "--wait", "main-2", timeout=240)  # fmt: skip
        job.second = second["addresses"]["main"][0]
        job.demo.wait_for_console("main-2", r"GUEST: ready", 180)
        job.guest(f"ping -c 2 -W 5 {job.second}")
        assert job.guest.get(f"http://{job.second}/") == "main-2"

    def test_a_network_without_a_router_serves_metadata_and_config_drive(self, job: Job) -> None:
        job.demo("network", "create", "main-alone")
        job.demo("subnet", "create", "--network", "main-alone", "--subnet-range", "10.78.0.0/24", "--gateway", "none", "main-alone")
        create = ["server", "create", "--image", "main-qcow2", "--flavor", job.flavor, "--key-name", "main-key", "--network", "main-alone"]
        job.demo(*create, "--wait", "main-alone-1", timeout=240)
        job.demo(*create, "--config-drive", "True", "--wait", "main-alone-2", timeout=240)
        for name, source in (("main-alone-1", "metadata"), ("main-alone-2", "configdrive")):
            found = job.demo.wait_for_console(name, r"GUEST: cloud source=(\w+)\S* host=(\S+) uuid=\S+ key=(\S+)", 240)
            assert found.groups() == (source, name, "yes")
        job.demo.text("server", "delete", "--wait", "main-alone-1", "main-alone-2", timeout=240)
        job.demo.text("network", "delete", "main-alone")

    def test_two_tenants_with_the_same_addresses_do_not_meet(self, job: Job) -> None:
        job.admin("project", "create", "main-other")
        job.admin("user", "create", "--password", "main-other-pw", "main-other")
        job.admin.text("role", "add", "--project", "main-other", "--user", "main-other", "member")
        identity = {"OS_USERNAME": "main-other", "OS_PASSWORD": "main-other-pw", "OS_PROJECT_NAME": "main-other"}
        others = User(job.run, {k: v for k, v in job.demo.variables.items() if k not in {"OS_PROJECT_ID", "OS_USER_ID"}} | identity)
        image = job.demo("image", "show", "main-qcow2")["id"]
        assert others("server", "list") == []
        job.demo.text("image", "set", "--community", image)
        others("network", "create", "main")
        network = others("network", "show", "main")["id"]
        others("subnet", "create", "--network", "main", "--subnet-range", RANGE, "main")
        script = f"#!/bin/sh\nif timeout 8 wget -q -O - http://{job.address}/; then echo TENANT reached; else echo TENANT alone; fi\n"
        (job.files / "other-user-data").write_text(script)
        others("server", "create", "--image", image, "--flavor", job.flavor, "--user-data", job.files / "other-user-data",
               "--nic", f"net-id={network},v4-fixed-ip={job.second}", "--wait", "other-1", timeout=240)  # fmt: skip
        assert others.wait_for_console("other-1", r"TENANT (\w+)", 240)[1] == "alone"
        assert job.guest.get(f"http://{job.second}/") == "main-2"
        others.text("server", "delete", "--wait", "other-1", timeout=240)
        others.text("network", "delete", "main")
        job.admin.text("user", "delete", "main-other")
        job.admin.text("project", "delete", "main-other")

    def test_rules_act_while_traffic_flows(self, job: Job) -> None:
        log = job.files / "ping.log"
        with log.open("w") as out:
            ping = job.host.popen(["ping", "-i", "0.3", job.floating], stdout=out, stderr=subprocess.DEVNULL)
        assert grows(log)
        rules = job.demo("security", "group", "rule", "list", "main", "--protocol", "icmp")
        job.demo.text("security", "group", "rule", "delete", rules[0]["ID"])
        wait_until("the ping that runs to stop", lambda: not grows(log, 3), 30)
        assert job.guest("echo ssh still works") == "ssh still works"
        job.demo("security", "group", "rule", "create", "--protocol", "icmp", "main")
        wait_until("the ping that runs to go on", lambda: grows(log, 3), 30)
        ping.kill()

    def test_a_restart_of_the_guest_keeps_its_disk(self, job: Job) -> None:
        job.guest("echo kept > /root/kept && sync")
        job.demo.text("server", "stop", "main-1")
        wait_until("SHUTOFF", lambda: job.demo("server", "show", "main-1")["status"] == "SHUTOFF", 120)
        assert not [command for command in job.host.processes().values() if "qemu-system" in command and job.server in command]
        job.demo.text("server", "start", "main-1")
        job.guest.wait(180)
        assert job.guest("cat /root/kept /root/user-data-ran").split() == ["kept", "once"]
        for how in ("--soft", "--hard"):
            booted = job.guest("cat /proc/sys/kernel/random/boot_id")
            job.demo.text("server", "reboot", how, "--wait", "main-1", timeout=240)
            wait_until(f"another boot after {how}", lambda old=booted: job.guest.works("true") and job.guest("cat /proc/sys/kernel/random/boot_id") != old, 180)
        assert job.guest("cat /root/kept") == "kept"

    def test_deleting_everything_leaves_nothing_on_the_host_or_in_a_database(self, job: Job) -> None:
        servers = [row["ID"] for row in job.demo("server", "list")]
        ports = [row["ID"] for row in job.demo("port", "list", "--network", "main")]
        assert len(servers) >= 3
        delete_everything(job)
        wait_until("guests gone", lambda: not [c for c in job.host.processes().values() if "qemu-system" in c], 60)
        short = [port[:11] for port in ports]  # as devices are named; the networks of the first content keep theirs
        now = wait_until(
            "devices gone", lambda: (t := traces.take(job.host)) and not [link for link in t.links if any(p in link for p in short)] and t, 60
        )
        for needle in [*servers, *ports, *short]:
            assert needle not in now.firewall
            assert not [path for path in now.files if needle in path], needle
            assert not [line for line in now.namespaces | now.links if needle in line]
        left: list[str] = []

        def searched() -> bool:
            left[:] = traces.mentions(job.host, HOME, [*servers, *ports], RECORDS)
            return not left

        try:
            wait_until("rows of what was deleted gone", searched, 60, every=3)
        except AssertionError:
            assert left == []
            raise

    def test_destroy_leaves_the_host_as_it_was(self, job: Job) -> None:
        job.cloud.pileus("destroy", "--yes", timeout=120)
        difference = wait_until("settled", lambda: (job.before.differences(traces.take(job.host)),), 10)[0]
        assert difference == ""
