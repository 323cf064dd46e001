"""Starting work on servers: check the state, record the task, start the flow; all in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from pileus.compute.errors import ServerNotFound, WrongState
from pileus.compute.logic import actions, hosts, states
from pileus.compute.store import servers as store
from pileus.kernel.context import Context
from pileus.kernel.service import Service

Row = Mapping[str, Any]

_CANCELLED_BY_RESET = (
    "change_power",
    "rebuild_server",
    "evacuate_server",
    "migrate_server",
    "confirm_resize",
    "revert_resize",
    "live_migrate",
)
_DIARY = {"reboot_hard": "reboot", "forceDelete": "delete"}


def next_epoch(server: Row) -> int:
    """Above everything that earlier flows of the server used."""
    return (int(server["epoch"]) // 1000 + 1) * 1000


def _locked_row(conn: sa.Connection, server_id: str) -> dict[str, Any]:
    row = store.get(conn, server_id, for_update=True)
    if row is None:
        raise ServerNotFound(server_id)
    return row


def change_power(service: Service, context: Context, server_id: str, action: str, *, unlocked: bool) -> None:
    """Begin to start, stop, reboot, pause, unpause, suspend or resume a server. `unlocked`: the caller may pass a lock.

    Raises `WrongState`, `NotReady` or `ServerLocked`.
    """
    with service.db.write() as conn:
        server = _locked_row(conn, server_id)
        needed = states.check(action, server, ignore_lock=unlocked)
        _begin(service, conn, context, server, needed)


def _begin(service: Service, conn: sa.Connection, context: Context, server: Row, needed: states.Action) -> None:
    assert needed.task is not None
    epoch = next_epoch(server)
    if not store.swap(conn, server, task_state=needed.task, epoch=epoch):
        raise WrongState(needed.name, server["id"], "task_state", "changing")
    if server["task_state"] is not None:
        service.flows.cancel(conn, server["id"], ["change_power"])
    number = actions.start(conn, context, server["id"], _DIARY.get(needed.name, needed.name))
    given = {"task": needed.task, "epoch": epoch, "action": number}
    service.flows.start(conn, "change_power", resource_id=server["id"], input=given, context=context)


def stop_again(service: Service, context: Context, server_id: str) -> None:
    """Switch off a server that runs although it is stopped."""
    with service.db.write() as conn:
        server = store.get(conn, server_id, for_update=True)
        if server is None or server["vm_state"] != states.STOPPED or server["task_state"] is not None:
            return
        _begin(service, conn, context, server, states.ACTIONS["stop"])


def delete_server(service: Service, context: Context, server_id: str, *, unlocked: bool, word: str = "delete") -> None:
    """Begin to delete a server, whatever it is doing; a build that goes on is called off. Deleting twice is one deletion."""
    with service.db.write() as conn:
        server = _locked_row(conn, server_id)
        states.check(word, server, ignore_lock=unlocked)
        if server["task_state"] == states.DELETING and service.flows.unfinished(conn, server_id):
            return
        start_deletion(service, conn, context, server)


def start_deletion(service: Service, conn: sa.Connection, context: Context, server: Row) -> None:
    """The rows and the flow of a deletion, in the caller's transaction."""
    epoch = next_epoch(server)
    store.update(conn, server["id"], task_state=states.DELETING, epoch=epoch, progress=0)
    service.flows.cancel(conn, server["id"], ["build_server", *_CANCELLED_BY_RESET])
    number = actions.start(conn, context, server["id"], actions.DELETE)
    asked = {"epoch": epoch, "action": number, "hosts": hosts.with_server(conn, server)}
    service.flows.start(conn, "delete_server", resource_id=server["id"], input=asked, context=context)


def reset_state(service: Service, context: Context, server_id: str, state: str) -> None:
    """An administrator says what the state is: work that goes on is called off."""
    with service.db.write() as conn:
        _locked_row(conn, server_id)
        service.flows.cancel(conn, server_id, _CANCELLED_BY_RESET)
        values: dict[str, Any] = {"vm_state": state, "task_state": None}
        if state == states.ACTIVE:
            values["fault"] = None
        store.update(conn, server_id, **values)
        actions.done(conn, context, server_id, "resetState")
