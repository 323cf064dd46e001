"""A destination that cannot take a server is left for the next one, and nothing of the server stays there."""

from __future__ import annotations

import pytest

from pileus.compute.store.tables import SERVICES
from pileus.kernel import desired
from pileus.kernel.bus import BusUnavailable
from pileus.kernel.testing import ADMIN
from tests.api.compute.test_live_migration import AUTO
from tests.api.compute.test_moves import down, holds, migrations, node_uuid, placed
from tests.api.compute.world import World

MOVES = {
    "migrate": (None, "prepare"),
    "os-migrateLive": (AUTO, "prepare"),
    "evacuate": ({}, "create"),
}


@pytest.fixture
def world():
    made = World(hosts=3)
    made.flavor()
    yield made
    made.close()


def begin(world, action, **body):
    server_id, host = placed(world)
    if action == "evacuate":
        down(world, host)
    given = MOVES[action][0]
    asked = {**(given or {}), **body} if given is not None or body else None
    world.act(server_id, action, asked, as_=ADMIN, v="2.94", ok=200 if action == "evacuate" else 202, settle=False)
    return server_id, host


def ended(world, server_id):
    """Run everything until the server has no task."""
    for _ in range(300):
        world.client.run_flows()
        world.plug()
        world.later()
        if world.server(server_id)["OS-EXT-STS:task_state"] is None:
            return world.server(server_id)
        world.pause(seconds=0.01)
    raise AssertionError("the move does not end")


def told(world):
    """host -> the servers that it shall have."""
    with world.service.db.read() as conn:
        return {host: set(desired.changes(conn, host, 0).ids("server")) for host in world.hosts}


def only_on(world, server_id, host, move, source):
    """The server is on one host alone; but for the disks of a cold migration that nobody has confirmed yet."""
    waits = move["migration_type"] == "migration" and move["status"] == "finished"
    keeps = {host, source} if waits else {host}
    assert {name for name, servers in told(world).items() if server_id in servers} == keeps
    assert {name for name, driver in world.hosts.items() if driver.states().get(server_id) == "running"} - {source} | {host} == {host}
    assert {port["binding:host_id"] for port in world.networks.ports.values()} == {host}
    assert set(holds(world, server_id)) == {node_uuid(world, host)}


@pytest.mark.parametrize("action", MOVES)
def test_the_next_host_is_taken_when_one_fails(world, action):
    server_id, source = begin(world, action)
    failing = [name for name in world.hosts if name != source]
    first = []
    for name in failing:  # whichever is chosen first fails, the other does not
        world.hosts[name].fail(MOVES[action][1], "no memory")
    true = {name: world.hosts[name]._enter for name in failing}

    def enter(name, call):
        if call == MOVES[action][1] and first and name not in first:
            return
        if call == MOVES[action][1]:
            first.append(name)
        true[name](call)

    for name in failing:
        world.hosts[name]._enter = lambda call, name=name: enter(name, call)
    server = ended(world, server_id)
    (move,) = migrations(world)
    assert move["status"] in {"completed", "finished", "done"}
    assert server["OS-EXT-SRV-ATTR:host"] == move["dest_compute"] not in {source, first[0]}
    assert world.hosts[first[0]].states() == {}
    only_on(world, server_id, move["dest_compute"], move, source)


@pytest.mark.parametrize("action", MOVES)
def test_the_next_host_is_taken_when_one_is_down(world, action, monkeypatch):
    server_id, source = begin(world, action)
    silent = []
    call = world.bus.call

    def cut(topic, method, *arguments, **options):
        host = topic.removeprefix("agent.")
        if method == f"compute.{'prepare'}" and host != source and not silent:
            silent.append(host)
            with world.service.db.write() as conn:
                conn.execute(SERVICES.update().where(SERVICES.c.host == host).values(forced_down=True))
        if host in silent:
            raise BusUnavailable("nobody serves it")
        return call(topic, method, *arguments, **options)

    monkeypatch.setattr(world.bus, "call", cut)
    server = ended(world, server_id)
    (move,) = migrations(world)
    assert move["status"] in {"completed", "finished", "done"}
    assert server["OS-EXT-SRV-ATTR:host"] == move["dest_compute"] not in {source, *silent}
    only_on(world, server_id, move["dest_compute"], move, source)


@pytest.mark.parametrize("action", MOVES)
def test_when_all_fail_the_server_is_where_it_was_with_a_reason_for_each(world, action):
    server_id, source = begin(world, action)
    others = [name for name in world.hosts if name != source]
    for name in others:
        world.hosts[name].fail(MOVES[action][1], f"{name} is full", times=100)
    server = ended(world, server_id)
    (move,) = migrations(world)
    assert move["status"] in {"error", "failed"}
    assert (server["OS-EXT-SRV-ATTR:host"], server["OS-EXT-STS:vm_state"]) == (source, "active")
    for name in others:
        assert world.hosts[name].states() == {}
    assert told(world) == {source: {server_id}, **{name: set() for name in others}}
    assert {port["binding:host_id"] for port in world.networks.ports.values()} == {source}
    assert set(holds(world, server_id)) == {node_uuid(world, source)}
    assert holds(world, move["uuid"]) == {}
    with world.service.db.read() as conn:
        from pileus.compute.store import servers

        details = servers.get(conn, server_id)["fault"]["details"]
    assert all(f"{name} is full" in details for name in others)


@pytest.mark.parametrize("action", MOVES)
def test_a_host_that_was_asked_for_by_name_has_no_substitute(world, action):
    server_id, source = placed(world)
    named, third = (name for name in world.hosts if name != source)
    if action == "evacuate":
        down(world, source)
    world.hosts[named].fail(MOVES[action][1], "no memory", times=100)
    body = {**(MOVES[action][0] or {}), "host": named}
    world.act(server_id, action, body, as_=ADMIN, v="2.94", ok=200 if action == "evacuate" else 202, settle=False)
    server = ended(world, server_id)
    assert server["OS-EXT-SRV-ATTR:host"] == source
    assert world.hosts[third].states() == world.hosts[named].states() == {}
    (move,) = migrations(world)
    assert (move["status"], move["dest_compute"]) == ("failed" if action == "evacuate" else "error", named)


def test_live_migration_tries_as_many_hosts_as_it_is_told():
    world = World(hosts=4, migrate_max_retries=1)
    try:
        world.flavor()
        server_id, source = begin(world, "os-migrateLive")
        for name in world.hosts:
            world.hosts[name].fail("prepare", "no memory", times=100)
        ended(world, server_id)
        tried = [name for name in world.hosts if len(world.hosts[name]._knobs.failures["prepare"]) < 100]
        assert len(tried) == 2
        assert source not in tried
    finally:
        world.close()


def test_a_build_goes_on_when_its_host_goes_down(world, monkeypatch):
    silent = []
    call = world.bus.call

    def cut(topic, method, *arguments, **options):
        host = topic.removeprefix("agent.")
        if method == "compute.prepare" and not silent:
            silent.append(host)
            with world.service.db.write() as conn:
                conn.execute(SERVICES.update().where(SERVICES.c.host == host).values(forced_down=True))
        if host in silent:
            raise BusUnavailable("nobody serves it")
        return call(topic, method, *arguments, **options)

    monkeypatch.setattr(world.bus, "call", cut)
    server_id = world.boot(settle=False)
    server = ended(world, server_id)
    assert (server["status"], server["OS-EXT-SRV-ATTR:host"] in silent) == ("ACTIVE", False)
    assert told(world)[silent[0]] == set()
    assert {port["binding:host_id"] for port in world.networks.ports.values()} == {server["OS-EXT-SRV-ATTR:host"]}
