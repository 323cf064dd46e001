"""Options of the network service, section [network]."""

from __future__ import annotations

from typing import Annotated

import msgspec

from pileus.kernel.config import Doc


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[network]"""

    quota_network: Annotated[int, Doc("Networks a project may have; -1 is no limit.")] = 100
    quota_subnet: Annotated[int, Doc("Subnets a project may have.")] = 100
    quota_subnetpool: Annotated[int, Doc("Subnet pools a project may have.")] = -1
    quota_port: Annotated[int, Doc("Ports a project may have.")] = 500
    quota_router: Annotated[int, Doc("Routers a project may have.")] = 10
    quota_floatingip: Annotated[int, Doc("Floating IPs a project may have.")] = 50
    quota_security_group: Annotated[int, Doc("Security groups a project may have.")] = 10
    quota_security_group_rule: Annotated[int, Doc("Security group rules a project may have.")] = 100
    quota_rbac_policy: Annotated[int, Doc("RBAC policies a project may have.")] = 10

    tenant_network_type: Annotated[str, Doc('Type of networks that projects make: "vxlan" or "local".')] = "vxlan"
    vni_min: Annotated[int, Doc("Lowest VXLAN network identifier given to a network.")] = 1
    vni_max: Annotated[int, Doc("Highest VXLAN network identifier given to a network.")] = 65535
    flat_networks: Annotated[list[str], Doc("Physical networks that flat networks may name.")] = msgspec.field(
        default_factory=lambda: ["public"]
    )
    physical_mtu: Annotated[int, Doc("MTU of the underlay and of physical networks, in bytes.")] = 1500

    max_fixed_ips_per_port: Annotated[int, Doc("Addresses one port may have.")] = 5
    max_dns_nameservers: Annotated[int, Doc("DNS servers one subnet may name.")] = 5
    max_subnet_host_routes: Annotated[int, Doc("Host routes one subnet may have.")] = 20
    max_routes: Annotated[int, Doc("Static routes one router may have.")] = 30
    max_allowed_address_pairs: Annotated[int, Doc("Allowed address pairs one port may have.")] = 10
    page_limit: Annotated[int, Doc("Most items of one page of a list; 0 is no limit.")] = 0
    allow_overlapping_ips: Annotated[bool, Doc("Whether networks may use the same addresses as others.")] = True

    agent_down_time: Annotated[float, Doc("Seconds without a heartbeat after which an agent counts as dead.")] = 75.0
    allow_automatic_dhcp_failover: Annotated[bool, Doc("Whether the DHCP of a dead host moves to one that lives.")] = True
    allow_automatic_l3agent_failover: Annotated[bool, Doc("Whether the routers of a dead host move to one that lives.")] = True
    dhcp_agents_per_network: Annotated[int, Doc("Hosts that serve DHCP for one network.")] = 1
    default_availability_zone: Annotated[str, Doc("Availability zone of hosts that name none.")] = "nova"
    dns_domain: Annotated[str, Doc("Domain that DHCP hands out.")] = "openstacklocal"

    driver: Annotated[str, Doc('What applies networks on a host: "linux" (bridges, nftables, dnsmasq) or "fake".')] = "linux"
    external_bridge: Annotated[str, Doc("Bridge of the external network on a host.")] = "br-ex"
    external_cidr: Annotated[str, Doc("Address of the host on the external bridge, with its prefix.", own=True)] = "172.24.4.1/24"
    external_interface: Annotated[
        str,
        Doc("Interface put into the external bridge; empty: the bridge is local and hidden behind the host's address.", own=True),
    ] = ""
    physical_network: Annotated[str, Doc("Name of the physical network that the external bridge is.")] = "public"
    vtep: Annotated[str, Doc("Address of this host for tunnels; found by the route to the controller when empty.", own=True)] = ""
    metadata_url: Annotated[
        str, Doc("Base URL of the compute service that metadata is asked at (without /metadata); this installation's when empty.")
    ] = ""
