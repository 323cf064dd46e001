from __future__ import annotations

import pytest

from tests.api.identity.world import Identity


@pytest.fixture
def identity(tmp_path):
    made = Identity(home=tmp_path)
    yield made
    made.client.close()
