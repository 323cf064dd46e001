from __future__ import annotations

import pytest

from tests.api.placement.world import Placement


@pytest.fixture
def placement():
    made = Placement()
    yield made
    made.client.close()
