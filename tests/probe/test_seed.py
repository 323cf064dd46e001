"""Servers that `tools/seed.py` makes are as those that were built: nobody can tell the difference, and they go without a trace."""

from __future__ import annotations

from pileus.cli.session import load_config
from tests import invariants
from tests.probe.probed import Probed, wait_until
from tools.seed import seed

_TABLES = {
    "compute": {
        "servers": "id", "server_ports": "server_id", "plugged_ports": "server_id", "server_addresses": "server_id", "server_actions": "server_id",
        "flows": "resource_id", "desired_items": "item_id",
    },
    "network": {"ports": "device_id"},
    "placement": {"consumers": "uuid"},
}  # fmt: skip


def _shape(probed: Probed, server: str) -> dict[str, list[list[str]]]:
    """By table the columns that have a value in the rows of a server."""
    found = {}
    for service, tables in _TABLES.items():
        for table, key in tables.items():
            columns = [str(row[1]) for row in probed.rows(service, f"PRAGMA table_info({table})")]
            rows = probed.rows(service, f"SELECT * FROM {table} WHERE {key} = '{server}'")
            found[f"{service}.{table}"] = [[name for name, value in zip(columns, row, strict=True) if value is not None] for row in rows]
    return found


def _same(probed: Probed, server: str) -> list[tuple[object, ...]]:
    """What is equal in all servers that were asked for alike."""
    columns = "project_id, user_id, flavor, image, vm_state, task_state, power_state, epoch, requested_networks, deleted, availability_zone, host"
    steps = "SELECT s.number, s.name, s.state FROM flow_steps s JOIN flows f ON f.id = s.flow_id WHERE f.resource_id"
    held = "SELECT a.provider_id, a.resource_class, a.used, c.consumer_type FROM allocations a JOIN consumers c ON c.id = a.consumer_id WHERE c.uuid"
    return [
        *probed.rows("compute", f"SELECT {columns} FROM servers WHERE id = '{server}'"),
        *probed.rows("network", f"SELECT status, vif_type, vif_details, host_id, device_owner FROM ports WHERE device_id = '{server}'"),
        *probed.rows("compute", f"{steps} = '{server}' ORDER BY s.number"),
        *probed.rows("compute", f"SELECT kind, state, step, unwinding FROM flows WHERE resource_id = '{server}'"),
        *probed.rows("placement", f"{held} = '{server}' ORDER BY a.resource_class"),
    ]


def _build(probed: Probed) -> str:
    """One server with a port, built in the usual way."""
    session = probed.session
    network, compute = session.clients.network(session.context), session.clients.compute(session.context)
    network_id = network.post("/v2.0/networks", {"network": {"name": "seeded"}})["network"]["id"]
    network.post("/v2.0/subnets", {"subnet": {"network_id": network_id, "ip_version": 4, "cidr": "10.50.0.0/16"}})
    image = session.clients.image(session.context).get("/v2/images", query={"name": "guest"})["images"][0]["id"]
    body = {"name": "seeded", "imageRef": image, "flavorRef": "42", "networks": [{"uuid": network_id}]}
    server = str(compute.post("/v2.1/servers", {"server": body})["server"]["id"])
    active = f"SELECT id FROM servers WHERE id = '{server}' AND vm_state = 'active' AND task_state IS NULL"
    wait_until(lambda: probed.rows("compute", active), "the server is built", explain=lambda: probed.why([{"id": server}]))
    return server


def _at_rest(probed: Probed) -> None:
    wait_until(lambda: not invariants.restless(probed.view()), "the cloud is at rest", explain=lambda: str(invariants.restless(probed.view())))
    wait_until(lambda: not invariants.broken(probed.view()), "all invariants hold", explain=lambda: str(invariants.broken(probed.view())))


def test_a_seeded_server_is_as_one_that_was_built_and_can_be_deleted(probed: Probed) -> None:
    built = _build(probed)
    assert seed(load_config(probed.home), [built], 4, at_once=1) == 4
    servers = [str(row[0]) for row in probed.rows("compute", "SELECT id FROM servers WHERE NOT deleted")]
    assert len(servers) == 5
    _at_rest(probed)
    for server in servers:
        assert _shape(probed, server) == _shape(probed, built)
        assert _same(probed, server) == _same(probed, built)
    compute = probed.session.clients.compute(probed.session.context)
    for server in servers:
        compute.delete(f"/v2.1/servers/{server}")
    wait_until(lambda: not probed.rows("compute", "SELECT id FROM servers WHERE NOT deleted"), "all servers are gone")
    _at_rest(probed)
    assert not probed.guests()
