"""The table of states."""

from __future__ import annotations

import pytest

from pileus.compute.errors import NotReady, ServerLocked, WrongState
from pileus.compute.logic import states


def server(**values):
    base = {"id": "s", "vm_state": "active", "task_state": None, "host": "h", "launched_at": 1, "locked": False}
    return {**base, **values}


@pytest.mark.parametrize(
    ("vm_state", "task_state", "shown"),
    [("active", None, "ACTIVE"), ("active", "rebooting", "REBOOT"), ("active", "rebooting_hard", "HARD_REBOOT"), ("active", "powering-off", "ACTIVE"),
     ("building", "spawning", "BUILD"), ("stopped", None, "SHUTOFF"), ("error", "rebuilding", "REBUILD"), ("odd", None, "UNKNOWN"), ("deleted", None, "DELETED")],
)
def test_what_the_api_shows(vm_state, task_state, shown):
    assert states.status(vm_state, task_state) == shown


def test_a_status_leads_back_to_its_states():
    assert states.states_of(["active"]) == ({"active"}, {"default"})
    assert states.states_of(["HARD_REBOOT"])[1] == {"rebooting_hard", "reboot_pending_hard", "reboot_started_hard"}
    assert states.states_of(["nonsense"]) == (set(), set())


def test_actions_need_their_states():
    assert states.check("stop", server()).task == "powering-off"
    for action, wrong, error in (
        ("start", {}, WrongState),
        ("stop", {"task_state": "pausing"}, WrongState),
        ("stop", {"host": None}, NotReady),
        ("stop", {"locked": True}, ServerLocked),
        ("reboot", {"launched_at": None}, WrongState),
    ):
        with pytest.raises(error):
            states.check(action, server(**wrong))


def test_a_hard_reboot_helps_out_of_most_states():
    for vm_state in ("active", "stopped", "paused", "suspended", "error"):
        assert states.check("reboot_hard", server(vm_state=vm_state, task_state="rebooting"))


def test_every_state_has_a_status():
    assert set(states.STATUSES) == set(states.VM_STATES)
