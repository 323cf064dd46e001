from __future__ import annotations

import pytest

from tests.api.network.world import Network


@pytest.fixture
def net():
    made = Network()
    yield made
    made.client.close()
