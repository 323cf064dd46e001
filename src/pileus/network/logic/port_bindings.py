"""Bindings of a port on several hosts (the extension binding-extended): one is active, the others let hosts prepare for it.

An inactive binding with a tap brings the port to its host, which attaches the tap as soon as compute makes it. Forwarding on other hosts, DHCP, routers
and floating addresses follow the active one; activation moves the port in one transaction and unbinds it where it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from pileus.kernel.db import insert_ignore, retried
from pileus.kernel.service import Service
from pileus.network import errors
from pileus.network.logic import binding, concerns
from pileus.network.logic.change import Change, changing, update
from pileus.network.logic.ports import state
from pileus.network.store import tables as t

Body = dict[str, Any]
ACTIVE, INACTIVE = "ACTIVE", "INACTIVE"
_GUESTS = "compute:"


def list_bindings(service: Service, port_id: str) -> list[Body]:
    """The active binding, then the others by host."""
    port = sa.select(t.ports).where(t.ports.c.id == port_id)
    others = sa.select(t.port_bindings).where(t.port_bindings.c.port_id == port_id).order_by(t.port_bindings.c.host)
    with service.db.read() as conn:
        return [_body(row, row.host_id, ACTIVE) for row in conn.execute(port)] + [_body(row, row.host, INACTIVE) for row in conn.execute(others)]


def _body(row: Any, host: str, status: str) -> Body:
    return {
        "host": host,
        "vif_type": row.vif_type,
        "vif_details": row.vif_details,
        "vnic_type": row.vnic_type,
        "profile": row.profile,
        "status": status,
    }


@retried
def create_binding(service: Service, port_id: str, values: Mapping[str, Any]) -> Body:
    """Bind a port to one more host. Raises PortNotFound, BadRequest, PortBindingAlreadyExists, PortBindingError (the host cannot take it)."""
    host = values["host"]
    with changing(service) as change:
        port, before = _locked(change, port_id)
        if port.host_id == host:
            raise errors.PortBindingAlreadyExists(port_id, host)
        row = {"port_id": port_id, "vnic_type": values["vnic_type"], "profile": values["profile"], "status": "DOWN"}
        row.update(_bound(change, port, host, values["vnic_type"]))
        if not insert_ignore(change.conn, t.port_bindings, [row]):
            raise errors.PortBindingAlreadyExists(port_id, host)
        concerns.port_changed(change, before, state(change, port_id)[1])
        return _body(_inactive(change, port_id, host), host, INACTIVE)


@retried
def activate_binding(service: Service, port_id: str, host: str) -> Body:
    """Move a port to a host that is prepared for it. Its status is from now on what that host has reported.

    Raises PortNotFound, BadRequest, PortBindingAlreadyActive, PortBindingNotFound, PortBindingError.
    """
    with changing(service) as change:
        port, before = _locked(change, port_id)
        if port.host_id == host:
            raise errors.PortBindingAlreadyActive(port_id, host)
        chosen = _inactive(change, port_id, host)
        bound = _bound(change, port, host, chosen.vnic_type)
        change.conn.execute(sa.delete(t.port_bindings).where(t.port_bindings.c.port_id == port_id, t.port_bindings.c.host == host))
        if port.host_id:
            _keep_inactive(change, port)
        columns = {"host_id": host, "vif_type": bound["vif_type"], "vif_details": bound["vif_details"]}
        update(change.conn, t.ports, port_id, {**columns, "vnic_type": chosen.vnic_type, "profile": chosen.profile, "status": chosen.status})
        port, after = state(change, port_id)
        concerns.port_changed(change, before, after)
        return _body(port, host, ACTIVE)


@retried
def delete_binding(service: Service, port_id: str, host: str) -> None:
    """Take a port off a host; without its active binding it is unbound. Raises PortNotFound, BadRequest, PortBindingNotFound."""
    with changing(service) as change:
        port, before = _locked(change, port_id)
        if port.host_id == host:
            unbound = binding.bind(change.conn, service.options, port.network_id, "", port.vnic_type)
            update(change.conn, t.ports, port_id, {**unbound, "status": "DOWN"})
        else:
            _inactive(change, port_id, host)
            change.conn.execute(sa.delete(t.port_bindings).where(t.port_bindings.c.port_id == port_id, t.port_bindings.c.host == host))
        concerns.port_changed(change, before, state(change, port_id)[1])


def _locked(change: Change, port_id: str) -> tuple[Any, concerns.PortState]:
    """The port, which nobody else changes until the end: all of its bindings hang on this lock."""
    port, before = state(change, port_id, lock=True)
    if not port.device_owner.startswith(_GUESTS):
        raise errors.BadRequest(f"Invalid port {port_id}. Operation only valid on compute ports.")
    return port, before


def _bound(change: Change, port: Any, host: str, vnic_type: str) -> Body:
    """The columns of a binding to the host. Raises PortBindingError where the port cannot be attached there."""
    made = binding.bind(change.conn, change.service.options, port.network_id, host, vnic_type)
    if made["vif_type"] == binding.FAILED:
        raise errors.PortBindingError(port.id, host)
    return {"host": host, "vif_type": made["vif_type"], "vif_details": made["vif_details"]}


def _inactive(change: Change, port_id: str, host: str) -> Any:
    query = sa.select(t.port_bindings).where(t.port_bindings.c.port_id == port_id, t.port_bindings.c.host == host)
    row = change.conn.execute(query).first()
    if row is None:
        raise errors.PortBindingNotFound(port_id, host)
    return row


def _keep_inactive(change: Change, port: Any) -> None:
    """The binding that was active stays, unbound, so that it can be activated again: its host lets go of the tap."""
    row = {"port_id": port.id, "host": port.host_id, "vnic_type": port.vnic_type, "profile": port.profile, "status": "DOWN"}
    change.conn.execute(sa.insert(t.port_bindings), {**row, "vif_type": binding.UNBOUND, "vif_details": {}})
