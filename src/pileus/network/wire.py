"""What the network controller tells a host, and what the host answers: the shapes both ends of the bus share.

The controller renders these, the agent applies them. All are frozen dataclasses of plain values; `to_dict` gives what goes on
the bus, `from_dict` reads it back (unknown keys are ignored, so that a newer controller can talk to an older agent).
Addresses are text without a prefix unless the field says `cidr` or `prefix`; MACs are lower case with colons.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

Shape = TypeVar("Shape")

ACTIVE, DOWN, ERROR = "ACTIVE", "DOWN", "ERROR"
KINDS = ("networks", "ports", "routers", "groups")
"""The lists of a desired document; in kernel.desired the kinds are their singulars."""


def to_dict(item: Any) -> dict[str, Any]:
    """The plain form of one of the shapes below, ready for the bus."""
    plain: dict[str, Any] = msgspec.to_builtins(item)
    return plain


def from_dict(shape: type[Shape], plain: dict[str, Any]) -> Shape:
    """Read a shape back; raises msgspec.ValidationError with the path of the wrong field."""
    return msgspec.convert(plain, shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRoute:
    """One static route: `destination` is a CIDR, `nexthop` an address."""

    destination: str
    nexthop: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnet:
    """A subnet as DHCP and routers need it."""

    id: str
    cidr: str
    ip_version: int = 4
    gateway_ip: str | None = None
    dns_nameservers: tuple[str, ...] = ()
    host_routes: tuple[HostRoute, ...] = ()
    enable_dhcp: bool = True
    ipv6_ra_mode: str | None = None
    ipv6_address_mode: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubnetAddress:
    """An address of a port and the subnet it is of."""

    subnet_id: str
    ip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DhcpPort:
    """The port DHCP answers from on this host."""

    port_id: str
    mac: str
    ips: tuple[SubnetAddress, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DhcpOption:
    """One of a port's extra DHCP options; a `opt_value` of None suppresses the option."""

    opt_name: str
    opt_value: str | None = None
    ip_version: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """What DHCP hands to one port; a port with several addresses has one lease for each."""

    port_id: str
    mac: str
    ip: str
    subnet_id: str
    hostname: str = ""
    extra_dhcp_opts: tuple[DhcpOption, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataOwner:
    """Whose instance asks when a metadata request comes from `ip`."""

    ip: str
    port_id: str
    device_id: str
    project_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerEntry:
    """A MAC behind a peer and the addresses it answers for."""

    mac: str
    ips: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another host with ports of this network, by its tunnel address."""

    vtep: str
    entries: tuple[PeerEntry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkItem:
    """A network that has something on this host.

    `type` is vxlan, flat or local. `dhcp` present: this host runs its DHCP, with `leases`. `metadata` is filled where DHCP or a router of the network is
    here. `isolated`: no router has an interface in it, so the DHCP namespace serves metadata and hands out the route to it.
    """

    id: str
    type: str = "vxlan"
    segmentation_id: int | None = None
    physical_network: str | None = None
    mtu: int = 1450
    external: bool = False
    subnets: tuple[Subnet, ...] = ()
    dhcp: DhcpPort | None = None
    leases: tuple[Lease, ...] = ()
    metadata: tuple[MetadataOwner, ...] = ()
    isolated: bool = False
    peers: tuple[Peer, ...] = ()
    dns_domain: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedIp:
    """An address of a port with the length of its subnet's prefix."""

    ip: str
    subnet_id: str = ""
    prefix: int = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressPair:
    """An address (or CIDR) a port may also use; with `mac` empty, the port's own MAC."""

    ip: str
    mac: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortItem:
    """A port bound to this host. `tap` is the link compute makes; `groups` are security group ids."""

    id: str
    network_id: str
    tap: str
    mac: str
    fixed_ips: tuple[FixedIp, ...] = ()
    allowed_address_pairs: tuple[AddressPair, ...] = ()
    port_security: bool = True
    admin_state_up: bool = True
    groups: tuple[str, ...] = ()
    device_id: str = ""
    device_owner: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleItem:
    """A security group rule as upstream describes it: for ICMP, `port_min` is the type and `port_max` the code."""

    id: str
    direction: str
    ethertype: str = "IPv4"
    protocol: str | None = None
    port_min: int | None = None
    port_max: int | None = None
    remote_cidr: str | None = None
    remote_group: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupItem:
    """A security group that ports of this host use or refer to; `members` are addresses (or CIDRs) of its ports anywhere."""

    id: str
    rules: tuple[RuleItem, ...] = ()
    members: tuple[str, ...] = ()
    stateful: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayIp:
    """An address of a router's gateway port."""

    ip: str
    prefix: int
    subnet_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterGateway:
    """The router's leg in the external network; `gateway_ip` is the subnet's gateway, `snat` whether inside addresses are hidden."""

    port_id: str
    network_id: str
    mac: str
    ips: tuple[GatewayIp, ...] = ()
    gateway_ip: str | None = None
    snat: bool = True
    mtu: int = 1500


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceIp:
    """An address of a router's interface with its subnet's CIDR."""

    ip: str
    prefix: int
    cidr: str = ""
    subnet_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterInterface:
    """A leg of the router in a tenant network."""

    port_id: str
    network_id: str
    mac: str
    ips: tuple[InterfaceIp, ...] = ()
    mtu: int = 1450


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatingIp:
    """A floating address and the fixed address it stands for."""

    id: str
    floating: str
    fixed: str
    port_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterItem:
    """A router this host runs."""

    id: str
    admin_state_up: bool = True
    gateway: RouterGateway | None = None
    interfaces: tuple[RouterInterface, ...] = ()
    floating_ips: tuple[FloatingIp, ...] = ()
    routes: tuple[HostRoute, ...] = ()

    def legs(self) -> tuple[RouterInterface | RouterGateway, ...]:
        """Interfaces and gateway."""
        return (*self.interfaces, *((self.gateway,) if self.gateway else ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """Ids that this host shall have no longer."""

    networks: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    routers: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """Answer of `network.desired`: what changed since the asked version, or (`full`) everything this host shall have."""

    version: int
    full: bool = False
    networks: tuple[NetworkItem, ...] = ()
    ports: tuple[PortItem, ...] = ()
    routers: tuple[RouterItem, ...] = ()
    groups: tuple[GroupItem, ...] = ()
    gone: Gone = field(default_factory=Gone)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentReport:
    """One entry of `network.heartbeat`: an agent as upstream lists it."""

    agent_type: str
    binary: str
    configurations: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Payload of `network.report`: the statuses of `version`. `ports` covers guests' ports and those of DHCP and routers
    (ACTIVE or DOWN), `routers` ACTIVE or ERROR, `floating_ips` ACTIVE or DOWN. `complete`: what is not listed is not on this host.
    `agent` carries the host's configurations, with `vtep` its tunnel address ("" without one).
    """

    host: str
    version: int
    ports: dict[str, str] = field(default_factory=dict)
    routers: dict[str, str] = field(default_factory=dict)
    floating_ips: dict[str, str] = field(default_factory=dict)
    complete: bool = False
    agent: dict[str, Any] = field(default_factory=dict)
