"""What a store of image data must do. `tests/contracts/test_image_store.py` holds every driver to it.

Data is written once under a key that its writer has chosen, and is then read whole or in parts until it is deleted. Data that is not committed cannot
be read. A writer whose process dies leaves data that nobody will ever commit: `is_being_written` tells it apart from data that is still coming.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from pileus.kernel.errors import NotFound, TooLarge


class DataMissing(NotFound):
    """The store has nothing under the key."""


class StoreFull(TooLarge):
    """The store takes no more data now. Upstream answers 413, not 507."""


class Writer(Protocol):
    """Data on its way into a store."""

    def write(self, data: bytes) -> None:
        """Append. Raises StoreFull."""
        ...

    def commit(self) -> None:
        """Make the data durable and readable under its key; after this it outlives a power loss."""
        ...

    def release(self) -> None:
        """End the writing, after `commit` or without it; whatever is not committed is removed. May be called twice."""
        ...


class ImageStore(Protocol):
    """A place for image data."""

    def describe(self) -> dict[str, Any]:
        """What the API shows to operators: `type` and `properties`."""
        ...

    def writer(self, key: str) -> Writer: ...

    def is_being_written(self, key: str) -> bool:
        """Whether a living writer of this host holds the key, committed or not, and has not released it."""
        ...

    def size(self, key: str) -> int:
        """Bytes of committed data. Raises DataMissing."""
        ...

    def read(self, key: str, start: int, length: int) -> Iterator[bytes]:
        """`length` bytes from `start`, in pieces. Nothing is opened before the first piece is taken. Raises DataMissing."""
        ...

    def delete(self, key: str) -> None:
        """Remove data, committed or left over; nothing happens when there is none."""
        ...

    def abandoned(self, older_than: float) -> list[str]:
        """Keys of uncommitted data that nobody is writing any more and that was last written `older_than` seconds ago."""
        ...
