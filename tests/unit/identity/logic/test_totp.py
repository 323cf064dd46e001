"""Passcodes as RFC 6238 gives them (appendix B, the last six digits), and keys as people type them."""

from __future__ import annotations

import pytest

from pileus.identity.logic import totp

KEY = b"12345678901234567890"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (59, "287082"),
        (1111111109, "081804"),
        (1111111111, "050471"),
        (1234567890, "005924"),
        (2000000000, "279037"),
        (20000000000, "353130"),
    ],
)
def test_the_vectors_of_the_rfc(seconds, expected):
    assert totp.passcode(KEY, totp.step_at(seconds)) == expected


@pytest.mark.parametrize("text", ["GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", "gezd gnbv gy3t qojq gezd gnbv gy3t qojq"])
def test_keys_are_read_as_people_type_them(text):
    assert totp.key_of(text) == KEY


def test_padding_does_not_matter():
    assert totp.key_of("MFRGG") == totp.key_of("MFRGG===") == b"abc"


@pytest.mark.parametrize("text", ["", "   ", "=", "0189", "not base32!", "MFRGGé", '{"key": "x"}', "A"])
def test_what_is_no_key(text):
    with pytest.raises(ValueError):
        totp.key_of(text)


def test_windows_before_count_and_windows_to_come_do_not():
    now = 1_000_000_000.0
    step = totp.step_at(now)
    for back in range(3):
        assert totp.step_of(KEY, totp.passcode(KEY, step - back), now, 2) == step - back
    assert totp.step_of(KEY, totp.passcode(KEY, step - 3), now, 2) is None
    assert totp.step_of(KEY, totp.passcode(KEY, step + 1), now, 2) is None
    assert totp.step_of(KEY, totp.passcode(KEY, step - 1), now, 0) is None
    for wrong in ("", "12345", "1234567", "öäü", "\ud800"):
        assert totp.step_of(KEY, wrong, now, 1) is None
