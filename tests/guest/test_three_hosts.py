"""A cloud of three hosts with real guests: two join the first, guests meet across hosts, one moves while it runs, and one host is lost and comes back.

The steps run in order on three test hosts with one wire between them and another one to the outside; everything is done with `pileus` and the
stock client. The first host is the controller, with RabbitMQ beside it, and takes guests too.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.guest.stock import IMAGE, Guest, User, wait_until
from tests.sandbox import TOP, Sandbox, Underlay, possible
from tools.cloud import Cloud

pytestmark = [pytest.mark.timeout(600), pytest.mark.skipif(not possible(), reason="test hosts need root")]
HOME = Path("/var/lib/pileus")
OUTSIDE = "172.24.4.1"
NAMES = ("host1", "host2", "host3")
SOON = {"PILEUS_COMPUTE__SERVICE_DOWN_TIME": "12", "PILEUS_COMPUTE__REPORT_SECONDS": "2", "PILEUS_NETWORK__AGENT_DOWN_TIME": "15"}
"""A lost host is noticed in seconds; by default it is a minute."""


class Three:
    """Three hosts and what the steps make on them."""

    def __init__(self, underlay: Underlay) -> None:
        self.underlay, self.hosts = underlay, dict(zip(NAMES, underlay.hosts, strict=True))
        self.files = underlay.hosts[0].dir
        self.outside = underlay.switch.run
        self.clouds = {name: self._cloud(name) for name in NAMES}
        self.user: User
        self.floating: dict[str, str] = {}
        self.fixed: dict[str, str] = {}

    def _cloud(self, name: str) -> Cloud:
        host = self.hosts[name]
        settings = {
            **SOON,
            "PILEUS_COMPUTE__HOST_ADDRESS": self.underlay.address(host),
            "PILEUS_NETWORK__VTEP": self.underlay.address(host),
            "PILEUS_NETWORK__EXTERNAL_INTERFACE": "ex0",
        }
        return Cloud(HOME, host.run, simulate=False, port=5000, settings=settings)

    def until_on(self, host: str, name: str, seconds: float = 240) -> None:
        """Wait until a server runs on a host; what happened to it when it does not."""
        try:
            wait_until(f"{name} is on {host}", lambda: settled(self.server(name)) and self.host_of(name) == host, seconds)
        except AssertionError as failure:
            why = self.clouds["host1"].pileus("why", self.server(name)["id"], check=False).stdout
            logs = {each: cloud.pileus("logs", "--lines", "25", check=False).stdout for each, cloud in self.clouds.items()}
            raise AssertionError(f"{failure}\n{why}\n" + "\n".join(f"{each}:\n{log}" for each, log in logs.items())) from None

    def server(self, name: str) -> dict[str, Any]:
        shown: dict[str, Any] = self.user("server", "show", name)
        return shown

    def host_of(self, name: str) -> str:
        return str(self.server(name)["OS-EXT-SRV-ATTR:host"])

    def guest(self, name: str) -> Guest:
        return Guest(self.outside, self.floating[name], self.files / "key")

    def guests_on(self, host: str) -> set[str]:
        """Ids of the servers that run on a host, whatever the cloud says."""
        commands = self.hosts[host].processes().values()
        return {found[1] for command in commands if (found := re.search(r"qemu-system\S* .*-uuid (\S+)", command))}

    def claimed(self) -> list[str]:
        """Hosts of which placement holds something for somebody."""
        found: list[str] = self.user.sdk("""
            answer = [p.name for p in cloud.placement.resource_providers()
                      if cloud.placement.get(f"/resource_providers/{p.id}/allocations").json()["allocations"]]
        """)
        return found

    def services(self) -> dict[str, str]:
        return {row["Host"]: row["State"] for row in self.user("compute", "service", "list", "--service", "nova-compute")}


@pytest.fixture(scope="class")
def three() -> Iterator[Three]:
    with Underlay(3, outside=f"{OUTSIDE}/24") as underlay:
        yield Three(underlay)


def start_broker(host: Sandbox, address: str) -> dict[str, Any]:
    broker = host.popen([sys.executable, "-m", "tests.brokers", address], cwd=TOP, stdout=subprocess.PIPE, text=True)
    line = broker.stdout.readline()
    assert line, "the broker does not start"
    found: dict[str, Any] = json.loads(line)
    return found


class TestThreeHosts:
    def test_the_first_host_is_a_cloud(self, three: Three) -> None:
        host, cloud = three.hosts["host1"], three.clouds["host1"]
        address = three.underlay.address(host)
        broker = start_broker(host, address)
        tls = HOME / "tls"
        host.run(["install", "-d", "-m", "700", str(HOME), str(tls)])
        host.run(["install", "-m", "600", f"{broker['folder']}/ca.key", f"{broker['folder']}/ca.pem", str(tls)])
        files = {"ca": "ca.pem", "certificate": "server.pem", "key": "server.key"}
        bus = {"url": f"amqps://guest:guest@{address}:{broker['tls_port']}/", "management": broker["management"]}
        bus |= {name: str(tls / file) for name, file in files.items()}
        said = cloud.pileus("tls", address).stdout
        api = said.replace("[api]", f'[api]\nhost = "{address}"')
        (host.dir / "pileus.toml").write_text("\n".join([api, "[bus]", *(f"{name} = {json.dumps(value)}" for name, value in bus.items())]))
        host.run(["install", "-m", "600", str(host.dir / "pileus.toml"), str(HOME / "pileus.toml")])
        cloud.up()
        three.user = User(host.run, cloud.variables("admin"))
        wait_until("the first host takes guests", lambda: three.services() == {"host1": "up"}, 60)

    def test_two_hosts_join(self, three: Three) -> None:
        first = three.clouds["host1"]
        for name in ("host2", "host3"):
            token = first.pileus("node", "token").stdout.strip()
            three.joined = time.monotonic()
            three.clouds[name].pileus("node", "join", token, "--name", name)
            three.clouds[name].up()
        wait_until("all hosts take guests", lambda: three.services() == dict.fromkeys(NAMES, "up"), 120)
        wait_until("all agents are alive", lambda: {row["Host"] for row in three.user("network", "agent", "list") if row["Alive"]} == set(NAMES), 60)

    def test_guests_start_on_every_host(self, three: Three) -> None:
        user = three.user
        user.text("keypair", "create", "--private-key", three.files / "key", "three")
        three.hosts["host1"].run(["chmod", "600", str(three.files / "key")])
        user.text("image", "create", "--disk-format", "qcow2", "--container-format", "bare", "--file", IMAGE, "three")
        user("network", "create", "three")
        user("subnet", "create", "--network", "three", "--subnet-range", "10.77.0.0/24", "three")
        user("router", "create", "three")
        external = user("network", "list", "--external")[0]["Name"]
        user.text("router", "set", "--external-gateway", external, "three")
        user.text("router", "add", "subnet", "three", "three")
        user("security", "group", "create", "three")
        user("security", "group", "rule", "create", "--protocol", "tcp", "--dst-port", "22", "three")
        user("security", "group", "rule", "create", "--protocol", "icmp", "three")
        asked = ["--image", "three", "--flavor", "m1.nano", "--network", "three", "--key-name", "three", "--security-group", "three"]
        for name in NAMES:
            user("--os-compute-api-version", "2.74", "server", "create", *asked, "--host", name, f"on-{name}")
        for name in NAMES:
            server = f"on-{name}"
            wait_until(f"{server} is built", lambda server=server: three.server(server)["status"] in {"ACTIVE", "ERROR"}, 240)
            shown = three.server(server)
            assert (shown["status"], three.host_of(server)) == ("ACTIVE", name), shown.get("fault")
            three.fixed[server] = shown["addresses"]["three"][0]
            three.floating[server] = user("floating", "ip", "create", external)["floating_ip_address"]
            user.text("server", "add", "floating", "ip", server, three.floating[server])
        for name in NAMES:
            three.guest(f"on-{name}").wait(240)
        print(f"from a node's join to a guest that answers: {time.monotonic() - three.joined:.0f} s")

    def test_guests_meet_across_hosts_and_reach_the_outside(self, three: Three) -> None:
        for server in three.fixed:
            guest = three.guest(server)
            for other in (*three.fixed.values(), OUTSIDE):
                wait_until(f"{server} reaches {other}", lambda guest=guest, other=other: guest.works(f"ping -c1 -W2 {other}"), 60)

    def test_a_guest_moves_while_it_runs_and_keeps_its_connection(self, three: Three) -> None:
        guest = three.guest("on-host2")
        booted = guest("cat /proc/sys/kernel/random/boot_id")
        ping = three.underlay.switch.popen(
            ["ping", "-n", "-D", "-i", "0.05", "-W", "1", three.floating["on-host2"]], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        talk = three.underlay.switch.popen(guest.command("while read line; do echo $line; done"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert echoed(talk, "before") == "before"
        three.user.text("--os-compute-api-version", "2.30", "server", "migrate", "--live-migration", "--host", "host3", "--wait", "on-host2", timeout=240)
        three.until_on("host3", "on-host2")
        assert echoed(talk, "after") == "after"  # the same connection
        ping.terminate()
        print(f"longest time without an answer during the move: {longest_gap(ping.communicate()[0]):.2f} s")
        talk.stdin.close()
        talk.wait(30)
        assert guest("cat /proc/sys/kernel/random/boot_id") == booted
        server_id = three.server("on-host2")["id"]
        wait_until("the old host has let go of it", lambda: server_id not in three.guests_on("host2"), 60)
        assert server_id in three.guests_on("host3")
        wait_until("the others reach it", lambda: three.guest("on-host1").works(f"ping -c1 -W2 {three.fixed['on-host2']}"), 60)

    def test_a_host_is_cut_off_and_its_guests_go_on_elsewhere(self, three: Three) -> None:
        lost = sorted(row["Name"] for row in three.user("server", "list", "--host", "host3", "--all-projects"))
        assert lost == ["on-host2", "on-host3"]
        three.underlay.disconnect(three.hosts["host3"])
        wait_until("the host counts as down", lambda: three.services()["host3"] == "down", 60)
        for server in lost:
            three.user.text("--os-compute-api-version", "2.29", "server", "evacuate", server)
        for server in lost:
            wait_until(f"{server} goes on elsewhere", lambda server=server: settled(three.server(server)), 240)
            assert three.host_of(server) != "host3"
        for server in lost:
            three.guest(server).wait(240)
        assert {three.server(server)["id"] for server in lost} <= three.guests_on("host3")  # nobody could tell it

    def test_the_host_comes_back_and_removes_what_is_no_longer_its_own(self, three: Three) -> None:
        kept = three.user(
            "--os-compute-api-version", "2.74", "server", "create", "--image", "three", "--flavor", "m1.nano", "--network", "three", "--host", "host1", "bystander",
        )["id"]  # fmt: skip
        three.underlay.connect(three.hosts["host3"])
        wait_until("the host is back", lambda: three.services()["host3"] == "up", 90)
        wait_until("it has removed its old guests", lambda: not three.guests_on("host3"), 120)
        wait_until("the bystander is built", lambda: settled(three.server("bystander")), 240)
        assert kept in three.guests_on("host1")
        for server in three.fixed:
            guest = three.guest(server)
            wait_until(f"{server} still answers", lambda guest=guest: guest.works("true", timeout=20), 120)

    def test_nothing_is_left_when_all_is_deleted(self, three: Three) -> None:
        three.user.text("server", "delete", "--wait", *three.fixed, "bystander", timeout=240)
        for name in NAMES:
            wait_until(f"{name} has no guest", lambda name=name: not three.guests_on(name), 60)
            left = three.hosts[name].run(["sh", "-c", f"ls {HOME}/instances"]).stdout.split()
            assert left == [], name
        # the dead host's claim for what was evacuated is given up by a loop, once the host is back and has removed it
        wait_until("nothing is claimed", lambda: three.claimed() == [], 150, every=5)


def settled(server: dict[str, Any]) -> bool:
    assert server["status"] != "ERROR", server.get("fault")
    return server["status"] == "ACTIVE" and server["OS-EXT-STS:task_state"] is None


def echoed(talk: subprocess.Popen[str], word: str) -> str:
    """What comes back over an open connection."""
    assert talk.stdin
    assert talk.stdout
    talk.stdin.write(word + "\n")
    talk.stdin.flush()
    return talk.stdout.readline().strip()


def longest_gap(lines: str) -> float:
    """Seconds between two answers of `ping -D`, at most."""
    times = [float(found) for found in re.findall(r"^\[(\d+\.\d+)\] \d+ bytes", lines, re.M)]
    assert len(times) > 1
    return max(later - earlier for earlier, later in zip(times, times[1:], strict=False))
