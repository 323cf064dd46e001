"""Whatever goes wrong wherever: a move ends with the server at its destination, or where and as it was, and nothing elsewhere."""

from __future__ import annotations

import pytest

from pileus.compute.flows import common, live_migrate
from pileus.compute.flows.answer_resize import CONFIRM_RESIZE, REVERT_RESIZE
from pileus.compute.flows.delete_server import DELETE_SERVER
from pileus.compute.flows.evacuate_server import EVACUATE_SERVER
from pileus.compute.flows.live_migrate import LIVE_MIGRATE
from pileus.compute.flows.migrate_server import MIGRATE_SERVER
from pileus.compute.logic import power
from pileus.compute.store import hosts, moves
from pileus.compute.store.tables import SERVICES
from pileus.kernel import quota
from pileus.kernel.bus import BusUnavailable
from pileus.kernel.testing import ADMIN, MEMBER, PROJECT
from tests.flows.compute.outside import host_at
from tests.flows.compute.test_servers import ended, fresh, row_of, world_of  # noqa: F401 - a fixture
from tests.flows.harness import Plug, faults, finish, survive

CONTENT = "what the guest wrote"


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(common, "ASK_AFTER", -1.0)
    monkeypatch.setattr(live_migrate, "_PLUG_SECONDS", 0.0)


def booted(folder, hosts=2, **values):
    world = fresh(folder, hosts)
    world.flavor("large", ram=1024, vcpus=2, disk=2)
    server_id = world.boot(settle=False, **values)
    world.client.run_flows()
    host = row_of(world.service, server_id)["host"]
    world.write_inside(host, server_id, CONTENT)
    return world, server_id, host


def act(world, server_id, action, body=None, ok=202, v="2.94"):
    world("POST", f"/servers/{server_id}/action", {action: body}, as_=ADMIN, v=v, ok=ok)


def handed_over(world, server_id):
    world.close_databases()
    return world.service, server_id


def move_of(service, server_id):
    with service.db.read() as conn:
        return moves.of_server(conn, server_id)[0]


def check(service, server_id, host, guest, *, elsewhere, content=CONTENT):
    """The server is on one host alone, with its claim, its ports and its disk there."""
    world, row = world_of(service), row_of(service, server_id)
    assert (row["host"], row["task_state"]) == (host, None)
    assert world.guests(host) == {server_id: guest}
    for other in world.homes:
        if other != host:
            assert world.guests(other) == elsewhere, other
    assert content is None or world.read_inside(host, server_id) == content
    assert {port["binding:host_id"] for port in world.ports().values()} == {host}
    assert list(holds(world, server_id)) == [provider(service, host)]


def holds(world, consumer):
    return world.allocations(consumer)


def provider(service, host):
    with service.db.read() as conn:
        return hosts.node_of(conn, host)["uuid"]


def other(host):
    return {"host1": "host2", "host2": "host1"}[host]


def cores(service):
    with service.db.read() as conn:
        return quota.usages(conn, PROJECT)["cores"]


# -- evacuation ------------------------------------------------------------------------------------------------------


def begin_evacuation(folder):
    world, server_id, host = booted(folder)
    with world.service.db.write() as conn:
        conn.execute(SERVICES.update().where(SERVICES.c.host == host).values(forced_down=True))
    act(world, server_id, "evacuate", {}, ok=200)
    return handed_over(world, server_id)


def evacuated(service, server_id):
    move = move_of(service, server_id)
    assert move["status"] == "done"
    assert row_of(service, server_id)["vm_state"] == "active"
    check(service, server_id, move["dest_compute"], "running", elsewhere={server_id: "running"}, content=None)
    assert list(holds(world_of(service), move["uuid"])) == [provider(service, move["source_compute"])]


def not_evacuated(service, server_id, message):
    move = move_of(service, server_id)
    row = row_of(service, server_id)
    assert (move["status"], row["vm_state"]) == ("failed", "active")
    assert row["fault"]["message"]
    check(service, server_id, move["source_compute"], "running", elsewhere={})
    assert holds(world_of(service), move["uuid"]) == {}


@pytest.mark.parametrize("fault", faults(EVACUATE_SERVER), ids=str)
def test_evacuation_survives(fault, tmp_path):
    survive(Plug(EVACUATE_SERVER, begin_evacuation, evacuated, not_evacuated), fault, tmp_path)


# -- cold migration and resize ---------------------------------------------------------------------------------------


def begin_migration(folder):
    world, server_id, _ = booted(folder)
    act(world, server_id, "migrate", None)
    return handed_over(world, server_id)


def migrated(service, server_id):
    move = move_of(service, server_id)
    assert (move["status"], row_of(service, server_id)["vm_state"]) == ("finished", "resized")
    check(service, server_id, move["dest_compute"], "running", elsewhere={server_id: "missing"})
    assert list(holds(world_of(service), move["uuid"])) == [provider(service, move["source_compute"])]
    assert world_of(service).read_inside(move["source_compute"], server_id) == CONTENT


def stayed(service, server_id, message):
    move = move_of(service, server_id)
    row = row_of(service, server_id)
    assert (move["status"], row["vm_state"]) == ("error", "active")
    assert row["fault"]["message"]
    assert row["flavorid"] == "small"
    check(service, server_id, move["source_compute"], "running", elsewhere={})
    assert holds(world_of(service), move["uuid"]) == {}
    assert cores(service) == 1


@pytest.mark.parametrize("fault", faults(MIGRATE_SERVER), ids=str)
def test_migration_survives(fault, tmp_path):
    survive(Plug(MIGRATE_SERVER, begin_migration, migrated, stayed), fault, tmp_path)


def begin_resize(folder):
    world, server_id, _ = booted(folder, hosts=1)
    act(world, server_id, "resize", {"flavorRef": "large"})
    return handed_over(world, server_id)


def resized(service, server_id):
    move, row = move_of(service, server_id), row_of(service, server_id)
    assert (move["status"], row["vm_state"], row["flavorid"], row["vcpus"]) == ("finished", "resized", "large", 2)
    check(service, server_id, "host1", "running", elsewhere={})
    assert cores(service) == 2


@pytest.mark.parametrize("fault", faults(MIGRATE_SERVER), ids=str)
def test_resize_on_one_host_survives(fault, tmp_path):
    survive(Plug(MIGRATE_SERVER, begin_resize, resized, stayed), fault, tmp_path)


# -- answers ---------------------------------------------------------------------------------------------------------


def begin_confirmation(folder):
    world, server_id, _ = booted(folder)
    act(world, server_id, "migrate", None)
    finish(world.service, {MIGRATE_SERVER.name: MIGRATE_SERVER})
    act(world, server_id, "confirmResize", ok=204)
    return handed_over(world, server_id)


def confirmed(service, server_id):
    move = move_of(service, server_id)
    assert (move["status"], row_of(service, server_id)["vm_state"]) == ("confirmed", "active")
    check(service, server_id, move["dest_compute"], "running", elsewhere={})
    assert holds(world_of(service), move["uuid"]) == {}


def still_to_be_confirmed(service, server_id, message):
    assert (move_of(service, server_id)["status"], row_of(service, server_id)["vm_state"]) == ("finished", "resized")


@pytest.mark.parametrize("fault", faults(CONFIRM_RESIZE), ids=str)
def test_confirmation_survives(fault, tmp_path):
    survive(Plug(CONFIRM_RESIZE, begin_confirmation, confirmed, still_to_be_confirmed), fault, tmp_path)


def begin_reversion(folder):
    world, server_id, host = booted(folder)
    act(world, server_id, "migrate", None)
    finish(world.service, {MIGRATE_SERVER.name: MIGRATE_SERVER})
    world.write_inside(other(host), server_id, "written at the destination")
    act(world, server_id, "revertResize")
    return handed_over(world, server_id)


def reverted(service, server_id):
    move = move_of(service, server_id)
    assert (move["status"], row_of(service, server_id)["vm_state"]) == ("reverted", "active")
    check(service, server_id, move["source_compute"], "running", elsewhere={})
    assert holds(world_of(service), move["uuid"]) == {}


def deletable(service, server_id, message):
    assert (move_of(service, server_id)["status"], row_of(service, server_id)["vm_state"]) == ("error", "error")
    power.delete_server(service, MEMBER, server_id, unlocked=True)
    finish(service, {DELETE_SERVER.name: DELETE_SERVER})
    world = world_of(service)
    assert world.guests("host1") == world.guests("host2") == world.ports() == {}
    assert cores(service) == 0


@pytest.mark.parametrize("fault", faults(REVERT_RESIZE), ids=str)
def test_reversion_survives(fault, tmp_path):
    survive(Plug(REVERT_RESIZE, begin_reversion, reverted, deletable), fault, tmp_path)


def begin_deletion(folder):
    world, server_id, _ = booted(folder)
    act(world, server_id, "migrate", None)
    finish(world.service, {MIGRATE_SERVER.name: MIGRATE_SERVER})
    world("DELETE", f"/servers/{server_id}", ok=204)
    return handed_over(world, server_id)


def gone(service, server_id):
    world = world_of(service)
    assert world.guests("host1") == world.guests("host2") == world.ports() == {}
    assert holds(world, server_id) == holds(world, move_of(service, server_id)["uuid"]) == {}
    assert cores(service) == 0


@pytest.mark.parametrize("fault", faults(DELETE_SERVER), ids=str)
def test_deleting_between_two_hosts_survives(fault, tmp_path):
    survive(Plug(DELETE_SERVER, begin_deletion, gone, lambda *_: None), fault, tmp_path)


# -- live migration --------------------------------------------------------------------------------------------------


def begin_live(folder):
    world, server_id, _ = booted(folder)
    act(world, server_id, "os-migrateLive", {"host": None, "block_migration": "auto"})
    return handed_over(world, server_id)


def arrived(service, server_id):
    move, world = move_of(service, server_id), world_of(service)
    assert (move["status"], row_of(service, server_id)["vm_state"]) == ("completed", "active")
    check(service, server_id, move["dest_compute"], "running", elsewhere={})
    assert holds(world, move["uuid"]) == {}
    assert not any(world.networks.load().bindings.values())
    once_booted(world, move["dest_compute"], server_id)


def runs_on(service, server_id, message):
    """Undone it runs where it was; but once it has left, there is only one way for it."""
    move, world = move_of(service, server_id), world_of(service)
    if move["status"] == "completed":
        arrived(service, server_id)
        return
    assert (move["status"], row_of(service, server_id)["vm_state"]) == ("error", "active")
    check(service, server_id, move["source_compute"], "running", elsewhere={})
    assert holds(world, move["uuid"]) == {}
    assert not any(world.networks.load().bindings.values())
    once_booted(world, move["source_compute"], server_id)


def once_booted(world, host, server_id):
    with host_at(world.homes[host]) as (driver, _calls):
        assert driver._guests[server_id].boots == 1


def test_a_destination_that_goes_down_with_the_guest_has_the_server(tmp_path, monkeypatch):
    """Nobody can ask it; the server is there, as on any host that is down, and can be evacuated."""
    world, server_id, source = booted(tmp_path)
    act(world, server_id, "os-migrateLive", {"host": None, "block_migration": "auto"})
    call, dead = common.call_host, []

    def call_host(run, host, method, **payload):
        if host in dead:
            raise BusUnavailable(f"nobody serves agent.{host}")
        answer = call(run, host, method, **payload)
        if method == "send" and answer["state"] == "sent":
            dead.append(other(source))
            with world.service.db.write() as conn:
                conn.execute(SERVICES.update().where(SERVICES.c.host == other(source)).values(forced_down=True))
        return answer

    monkeypatch.setattr(common, "call_host", call_host)
    finish(world.service, {LIVE_MIGRATE.name: LIVE_MIGRATE})
    row = row_of(world.service, server_id)
    assert (move_of(world.service, server_id)["status"], row["host"], row["task_state"]) == ("completed", other(source), None)
    assert world.guests(source) == {}
    monkeypatch.setattr(common, "call_host", call)
    act(world, server_id, "evacuate", {}, ok=200)
    finish(world.service, {EVACUATE_SERVER.name: EVACUATE_SERVER})
    assert row_of(world.service, server_id)["host"] == source


@pytest.mark.parametrize("fault", faults(LIVE_MIGRATE), ids=str)
def test_live_migration_survives(fault, tmp_path):
    survive(Plug(LIVE_MIGRATE, begin_live, arrived, runs_on), fault, tmp_path)
