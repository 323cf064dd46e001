"""Where DHCP and routers are and which agents there are, as administrators see and change it by hand."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pileus.kernel.db import insert_ignore, retried
from pileus.kernel.service import Service
from pileus.network import errors
from pileus.network.logic import agents, concerns, dhcp
from pileus.network.logic import router_legs as legs
from pileus.network.logic.change import changing, fetch
from pileus.network.store import tables as t
from pileus.network.store.kinds import Kind


def show(service: Service, kind: Kind, ids: list[str], viewer: str | None) -> list[dict[str, Any]]:
    """The dictionaries of these resources."""
    with service.db.read() as conn:
        rows = conn.execute(sa.select(kind.table).where(kind.table.c.id.in_(ids)).order_by(kind.table.c.id)).all()
        return kind.render(conn, rows, viewer)


def _agent(conn: sa.Connection, id: str, agent_type: str) -> Any:
    row = fetch(conn, t.agents, id, errors.AgentNotFound)
    if row.agent_type != agent_type:
        kind = errors.InvalidDHCPAgent if agent_type == agents.DHCP else errors.InvalidL3Agent
        raise kind(f"Agent {id} is not a valid {agent_type}.")
    return row


@retried
def delete_agent(service: Service, agent_id: str) -> None:
    """Forget an agent; one that lives announces itself again. With the last of a host its tunnel address goes. Raises AgentNotFound."""
    with changing(service) as change:
        agent = fetch(change.conn, t.agents, agent_id, errors.AgentNotFound, lock=True)
        change.conn.execute(sa.delete(t.agents).where(t.agents.c.id == agent_id))
        others = sa.select(t.agents.c.id).where(t.agents.c.host == agent.host, t.agents.c.vtep != "")
        if agent.vtep and change.conn.execute(others).first() is None:
            concerns.tunnel_changed(change, agent.host)


def networks_of_agent(service: Service, agent_id: str) -> list[str]:
    """Raises AgentNotFound."""
    with service.db.read() as conn:
        host = fetch(conn, t.agents, agent_id, errors.AgentNotFound).host
        return list(conn.execute(sa.select(t.dhcp_bindings.c.network_id).where(t.dhcp_bindings.c.host == host)).scalars())


def agents_of_network(service: Service, network_id: str) -> list[dict[str, Any]]:
    """The DHCP agents of a network."""
    query = (
        sa.select(t.agents)
        .join(t.dhcp_bindings, t.dhcp_bindings.c.host == t.agents.c.host)
        .where(t.dhcp_bindings.c.network_id == network_id, t.agents.c.agent_type == agents.DHCP)
    )
    with service.db.read() as conn:
        return [agents.body(row, service.options) for row in conn.execute(query)]


@retried
def add_network(service: Service, agent_id: str, network_id: str) -> None:
    """Serve a network's DHCP from the agent's host too. Raises AgentNotFound, InvalidDHCPAgent, NetworkHostedByDHCPAgent."""
    with changing(service) as change:
        agent = _agent(change.conn, agent_id, agents.DHCP)
        network = fetch(change.conn, t.networks, network_id, errors.NetworkNotFound, lock=True)
        if not agent.admin_state_up:
            raise errors.InvalidDHCPAgent(f"Agent {agent_id} is not a valid DHCP Agent or has been disabled.")
        if not insert_ignore(change.conn, t.dhcp_bindings, [{"network_id": network_id, "host": agent.host}]):
            raise errors.NetworkHostedByDHCPAgent(f"The network {network_id} has been already hosted by the DHCP Agent {agent_id}.")
        dhcp.serve_from(change, network, agent.host)


@retried
def remove_network(service: Service, agent_id: str, network_id: str) -> None:
    """Raises AgentNotFound, NetworkNotHostedByDhcpAgent."""
    with changing(service) as change:
        agent = _agent(change.conn, agent_id, agents.DHCP)
        table = t.dhcp_bindings
        query = sa.select(table.c.host).where(table.c.network_id == network_id, table.c.host == agent.host)
        if change.conn.execute(query).first() is None:
            raise errors.NetworkNotHostedByDhcpAgent(f"The network {network_id} is not hosted by the DHCP agent {agent_id}.")
        dhcp.leave(change, network_id, agent.host)


def routers_of_agent(service: Service, agent_id: str) -> list[str]:
    """Raises AgentNotFound."""
    with service.db.read() as conn:
        host = fetch(conn, t.agents, agent_id, errors.AgentNotFound).host
        return list(conn.execute(sa.select(t.routers.c.id).where(t.routers.c.host == host)).scalars())


def agents_of_router(service: Service, router_id: str) -> list[dict[str, Any]]:
    """The L3 agent of a router."""
    query = (
        sa.select(t.agents)
        .join(t.routers, t.routers.c.host == t.agents.c.host)
        .where(t.routers.c.id == router_id, t.agents.c.agent_type == agents.L3)
    )
    with service.db.read() as conn:
        return [agents.body(row, service.options) for row in conn.execute(query)]


@retried
def add_router(service: Service, agent_id: str, router_id: str) -> None:
    """Raises AgentNotFound, InvalidL3Agent, RouterHostedByL3Agent."""
    with changing(service) as change:
        agent = _agent(change.conn, agent_id, agents.L3)
        router = fetch(change.conn, t.routers, router_id, errors.RouterNotFound, lock=True)
        if not agent.admin_state_up:
            raise errors.InvalidL3Agent(f"Agent {agent_id} is not a L3 Agent or has been disabled")
        if router.host == agent.host:
            return
        if router.host:
            raise errors.RouterHostedByL3Agent(f"The router {router_id} has been already hosted by the L3 Agent on {router.host}.")
        legs.move(change, router, agent.host)


@retried
def remove_router(service: Service, agent_id: str, router_id: str) -> None:
    """Raises AgentNotFound, RouterNotHostedByL3Agent."""
    with changing(service) as change:
        agent = _agent(change.conn, agent_id, agents.L3)
        router = fetch(change.conn, t.routers, router_id, errors.RouterNotFound, lock=True)
        if router.host != agent.host:
            raise errors.RouterNotHostedByL3Agent(f"The router {router_id} is not hosted by L3 agent {agent_id}.")
        legs.move(change, router, "")
