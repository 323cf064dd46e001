"""A host that dies: its routers and DHCP come up on another, with real networks on three test hosts and a wire outside.

The controller is here; each host has an agent process inside, on the bus's sockets. Cutting a host off takes both of its wires; its agent is killed.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pileus.kernel.bus import LocalBus
from pileus.kernel.testing import ADMIN
from pileus.network.loops.placement import keep_placed
from pileus.network.wire import PortItem, to_dict
from tests.api.network.world import Network
from tests.sandbox import TOP, Sandbox, Underlay

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="test hosts need root"),
    pytest.mark.slow,
    pytest.mark.timeout(300),
]
OUTSIDE = "172.24.4.254"
DOWN_TIME = 6.0
PATIENCE = 90.0


class Cloud(Network):
    """The network service for hosts on one wire."""

    def __init__(self, underlay: Underlay) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pileus-takeover-", dir="/tmp"))
        self.bus = LocalBus("controller", self.folder / "bus")
        super().__init__(hosts=(), agent_down_time=DOWN_TIME, bus=self.bus)
        self.bus.serve("controller.network", {name: functools.partial(call, self.service) for name, call in self.client.calls.items()})
        self.underlay = underlay
        self.names = {host.name: host for host in underlay.hosts}
        self.agents: dict[str, subprocess.Popen[Any]] = {}
        self._outside_wire()

    def _outside_wire(self) -> None:
        """The external network: a bridge beside the wire between the hosts, with one that is outside on it."""
        self._ip("link", "add", "outside", "type", "bridge", "stp_state", "0", "forward_delay", "0", "mcast_snooping", "0")
        self._ip("addr", "add", f"{OUTSIDE}/24", "dev", "outside")
        self._ip("link", "set", "outside", "up")
        for host in self.underlay.hosts:
            self._ip("link", "add", f"ex-{host.name}", "type", "veth", "peer", "name", "ext0", "netns", str(host.pid))
            self._ip("link", "set", f"ex-{host.name}", "master", "outside", "up")
            host.run(["ip", "link", "set", "ext0", "up"])

    def _ip(self, *words: str) -> str:
        argv = ["nsenter", "-t", str(self.underlay.switch.pid), "-n", "--", "ip", *words]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout

    def start(self, name: str) -> None:
        """Start a host's agent, and wait until it is heard."""
        host = self.names[name]
        argv = [sys.executable, "-m", "tests.contracts.network_agent", name, self.underlay.address(host), str(self.bus_directory), "/var/lib/pileus"]
        with open(self.folder / f"{name}.log", "ab") as log:
            self.agents[name] = host.popen(argv, cwd=TOP, stdout=log, stderr=log)
        self.until(lambda: [a for a in self.all(f"/agents?host={name}&alive=True", as_=ADMIN) if a["agent_type"] == "L3 agent"])

    @property
    def bus_directory(self) -> Path:
        return self.folder / "bus"

    def kill(self, name: str) -> None:
        agent = self.agents.pop(name)
        agent.kill()
        agent.wait()

    def cut_off(self, name: str) -> None:
        self.underlay.disconnect(self.names[name])
        self._ip("link", "set", f"ex-{name}", "down")

    def connect(self, name: str) -> None:
        self.underlay.connect(self.names[name])
        self._ip("link", "set", f"ex-{name}", "up")

    def boot(self, network: dict[str, Any], name: str, **port: Any) -> Callable[..., bool]:
        """A namespace behind a tap as guest; returns how it runs commands."""
        made = self.guest(network, name, **port)
        item = PortItem(id=made["id"], network_id=network["id"], tap=f"tap{made['id'][:11]}", mac=made["mac_address"])
        script = (
            "import sys, json; from pileus.network.wire import PortItem, from_dict; from tests.contracts.network_world import Guest;"
            "Guest(from_dict(PortItem, json.loads(sys.argv[1])))"
        )
        host = self.names[name]
        host.run([sys.executable, "-c", script, json.dumps(to_dict(item))], cwd=TOP)
        self.until(lambda: self.get("ports", made["id"])["status"] == "ACTIVE")

        def inside(*argv: str) -> bool:
            return host.run(["ip", "netns", "exec", f"guest-{made['id'][:8]}", *argv], check=False).returncode == 0

        inside.body = made  # type: ignore[attr-defined]
        assert inside("ip", "addr", "add", f"{made['fixed_ips'][0]['ip_address']}/24", "dev", "eth0")
        return inside

    def until(self, true: Callable[[], object]) -> float:
        """Wait for something that the hosts have to do, the loop of the controller running; seconds it took."""
        begun = time.monotonic()
        while not true():
            if time.monotonic() > begun + PATIENCE:
                logs = "\n".join(path.read_text()[-3000:] for path in sorted(self.folder.glob("*.log")))
                raise AssertionError(f"the hosts did not get there\n{logs}")
            keep_placed(self.service)
            time.sleep(0.1)
        return time.monotonic() - begun

    def answers(self, address: str) -> bool:
        """Whether someone outside is answered."""
        return self.underlay.switch.run(["ping", "-n", "-c1", "-W1", address], check=False).returncode == 0

    def spaces(self, name: str) -> str:
        return self.names[name].run(["ip", "netns"]).stdout

    def host_of(self, router: dict[str, Any]) -> str:
        return next((a["host"] for a in self.all(f"/routers/{router['id']}/l3-agents", as_=ADMIN)), "")

    def close(self) -> None:
        for name in list(self.agents):
            self.kill(name)
        self.client.close()
        self.bus.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def routed_guest(self) -> tuple[dict[str, Any], dict[str, Any], Callable[..., bool], str]:
        """A router and DHCP on host1, a guest on host3 with a floating IP that answers: router, network, guest, address."""
        self.start("host1")
        outside, _ = self.outside()
        network, subnet = self.net()
        router = self.routed(subnet, outside)
        ping = self.make("security-groups", name="ping")
        self.make("security-group-rules", security_group_id=ping["id"], direction="ingress", protocol="icmp")
        self.start("host2")
        self.start("host3")
        guest = self.boot(network, "host3", security_groups=[ping["id"]])
        assert guest("ip", "route", "add", "default", "via", "10.0.0.1")
        floating = self.make("floatingips", floating_network_id=outside["id"], port_id=guest.body["id"])  # type: ignore[attr-defined]
        self.until(lambda: self.answers(floating["floating_ip_address"]))
        assert self.host_of(router) == "host1"
        assert guest("ping", "-n", "-c1", "-W2", OUTSIDE)
        return router, network, guest, floating["floating_ip_address"]

    def let_go(self, name: str) -> float:
        """Wait until a host has no router and no DHCP; seconds it took."""
        return self.until(lambda: "qrouter" not in self.spaces(name) and "qdhcp" not in self.spaces(name))

    def sought_at(self, router: dict[str, Any]) -> str:
        """The host that the switch outside sends packets for the router to."""
        (gateway,) = self.all(f"/ports?device_id={router['id']}&device_owner=network:router_gateway", as_=ADMIN)
        argv = ["nsenter", "-t", str(self.underlay.switch.pid), "-n", "--", "bridge", "fdb", "show", "br", "outside"]
        entries = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
        return next((entry.split()[2].removeprefix("ex-") for entry in entries if entry.startswith(gateway["mac_address"])), "")


@pytest.fixture
def cloud(hosts: Callable[[int], Underlay]) -> Iterator[Cloud]:
    made = Cloud(hosts(3))
    yield made
    made.close()


def test_the_router_and_dhcp_of_a_dead_host_come_up_on_another(cloud: Cloud, record_property: Callable[[str, object], None]) -> None:
    router, network, guest, address = cloud.routed_guest()
    cloud.cut_off("host1")
    cloud.kill("host1")
    seconds = cloud.until(lambda: cloud.answers(address))
    print(f"floating IP answers {seconds:.1f} s after its router's host died, agent_down_time {DOWN_TIME:g} s")
    record_property("takeover_seconds", round(seconds, 1))
    new = cloud.host_of(router)
    assert new in {"host2", "host3"}
    cloud.until(lambda: cloud.all(f"/networks/{network['id']}/dhcp-agents", as_=ADMIN)[0]["host"] != "host1")
    assert guest("ping", "-n", "-c1", "-W2", OUTSIDE)
    assert f"qrouter-{router['id']}" in cloud.spaces("host1"), "a host that is cut off goes on serving"
    cloud.connect("host1")
    cloud.start("host1")
    print(f"the host that came back let go after {cloud.let_go('host1'):.1f} s")
    cloud.until(lambda: cloud.answers(address))
    assert cloud.host_of(router) == new
    assert guest("ping", "-n", "-c1", "-W2", OUTSIDE)


def test_two_hosts_with_one_router_settle_on_the_one_that_is_heard(cloud: Cloud) -> None:
    router, _, guest, address = cloud.routed_guest()
    assert cloud.sought_at(router) == "host1"
    cloud.kill("host1")
    cloud.until(lambda: cloud.host_of(router) != "host1" and "qrouter" in cloud.spaces(cloud.host_of(router)))
    assert f"qrouter-{router['id']}" in cloud.spaces("host1")
    new = cloud.host_of(router)
    cloud.until(lambda: cloud.sought_at(router) == new and cloud.answers(address))
    assert guest("ping", "-n", "-c1", "-W2", OUTSIDE)
    # The old one speaks too, and may be believed, until it is heard again.
    speak = ["ip", "netns", "exec", f"qrouter-{router['id']}", "ping", "-n", "-c1", "-W1", OUTSIDE]
    cloud.names["host1"].run(speak, check=False)
    cloud.start("host1")
    cloud.let_go("host1")
    cloud.until(lambda: cloud.sought_at(router) == new and cloud.answers(address))
