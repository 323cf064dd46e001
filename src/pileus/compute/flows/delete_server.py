"""Deleting a server: off its host, its ports given back, its claim freed. This is never undone, only repeated."""

from __future__ import annotations

import sqlalchemy as sa

from pileus.compute.flows import common
from pileus.compute.logic import actions, hosts, moves, placement, quotas
from pileus.compute.store import moves as store_of_moves
from pileus.compute.store import servers as store
from pileus.kernel.flows import Flow, Run, Step

_FOREVER = 10 * 365 * 86400.0


def remove(run: Run) -> None:
    """Off its host."""
    with run.service.db.write(durable=False) as conn:
        server = store.get(conn, run.resource_id)
        if server is None:
            return
        known = hosts.with_server(conn, server)
        for host in known:
            common.drop(run.service, conn, host, server["id"])
    for host in dict.fromkeys([*run.input.get("hosts", ()), *known]):
        common.destroy_on(run, host)


def give_back(run: Run) -> None:
    """Ports and claims."""
    with run.service.db.read() as conn:
        server = store.get(conn, run.resource_id)
    if server is None:
        return
    common.give_back_ports(run, server)
    placement.release(run.service, run.context, server["id"])
    with run.service.db.read() as conn:
        under_way = store_of_moves.unended(conn, server["id"])
    for move in under_way:
        placement.release(run.service, run.context, move["uuid"])


def finished(run: Run, conn: sa.Connection) -> None:
    """The row stays for a while as deleted, its quota is free."""
    server = store.get(conn, run.resource_id)
    if server is None:
        return
    held = moves.held(conn, server)
    if store.mark_deleted(conn, server["id"]):
        moves.end_with_server(conn, server["id"])
        quotas.release(conn, server["project_id"], {"instances": 1, **held})
    actions.finish(conn, run.input.get("action"), "compute_terminate_instance", host=server["host"])


def failed(run: Run, conn: sa.Connection, message: str) -> None:
    """Only a mistake of ours leads here: the server can be deleted again."""
    server = store.get(conn, run.resource_id)
    if server is None:
        return
    store.update(conn, server["id"], vm_state="error", task_state=None, fault=common.fault(message))
    actions.finish(conn, run.input.get("action"), "compute_terminate_instance", host=server["host"], error=message)


DELETE_SERVER = Flow(
    "delete_server",
    steps=(Step("remove", remove), Step("give_back", give_back)),
    finished=finished,
    failed=failed,
    deadline=_FOREVER,
)
