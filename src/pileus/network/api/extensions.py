"""/v2.0/extensions: what of the API beyond networks, subnets and ports is served. Only what works is listed."""

from __future__ import annotations

from typing import Any

from pileus.kernel.web import Call, Operations
from pileus.network import errors

operations = Operations()

_EXTENSIONS: dict[str, tuple[str, str]] = {
    "agent": ("agent", "Agents of the hosts, their state and configuration."),
    "allowed-address-pairs": ("Allowed Address Pairs", "Addresses besides its own that a port may send from."),
    "availability_zone": ("Availability Zone", "Zones in which agents are."),
    "binding": ("Port Binding", "Where a port is attached, and how."),
    "binding-extended": ("Port Bindings Extended", "Bindings of a port on several hosts, of which one is active."),
    "default-subnetpools": ("Default subnet pools", "A pool that subnets are taken from when none is named."),
    "dhcp_agent_scheduler": ("DHCP Agent Scheduler", "Which agents serve the DHCP of a network."),
    "ext-gw-mode": ("Router gateway mode", "Source address translation of a router's gateway, on or off."),
    "external-net": ("External network", "Networks that reach outside, with floating addresses."),
    "extra_dhcp_opt": ("Extra DHCP options", "DHCP options of single ports."),
    "extraroute": ("Extra Route", "Static routes of a router."),
    "extraroute-atomic": ("Atomic extra routes", "Static routes of a router added and removed one by one."),
    "filter-validation": ("Filter validation", "Filters that a resource does not have are refused."),
    "fip-port-details": ("Floating IP port details", "Facts about the port behind a floating IP."),
    "ip-substring-filtering": ("IP substring filter", "Ports found by a part of an address."),
    "l3_agent_scheduler": ("L3 Agent Scheduler", "Which agent runs a router."),
    "net-mtu": ("Network MTU", "The largest packet that a network carries."),
    "net-mtu-writable": ("Writable network MTU", "A network's MTU may be set."),
    "network-ip-availability": ("Network IP availability", "How many addresses networks have and use."),
    "network_availability_zone": ("Network availability zone", "In which zones a network shall be served."),
    "pagination": ("Pagination", "Lists in pages."),
    "port-security": ("Port security", "Checks of what a port sends, on or off."),
    "project-id": ("project_id", "The owner is called project_id, tenant_id for older clients."),
    "provider": ("Provider network", "How a network is carried between hosts."),
    "quotas": ("Quota management", "Limits of projects."),
    "quota_details": ("Quota details", "Limits of projects with their usage."),
    "quota-check-limit": ("Quota limit check", "Limits below the usage are refused on request."),
    "rbac-policies": ("RBAC policies", "Networks used by projects that do not own them."),
    "revision-if-match": ("If-Match on revisions", "Changes only of the revision that the client knows."),
    "router": ("Router", "Routers between networks, and floating addresses."),
    "router_availability_zone": ("Router availability zone", "In which zones a router shall run."),
    "security-group": ("Security groups", "Groups of rules about what may reach a port."),
    "security-groups-normalized-cidr": ("Normalized CIDR of rules", "The network that a rule's prefix means."),
    "service-type": ("Service types", "Providers of services between which a request may choose: there are none."),
    "sorting": ("Sorting", "Lists in a wanted order."),
    "standard-attr-description": ("Description", "A description of each resource."),
    "standard-attr-revisions": ("Revisions", "A number that grows with each change of a resource."),
    "standard-attr-tag": ("Tags", "Labels on resources, and lists filtered by them."),
    "standard-attr-timestamp": ("Timestamps", "When a resource was made and last changed."),
    "stateful-security-group": ("Stateful security group", "Groups that know connections, or do not."),
    "subnet_allocation": ("Subnet allocation", "Subnets taken from pools."),
    "subnetpool-prefix-ops": ("Subnet pool prefixes", "Prefixes of a pool added and removed one by one."),
    "subnet-service-types": ("Subnet service types", "Subnets kept for ports of certain owners."),
}
_UPDATED = "2026-01-01T00:00:00-00:00"


def _body(alias: str) -> dict[str, Any]:
    name, description = _EXTENSIONS[alias]
    return {"alias": alias, "name": name, "description": description, "updated": _UPDATED, "links": []}


@operations("GET", "/extensions", rule="get_extension")
def list_extensions(_call: Call) -> dict[str, Any]:
    """List extensions of the API."""
    return {"extensions": [_body(alias) for alias in _EXTENSIONS]}


@operations("GET", "/service-providers", rule="get_service_provider")
def list_service_providers(_call: Call) -> dict[str, Any]:
    """List providers of services between which a request may choose: every service here has one way to be provided."""
    return {"service_providers": []}


@operations("GET", "/extensions/{alias}", rule="get_extension")
def show_extension(call: Call) -> dict[str, Any]:
    """Show an extension."""
    alias = call.params["alias"]
    if alias not in _EXTENSIONS:
        raise errors.ExtensionNotFound(alias)
    return {"extension": _body(alias)}
