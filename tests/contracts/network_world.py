"""States to apply to a host, and plain namespaces that stand in for guests, for the tests of network drivers."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from pileus.host import netns
from pileus.host.run import run
from pileus.network.drivers.base import HostState, Settings, Touched
from pileus.network.drivers.fake import FakeDriver
from pileus.network.drivers.linux.driver import LinuxDriver
from pileus.network.wire import (
    AddressPair,
    Desired,
    DhcpPort,
    FixedIp,
    FloatingIp,
    GatewayIp,
    Gone,
    GroupItem,
    InterfaceIp,
    Lease,
    MetadataOwner,
    NetworkItem,
    PortItem,
    RouterGateway,
    RouterInterface,
    RouterItem,
    RuleItem,
    Subnet,
    SubnetAddress,
)


def new_id() -> str:
    return str(uuid.uuid4())


def a_mac() -> str:
    return "fa:16:3e:" + ":".join(f"{byte:02x}" for byte in uuid.uuid4().bytes[:3])


class World:
    """One host's desired state that tests change item by item; `sync` applies what changed through a driver."""

    def __init__(self, driver: FakeDriver | LinuxDriver) -> None:
        self.driver = driver
        self.state = HostState()
        self.version = 0
        self.failures: dict[str, str] = {}

    def sync(self, *, gone: Gone = Gone(), full: bool = False, **items) -> dict[str, str]:
        """Send items as the controller would, and apply them."""
        self.version += 1
        touched = self.state.merge(Desired(version=self.version, full=full, gone=gone, **{kind: tuple(given) for kind, given in items.items()}))
        self.failures = self.driver.apply(self.state, touched)
        return self.failures

    def resync(self) -> dict[str, str]:
        """A full compare with what is known already."""
        return self.driver.apply(self.state, Touched(full=True))

    def status(self, port: PortItem | str) -> str:
        return self.driver.statuses(self.state).ports[port if isinstance(port, str) else port.id]


def a_network(number: int = 0, *, dhcp: bool = False, cidr: str = "", vni: int = 1001, **more) -> NetworkItem:
    cidr = cidr or f"10.{number + 1}.0.0/24"
    base = cidr.rsplit(".", 1)[0]
    subnet = Subnet(id=new_id(), cidr=cidr, gateway_ip=f"{base}.1")
    return NetworkItem(
        id=new_id(), type="vxlan", segmentation_id=vni + number, mtu=1450, subnets=(subnet,),
        dhcp=DhcpPort(port_id=new_id(), mac=a_mac(), ips=(SubnetAddress(subnet_id=subnet.id, ip=f"{base}.2"),)) if dhcp else None,
        **more,
    )


def a_port(network: NetworkItem, ip: str, *groups: GroupItem, **more) -> PortItem:
    id_ = more.pop("id", new_id())
    return PortItem(
        id=id_, network_id=network.id, tap=f"tap{id_[:11]}", mac=more.pop("mac", a_mac()), fixed_ips=(FixedIp(ip=ip, subnet_id=network.subnets[0].id),),
        groups=tuple(group.id for group in groups), device_id=more.pop("device_id", new_id()), device_owner="compute:nova", **more,
    )


def rule(direction: str = "ingress", **more) -> RuleItem:
    return RuleItem(id=new_id(), direction=direction, **more)


def a_group(*rules: RuleItem, members: tuple[str, ...] = (), out: bool = True, id: str = "") -> GroupItem:
    egress = (rule("egress"), rule("egress", ethertype="IPv6")) if out else ()
    return GroupItem(id=id or new_id(), rules=(*egress, *rules), members=members)


def a_lease(network: NetworkItem, port: PortItem, hostname: str = "") -> Lease:
    return Lease(port_id=port.id, mac=port.mac, ip=port.fixed_ips[0].ip, subnet_id=network.subnets[0].id, hostname=hostname)


EXTERNAL = NetworkItem(
    id="eeeeeeee-0000-4000-8000-00000000000e", type="flat", physical_network="public", mtu=1500, external=True,
    subnets=(Subnet(id="eeeeeeee-0000-4000-8000-00000000005e", cidr="172.24.4.0/24", gateway_ip="172.24.4.1", enable_dhcp=False),),
)


def an_interface(network: NetworkItem) -> RouterInterface:
    subnet = network.subnets[0]
    return RouterInterface(
        port_id=new_id(), network_id=network.id, mac=a_mac(), mtu=network.mtu,
        ips=(InterfaceIp(ip=subnet.gateway_ip, prefix=24, cidr=subnet.cidr, subnet_id=subnet.id),),
    )


def a_gateway(ip: str = "172.24.4.10", **more) -> RouterGateway:
    return RouterGateway(
        port_id=new_id(), network_id=EXTERNAL.id, mac=a_mac(), ips=(GatewayIp(ip=ip, prefix=24, subnet_id=EXTERNAL.subnets[0].id),),
        gateway_ip="172.24.4.1", **more,
    )


def wait_until_forwarding() -> None:
    """Wait until every bridge passes packets of its ports: the kernel notices up to a second late that a new link has a carrier."""
    for _ in range(300):
        if all(port.get("state") == "forwarding" for port in json.loads(run(["bridge", "-j", "link", "show"]).stdout or "[]")):
            return
        time.sleep(0.02)
    raise AssertionError("a port of a bridge does not begin to forward")


class Guest:
    """A namespace behind a tap: the far end of a pair of links, with the port's MAC."""

    def __init__(self, port: PortItem, *, mtu: int = 1450) -> None:
        self.port = port
        self.name = f"guest-{port.id[:8]}"
        run(["ip", "netns", "add", self.name])
        run(["ip", "link", "add", port.tap, "type", "veth", "peer", "name", "eth0", "address", port.mac, "netns", self.name])
        run(["ip", "-n", self.name, "link", "set", "lo", "up"])
        run(["ip", "-n", self.name, "link", "set", "eth0", "mtu", str(mtu), "up"])

    def address(self, ip: str = "", gateway: str = "") -> Guest:
        run(["ip", "-n", self.name, "addr", "add", f"{ip or self.port.fixed_ips[0].ip}/24", "dev", "eth0"])
        if gateway:
            run(["ip", "-n", self.name, "route", "add", "default", "via", gateway])
        return self

    def ping(self, ip: str, *, count: int = 1, wait: int = 1) -> bool:
        """Whether an answer comes; several tries, since a fresh neighbour may take one."""
        done = run(["ping", "-n", "-q", "-i", "0.2", "-c", str(count), "-W", str(wait), ip], ok=(0, 1, 2), namespace=self.name)
        return done.code == 0

    def reaches(self, ip: str) -> bool:
        return any(self.ping(ip) for _ in range(5))

    def inside(self, function: Callable):
        return netns.inside(self.name, function)

    def listen(self, port: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
        def make() -> socket.socket:
            server = socket.socket(socket.AF_INET, kind)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("0.0.0.0", port))
            if kind == socket.SOCK_STREAM:
                server.listen()
            return server

        return self.inside(make)

    def connect(self, ip: str, port: int, timeout: float = 1.0) -> socket.socket | None:
        def make() -> socket.socket | None:
            try:
                return socket.create_connection((ip, port), timeout)
            except OSError:
                return None

        return self.inside(make)

    def dhcp(self) -> dict[int, bytes]:
        """Ask for a lease (discover, request) and return the options of the answer; 0 is the address offered. Empty without an answer."""
        return self.inside(lambda: ask_dhcp(bytes.fromhex(self.port.mac.replace(":", ""))))

    def close(self) -> None:
        run(["ip", "netns", "delete", self.name], ok=(0, 1))


def ask_dhcp(mac: bytes, timeout: float = 2.0) -> dict[int, bytes]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        client.bind(("0.0.0.0", 68))
        client.settimeout(timeout)
        ask = b"\x37\x07\x01\x03\x06\x0c\x0f\x1a\x79"
        for _ in range(4):
            offer = _exchange(client, mac, b"\x35\x01\x01" + ask)
            if offer:
                wanted = b"\x35\x01\x03" + ask + b"\x32\x04" + offer[0] + b"\x36\x04" + offer[54]
                answer = _exchange(client, mac, wanted)
                if answer and answer[53] == b"\x05":
                    return answer
        return {}


def _exchange(client: socket.socket, mac: bytes, options: bytes) -> dict[int, bytes]:
    transaction = uuid.uuid4().bytes[:4]
    packet = struct.pack("!BBBB4sHH16s16s192s", 1, 1, 6, 0, transaction, 0, 0x8000, b"", mac, b"") + b"\x63\x82\x53\x63" + options + b"\xff"
    try:
        client.sendto(packet, ("255.255.255.255", 67))
        while True:
            answer = client.recv(4096)
            if answer[4:8] == transaction:
                break
    except OSError:
        return {}
    found = {0: answer[16:20]}
    at = 240
    while at < len(answer) and answer[at] != 255:
        if answer[at] == 0:
            at += 1
            continue
        found[answer[at]] = answer[at + 2 : at + 2 + answer[at + 1]]
        at += 2 + answer[at + 1]
    return found


def snapshot() -> dict[str, object]:
    """What a host has that a network driver could leave behind."""
    return {
        "links": sorted(link["ifname"] for link in json.loads(run(["ip", "-j", "link"]).stdout or "[]")),
        "namespaces": sorted(netns.names()),
        "nft": run(["nft", "list", "ruleset"]).stdout,
        "processes": sorted(line for line in run(["ps", "-eo", "comm"]).stdout.split() if line == "dnsmasq"),
        "runtime": sorted(str(path) for path in Path("/run/pileus").glob("*")),
        "forwarding": {str(path): path.read_text() for path in Path("/proc/sys/net/ipv4/conf").glob("*/forwarding")},
    }
