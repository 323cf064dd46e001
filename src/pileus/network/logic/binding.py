"""Port binding: what a port is on the host it is bound to."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pileus.network.logic import agents

UNBOUND, FAILED, TAP = "unbound", "binding_failed", "tap"


def bind(conn: sa.Connection, options: Any, network_id: str, host: str, vnic_type: str) -> dict[str, Any]:
    """The columns of a port bound to `host` ('' for none): a tap on the network's bridge, or a failed binding.

    Fails where no living agent can attach the port, and for kinds of interfaces that taps are not.
    """
    if not host:
        return {"host_id": "", "vif_type": UNBOUND, "vif_details": {}}
    if vnic_type != "normal" or not agents.wires(conn, options, host):
        return {"host_id": host, "vif_type": FAILED, "vif_details": {}}
    details = {"bridge_name": f"brq{network_id[:11]}", "connectivity": "l2", "port_filter": True}
    return {"host_id": host, "vif_type": TAP, "vif_details": details}
