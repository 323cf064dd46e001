"""Small resources: volumes of servers, passwords."""

from __future__ import annotations

import datetime as dt
from typing import Any
from urllib.parse import unquote

from pileus.compute.api import schemas as s
from pileus.compute.api.common import server_of
from pileus.compute.errors import BadRequest
from pileus.compute.store import hosts as store
from pileus.compute.store.tables import SERVICES
from pileus.kernel import clock
from pileus.kernel.errors import NotFound
from pileus.kernel.web import Call, Operations

operations = Operations()

_VOLUMES = "/servers/{server_id}/os-volume_attachments"
_VOLUMES_RULE = "os_compute_api:os-volumes-attachments"


@operations("GET", _VOLUMES, rule=f"{_VOLUMES_RULE}:index", late=True)
def list_attachments(call: Call) -> dict[str, Any]:
    """List a server's volumes: none, servers run from their hosts' disks"""
    server_of(call)
    return {"volumeAttachments": []}


@operations("GET", _VOLUMES + "/{volume_id}", rule=f"{_VOLUMES_RULE}:show", late=True)
def show_attachment(call: Call) -> None:
    """Show a volume of a server"""
    row = server_of(call)
    raise NotFound(f"Instance {row['id']} is not attached to volume {call.params['volume_id']}")


ATTACH = s.wrap("volumeAttachment", s.obj({"volumeId": s.UUID}, ["volumeId"], additional=True))


@operations("POST", _VOLUMES, rule=f"{_VOLUMES_RULE}:create", late=True, body=ATTACH)
def attach_volume(call: Call) -> None:
    """Refused: there is no block storage service in this release"""
    server_of(call)
    raise BadRequest("Volumes cannot be attached: this cloud has no block storage service.")


@operations("DELETE", _VOLUMES + "/{volume_id}", rule=f"{_VOLUMES_RULE}:delete", late=True, status=202)
def detach_volume(call: Call) -> None:
    """Detach a volume"""
    row = server_of(call)
    raise NotFound(f"Instance {row['id']} is not attached to volume {call.params['volume_id']}")


_PASSWORD = "/servers/{server_id}/os-server-password"


@operations("GET", _PASSWORD, rule="os_compute_api:os-server-password:show", late=True)
def show_password(call: Call) -> dict[str, Any]:
    """Show the encrypted password that a guest left: none did"""
    server_of(call)
    return {"password": ""}


@operations("DELETE", _PASSWORD, rule="os_compute_api:os-server-password:clear", late=True, status=204)
def clear_password(call: Call) -> None:
    """Forget the encrypted password of a guest"""
    server_of(call)


@operations(
    "GET", "/servers/{server_id}/topology", rule="os_compute_api:server:topology:index", late=True, versions="2.78-"
)
def show_topology(call: Call) -> dict[str, Any]:
    """Show the NUMA topology of a server: guests have none of their own"""
    server_of(call)
    return {"nodes": [], "pagesize_kb": None}


CONSOLE = s.wrap(
    "remote_console",
    s.obj({"protocol": {"enum": ["vnc", "spice", "rdp", "serial", "mks"]}, "type": s.ANY_TEXT}, ["protocol", "type"]),
)


@operations(
    "POST",
    "/servers/{server_id}/remote-consoles",
    rule="os_compute_api:os-remote-consoles",
    late=True,
    body=CONSOLE,
    versions="2.6-",
)
def create_console(call: Call) -> None:
    """Refused: remote consoles are not served"""
    server_of(call)
    raise BadRequest("Remote consoles are not served by this release.")


_AUDIT = "os_compute_api:os-instance-usage-audit-log"


def _audit(call: Call, before: dt.datetime) -> dict[str, Any]:
    """The log of the audit that upstream's hosts may run each month; hosts here run none, so all of them are listed as not run."""
    with call.service.db.read() as conn:
        hosts = [row["host"] for row in store.services(conn, SERVICES.c.binary == store.COMPUTE)]
    end = before.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    start = (end - dt.timedelta(days=1)).replace(day=1)
    return {
        "hosts_not_run": hosts,
        "log": {},
        "num_hosts": len(hosts),
        "num_hosts_done": 0,
        "num_hosts_not_run": len(hosts),
        "num_hosts_running": 0,
        "overall_status": f"0 of {len(hosts)} hosts done. 0 errors.",
        "period_beginning": start.isoformat(sep=" "),
        "period_ending": end.isoformat(sep=" "),
        "total_errors": 0,
        "total_instances": 0,
    }


@operations("GET", "/os-instance_usage_audit_log", rule=f"{_AUDIT}:list")
def list_audit(call: Call) -> dict[str, Any]:
    """Show the usage audit of the last month"""
    return {"instance_usage_audit_logs": _audit(call, clock.utcnow())}


@operations("GET", "/os-instance_usage_audit_log/{before}", rule=f"{_AUDIT}:show")
def show_audit(call: Call) -> dict[str, Any]:
    """Show the usage audit of the month before a moment"""
    text = unquote(call.params["before"])
    try:
        before = clock.parse(text)
    except ValueError:
        raise BadRequest(f"Invalid timestamp for date {text}") from None
    return {"instance_usage_audit_log": _audit(call, before)}
