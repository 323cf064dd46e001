"""The network service from its API down to packets: the controller and the agent of one host, with namespaces as guests."""

from __future__ import annotations

import functools
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pileus.host import netlink
from pileus.host.run import run
from pileus.kernel.testing import ADMIN
from pileus.network.agent.loops import Keeper
from pileus.network.agent.metadata import MetadataProxy, by_secret
from pileus.network.drivers.base import Settings
from pileus.network.drivers.linux.driver import LinuxDriver
from pileus.network.wire import PortItem
from tests.api.network.world import Network
from tests.contracts import network_world as world
from tests.contracts.network_world import Guest
from tests.guest.test_network_metadata import SECRET, Compute, ask

pytestmark = pytest.mark.real


class Cloud(Network):
    """The service, the agent of its one host, and guests."""

    def __init__(self, home: Path) -> None:
        super().__init__()
        run(["ip", "link", "set", "lo", "up"])
        self.settings = Settings(home=home, host="host1")
        self.keeper = Keeper("host1", LinuxDriver(self.settings), self.client.bus)
        self.compute = Compute()
        self.proxy = MetadataProxy(f"http://127.0.0.1:{self.compute.server_port}/compute", by_secret(SECRET), self.keeper.owner)
        self.keeper.applied = self.proxy.listen
        self.client.bus.serve("controller.network", {name: functools.partial(call, self.service) for name, call in self.client.calls.items()})
        self.client.bus.serve("agent.host1", {"network.nudge": self.keeper.nudged, "network.taps": self.keeper.taps_changed})
        self.guests: list[Guest] = []
        self.proxy.start()
        self.keeper.start()

    def boot(self, network, *, dhcp: bool = True, **port) -> Guest:
        """A guest with a bound port; returns when the port is active and it has its lease."""
        made = self.guest(network, **port)
        item = PortItem(id=made["id"], network_id=network["id"], tap=f"tap{made['id'][:11]}", mac=made["mac_address"])
        guest = Guest(item)
        guest.body = made
        self.guests.append(guest)
        self.until(lambda: self.get("ports", made["id"])["status"] == "ACTIVE")
        world.wait_until_forwarding()
        if dhcp:
            answer = next(filter(None, (guest.dhcp() for _ in range(5))), {})
            assert socket.inet_ntoa(answer[0]) == made["fixed_ips"][0]["ip_address"]
            guest.address(socket.inet_ntoa(answer[0]), socket.inet_ntoa(answer[3]) if 3 in answer else "")
        return guest

    def until(self, true) -> None:
        """Wait for the agent: its work follows the answer of the API."""
        for _ in range(200):
            if true():
                return
            time.sleep(0.05)
        raise AssertionError("the agent did not get there")

    def settled(self) -> None:
        """Wait until the host has applied everything the controller has said."""
        self.until(lambda: self.keeper.applied_version == self.desired(since=self.keeper.applied_version)["version"])

    def close(self) -> None:
        self.keeper.stop()
        self.proxy.stop()
        self.compute.shutdown()
        for guest in self.guests:
            guest.close()
        LinuxDriver(self.settings).remove_everything()
        self.client.close()


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path)
    yield cloud
    cloud.close()


def ip(guest: Guest) -> str:
    return guest.body["fixed_ips"][0]["ip_address"]


def test_guests_of_the_default_group_reach_each_other_and_nobody_else_reaches_them(cloud: Cloud) -> None:
    network, _ = cloud.net()
    one, two = cloud.boot(network), cloud.boot(network)
    other = cloud.boot(network, security_groups=[cloud.make("security-groups", name="lonely")["id"]])
    assert one.reaches(ip(two))
    assert not other.ping(ip(one))


def test_a_rule_made_and_deleted_by_the_api_opens_and_closes(cloud: Cloud) -> None:
    network, _ = cloud.net()
    group = cloud.make("security-groups", name="web")
    client, server = cloud.boot(network), cloud.boot(network, security_groups=[group["id"]])
    web = server.listen(80)
    assert client.connect(ip(server), 80) is None
    rule = cloud.make("security-group-rules", security_group_id=group["id"], direction="ingress", protocol="tcp", port_range_min=80, port_range_max=80)
    cloud.settled()
    open_ = client.connect(ip(server), 80, 3)
    accepted = web.accept()[0]
    cloud.delete("security-group-rules", rule["id"])
    cloud.settled()
    accepted.settimeout(1)
    open_.send(b"x")
    with pytest.raises(TimeoutError):
        accepted.recv(1)


def test_a_floating_ip_leads_to_a_guest_and_out(cloud: Cloud) -> None:
    outside, _ = cloud.outside()
    network, subnet = cloud.net()
    router = cloud.routed(subnet, outside)
    group = cloud.make("security-groups", name="ping")
    cloud.make("security-group-rules", security_group_id=group["id"], direction="ingress", protocol="icmp")
    guest = cloud.boot(network, security_groups=[group["id"]])
    cloud.until(lambda: guest.ping("172.24.4.1"))
    floating = cloud.make("floatingips", floating_network_id=outside["id"], port_id=guest.body["id"])
    cloud.until(lambda: cloud.get("floatingips", floating["id"])["status"] == "ACTIVE")
    assert run(["ping", "-c3", "-W1", floating["floating_ip_address"]], ok=(0, 1)).code == 0
    legs = cloud.all(f"/ports?device_id={router['id']}", as_=ADMIN)
    assert {leg["status"] for leg in legs} == {"ACTIVE"}
    cloud.delete("floatingips", floating["id"])
    cloud.settled()
    assert run(["ping", "-c1", "-W1", floating["floating_ip_address"]], ok=(0, 1)).code != 0


def test_metadata_knows_the_guest_with_and_without_a_router(cloud: Cloud) -> None:
    network, subnet = cloud.net()
    alone = cloud.boot(network)
    run(["ip", "-n", alone.name, "route", "add", "169.254.169.254", "via", cloud.all("/ports?device_owner=network:dhcp", as_=ADMIN)[0]["fixed_ips"][0]["ip_address"]])
    assert ask(alone, "/latest") == (200, alone.body["device_id"].encode())
    routed_network, routed_subnet = cloud.net("10.5.0.0/24")
    cloud.routed(routed_subnet)
    routed = cloud.boot(routed_network)
    cloud.until(lambda: routed.ping("10.5.0.1"))
    assert ask(routed, "/latest") == (200, routed.body["device_id"].encode())


def test_deleting_all_of_it_leaves_an_empty_host(cloud: Cloud) -> None:
    outside, _ = cloud.outside()
    network, subnet = cloud.net()
    router = cloud.routed(subnet, outside)
    guest = cloud.boot(network)
    cloud.delete("ports", guest.body["id"])
    guest.close()
    cloud("PUT", f"/routers/{router['id']}/remove_router_interface", {"subnet_id": subnet["id"]}, ok=200)
    cloud.delete("routers", router["id"])
    cloud.delete("networks", network["id"])
    cloud.settled()
    cloud.until(lambda: not world.snapshot()["namespaces"])
    assert world.snapshot()["processes"] == []
    assert [link.name for link in netlink.links().values() if link.ours] == ["br-ex"]
