"""/v2.0/agents, what they host, and /v2.0/availability_zones."""

from __future__ import annotations

from typing import Any

from pileus.kernel.web import Call, Operations
from pileus.network import errors
from pileus.network.api import attributes as a
from pileus.network.api import collection as c
from pileus.network.api.attributes import Attribute
from pileus.network.logic import agents as logic
from pileus.network.logic import placing
from pileus.network.store.kinds import NETWORK, ROUTER

operations = Operations()

_UPDATE: dict[str, Attribute] = {
    "admin_state_up": Attribute(a.boolean),
    "description": Attribute(a.none_as("", a.text())),
    **{
        name: a.read_only()
        for name in ["id", "agent_type", "binary", "topic", "host", "availability_zone", "alive", "configurations", "created_at", "started_at", "heartbeat_timestamp", "resources_synced"]
    },
}
_PAGING = {"fields", "sort_key", "sort_dir", "limit", "marker", "page_reverse"}


@operations("GET", "/agents", rule="get_agent", late=True)
def list_agents(call: Call) -> dict[str, Any]:
    """List the agents of all hosts; for those who may not see them there are none."""
    call.mark_authorized()
    if not call.allows("get_agent"):
        return {"agents": []}
    filters = {name: values for name, values in call.query.as_lists().items() if name not in _PAGING}
    return {"agents": _fields(call, logic.list_agents(call.service, filters))}


def _fields(call: Call, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    wanted = call.query.all("fields")
    return [{name: body[name] for name in body if name in wanted} for body in found] if wanted else found


def _see(call: Call) -> None:
    call.authorize(hidden=errors.AgentNotFound(call.params["id"]))


@operations("GET", "/agents/{id}", rule="get_agent", late=True)
def show_agent(call: Call) -> dict[str, Any]:
    """Show an agent."""
    _see(call)
    return {"agent": _fields(call, [logic.show_agent(call.service, call.params["id"])])[0]}


@operations("PUT", "/agents/{id}", rule="update_agent", late=True)
def update_agent(call: Call) -> dict[str, Any]:
    """Take an agent out of service, put it back, describe it."""
    _see(call)
    if not isinstance(call.body, dict) or not isinstance(call.body.get("agent"), dict):
        raise errors.HTTPBadRequest("Unable to find 'agent' in request body")
    values = a.on_update("agent", {**_UPDATE, "project_id": a.read_only()}, call.body["agent"])
    return {"agent": logic.update_agent(call.service, call.params["id"], values)}


@operations("DELETE", "/agents/{id}", rule="delete_agent", late=True, status=204)
def delete_agent(call: Call) -> None:
    """Forget an agent."""
    _see(call)
    placing.delete_agent(call.service, call.params["id"])


@operations("GET", "/availability_zones", rule="get_availability_zone")
def list_availability_zones(call: Call) -> dict[str, Any]:
    """List availability zones of networks and routers."""
    zones = logic.zones(call.service)
    for name in ("name", "resource", "state"):
        wanted = call.query.all(name)
        zones = [zone for zone in zones if not wanted or zone[name] in wanted]
    return {"availability_zones": zones}


# -- what agents host ------------------------------------------------------------------------------------------------


@operations("GET", "/agents/{id}/dhcp-networks", rule="get_dhcp-networks")
def list_networks_of_agent(call: Call) -> dict[str, Any]:
    """List the networks whose DHCP an agent serves."""
    ids = placing.networks_of_agent(call.service, call.params["id"])
    return {"networks": placing.show(call.service, NETWORK, ids, call.context.project_id)}


@operations("POST", "/agents/{id}/dhcp-networks", rule="create_dhcp-network", status=201)
def add_network_to_agent(call: Call) -> None:
    """Let an agent serve a network's DHCP."""
    placing.add_network(call.service, call.params["id"], _named(call, "network_id"))


@operations("DELETE", "/agents/{id}/dhcp-networks/{network_id}", rule="delete_dhcp-network", status=204)
def remove_network_from_agent(call: Call) -> None:
    """Let an agent serve a network's DHCP no longer."""
    placing.remove_network(call.service, call.params["id"], call.params["network_id"])


@operations("GET", "/networks/{id}/dhcp-agents", rule="get_dhcp-agents")
def list_agents_of_network(call: Call) -> dict[str, Any]:
    """List the agents that serve a network's DHCP."""
    c.find(call, NETWORK, call.params["id"])
    return {"agents": placing.agents_of_network(call.service, call.params["id"])}


@operations("GET", "/agents/{id}/l3-routers", rule="get_l3-routers")
def list_routers_of_agent(call: Call) -> dict[str, Any]:
    """List the routers an agent runs."""
    ids = placing.routers_of_agent(call.service, call.params["id"])
    return {"routers": placing.show(call.service, ROUTER, ids, call.context.project_id)}


@operations("POST", "/agents/{id}/l3-routers", rule="create_l3-router", status=201)
def add_router_to_agent(call: Call) -> None:
    """Let an agent run a router that no agent runs."""
    placing.add_router(call.service, call.params["id"], _named(call, "router_id"))


@operations("DELETE", "/agents/{id}/l3-routers/{router_id}", rule="delete_l3-router", status=204)
def remove_router_from_agent(call: Call) -> None:
    """Take a router off an agent."""
    placing.remove_router(call.service, call.params["id"], call.params["router_id"])


@operations("GET", "/routers/{id}/l3-agents", rule="get_l3-agents")
def list_agents_of_router(call: Call) -> dict[str, Any]:
    """List the agents that run a router."""
    c.find(call, ROUTER, call.params["id"])
    return {"agents": placing.agents_of_router(call.service, call.params["id"])}


def _named(call: Call, name: str) -> str:
    value = call.body.get(name) if isinstance(call.body, dict) else None
    try:
        return a.uuid(value)
    except ValueError as error:
        raise errors.HTTPBadRequest(f"Invalid input for {name}. Reason: {error}.") from None
