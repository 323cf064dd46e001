"""Documents for hosts: what a host needs to run a server, rendered from the server's row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.compute.logic import metadata as guest
from pileus.compute.logic import states
from pileus.compute.options import Options
from pileus.compute.store import servers as store
from pileus.compute.store.tables import SERVER_PORTS, SERVERS
from pileus.compute.wire import DesiredPower, DesiredServer, FlavorDoc, ImageDoc, NicDoc, ServerDoc

_OFF = frozenset((states.STOPPED, states.SUSPENDED, states.SHELVED, states.SHELVED_OFFLOADED, states.ERROR))


def desired_power(server: Mapping[str, Any]) -> DesiredPower:
    """What a host that has just come up shall do with a server: run it when it was meant to run."""
    if server["vm_state"] == states.ERROR:
        return "running" if server["power_state"] == states.RUNNING else "shutdown"
    return "shutdown" if server["vm_state"] in _OFF else "running"


def nics_of(info: Sequence[Mapping[str, Any]]) -> tuple[NicDoc, ...]:
    return tuple(
        NicDoc(
            port_id=vif["port_id"],
            network_id=vif["network_id"],
            mac=vif["mac"],
            tap=f"tap{vif['port_id'][:11]}",
            mtu=vif["mtu"],
            ips=tuple(ip["address"] for ip in vif["ips"] if ip["type"] == "fixed"),
        )
        for vif in info
    )


def image_doc(image: Mapping[str, Any] | None) -> ImageDoc | None:
    """The image part, from the copy that a server keeps of its image."""
    if not image:
        return None
    return ImageDoc(
        id=image["id"],
        disk_format=image["disk_format"],
        size=image["size"] or 0,
        checksum=image.get("checksum"),
        os_hash_algo=image.get("os_hash_algo"),
        os_hash_value=image.get("os_hash_value"),
        min_disk=image.get("min_disk") or 0,
        properties=image.get("properties") or {},
    )


def server_doc(
    options: Options,
    server: Mapping[str, Any],
    metadata: Mapping[str, str],
    ports: Sequence[Mapping[str, Any]],
    *,
    epoch: int | None = None,
    power: DesiredPower | None = None,
) -> ServerDoc:
    """The document of one server."""
    flavor = server["flavor"]
    return ServerDoc(
        id=server["id"],
        name=server["name"],
        hostname=server["hostname"],
        project_id=server["project_id"],
        user_id=server["user_id"],
        epoch=server["epoch"] if epoch is None else epoch,
        flavor=FlavorDoc(
            id=flavor["flavorid"],
            name=flavor["name"],
            vcpus=flavor["vcpus"],
            memory_mb=flavor["memory_mb"],
            root_gb=flavor["root_gb"],
            ephemeral_gb=flavor["ephemeral_gb"],
            swap_mb=flavor["swap"],
            extra_specs=flavor["extra_specs"],
        ),
        image=image_doc(server["image"]),
        metadata=guest.guest_metadata(options, server, metadata, ports, with_password=True),
        nics=nics_of(server["network_info"] or []),
        config_drive=server["config_drive"],
        power_state=power or desired_power(server),
    )


def load_doc(options: Options, conn: sa.Connection, server: Mapping[str, Any], **more: Any) -> ServerDoc:
    """The document of one server, with the queries that it takes."""
    metadata = store.metadata_of(conn, server["id"])
    return server_doc(options, server, metadata, store.ports_of(conn, server["id"]), **more)


def is_kept(server: Mapping[str, Any], host: str) -> bool:
    """Whether a host has the server only for a flow that moves it: its guest may run elsewhere."""
    if server["host"] != host or server["task_state"] in states.MOVING:
        return True
    return server["task_state"] in {states.REBUILDING, states.REBUILD_SPAWNING}


def desired_servers(options: Options, conn: sa.Connection, host: str, ids: Sequence[str]) -> list[DesiredServer]:
    """Documents of many servers for a host; three queries for each 500."""
    found = []
    for start in range(0, len(ids), 500):
        part = ids[start : start + 500]
        rows = (
            conn.execute(sa.select(SERVERS).where(SERVERS.c.id.in_(part), SERVERS.c.deleted.is_(False)))
            .mappings()
            .all()
        )
        metadata = store.metadata_of_many(conn, part)
        ports: dict[str, list[dict[str, Any]]] = {}
        tagged = sa.select(SERVER_PORTS).where(SERVER_PORTS.c.server_id.in_(part), SERVER_PORTS.c.tag.is_not(None))
        for port in conn.execute(tagged).mappings():
            ports.setdefault(port["server_id"], []).append(dict(port))
        for row in rows:
            doc = server_doc(options, dict(row), metadata.get(row["id"], {}), ports.get(row["id"], []))
            kept = is_kept(dict(row), host)
            found.append(DesiredServer(id=row["id"], power_state=doc.power_state, doc=doc, kept=kept))
    return found
