"""/v2.0/network-ip-availabilities."""

from __future__ import annotations

from typing import Any

from pileus.kernel.web import Call, Operations
from pileus.network import errors
from pileus.network.logic import availability as logic

operations = Operations()

_FILTERS = {"network_id", "network_name", "tenant_id", "project_id", "ip_version"}


@operations("GET", "/network-ip-availabilities", rule="get_network_ip_availability")
def list_ip_availabilities(call: Call) -> dict[str, Any]:
    """How many addresses networks have and use."""
    filters = {name: values for name, values in call.query.as_lists().items() if name != "fields"}
    unknown = sorted(set(filters) - _FILTERS)
    if unknown:
        raise errors.HTTPBadRequest(f"{unknown} is invalid attribute for filtering")
    return {"network_ip_availabilities": logic.of_networks(call.service, filters)}


@operations("GET", "/network-ip-availabilities/{network_id}", rule="get_network_ip_availability")
def show_ip_availability(call: Call) -> dict[str, Any]:
    """How many addresses a network has and uses."""
    found = logic.of_networks(call.service, {"network_id": [call.params["network_id"]]})
    if not found:
        raise errors.NetworkNotFound(call.params["network_id"])
    return {"network_ip_availability": found[0]}
