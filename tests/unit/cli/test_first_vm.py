"""What `pileus first-vm` says of a guest that does not answer."""

from __future__ import annotations

import socket

import pytest

from pileus.cli import first_vm
from pileus.cli.terminal import Problem
from pileus.kernel import clock


class Compute:
    def __init__(self, *statuses):
        self.statuses = list(statuses)

    def get(self, _path):
        return {"server": {"status": self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]}}


@pytest.fixture
def deaf(monkeypatch):
    def refuse(*_address, **_options):
        raise ConnectionRefusedError

    virtual = clock.VirtualClock(1_800_000_000.0)
    before = clock.use(virtual)
    monkeypatch.setattr(socket, "create_connection", refuse)
    yield virtual
    clock.use(before)


def test_a_guest_that_was_switched_off_is_not_waited_for(deaf):
    before = clock.monotonic()
    with pytest.raises(Problem, match="is SHUTOFF. `openstack server start first`"):
        first_vm.wait_for_ssh(Compute("ACTIVE", "SHUTOFF"), "an-id", "192.0.2.1")
    assert clock.monotonic() - before < first_vm.SECONDS


def test_a_guest_that_runs_is_waited_for_to_the_end(deaf):
    with pytest.raises(Problem, match="Nothing answers at 192.0.2.1"):
        first_vm.wait_for_ssh(Compute("ACTIVE"), "an-id", "192.0.2.1")
