"""PostgreSQL is killed in the middle of a commit, at every step of every flow: nobody knows whether it was done, and nothing is lost or done twice."""

from __future__ import annotations

import uuid

import pytest

from pileus.compute.flows.answer_resize import CONFIRM_RESIZE, REVERT_RESIZE
from pileus.compute.flows.build_server import BUILD_SERVER
from pileus.compute.flows.change_power import CHANGE_POWER
from pileus.compute.flows.delete_server import DELETE_SERVER
from pileus.compute.flows.evacuate_server import EVACUATE_SERVER
from pileus.compute.flows.live_migrate import LIVE_MIGRATE
from pileus.compute.flows.migrate_server import MIGRATE_SERVER
from pileus.compute.flows.rebuild_server import REBUILD_SERVER
from tests import databases
from tests.flows.compute import test_moves as moves
from tests.flows.compute import test_servers as servers
from tests.flows.compute.test_moves import hurried  # noqa: F401 - a fixture
from tests.flows.compute.test_servers import ended  # noqa: F401 - a fixture
from tests.flows.harness import Plug, broken_commits, survive

PLUGS = [
    Plug(BUILD_SERVER, servers.begin_build, servers.running, servers.nothing_left),
    Plug(DELETE_SERVER, servers.begin_deletion, servers.gone, servers.deletable_again),
    Plug(CHANGE_POWER, servers.begin_stop, servers.stopped, servers.as_before),
    Plug(REBUILD_SERVER, servers.begin_rebuild, servers.running, servers.in_error),
    Plug(EVACUATE_SERVER, moves.begin_evacuation, moves.evacuated, moves.not_evacuated),
    Plug(MIGRATE_SERVER, moves.begin_migration, moves.migrated, moves.stayed),
    Plug(CONFIRM_RESIZE, moves.begin_confirmation, moves.confirmed, moves.still_to_be_confirmed),
    Plug(REVERT_RESIZE, moves.begin_reversion, moves.reverted, moves.deletable),
    Plug(LIVE_MIGRATE, moves.begin_live, moves.arrived, moves.runs_on),
]
CASES = [(plug, fault) for plug in PLUGS for fault in broken_commits(plug.flow)]


@pytest.fixture(scope="module")
def server():
    """One of its own: whoever else used it would be hit too."""
    binaries = databases.postgresql_bin()
    if binaries is None:
        databases.missing("PostgreSQL")
    server = databases.PostgreSQL(binaries, lasting=True)
    yield server
    server.stop()


@pytest.mark.parametrize(("plug", "fault"), CASES, ids=[f"{plug.flow.name} {fault}" for plug, fault in CASES])
def test_a_commit_that_is_broken_off_is_survived(plug, fault, server, tmp_path):
    servers.DATABASES.append(server.create(f"t{uuid.uuid4().hex}"))
    try:
        survive(plug, fault, tmp_path)
    finally:
        servers.DATABASES.pop()
