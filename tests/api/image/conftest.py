from __future__ import annotations

import pytest

from tests.api.image.world import Images


@pytest.fixture
def images():
    made = Images()
    yield made
    made.client.close()
