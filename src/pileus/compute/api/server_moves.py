"""Actions that move servers between hosts or give them another flavor: POST /servers/{id}/action."""

from __future__ import annotations

from typing import Any

from pileus.compute.api import schemas as s
from pileus.compute.api.common import passes_lock, server_of, target
from pileus.compute.errors import BadRequest
from pileus.compute.logic import moves
from pileus.kernel import ids
from pileus.kernel.errors import NotFound
from pileus.kernel.web import Call, Operations

operations = Operations()

_PATH = "/servers/{server_id}/action"
_HOST = s.HOSTNAME
_HOST_OR_NULL = {**s.HOSTNAME, "type": ["string", "null"]}
_PASSWORD = {"type": "string"}


def _body(action: str, properties: dict[str, Any], required: tuple[str, ...] = ()) -> s.Schema:
    return s.wrap(action, s.obj(properties, required))


# -- evacuate --------------------------------------------------------------------------------------------------------

EVACUATE = [
    (
        "2.1",
        _body(
            "evacuate",
            {"host": _HOST, "onSharedStorage": s.BOOLEAN, "adminPass": _PASSWORD},
            ("onSharedStorage",),
        ),
    ),
    ("2.14", _body("evacuate", {"host": _HOST, "adminPass": _PASSWORD})),
    ("2.29", _body("evacuate", {"host": _HOST, "adminPass": _PASSWORD, "force": s.BOOLEAN})),
    ("2.68", _body("evacuate", {"host": _HOST, "adminPass": _PASSWORD})),
]


@operations("POST", _PATH, action="evacuate", rule="os_compute_api:os-evacuate", late=True, body=EVACUATE)
def evacuate(call: Call) -> dict[str, Any] | None:
    """Bring a server of a host that is down to life on another one"""
    row = server_of(call)
    given = call.body["evacuate"]
    host = given.get("host")
    forced = s.lenient(given.get("force", False)) and call.at_least(2, 29)
    if forced and host is None:
        raise BadRequest("Can't force to a non-provided destination")
    old = not call.at_least(2, 14)
    if old and s.lenient(given["onSharedStorage"]):
        if given.get("adminPass"):
            raise BadRequest("admin password can't be changed on existing disk")
        raise BadRequest("Hosts do not share the disks of servers; evacuate with onSharedStorage false.")
    moves.check_target(call.service, host, row, missing=NotFound, same="The target host can't be the same one.")
    wanted = call.service.options.enable_instance_password
    password = given.get("adminPass") or (ids.password(12) if wanted else None)
    moves.evacuate(
        call.service,
        call.context,
        row["id"],
        host=host,
        forced=forced,
        password=password,
        stopped=call.at_least(2, 95),
    )
    return {"adminPass": password} if old and wanted else None


# -- cold migration and resize ---------------------------------------------------------------------------------------

MIGRATE = [
    ("2.1", None),
    ("2.56", s.wrap("migrate", {"anyOf": [{"type": "null"}, s.obj({"host": _HOST_OR_NULL})]})),
]
_MIGRATE = "os_compute_api:os-migrate-server:migrate"


@operations("POST", _PATH, action="migrate", rule=_MIGRATE, late=True, status=202, body=MIGRATE)
def migrate(call: Call) -> None:
    """Move a server to another host; it is switched off on the way"""
    row = server_of(call)
    host = (call.body["migrate"] or {}).get("host") if call.at_least(2, 56) else None
    if host is not None:
        call.authorize(target(row), rule=f"{_MIGRATE}:host")
    same = "Cannot migrate to the host where the server exists."
    moves.check_target(call.service, host, row, missing=BadRequest, same=same)
    moves.migrate(call.service, call.context, row["id"], host=host, unlocked=passes_lock(call, row))


RESIZE = s.wrap(
    "resize",
    s.obj(
        {"flavorRef": {"type": ["string", "integer"], "minLength": 1}, "OS-DCF:diskConfig": s.DISK_CONFIG},
        ["flavorRef"],
    ),
)


@operations("POST", _PATH, action="resize", rule="os_compute_api:servers:resize", late=True, status=202, body=RESIZE)
def resize(call: Call) -> None:
    """Give a server another flavor; it waits for confirmation then"""
    row = server_of(call)
    given = call.body["resize"]
    moves.resize(
        call.service,
        call.context,
        row["id"],
        str(given["flavorRef"]),
        disk_config=given.get("OS-DCF:diskConfig"),
        unlocked=passes_lock(call, row),
    )


@operations("POST", _PATH, action="confirmResize", rule="os_compute_api:servers:confirm_resize", late=True, status=204)
def confirm_resize(call: Call) -> None:
    """Keep a server as it is after a resize or migration"""
    row = server_of(call)
    moves.confirm(call.service, call.context, row["id"], unlocked=passes_lock(call, row))


@operations("POST", _PATH, action="revertResize", rule="os_compute_api:servers:revert_resize", late=True, status=202)
def revert_resize(call: Call) -> None:
    """Bring a server back to what it was before a resize or migration"""
    row = server_of(call)
    moves.revert(call.service, call.context, row["id"], unlocked=passes_lock(call, row))


# -- live migration ---------------------------------------------------------------------------------------------------

_BLOCK = {"block_migration": {"enum": [*s.BOOLEAN["enum"], "auto"]}, "host": _HOST_OR_NULL}
LIVE = [
    (
        "2.1",
        _body(
            "os-migrateLive",
            {"block_migration": s.BOOLEAN, "disk_over_commit": s.BOOLEAN, "host": _HOST_OR_NULL},
            ("block_migration", "disk_over_commit", "host"),
        ),
    ),
    ("2.25", _body("os-migrateLive", _BLOCK, ("block_migration", "host"))),
    ("2.30", _body("os-migrateLive", {**_BLOCK, "force": s.BOOLEAN}, ("block_migration", "host"))),
    ("2.68", _body("os-migrateLive", _BLOCK, ("block_migration", "host"))),
]
_LIVE = "os_compute_api:os-migrate-server:migrate_live"


@operations("POST", _PATH, action="os-migrateLive", rule=_LIVE, late=True, status=202, body=LIVE)
def migrate_live(call: Call) -> None:
    """Move a running server to another host without switching it off"""
    row = server_of(call)
    given = call.body["os-migrateLive"]
    host = given["host"]
    if host is not None:
        call.authorize(target(row), rule=f"{_LIVE}:host")
    block = given["block_migration"]
    if block != "auto" and not s.boolean(block):
        raise BadRequest(
            f"{row['host']} is not on shared storage: Live migration can not be used without shared storage except a "
            "booted from volume VM which does not have a local disk."
        )
    forced = s.lenient(given.get("force", False)) and call.at_least(2, 30)
    if forced and host is None:
        raise BadRequest("Can't force to a non-provided destination")
    same = f"Unable to migrate instance ({row['id']}) to current host ({host})."
    moves.check_target(call.service, host, row, missing=BadRequest, same=same)
    moves.migrate_live(call.service, call.context, row["id"], host=host, forced=forced, unlocked=passes_lock(call, row))
