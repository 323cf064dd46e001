"""Power and pausing: one call of the host, then waiting until the guest is in the state that was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from pileus.compute.flows import common
from pileus.compute.flows.common import HostFailed
from pileus.compute.logic import actions, documents, states
from pileus.compute.store import servers as store
from pileus.kernel.flows import Abort, Flow, Run, Step, Wait


@dataclass(frozen=True)
class Change:
    """What the host is asked to do, the power states that end it, and the vm_state that the server has then."""

    power: str
    ends: frozenset[str]
    vm_state: str
    event: str
    graceful: bool = False


CHANGES: Mapping[str, Change] = {
    states.POWERING_ON: Change("start", frozenset(("running",)), states.ACTIVE, "compute_start_instance"),
    states.POWERING_OFF: Change(
        "shutdown_graceful", frozenset(("shutdown", "crashed")), states.STOPPED, "compute_stop_instance", graceful=True
    ),
    states.REBOOTING: Change(
        "reboot_soft", frozenset(("running",)), states.ACTIVE, "compute_reboot_instance", graceful=True
    ),
    states.REBOOTING_HARD: Change("reboot_hard", frozenset(("running",)), states.ACTIVE, "compute_reboot_instance"),
    states.PAUSING: Change("pause", frozenset(("paused",)), states.PAUSED, "compute_pause_instance"),
    states.UNPAUSING: Change("unpause", frozenset(("running",)), states.ACTIVE, "compute_unpause_instance"),
    states.SUSPENDING: Change("suspend", frozenset(("suspended",)), states.SUSPENDED, "compute_suspend_instance"),
    states.RESUMING: Change("resume", frozenset(("running",)), states.ACTIVE, "compute_resume_instance"),
}
"""The task_state that the API set -> what has to be done."""


def change(run: Run) -> dict[str, Any]:
    """Ask the host, again and again until it is done. Graceful work goes on in the host, which wakes us at its end."""
    server = common.server_of(run)
    wanted = CHANGES[run.input["task"]]
    if not server["host"]:
        raise Abort("The server has no host.")
    with run.service.db.read() as conn:
        doc = documents.load_doc(run.service.options, conn, server, epoch=int(run.input["epoch"]), power="running")
    timeout = run.service.options.shutdown_timeout if wanted.graceful else 0
    try:
        answer = common.call_host(
            run, server["host"], "power", steady=True, action=wanted.power, doc=doc.to_dict(), timeout=timeout
        )
    except HostFailed as error:
        raise Abort(str(error)) from error
    if not answer["done"]:
        raise Wait(f"the guest is {answer['power_state']}", 2.0)
    if answer.get("error"):
        raise Abort(answer["error"])
    if answer["power_state"] not in wanted.ends:
        raise Abort(f"The guest is {answer['power_state']}.")
    return {"power_state": answer["power_state"]}


def finished(run: Run, conn: sa.Connection) -> None:
    task = run.input["task"]
    wanted = CHANGES[task]
    server = store.get(conn, run.resource_id)
    if server is None:
        return
    number = states.POWER_NUMBERS[run.results["change"]["power_state"]]
    store.swap_task(
        conn, server["id"], [task], vm_state=wanted.vm_state, task_state=None, power_state=number, fault=None
    )
    if server["host"]:
        common.touch(run.service, conn, server["host"], server["id"])
    actions.finish(conn, run.input.get("action"), wanted.event, host=server["host"])


def failed(run: Run, conn: sa.Connection, message: str) -> None:
    """The server stays in the state it was in; the host's next report corrects it."""
    task = run.input["task"]
    server = store.get(conn, run.resource_id)
    if server is None:
        return
    store.swap_task(conn, server["id"], [task], task_state=None, fault=common.fault(message))
    actions.finish(conn, run.input.get("action"), CHANGES[task].event, host=server["host"], error=message)


CHANGE_POWER = Flow("change_power", steps=(Step("change", change),), finished=finished, failed=failed, deadline=900.0)
