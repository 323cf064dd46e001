"""Image data in memory, with knobs: for tests and the simulation. One store per folder and process."""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Iterator
from typing import Any

from pileus.image.drivers.base import DataMissing, StoreFull
from pileus.kernel import clock


class FakeWriter:
    """Data on its way into memory. `vanish` does what the death of the writing process would do."""

    def __init__(self, store: FakeStore, key: str) -> None:
        self._store = store
        self._key = key
        self._parts: list[bytes] = []
        with store.lock:
            if key in store.writing or key in store.data:
                raise FileExistsError(key)
            store.writing.add(key)
            store.staging.add(key)

    def write(self, data: bytes) -> None:
        store = self._store
        if store.latency:
            clock.sleep(store.latency)
        if store.capacity is not None and store.used() + sum(map(len, self._parts)) + len(data) > store.capacity:
            raise StoreFull("There is no room for the image data.")
        self._parts.append(bytes(data))

    def commit(self) -> None:
        if self._store.fail_commits:
            raise StoreFull("There is no room for the image data.")
        with self._store.lock:
            self._store.data[self._key] = b"".join(self._parts)
            self._store.staging.discard(self._key)

    def release(self) -> None:
        with self._store.lock:
            self._store.writing.discard(self._key)
            self._store.staging.discard(self._key)

    def vanish(self) -> None:
        with self._store.lock:
            self._store.writing.discard(self._key)


class FakeStore:
    """`capacity` in bytes (None: any), `latency` in seconds per write, `fail_commits`."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.data: dict[str, bytes] = {}
        self.writing: set[str] = set()
        self.staging: set[str] = set()
        self.capacity: int | None = None
        self.latency = 0.0
        self.fail_commits = False

    def used(self) -> int:
        return sum(map(len, self.data.values()))

    def describe(self) -> dict[str, Any]:
        return {"type": "fake", "properties": {"thin_provisioning": False}}

    def writer(self, key: str) -> FakeWriter:
        return FakeWriter(self, key)

    def is_being_written(self, key: str) -> bool:
        with self.lock:
            return key in self.writing

    def size(self, key: str) -> int:
        if key not in self.data:
            raise DataMissing("The image has no data in the store.")
        return len(self.data[key])

    def read(self, key: str, start: int, length: int) -> Iterator[bytes]:
        if key not in self.data:
            raise DataMissing("The image has no data in the store.")
        piece = self.data[key][start : start + length]
        for offset in range(0, len(piece), 1 << 16):
            yield piece[offset : offset + (1 << 16)]

    def delete(self, key: str) -> None:
        with self.lock:
            self.data.pop(key, None)
            self.staging.discard(key)

    def abandoned(self, older_than: float) -> list[str]:  # noqa: ARG002 - nothing here is between two moments
        with self.lock:
            return sorted(self.staging - self.writing)


_stores: dict[pathlib.Path, FakeStore] = {}


def open_store(folder: pathlib.Path) -> FakeStore:
    return _stores.setdefault(folder, FakeStore())
