"""What the host of a server tells at once: console output and diagnostics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pileus.compute.errors import WrongState
from pileus.compute.logic import states
from pileus.compute.store import hosts as store
from pileus.compute.wire import SERVER_MISSING
from pileus.kernel import clock
from pileus.kernel.bus import BusTimeout, BusUnavailable, RemoteError
from pileus.kernel.errors import Conflict, NotFound, Unavailable
from pileus.kernel.service import Service

_SECONDS = 10.0


def _ask(service: Service, server: Mapping[str, Any], method: str, **payload: Any) -> dict[str, Any]:
    """One call of the server's host that an API request waits for."""
    body = {"id": server["id"], "epoch": int(server["epoch"]), **payload}
    try:
        answer: dict[str, Any] = service.bus.call(f"agent.{server['host']}", method, body, timeout=_SECONDS)
    except (BusTimeout, BusUnavailable) as error:
        raise Unavailable("The host of the server does not answer now.", inside=str(error)) from error
    except RemoteError as error:
        if error.kind == SERVER_MISSING:
            raise NotFound("Unable to get console: the server is not on its host.") from error
        raise Conflict(error.message) from error
    return answer


def output(service: Service, server: Mapping[str, Any], length: int | None) -> str:
    """The last lines of the console; None or -1 = all there are."""
    states.check("get_console_output", server)
    if not server["host"]:
        raise WrongState("get_console_output", server["id"], "vm_state", server["vm_state"])
    if length == 0:
        return ""
    wanted = None if length is None or length < 0 else length
    text: str = _ask(service, server, "compute.console", length=wanted)["output"]
    # As upstream counts: what follows the last line break is a line too.
    return text if wanted is None else "\n".join(text.split("\n")[-wanted:])


def diagnostics(service: Service, server: Mapping[str, Any]) -> dict[str, Any]:
    """The standard diagnostics of 2.48; what the host does not measure is None."""
    told = _ask(service, server, "compute.state")
    with service.db.read() as conn:
        node = store.node_of(conn, server["host"])
    launched = server["launched_at"]
    nics = [
        {
            "mac_address": vif["mac"],
            **dict.fromkeys(
                [
                    "rx_octets",
                    "rx_errors",
                    "rx_drop",
                    "rx_packets",
                    "rx_rate",
                    "tx_octets",
                    "tx_errors",
                    "tx_drop",
                    "tx_packets",
                    "tx_rate",
                ]
            ),
        }
        for vif in server["network_info"] or ()
    ]
    return {
        "state": {"suspended": "suspended", "missing": "pending"}.get(told["power_state"], told["power_state"]),
        "driver": "libvirt",
        "hypervisor": (node["hypervisor_type"].lower() if node else None),
        "hypervisor_os": "linux",
        "uptime": int((clock.utcnow() - launched).total_seconds()) if launched else None,
        "config_drive": bool(server["config_drive"]),
        "num_cpus": server["vcpus"],
        "num_nics": len(nics),
        "num_disks": 1 + int(bool(server["config_drive"])),
        "cpu_details": [{"id": number, "time": None, "utilisation": None} for number in range(server["vcpus"])],
        "nic_details": nics,
        "disk_details": [],
        "memory_details": {"maximum": server["memory_mb"], "used": None},
    }
