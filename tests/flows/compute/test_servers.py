"""Whatever goes wrong wherever: a build ends in a running server or leaves nothing, a deletion always ends."""

from __future__ import annotations

import pytest

from pileus.compute.flows import common
from pileus.compute.flows.build_server import BUILD_SERVER
from pileus.compute.flows.change_power import CHANGE_POWER
from pileus.compute.flows.delete_server import DELETE_SERVER
from pileus.compute.flows.rebuild_server import REBUILD_SERVER
from pileus.compute.logic import power, quotas
from pileus.compute.store import servers as store
from pileus.kernel import quota
from pileus.kernel.testing import MEMBER, PROJECT
from tests.api.compute.world import IMAGE
from tests.flows.compute.outside import StoredWorld
from tests.flows.harness import Plug, faults, survive

WORLDS = {}
DATABASES = []
"""The last one is where the next world has its database; a file where there is none."""


def world_of(service):
    return WORLDS[service.db.url.database]


def fresh(folder, hosts=1):
    world = StoredWorld(folder, hosts, DATABASES[-1] if DATABASES else None)
    # The network of these tests plugs a port as soon as it is made, and says so when it is asked.
    made = world.networks.create_port

    def create_and_plug(body):
        return made({**body, "status": "ACTIVE"})

    changed = world.networks.update_port

    def update_and_plug(port_id, body):
        return changed(port_id, {**body, "status": "ACTIVE"} if body.get("binding:host_id") else body)

    world.service.clients.network = lambda context: _Plugging(world.networks, create_and_plug, update_and_plug)
    WORLDS[world.service.db.url.database] = world
    return world


class _Plugging:
    def __init__(self, networks, create_port, update_port):
        self._networks = networks
        self.create_port = create_port
        self.update_port = update_port

    def __getattr__(self, name):
        return getattr(self._networks, name)


def begin_build(folder):
    world = fresh(folder)
    server_id = world.boot(settle=False)
    world.close_databases()
    return world.service, server_id


def row_of(service, server_id):
    with service.db.read() as conn:
        return store.get_even_deleted(conn, server_id)


def running(service, server_id):
    world, row = world_of(service), row_of(service, server_id)
    assert (row["vm_state"], row["task_state"], row["host"]) == ("active", None, "host1")
    assert world.guests() == {server_id: "running"}
    assert [p["device_id"] for p in world.ports().values()] == [server_id]
    assert len(world.allocations(server_id)) == 1
    assert len(row["network_info"]) == 1


def nothing_left(service, server_id, message):
    world, row = world_of(service), row_of(service, server_id)
    assert (row["vm_state"], row["task_state"], row["host"]) == ("error", None, None)
    assert row["fault"]["message"]
    assert world.guests() == {}
    assert world.ports() == {}
    assert world.allocations(server_id) == {}



@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(common, "ASK_AFTER", -1.0)


@pytest.fixture(autouse=True)
def ended():
    """No world outlives its test."""
    yield
    while WORLDS:
        WORLDS.popitem()[1].close()


@pytest.mark.parametrize("fault", faults(BUILD_SERVER), ids=str)
def test_building_survives(fault, tmp_path):
    survive(Plug(BUILD_SERVER, begin_build, running, nothing_left), fault, tmp_path)


def begin_deletion(folder):
    world = fresh(folder)
    server_id = world.boot(settle=False)
    world.client.run_flows()
    world("DELETE", f"/servers/{server_id}", ok=204)
    world.close_databases()
    return world.service, server_id


def gone(service, server_id):
    world, row = world_of(service), row_of(service, server_id)
    assert row["deleted"] and row["vm_state"] == "deleted"
    assert world.guests() == {} and world.ports() == {} and world.allocations(server_id) == {}
    with service.db.read() as conn:
        used = quota.usages(conn, PROJECT)
    assert {used[name] for name in ("instances", "cores", "ram")} == {0}
    assert set(quotas.COUNTED) >= {"instances", "cores", "ram"}


def deletable_again(service, server_id, message):
    row = row_of(service, server_id)
    assert (row["vm_state"], row["task_state"]) == ("error", None)
    power.delete_server(service, MEMBER, server_id, unlocked=True)


@pytest.mark.parametrize("fault", faults(DELETE_SERVER), ids=str)
def test_deletion_survives(fault, tmp_path):
    survive(Plug(DELETE_SERVER, begin_deletion, gone, deletable_again), fault, tmp_path)


def begin_stop(folder):
    world = fresh(folder)
    server_id = world.boot(settle=False)
    world.client.run_flows()
    world("POST", f"/servers/{server_id}/action", {"os-stop": None}, ok=202)
    world.close_databases()
    return world.service, server_id


def stopped(service, server_id):
    row = row_of(service, server_id)
    assert (row["vm_state"], row["task_state"], row["power_state"]) == ("stopped", None, 4)
    assert world_of(service).guests() == {server_id: "shutdown"}


def as_before(service, server_id, message):
    row = row_of(service, server_id)
    assert (row["vm_state"], row["task_state"]) == ("active", None)
    assert row["fault"]["message"]


@pytest.mark.parametrize("fault", faults(CHANGE_POWER), ids=str)
def test_stopping_survives(fault, tmp_path):
    survive(Plug(CHANGE_POWER, begin_stop, stopped, as_before), fault, tmp_path)


def begin_rebuild(folder):
    world = fresh(folder)
    server_id = world.boot(settle=False)
    world.client.run_flows()
    world("POST", f"/servers/{server_id}/action", {"rebuild": {"imageRef": IMAGE}}, ok=202)
    world.close_databases()
    return world.service, server_id


def in_error(service, server_id, message):
    row = row_of(service, server_id)
    assert (row["vm_state"], row["task_state"]) == ("error", None)
    assert len(world_of(service).ports()) == 1


@pytest.mark.parametrize("fault", faults(REBUILD_SERVER), ids=str)
def test_rebuilding_survives(fault, tmp_path):
    survive(Plug(REBUILD_SERVER, begin_rebuild, running, in_error), fault, tmp_path)
