"""A simulated cloud of real processes, to be killed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.probe.probed import Probed
from tools.cloud import ThrowAway


@pytest.fixture(scope="module")
def probed() -> Iterator[Probed]:
    with ThrowAway() as cloud:
        yield Probed(cloud)
