"""Names of what we make on a host. Links have at most 15 characters, so they carry the first eleven of an id."""

from __future__ import annotations

import hashlib
import re

SHORT = 11

CONNTRACK_TABLE = ("inet", "pileus_ct")
FILTER_TABLE = ("bridge", "pileus_sg")
GUARD_TABLE = ("netdev", "pileus_in")
HOST_NAT_TABLE = ("ip", "pileus_nat")
ROUTER_TABLE = ("ip", "pileus_router")

NAMESPACE = re.compile(r"q(?:dhcp|router)-[0-9a-f-]{36}")


def bridge(network_id: str) -> str:
    return f"brq{network_id[:SHORT]}"


def bridge_mac(bridge: str) -> str:
    """The MAC of a network's bridge. One that is set stays: a bridge would else take the lowest of its ports, and lose its neighbours with each change."""
    return "02:" + hashlib.blake2b(bridge.encode(), digest_size=5).digest().hex(":")


def vxlan(vni: int) -> str:
    return f"vxlan-{vni}"


def tap(port_id: str) -> str:
    """A guest's link, and the bridge's end of the pair of a DHCP or router port."""
    return f"tap{port_id[:SHORT]}"


def dhcp_link(port_id: str) -> str:
    return f"ns-{port_id[:SHORT]}"


def router_link(port_id: str) -> str:
    return f"qr-{port_id[:SHORT]}"


def gateway_link(port_id: str) -> str:
    return f"qg-{port_id[:SHORT]}"


def dhcp_namespace(network_id: str) -> str:
    return f"qdhcp-{network_id}"


def router_namespace(router_id: str) -> str:
    return f"qrouter-{router_id}"
