"""Compute's services and zones: /os-services, /os-availability-zone."""

from __future__ import annotations

from typing import Any

from pileus.compute.api import schemas as s
from pileus.compute.errors import BadRequest
from pileus.compute.logic import hosts
from pileus.compute.logic import services as logic
from pileus.compute.store import hosts as store
from pileus.compute.store.tables import SERVICES
from pileus.kernel import clock, ids
from pileus.kernel.web import Call, Operations

operations = Operations()

_RULE = "os_compute_api:os-services"
_FILTERS = {"host": s.many(s.ANY_TEXT), "binary": s.many(s.ANY_TEXT)}
_LIST = [("2.1", s.query(_FILTERS)), ("2.75", s.query(_FILTERS, additional=False))]


def _zone(call: Call, zones: dict[str, str], row: dict[str, Any]) -> str:
    options = call.service.options
    if row["binary"] != store.COMPUTE:
        return str(options.internal_availability_zone)
    return hosts.zone_of(options, zones, row["host"]) or ""


def _view(call: Call, row: dict[str, Any], zones: dict[str, str]) -> dict[str, Any]:
    view = {
        "id": row["uuid"] if call.at_least(2, 53) else row["id"],
        "binary": row["binary"],
        "host": row["host"],
        "zone": _zone(call, zones, row),
        "status": "disabled" if row["disabled"] else "enabled",
        "state": "up" if hosts.is_up(call.service.options, row) else "down",
        "updated_at": clock.iso_micro(row["updated_at"] or row["created_at"]),
        "disabled_reason": row["disabled_reason"],
    }
    if call.at_least(2, 11):
        view["forced_down"] = row["forced_down"]
    return view


@operations("GET", "/os-services", rule=f"{_RULE}:list", query=_LIST)
def list_services(call: Call) -> dict[str, Any]:
    """List compute's services"""
    where = [SERVICES.c[name] == value for name in ("host", "binary") if (value := call.query.one(name))]
    with call.service.db.read() as conn:
        rows = store.services(conn, *where)
        zones = store.zones_by_host(conn)
    return {"services": [_view(call, row, zones) for row in rows]}


_REASON = {"type": "string", "minLength": 1, "maxLength": 255}
_ONE = {"host": s.HOSTNAME, "binary": {"type": "string", "minLength": 1, "maxLength": 255}}
UPDATE = {
    **s.obj(
        {
            "status": {"enum": ["enabled", "disabled"]},
            "disabled_reason": _REASON,
            "forced_down": s.BOOLEAN,
        }
    ),
    "minProperties": 1,
}


@operations("PUT", "/os-services/{service_id}", rule=f"{_RULE}:update", body=UPDATE, versions="2.53-")
def update_service(call: Call) -> dict[str, Any]:
    """Enable, disable or force down a service"""
    service_id, given = call.params["service_id"], call.body
    if not ids.is_uuid_like(service_id):
        raise BadRequest(f"Invalid uuid {service_id}")
    if given.get("disabled_reason") and given.get("status") != "disabled":
        raise BadRequest("Specifying disabled_reason requires that status is 'disabled'.")
    changes: dict[str, Any] = {}
    if "status" in given:
        changes = {"disabled": given["status"] == "disabled", "disabled_reason": given.get("disabled_reason")}
    if "forced_down" in given:
        changes["forced_down"] = s.boolean(given["forced_down"])
    row = logic.change_service(call.service, service_id, changes)
    with call.service.db.read() as conn:
        zones = store.zones_by_host(conn)
    return {"service": _view(call, row, zones)}


@operations("DELETE", "/os-services/{service_id}", rule=f"{_RULE}:delete", status=204)
def delete_service(call: Call) -> None:
    """Forget a service; a host must be empty"""
    service_id = call.params["service_id"]
    if call.at_least(2, 53):
        if not ids.is_uuid_like(service_id):
            raise BadRequest(f"Invalid uuid {service_id}")
    elif not service_id.isdigit():
        raise BadRequest("Service ID is not an integer")
    logic.delete_service(call.service, service_id)


def _by_name(call: Call, changes: dict[str, Any], **shown: Any) -> dict[str, Any]:
    given = call.body
    logic.change_by_name(call.service, given["host"], given["binary"], changes)
    return {"service": {"host": given["host"], "binary": given["binary"], **shown}}


@operations(
    "PUT", "/os-services/enable", rule=f"{_RULE}:update", body=s.obj(_ONE, ["host", "binary"]), versions="2.1-2.52"
)
def enable(call: Call) -> dict[str, Any]:
    """Enable a service"""
    return _by_name(call, {"disabled": False, "disabled_reason": None}, status="enabled")


@operations(
    "PUT", "/os-services/disable", rule=f"{_RULE}:update", body=s.obj(_ONE, ["host", "binary"]), versions="2.1-2.52"
)
def disable(call: Call) -> dict[str, Any]:
    """Disable a service"""
    return _by_name(call, {"disabled": True, "disabled_reason": None}, status="disabled")


@operations(
    "PUT",
    "/os-services/disable-log-reason",
    rule=f"{_RULE}:update",
    body=s.obj({**_ONE, "disabled_reason": _REASON}, ["host", "binary", "disabled_reason"]),
    versions="2.1-2.52",
)
def disable_with_reason(call: Call) -> dict[str, Any]:
    """Disable a service and say why"""
    reason = call.body["disabled_reason"]
    changes = {"disabled": True, "disabled_reason": reason}
    return _by_name(call, changes, status="disabled", disabled_reason=reason)


@operations(
    "PUT",
    "/os-services/force-down",
    rule=f"{_RULE}:update",
    body=s.obj({**_ONE, "forced_down": s.BOOLEAN}, ["host", "binary"]),
    versions="2.11-2.52",
)
def force_down(call: Call) -> dict[str, Any]:
    """Declare a service down, or take that back"""
    down = s.boolean(call.body.get("forced_down", False))
    return _by_name(call, {"forced_down": down}, forced_down=down)


def _zones(call: Call, *, detail: bool) -> list[dict[str, Any]]:
    options = call.service.options
    with call.service.db.read() as conn:
        zones = store.zones_by_host(conn)
        rows = store.services(conn)
    by_zone: dict[str, dict[str, Any]] = {}
    available: dict[str, bool] = {}
    for row in rows:
        if row["binary"] != store.COMPUTE and not detail:
            continue
        zone = _zone(call, zones, row)
        available[zone] = available.get(zone, False) or not row["disabled"]
        by_zone.setdefault(zone, {}).setdefault(row["host"], {})[row["binary"]] = {
            "updated_at": clock.iso_micro(row["updated_at"]),
            "active": not row["disabled"],
            "available": hosts.is_up(options, row),
        }
    return [
        {"zoneName": zone, "zoneState": {"available": available[zone]}, "hosts": by_zone[zone] if detail else None}
        for zone in sorted(by_zone)
    ]


@operations("GET", "/os-availability-zone", rule="os_compute_api:os-availability-zone:list")
def list_zones(call: Call) -> dict[str, Any]:
    """List availability zones"""
    return {"availabilityZoneInfo": _zones(call, detail=False)}


@operations("GET", "/os-availability-zone/detail", rule="os_compute_api:os-availability-zone:detail")
def list_zones_detail(call: Call) -> dict[str, Any]:
    """List availability zones with their hosts"""
    return {"availabilityZoneInfo": _zones(call, detail=True)}


_HOSTS = "2.1-2.42"


@operations("GET", "/os-hosts", rule="os_compute_api:os-hosts:list", versions=_HOSTS)
def list_hosts(call: Call) -> dict[str, Any]:
    """List hosts by service"""
    with call.service.db.read() as conn:
        zones = store.zones_by_host(conn)
        rows = store.services(conn)
    wanted = call.query.one("zone")
    found = [
        {"host_name": row["host"], "service": row["binary"].removeprefix("nova-"), "zone": _zone(call, zones, row)}
        for row in rows
    ]
    return {"hosts": [host for host in found if wanted in {None, host["zone"]}]}


@operations("GET", "/os-hosts/{host_name}", rule="os_compute_api:os-hosts:show", versions=_HOSTS)
def show_host(call: Call) -> dict[str, Any]:
    """Show what a host has and who uses it"""
    return {"host": logic.host_report(call.service, call.params["host_name"])}
