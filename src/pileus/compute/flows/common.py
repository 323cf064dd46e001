"""What the flows of servers share: calls of hosts, ports, faults."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from pileus.clients.base import PeerError, PeerUnavailable
from pileus.compute.logic import hosts, networks
from pileus.compute.store import servers as store
from pileus.compute.store.tables import SERVERS
from pileus.compute.wire import STALE_EPOCH
from pileus.kernel import clock, desired
from pileus.kernel.bus import BusTimeout, BusUnavailable, RemoteError
from pileus.kernel.db import after_commit
from pileus.kernel.flows import Abort, Retry, Run, Wait
from pileus.kernel.service import Service

Row = dict[str, Any]


ASK_AFTER = 1.0
"""Seconds after which ports are asked themselves whether they are plugged."""


class HostFailed(Exception):
    """A host could not do what it was asked to; another one might."""


def server_of(run: Run) -> Row:
    """The server of the flow. Raises `Abort` when it is gone."""
    with run.service.db.read() as conn:
        row = store.get(conn, run.resource_id)
    if row is None:
        raise Abort("The server does not exist any more.")
    return row


def epoch_of(run: Run) -> int:
    """The number that hosts compare: of the server's flows the latest counts, of its workers the last."""
    return int(run.input["epoch"]) + run.epoch


def keep_epoch(run: Run) -> sa.ColumnElement[Any]:
    """Value for servers.epoch, which never sinks."""
    mine = epoch_of(run)
    return sa.case((SERVERS.c.epoch < mine, mine), else_=SERVERS.c.epoch)


def call_host(run: Run, host: str, method: str, *, steady: bool = False, **payload: Any) -> dict[str, Any]:
    """One call of the host's agent.

    Raises `HostFailed` with the host's sentence; a call that a newer flow has overtaken aborts this one. A host that does not answer is a transient error,
    which the flow repeats. `steady` keeps the epoch over the flow's workers: the host answers the same request again instead of beginning anew.
    """
    epoch = int(run.input["epoch"]) if steady else epoch_of(run)
    body = {"id": run.resource_id, "epoch": epoch, **payload}
    timeout = run.service.options.host_call_timeout
    try:
        answer: dict[str, Any] | None = run.service.bus.call(
            f"agent.{host}", f"compute.{method}", body, timeout=timeout
        )
    except RemoteError as error:
        if error.kind == STALE_EPOCH:
            raise Abort("Newer work on the server has overtaken this.") from error
        raise HostFailed(error.message) from error
    return answer or {}


@contextlib.contextmanager
def asking(run: Run, host: str) -> Iterator[None]:
    """Calls of a host: that it is down is a failure (`HostFailed`) and not waited out."""
    try:
        yield
    except (BusTimeout, BusUnavailable) as error:
        with run.service.db.read() as conn:
            if hosts.host_is_up(run.service.options, conn, host):
                raise
        raise HostFailed("The host is down.") from error


def make_on(run: Run, host: str, doc: dict[str, Any]) -> None:
    """Prepare and create the guest on a host, paused. Waits while the image is fetched; raises `HostFailed`."""
    prepare_on(run, host, doc)
    call_host(run, host, "create", doc=doc)


def prepare_on(run: Run, host: str, doc: dict[str, Any], **disks: Any) -> None:
    """Disks on a host: made of the image or, with an `offer` of the host that has them, fetched there. Waits; raises `HostFailed`."""
    answer = call_host(run, host, "prepare", doc=doc, **disks)
    if answer["state"] == "fetching":
        raise Wait("the disks are fetched" if disks else "the image is fetched", 5.0)
    if answer["state"] != "ready":
        raise HostFailed(answer.get("error") or "the host could not prepare the server")


def destroy_on(run: Run, host: str, *, keep_disks: bool = False) -> None:
    """Remove the server from a host. A host that is down is left to itself: it removes what it shall not have when it is back.

    The caller has dropped the server from the host's desired state.
    """
    try:
        call_host(run, host, "destroy", keep_disks=keep_disks)
    except (BusTimeout, BusUnavailable):
        with run.service.db.read() as conn:
            up = hosts.host_is_up(run.service.options, conn, host)
        if up:
            raise
    except Abort:
        return
    except HostFailed as error:
        raise Retry(5.0, f"{host} could not remove the server: {error}") from error


def touch(service: Service, conn: sa.Connection, host: str, server_id: str) -> None:
    """The server on this host is new or changed."""
    version = desired.touch(conn, host, hosts.KIND, [server_id])
    _nudge_later(service, host, version)


def drop(service: Service, conn: sa.Connection, host: str, server_id: str) -> None:
    """The server shall not be on this host any more."""
    version = desired.drop(conn, host, hosts.KIND, [server_id])
    _nudge_later(service, host, version)


def _nudge_later(service: Service, host: str, version: int) -> None:
    after_commit(lambda: service.bus.cast(f"agent.{host}", "compute.nudge", {"version": version}))


def fault(message: str, details: Mapping[str, str] | None = None, code: int = 500) -> Row:
    """A fault as servers keep it; `details` are for administrators."""
    lines = "\n".join(f"{name}: {text}" for name, text in (details or {}).items())
    return {"code": code, "message": message[:255], "created": clock.iso(clock.utcnow()), "details": lines}


def refresh_network_info(run: Run, server: Row) -> list[Row]:
    """Ask the network service about the server's ports and store what it says."""
    with run.service.db.read() as conn:
        known = store.ports_of(conn, server["id"])
    ids = [port["port_id"] for port in known]
    ports = networks.list_all(run.service, run.context, "ports", id=ids) if ids else []
    info = networks.network_info(run.service, run.context, ports)
    found = [info[port_id] for port_id in ids if port_id in info]
    with run.service.db.write(durable=False) as conn:
        store.set_network_info(conn, server["id"], found)
    return found


def missing_ports(run: Run, server_id: str, wanted: set[str], *, ask: bool) -> set[str]:
    """The ports that are not plugged yet. No event is needed for that: after a while the ports themselves are asked."""
    if not wanted:
        return set()
    with run.service.db.read() as conn:
        missing = wanted - store.plugged_ports(conn, server_id)
    if missing and ask:
        found = networks.list_all(run.service, run.context, "ports", id=sorted(missing), fields=["id", "status"])
        missing -= {port["id"] for port in found if port["status"] == "ACTIVE"}
    return missing


def wait_for_ports(run: Run, server_id: str, wanted: set[str], began: float) -> None:
    """Return once every port is plugged; `Wait` until then, `Abort` when that takes too long and is to be fatal."""
    options = run.service.options
    waited = clock.time() - began
    missing = missing_ports(run, server_id, wanted, ask=waited > ASK_AFTER)
    if missing and options.vif_plugging_timeout:
        if waited < options.vif_plugging_timeout:
            raise Wait(f"ports to be plugged: {', '.join(sorted(missing))}", min(5.0, 1.0 + waited / 4))
        if options.vif_plugging_is_fatal:
            raise Abort("Virtual Interface creation failed")


def give_back_ports(run: Run, server: Row) -> None:
    """Delete the ports that compute made for the server, and free those that it was given. Idempotent."""
    with run.service.db.read() as conn:
        known = {port["port_id"]: port["mine"] for port in store.ports_of(conn, server["id"])}
    given = {nic["port_id"] for nic in (server["requested_networks"] or {}).get("nics", ()) if nic["port_id"]}
    for port in networks.ports_of(run.service, run.context, [server["id"]]):
        if port["id"] in given or known.get(port["id"]) is False:
            networks.release_port(run.service, run.context, port["id"])
        else:
            networks.delete_port(run.service, run.context, port["id"])


def network_call(error: PeerError) -> Exception:
    """What a step raises for a refusal of the network service."""
    return error if isinstance(error, PeerUnavailable) else Abort(networks.sentence(error))
