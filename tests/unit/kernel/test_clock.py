"""Moments as texts."""

from __future__ import annotations

import datetime as dt

import pytest

from pileus.kernel import clock
from pileus.kernel.web.schema import FORMATS

TOO_FAR = ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00"]
"""Dates that have no place in the years 1 to 9999 of UTC."""


def test_a_moment_is_taken_to_utc():
    assert clock.parse(" 2026-11-20T10:22:14+02:00 ") == dt.datetime(2026, 11, 20, 8, 22, 14)
    assert clock.parse("9999-12-31T23:59:59Z") == dt.datetime(9999, 12, 31, 23, 59, 59)


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01", *TOO_FAR])
def test_what_is_no_moment(text):
    with pytest.raises(ValueError):
        clock.parse(text)
    assert not FORMATS["date-time"](text)
