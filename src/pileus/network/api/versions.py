"""Version documents: / and /v2.0, without a token."""

from __future__ import annotations

from typing import Any

from pileus.kernel.web import Call, Operations

operations = Operations()

_RESOURCES = (
    ("network", "networks"),
    ("subnet", "subnets"),
    ("subnetpool", "subnetpools"),
    ("port", "ports"),
    ("router", "routers"),
    ("floatingip", "floatingips"),
    ("security_group", "security-groups"),
    ("security_group_rule", "security-group-rules"),
    ("quota", "quotas"),
    ("agent", "agents"),
    ("rbac_policy", "rbac-policies"),
    ("extension", "extensions"),
    ("availability_zone", "availability_zones"),
    ("network_ip_availability", "network-ip-availabilities"),
)


@operations("GET", "/", root=True, public="version document")
def list_versions(call: Call) -> dict[str, Any]:
    """The versions of the API."""
    links = [{"rel": "self", "href": call.link("/")}]
    return {"versions": [{"id": "v2.0", "status": "CURRENT", "links": links}]}


@operations("GET", "", public="version document")
def show_version(call: Call) -> dict[str, Any]:
    """The resources of version 2.0."""
    resources = [
        {
            "name": name,
            "collection": plural.replace("-", "_"),
            "links": [{"rel": "self", "href": call.link(f"/{plural}")}],
        }
        for name, plural in _RESOURCES
    ]
    return {"resources": resources}
