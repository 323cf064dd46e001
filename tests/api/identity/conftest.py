from __future__ import annotations

import pytest

from pileus.kernel import clock
from tests.api.identity.world import Identity

START = 1_795_000_020.0
"""The first second of a window of passcodes."""


@pytest.fixture
def time():
    """A clock that the test moves."""
    made = clock.VirtualClock(START)
    previous = clock.use(made)
    yield made
    clock.use(previous)


@pytest.fixture
def identity(tmp_path):
    made = Identity(home=tmp_path)
    yield made
    made.client.close()


@pytest.fixture
def start(tmp_path, time):
    """Identity with options, on the clock that the test moves."""
    started = []

    def make(**options):
        started.append(Identity(home=tmp_path, options=options))
        return started[-1]

    yield make
    for made in started:
        made.client.close()
