from __future__ import annotations

import pytest

from tests.api.compute.world import World


@pytest.fixture
def world():
    made = World()
    made.flavor()
    yield made
    made.close()


@pytest.fixture
def two_hosts():
    made = World(hosts=2)
    made.flavor()
    yield made
    made.close()
