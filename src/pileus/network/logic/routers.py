"""Routers: created, changed, deleted; their legs are in `router_legs`."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.kernel import ids
from pileus.kernel.db import retried
from pileus.kernel.service import Service
from pileus.network import errors
from pileus.network.logic import agents, concerns
from pileus.network.logic import router_legs as legs
from pileus.network.logic.change import (
    Change,
    changing,
    check_revision,
    fetch,
    forget_tags,
    release,
    reserve,
    standard,
    update,
)
from pileus.network.store import render
from pileus.network.store import tables as t

Values = Mapping[str, Any]
Route = Mapping[str, str]


@retried
def create_routers(service: Service, items: Sequence[Values]) -> list[dict[str, Any]]:
    """Create routers, all or none. Raises OverQuota and what gateways raise."""
    with changing(service) as change:
        made = [_create(change, values) for values in items]
        rows = {row.id: row for row in change.conn.execute(sa.select(t.routers).where(t.routers.c.id.in_(made)))}
        return render.routers(change.conn, [rows[id] for id in made])


def _create(change: Change, values: Values) -> str:
    agents.check_zones(change, "router", values["availability_zone_hints"])
    reserve(change, values["project_id"], "router")
    row = {
        "id": ids.new_uuid(),
        "project_id": values["project_id"],
        "name": values["name"],
        "description": values["description"],
        "admin_state_up": values["admin_state_up"],
        "status": "ACTIVE",
        "gateway_port_id": None,
        "gateway_network_id": None,
        "enable_snat": True,
        "routes": [],
        "availability_zone_hints": values["availability_zone_hints"],
        "host": "",
        **standard(),
    }
    change.conn.execute(sa.insert(t.routers), row)
    if values.get("external_gateway_info"):
        legs.set_gateway(change, fetch(change.conn, t.routers, str(row["id"]), errors.RouterNotFound), values["external_gateway_info"])
    return str(row["id"])


def show(conn: sa.Connection, router_id: str) -> dict[str, Any]:
    """A router's dictionary."""
    return render.routers(conn, [fetch(conn, t.routers, router_id, errors.RouterNotFound)])[0]


@retried
def update_router(service: Service, router_id: str, values: Values, revision: int | None = None) -> dict[str, Any]:
    """Change a router. Raises RouterNotFound, InvalidRoutes, RoutesExhausted and what gateways raise."""
    with changing(service) as change:
        row = fetch(change.conn, t.routers, router_id, errors.RouterNotFound, lock=True)
        check_revision(row, revision)
        columns = dict(values)
        if "external_gateway_info" in columns:
            legs.set_gateway(change, row, columns.pop("external_gateway_info"))
        if "routes" in columns:
            columns["routes"] = columns["routes"] or []
            _check_routes(change, router_id, columns["routes"])
        return _write(change, router_id, columns)


def _write(change: Change, router_id: str, columns: Values) -> dict[str, Any]:
    update(change.conn, t.routers, router_id, columns)
    row = fetch(change.conn, t.routers, router_id, errors.RouterNotFound)
    concerns.router_changed(change, router_id, row.host)
    return show(change.conn, router_id)


def _check_routes(change: Change, router_id: str, routes: Sequence[Route]) -> None:
    """Each next hop is in a subnet the router has a leg in, and not the router itself."""
    limit = change.service.options.max_routes
    if len(routes) > limit:
        raise errors.RoutesExhausted(f"Unable to complete operation for {router_id}. The number of routes exceeds the maximum {limit}.")
    if not routes:
        return
    reached = legs.reached(change.conn, router_id)
    own = {address for _, address in reached}
    for route in routes:
        hop = ipaddress.ip_address(route["nexthop"])
        if route["nexthop"] in own:
            raise errors.InvalidRoutes(f"Invalid format for routes: {list(routes)}, the nexthop is used by router")
        if not any(hop in ipaddress.ip_network(cidr) for cidr, _ in reached):
            raise errors.InvalidRoutes(f"Invalid format for routes: {list(routes)}, the nexthop is not connected with router")


@retried
def add_routes(service: Service, router_id: str, routes: Sequence[Route]) -> dict[str, Any]:
    """Add routes that are not there yet. Raises RouterNotFound, InvalidRoutes, RoutesExhausted."""
    with changing(service) as change:
        row = fetch(change.conn, t.routers, router_id, errors.RouterNotFound, lock=True)
        wanted = list(row.routes) + [dict(route) for route in routes if route not in row.routes]
        _check_routes(change, router_id, wanted)
        return _write(change, router_id, {"routes": wanted})


@retried
def remove_routes(service: Service, router_id: str, routes: Sequence[Route]) -> dict[str, Any]:
    """Remove routes; those that are not there do not matter. Raises RouterNotFound."""
    with changing(service) as change:
        row = fetch(change.conn, t.routers, router_id, errors.RouterNotFound, lock=True)
        return _write(change, router_id, {"routes": [route for route in row.routes if route not in routes]})


@retried
def delete_router(service: Service, router_id: str, revision: int | None = None) -> None:
    """Delete a router without interfaces; its gateway goes along. Raises RouterNotFound, RouterInUse."""
    with changing(service) as change:
        row = fetch(change.conn, t.routers, router_id, errors.RouterNotFound, lock=True)
        check_revision(row, revision)
        table = t.router_interfaces
        if change.conn.execute(sa.select(table.c.port_id).where(table.c.router_id == router_id).limit(1)).first():
            raise errors.RouterInUse(f"Router {router_id} still has ports")
        legs.set_gateway(change, row, None)
        change.conn.execute(sa.delete(t.routers).where(t.routers.c.id == router_id))
        forget_tags(change.conn, [router_id])
        change.drop(row.host, "router", [router_id])
        release(change, row.project_id, "router")
