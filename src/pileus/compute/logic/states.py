"""The states of a server: what each action needs, what it sets while it runs, and what the API calls the result.

This is the only place that knows. `vm_state` is the stable state that was agreed on, `task_state` the work that is going on, `power_state` what the
host said last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pileus.compute.errors import NotReady, ServerLocked, WrongState

ACTIVE: Final = "active"
BUILDING: Final = "building"
PAUSED: Final = "paused"
SUSPENDED: Final = "suspended"
STOPPED: Final = "stopped"
RESCUED: Final = "rescued"
RESIZED: Final = "resized"
SOFT_DELETED: Final = "soft-delete"
DELETED: Final = "deleted"
ERROR: Final = "error"
SHELVED: Final = "shelved"
SHELVED_OFFLOADED: Final = "shelved_offloaded"

VM_STATES: Final = (
    ACTIVE,
    BUILDING,
    PAUSED,
    SUSPENDED,
    STOPPED,
    RESCUED,
    RESIZED,
    SOFT_DELETED,
    DELETED,
    ERROR,
    SHELVED,
    SHELVED_OFFLOADED,
)

SCHEDULING: Final = "scheduling"
NETWORKING: Final = "networking"
SPAWNING: Final = "spawning"
DELETING: Final = "deleting"
POWERING_ON: Final = "powering-on"
POWERING_OFF: Final = "powering-off"
REBOOTING: Final = "rebooting"
REBOOTING_HARD: Final = "rebooting_hard"
PAUSING: Final = "pausing"
UNPAUSING: Final = "unpausing"
SUSPENDING: Final = "suspending"
RESUMING: Final = "resuming"
REBUILDING: Final = "rebuilding"
REBUILD_SPAWNING: Final = "rebuild_spawning"
RESIZE_PREP: Final = "resize_prep"
RESIZE_MIGRATING: Final = "resize_migrating"
RESIZE_MIGRATED: Final = "resize_migrated"
RESIZE_FINISH: Final = "resize_finish"
RESIZE_REVERTING: Final = "resize_reverting"
MIGRATING: Final = "migrating"

RESIZING: Final = (RESIZE_PREP, RESIZE_MIGRATING, RESIZE_MIGRATED, RESIZE_FINISH)
MOVING: Final = frozenset((*RESIZING, RESIZE_REVERTING, MIGRATING))
"""Tasks in which a server is on its way between hosts: a flow, and no host by itself, says where its guest runs."""

NOSTATE: Final = 0
RUNNING: Final = 1
POWER_PAUSED: Final = 3
SHUTDOWN: Final = 4
CRASHED: Final = 6
POWER_SUSPENDED: Final = 7

POWER_NUMBERS: Final[Mapping[str, int]] = {
    "running": RUNNING,
    "paused": POWER_PAUSED,
    "shutdown": SHUTDOWN,
    "crashed": CRASHED,
    "suspended": POWER_SUSPENDED,
    "missing": NOSTATE,
}
"""What a host calls a power state -> the API's number."""

_REBUILD: Final = {"rebuilding": "REBUILD", "rebuild_block_device_mapping": "REBUILD", "rebuild_spawning": "REBUILD"}
_RESIZE: Final = {
    "resize_prep": "RESIZE",
    "resize_migrating": "RESIZE",
    "resize_migrated": "RESIZE",
    "resize_finish": "RESIZE",
}

STATUSES: Final[Mapping[str, Mapping[str, str]]] = {
    ACTIVE: {
        "": "ACTIVE",
        "rebooting": "REBOOT",
        "reboot_pending": "REBOOT",
        "reboot_started": "REBOOT",
        "rebooting_hard": "HARD_REBOOT",
        "reboot_pending_hard": "HARD_REBOOT",
        "reboot_started_hard": "HARD_REBOOT",
        "updating_password": "PASSWORD",
        "migrating": "MIGRATING",
        **_REBUILD,
        **_RESIZE,
    },
    BUILDING: {"": "BUILD"},
    STOPPED: {"": "SHUTOFF", **_REBUILD, **_RESIZE},
    RESIZED: {"": "VERIFY_RESIZE", "resize_reverting": "REVERT_RESIZE"},
    PAUSED: {"": "PAUSED", "migrating": "MIGRATING"},
    SUSPENDED: {"": "SUSPENDED"},
    RESCUED: {"": "RESCUE"},
    ERROR: {"": "ERROR", **_REBUILD},
    DELETED: {"": "DELETED"},
    SOFT_DELETED: {"": "SOFT_DELETED"},
    SHELVED: {"": "SHELVED"},
    SHELVED_OFFLOADED: {"": "SHELVED_OFFLOADED"},
}
"""vm_state -> task_state ("" for all others) -> the status that the API shows."""


def status(vm_state: str, task_state: str | None) -> str:
    """What the API calls a server in these states."""
    by_task = STATUSES.get(vm_state)
    if by_task is None:
        return "UNKNOWN"
    return by_task.get(task_state or "") or by_task[""]


def states_of(statuses: list[str]) -> tuple[set[str], set[str]]:
    """The vm_states and task_states in which a server shows one of the statuses (any letter case).

    `"default"` among the task states stands for "any that has no status of its own".
    """
    wanted = {s.lower() for s in statuses}
    vm_states: set[str] = set()
    task_states: set[str] = set()
    for vm_state, by_task in STATUSES.items():
        for task_state, name in by_task.items():
            if name.lower() in wanted:
                vm_states.add(vm_state)
                task_states.add(task_state or "default")
    return vm_states, task_states


@dataclass(frozen=True)
class Action:
    """What one action asks of a server. None as a set of states means: any. `task` is set while the action runs."""

    name: str
    vm_states: frozenset[str] | None
    task_states: frozenset[str | None] | None = frozenset((None,))
    task: str | None = None
    needs_host: bool = True
    needs_launch: bool = True
    locked_too: bool = False


_REBOOTABLE_TASKS: Final = frozenset((None, REBOOTING, REBOOTING_HARD, RESUMING, UNPAUSING, PAUSING, SUSPENDING))
_SETTLED: Final = frozenset((ACTIVE, PAUSED, SUSPENDED, STOPPED))

ACTIONS: Final[Mapping[str, Action]] = {
    a.name: a
    for a in (
        Action("start", frozenset((STOPPED,)), task=POWERING_ON),
        Action("stop", frozenset((ACTIVE, ERROR)), task=POWERING_OFF),
        Action("reboot", frozenset((ACTIVE,)), task=REBOOTING),
        Action(
            "reboot_hard",
            frozenset((ACTIVE, STOPPED, PAUSED, SUSPENDED, ERROR)),
            _REBOOTABLE_TASKS,
            task=REBOOTING_HARD,
        ),
        Action("pause", frozenset((ACTIVE,)), task=PAUSING),
        Action("unpause", frozenset((PAUSED,)), task=UNPAUSING),
        Action("suspend", frozenset((ACTIVE,)), task=SUSPENDING),
        Action("resume", frozenset((SUSPENDED,)), task=RESUMING),
        Action("rebuild", frozenset((ACTIVE, STOPPED, ERROR)), task=REBUILDING, needs_host=False, needs_launch=False),
        Action("resize", frozenset((ACTIVE, STOPPED)), task=RESIZE_PREP),
        Action("migrate", frozenset((ACTIVE, STOPPED)), task=RESIZE_PREP),
        Action("confirmResize", frozenset((RESIZED,))),
        Action("revertResize", frozenset((RESIZED,)), task=RESIZE_REVERTING),
        Action("os-migrateLive", frozenset((ACTIVE, PAUSED)), task=MIGRATING),
        Action(
            "evacuate", frozenset((ACTIVE, STOPPED, ERROR)), None, task=REBUILDING, needs_launch=False, locked_too=True
        ),
        Action("delete", None, None, task=DELETING, needs_host=False, needs_launch=False),
        Action("forceDelete", None, None, task=DELETING, needs_host=False, needs_launch=False),
        Action("lock", None, None, needs_host=False, needs_launch=False, locked_too=True),
        Action("unlock", None, None, needs_host=False, needs_launch=False, locked_too=True),
        Action("attach_interface", frozenset((ACTIVE, PAUSED, STOPPED))),
        Action("detach_interface", frozenset((ACTIVE, PAUSED, STOPPED))),
        Action("update_server_metadata", _SETTLED, None, needs_host=False, needs_launch=False),
        Action("delete_server_metadata", _SETTLED, None, needs_host=False, needs_launch=False),
        Action("update_server_tags", _SETTLED, None, needs_host=False, needs_launch=False, locked_too=True),
        Action("get_console_output", None, None, locked_too=True),
        Action("get_diagnostics", frozenset((ACTIVE,)), None, locked_too=True),
        Action("addSecurityGroup", None, None, needs_launch=False, locked_too=True),
        Action("removeSecurityGroup", None, None, needs_launch=False, locked_too=True),
    )
}
"""Every action by its name; the names are those of the messages."""

_WORDS: Final = {"reboot_hard": "reboot", "forceDelete": "delete"}


def check(action: str, server: Mapping[str, Any], *, ignore_lock: bool = False) -> Action:
    """The action, if the server's state allows it now; raises `WrongState`, `NotReady` or `ServerLocked` otherwise.

    `server` needs id, vm_state, task_state, host, launched_at and locked.
    """
    needed = ACTIONS[action]
    word = _WORDS.get(action, action)
    if server["locked"] and not (ignore_lock or needed.locked_too):
        raise ServerLocked(server["id"])
    if needed.needs_host and not server["host"]:
        raise NotReady(server["id"])
    if needed.vm_states is not None and server["vm_state"] not in needed.vm_states:
        raise WrongState(word, server["id"], "vm_state", server["vm_state"])
    if needed.task_states is not None and server["task_state"] not in needed.task_states:
        raise WrongState(word, server["id"], "task_state", server["task_state"])
    if needed.needs_launch and server["launched_at"] is None:
        raise WrongState(word, server["id"], "launched_at", None)
    return needed
