"""Tap devices."""

from __future__ import annotations

import pathlib
import subprocess

import pytest

from pileus.host import taps

pytestmark = pytest.mark.real

MAC = "fa:16:3e:11:22:33"


def shown(name: str) -> str:
    return subprocess.run(["ip", "-d", "link", "show", name], capture_output=True, text=True, check=True).stdout


def test_a_tap_is_made_kept_changed_and_removed() -> None:
    for mtu in (1450, 1450, 9000):
        taps.ensure("tap0", guest_mac=MAC, mtu=mtu)
        assert f"mtu {mtu}" in shown("tap0")
    described = shown("tap0")
    assert "fe:16:3e:11:22:33" in described
    assert "persist on" in described
    assert "UP" in described
    assert pathlib.Path("/proc/sys/net/ipv6/conf/tap0/disable_ipv6").read_text().strip() == "1"
    for _ in range(2):
        taps.remove("tap0")
        assert not taps.exists("tap0")


def test_what_is_no_tap_is_not_touched() -> None:
    with pytest.raises(taps.TapError, match="lo"):
        taps.remove("lo")
    with pytest.raises(taps.TapError, match="longer"):
        taps.ensure("a-name-that-is-too-long", guest_mac=MAC, mtu=1500)
