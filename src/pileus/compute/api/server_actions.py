"""Actions of servers: POST /servers/{id}/action."""

from __future__ import annotations

from typing import Any

from pileus.compute.api import schemas as s
from pileus.compute.api.common import passes_lock, server_of
from pileus.compute.api.server_schemas import REBUILD
from pileus.compute.api.server_view import View
from pileus.compute.errors import BadRequest, NotBuilt
from pileus.compute.logic import console, power, rebuild, servers, states
from pileus.compute.store import servers as store
from pileus.compute.store.tables import SERVERS
from pileus.kernel.web import Call, Operations, Reply

operations = Operations()

_PATH = "/servers/{server_id}/action"


def _power(call: Call, action: str) -> None:
    row = server_of(call)
    power.change_power(call.service, call.context, row["id"], action, unlocked=passes_lock(call, row))


@operations("POST", _PATH, action="os-start", rule="os_compute_api:servers:start", late=True, status=202)
def start(call: Call) -> None:
    """Start a server"""
    _power(call, "start")


@operations("POST", _PATH, action="os-stop", rule="os_compute_api:servers:stop", late=True, status=202)
def stop(call: Call) -> None:
    """Stop a server"""
    _power(call, "stop")


REBOOT = s.wrap("reboot", s.obj({"type": {"enum": ["HARD", "Hard", "hard", "SOFT", "Soft", "soft"]}}, ["type"]))


@operations("POST", _PATH, action="reboot", rule="os_compute_api:servers:reboot", late=True, status=202, body=REBOOT)
def reboot(call: Call) -> None:
    """Reboot a server, asking its guest (SOFT) or not (HARD)"""
    hard = call.body["reboot"]["type"].upper() == "HARD"
    _power(call, "reboot_hard" if hard else "reboot")


@operations("POST", _PATH, action="pause", rule="os_compute_api:os-pause-server:pause", late=True, status=202)
def pause(call: Call) -> None:
    """Pause a server"""
    _power(call, "pause")


@operations("POST", _PATH, action="unpause", rule="os_compute_api:os-pause-server:unpause", late=True, status=202)
def unpause(call: Call) -> None:
    """Let a paused server go on"""
    _power(call, "unpause")


@operations("POST", _PATH, action="suspend", rule="os_compute_api:os-suspend-server:suspend", late=True, status=202)
def suspend(call: Call) -> None:
    """Suspend a server to disk"""
    _power(call, "suspend")


@operations("POST", _PATH, action="resume", rule="os_compute_api:os-suspend-server:resume", late=True, status=202)
def resume(call: Call) -> None:
    """Resume a suspended server"""
    _power(call, "resume")


@operations("POST", _PATH, action="forceDelete", rule="os_compute_api:os-deferred-delete:force", late=True, status=202)
def force_delete(call: Call) -> None:
    """Delete a server now"""
    row = server_of(call)
    unlocked = passes_lock(call, row)
    power.delete_server(call.service, call.context, row["id"], unlocked=unlocked, word="forceDelete")


LOCK = [
    ("2.1", None),
    (
        "2.73",
        s.wrap(
            "lock",
            {
                "anyOf": [
                    {"type": "null"},
                    s.obj({"locked_reason": {"type": "string", "minLength": 1, "maxLength": 255}}),
                ]
            },
        ),
    ),
]


@operations("POST", _PATH, action="lock", rule="os_compute_api:os-lock-server:lock", late=True, status=202, body=LOCK)
def lock(call: Call) -> None:
    """Lock a server"""
    row = server_of(call)
    given = call.body["lock"] if call.at_least(2, 73) else None
    servers.lock(call.service, call.context, row["id"], (given or {}).get("locked_reason"))


@operations("POST", _PATH, action="unlock", rule="os_compute_api:os-lock-server:unlock", late=True, status=202)
def unlock(call: Call) -> None:
    """Unlock a server; what an administrator locked only administrators unlock"""
    row = server_of(call)
    if row["locked"] and row["locked_by"] == "admin":
        call.authorize(
            {"project_id": row["project_id"], "user_id": row["user_id"]},
            rule="os_compute_api:os-lock-server:unlock:unlock_override",
        )
    servers.unlock(call.service, call.context, row["id"])


RESET = s.wrap("os-resetState", s.obj({"state": {"enum": ["active", "error"]}}, ["state"]))


@operations(
    "POST",
    _PATH,
    action="os-resetState",
    rule="os_compute_api:os-admin-actions:reset_state",
    late=True,
    status=202,
    body=RESET,
)
def reset_state(call: Call) -> None:
    """Say what the state of a server is"""
    row = server_of(call)
    power.reset_state(call.service, call.context, row["id"], call.body["os-resetState"]["state"])


_LENGTH = {"type": ["integer", "string", "null"], "pattern": r"^-?[0-9]+$", "minimum": -1}
CONSOLE = s.wrap("os-getConsoleOutput", s.obj({"length": _LENGTH}))


@operations(
    "POST",
    _PATH,
    action="os-getConsoleOutput",
    rule="os_compute_api:os-console-output",
    late=True,
    waits=True,
    body=CONSOLE,
)
def console_output(call: Call) -> dict[str, Any]:
    """Show the end of what the guest wrote to its console"""
    row = server_of(call)
    given = call.body["os-getConsoleOutput"].get("length")
    length = None if given is None else s.integer(given, "length", -1)
    return {"output": console.output(call.service, row, length)}


_GROUP = s.obj({"name": {"type": "string", "minLength": 1, "maxLength": 255}}, ["name"])


@operations(
    "POST",
    _PATH,
    action="addSecurityGroup",
    rule="os_compute_api:os-security-groups:add",
    late=True,
    status=202,
    body=s.wrap("addSecurityGroup", _GROUP),
)
def add_security_group(call: Call) -> None:
    """Put a security group on a server"""
    row = server_of(call)
    name = call.body["addSecurityGroup"]["name"]
    servers.change_security_group(call.service, call.context, row, name, add=True)


@operations(
    "POST",
    _PATH,
    action="removeSecurityGroup",
    rule="os_compute_api:os-security-groups:remove",
    late=True,
    status=202,
    body=s.wrap("removeSecurityGroup", _GROUP),
)
def remove_security_group(call: Call) -> None:
    """Take a security group off a server"""
    row = server_of(call)
    name = call.body["removeSecurityGroup"]["name"]
    servers.change_security_group(call.service, call.context, row, name, add=False)


@operations("POST", _PATH, action="rebuild", rule="os_compute_api:servers:rebuild", late=True, status=202, body=REBUILD)
def rebuild_server(call: Call) -> Reply:
    """Give a server a fresh disk made of an image"""
    row = server_of(call)
    given = call.body["rebuild"]
    if given.get("personality"):
        raise BadRequest("Injecting files with 'personality' is not supported; use user_data or a config drive.")
    if given.get("trusted_image_certificates"):
        raise BadRequest("Checking image signatures with trusted_image_certificates is not supported.")
    if s.lenient(given.get("preserve_ephemeral", False)):
        raise BadRequest("Keeping ephemeral disks over a rebuild is not supported.")
    done = rebuild.rebuild_server(call.service, call.context, row["id"], given, unlocked=passes_lock(call, row))
    with call.service.db.read() as conn:
        view = View(call, complete=False)
        view.prepare()
        shown = view.one(conn, store.get(conn, row["id"]) or row)
        if call.at_least(2, 57):
            shown["user_data"] = done.user_data
        if call.at_least(2, 54):
            shown["key_name"] = done.key_name
    if done.admin_pass:
        shown["adminPass"] = done.admin_pass
    return Reply({"server": shown}, headers={"Location": call.link(f"/servers/{row['id']}")})


_REFUSED = {
    "changePassword": ("os-admin-password", "Unable to set password on instance"),
    "createImage": ("servers:create_image", "Images of servers cannot be made by this release."),
    "createBackup": ("os-create-backup", "Backups of servers cannot be made by this release."),
    "rescue": ("os-rescue", "Servers cannot be rescued by this release."),
    "unrescue": ("os-unrescue", "Servers cannot be rescued by this release."),
    "shelve": ("os-shelve:shelve", "Servers cannot be shelved by this release."),
    "unshelve": ("os-shelve:unshelve", "Servers cannot be shelved by this release."),
    "shelveOffload": ("os-shelve:shelve_offload", "Servers cannot be shelved by this release."),
    "restore": ("os-deferred-delete:restore", "Deleted servers are not kept, so none can be restored."),
    "trigger_crash_dump": ("servers:trigger_crash_dump", "Crash dumps cannot be triggered by this release."),
    "os-getVNCConsole": ("os-remote-consoles", "Remote consoles are not served by this release."),
    "os-getSPICEConsole": ("os-remote-consoles", "Remote consoles are not served by this release."),
    "os-getSerialConsole": ("os-remote-consoles", "Remote consoles are not served by this release."),
    "addFixedIp": ("os-multinic", "Use ports of the network service to give a server further addresses."),
    "removeFixedIp": ("os-multinic", "Use ports of the network service to take addresses from a server."),
    "injectNetworkInfo": ("os-admin-actions:inject_network_info", "Network information is not injected into guests."),
}
"""Actions that exist and are not done here: (rule, the sentence of the refusal)."""

_UNTIL = {
    "os-getVNCConsole": "2.1-2.5",
    "os-getSPICEConsole": "2.1-2.5",
    "os-getSerialConsole": "2.1-2.5",
    "addFixedIp": "2.1-2.43",
    "removeFixedIp": "2.1-2.43",
    "trigger_crash_dump": "2.17-",
}


def _refuse(action: str, rule: str, sentence: str) -> None:
    def handler(call: Call) -> None:
        server_of(call)
        raise BadRequest(sentence)

    handler.__doc__ = f"{action}: refused with a sentence"
    operations(
        "POST",
        _PATH,
        action=action,
        rule=f"os_compute_api:{rule}",
        late=True,
        status=202,
        versions=_UNTIL.get(action, ""),
    )(handler)


for _action, (_rule, _sentence) in _REFUSED.items():
    _refuse(_action, _rule, _sentence)


DIAGNOSTICS = "os_compute_api:os-server-diagnostics"


@operations("GET", "/servers/{server_id}/diagnostics", rule=DIAGNOSTICS, late=True, waits=True)
def diagnostics(call: Call) -> dict[str, Any]:
    """Show how a guest is doing"""
    row = server_of(call, SERVERS.c.vcpus, SERVERS.c.memory_mb, SERVERS.c.network_info, SERVERS.c.config_drive)
    states.check("get_diagnostics", row)
    if not call.at_least(2, 48):
        raise NotBuilt("Diagnostics in the hypervisor's own form are not available; use microversion 2.48 or newer.")
    return console.diagnostics(call.service, row)
