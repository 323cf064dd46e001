"""Slowing down who fails again and again, per process and in bounded memory."""

from __future__ import annotations

import collections
import hashlib
import ipaddress
import math
import threading

from pileus.kernel import clock

MOST_KEYS = 10_000
"""Remembered at once. When there are more, those that failed longest ago are forgotten, so the limit is the looser for it."""


class Throttle:
    """At most `most` failures of one key in `seconds`, counted from the first; 0 is no limit."""

    def __init__(self, most: int, seconds: float, keys: int = MOST_KEYS) -> None:
        self._most = most
        self._seconds = seconds
        self._keys = keys
        self._lock = threading.Lock()
        self._windows: collections.OrderedDict[bytes, tuple[float, int]] = collections.OrderedDict()

    def wait(self, *keys: bytes) -> int:
        """Whole seconds until all of these may be tried; 0 is now."""
        now = clock.monotonic()
        with self._lock:
            found = [self._windows[key] for key in keys if key in self._windows]
        left = [began + self._seconds - now for began, count in found if count >= self._most > 0]
        return max(0, math.ceil(max(left, default=0)))

    def failed(self, *keys: bytes) -> None:
        """These were tried, and it failed."""
        if not self._most:
            return
        now = clock.monotonic()
        with self._lock:
            for key in keys:
                began, count = self._windows.pop(key, (now, 0))
                self._windows[key] = (began, count + 1) if now < began + self._seconds else (now, 1)
                if len(self._windows) > self._keys:
                    self._windows.popitem(last=False)

    def __len__(self) -> int:
        return len(self._windows)


def key_of(address: str, *names: str) -> bytes:
    """One size for every key, however long the names are. An IPv6 address counts as its network of 64 bits, all of which one client may have."""
    parts = "\0".join((_network(address), *names))
    return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).digest()


def _network(address: str) -> str:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 4:
        return str(found)
    plain = found.ipv4_mapped
    return str(plain or ipaddress.ip_network((found, 64), strict=False))
