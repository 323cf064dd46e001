"""The multi-step work of compute, by name."""

from __future__ import annotations

from pileus.compute.flows.answer_resize import CONFIRM_RESIZE, REVERT_RESIZE
from pileus.compute.flows.build_server import BUILD_SERVER
from pileus.compute.flows.change_power import CHANGE_POWER
from pileus.compute.flows.delete_server import DELETE_SERVER
from pileus.compute.flows.evacuate_server import EVACUATE_SERVER
from pileus.compute.flows.live_migrate import LIVE_MIGRATE
from pileus.compute.flows.migrate_server import MIGRATE_SERVER
from pileus.compute.flows.rebuild_server import REBUILD_SERVER
from pileus.kernel.flows import Flow

FLOWS: dict[str, Flow] = {
    flow.name: flow
    for flow in (
        BUILD_SERVER,
        DELETE_SERVER,
        CHANGE_POWER,
        REBUILD_SERVER,
        EVACUATE_SERVER,
        MIGRATE_SERVER,
        CONFIRM_RESIZE,
        REVERT_RESIZE,
        LIVE_MIGRATE,
    )
}
