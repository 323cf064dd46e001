"""Rebuilding: the same server, host and ports, with a fresh disk of the chosen image."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pileus.compute.flows import common
from pileus.compute.flows.common import HostFailed
from pileus.compute.logic import actions, documents, states
from pileus.compute.store import servers as store
from pileus.kernel import clock
from pileus.kernel.flows import Abort, Flow, Run, Step

_TASKS = (states.REBUILDING, states.REBUILD_SPAWNING)
EVENT = "compute_rebuild_instance"


def empty(run: Run) -> dict[str, Any]:
    """Remove the guest and its disk from the host, once."""
    server = common.server_of(run)
    if not server["host"]:
        raise Abort("The server has no host.")
    common.destroy_on(run, server["host"])
    with run.service.db.write(durable=False) as conn:
        store.swap_task(conn, server["id"], _TASKS, task_state=states.REBUILD_SPAWNING, epoch=common.keep_epoch(run))
    return {}


def respawn(run: Run) -> dict[str, Any]:
    """Make it anew, and let it run if it ran before."""
    server = common.server_of(run)
    with run.service.db.read() as conn:
        doc = documents.load_doc(run.service.options, conn, server, epoch=common.epoch_of(run), power="running")
    body = doc.to_dict()
    try:
        common.make_on(run, server["host"], body)
        common.call_host(run, server["host"], "resume")
        if run.input.get("stopped"):
            common.call_host(run, server["host"], "power", action="stop", doc=body, timeout=0)
    except HostFailed as error:
        raise Abort(str(error)) from error
    return {}


def finished(run: Run, conn: sa.Connection) -> None:
    stopped = bool(run.input.get("stopped"))
    server = store.get(conn, run.resource_id)
    if server is None:
        return
    store.swap_task(
        conn,
        server["id"],
        _TASKS,
        vm_state=states.STOPPED if stopped else states.ACTIVE,
        task_state=None,
        power_state=states.SHUTDOWN if stopped else states.RUNNING,
        launched_at=clock.utcnow(),
        fault=None,
    )
    common.touch(run.service, conn, server["host"], server["id"])
    actions.finish(conn, run.input.get("action"), EVENT, host=server["host"])


def failed(run: Run, conn: sa.Connection, message: str) -> None:
    server = store.get(conn, run.resource_id)
    if server is None:
        return
    store.swap_task(conn, server["id"], _TASKS, vm_state=states.ERROR, task_state=None, fault=common.fault(message))
    actions.finish(conn, run.input.get("action"), EVENT, host=server["host"], error=message)


REBUILD_SERVER = Flow(
    "rebuild_server",
    steps=(Step("empty", empty), Step("respawn", respawn)),
    finished=finished,
    failed=failed,
    deadline=3600.0,
)
