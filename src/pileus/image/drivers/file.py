"""Image data in files: `<folder>/<two characters of the key>/<key>`, readable by the owner alone.

Data is written to `<folder>/staging/<key>` under an exclusive lock (flock) that the kernel drops when the writer dies, then flushed to the disk and
renamed. The lock stays with the file through the rename until the writer lets go, so that between the rename and the commit of the database nobody
takes the file for a leftover.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from pileus.image.drivers.base import DataMissing, StoreFull
from pileus.kernel import clock

_PIECE = 1 << 20


class FileWriter:
    """One file on its way in."""

    def __init__(self, store: FileStore, key: str) -> None:
        self._staging = store.staging_path(key)
        self._final = store.path(key)
        _make_folder(store.folder)
        _make_folder(self._staging.parent)
        self._fd = os.open(self._staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)  # at most a probe of `_is_locked` holds it, for microseconds
        self._committed = False

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
                raise StoreFull("There is no room for the image data.", inside=str(error)) from error
            raise

    def commit(self) -> None:
        try:
            os.fsync(self._fd)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise StoreFull("There is no room for the image data.", inside=str(error)) from error
            raise
        _make_folder(self._final.parent)
        self._staging.rename(self._final)
        self._committed = True
        for folder in (self._final.parent, self._final.parent.parent):
            _sync_folder(folder)

    def release(self) -> None:
        if self._fd < 0:
            return
        if not self._committed:
            self._staging.unlink(missing_ok=True)
        os.close(self._fd)
        self._fd = -1


class FileStore:
    """Image data below one folder of this host."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder

    def path(self, key: str) -> pathlib.Path:
        return self.folder / key[:2] / key

    def staging_path(self, key: str) -> pathlib.Path:
        return self.folder / "staging" / key

    def describe(self) -> dict[str, Any]:
        return {
            "type": "file",
            "properties": {"data_dir": str(self.folder), "chunk_size": _PIECE, "thin_provisioning": False},
        }

    def writer(self, key: str) -> FileWriter:
        return FileWriter(self, key)

    def is_being_written(self, key: str) -> bool:
        return _is_locked(self.staging_path(key)) or _is_locked(self.path(key))

    def size(self, key: str) -> int:
        try:
            return self.path(key).stat().st_size
        except FileNotFoundError:
            raise DataMissing("The image has no data in the store.", inside=str(self.path(key))) from None

    def read(self, key: str, start: int, length: int) -> Iterator[bytes]:
        try:
            fd = os.open(self.path(key), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise DataMissing("The image has no data in the store.", inside=str(self.path(key))) from None
        try:
            os.posix_fadvise(fd, start, length, os.POSIX_FADV_SEQUENTIAL)
            position, end = start, start + length
            while position < end:
                piece = os.pread(fd, min(_PIECE, end - position), position)
                if not piece:
                    raise DataMissing("The image's data is shorter than it should be.", inside=str(self.path(key)))
                position += len(piece)
                yield piece
        finally:
            os.close(fd)

    def delete(self, key: str) -> None:
        for path in (self.staging_path(key), self.path(key)):
            path.unlink(missing_ok=True)

    def abandoned(self, older_than: float) -> list[str]:
        folder = self.folder / "staging"
        if not folder.is_dir():
            return []
        # The age also covers the moment between the making of a file and its lock.
        latest = clock.time() - older_than
        return sorted(path.name for path in folder.iterdir() if _changed_before(path, latest) and not _is_locked(path))


def _make_folder(folder: pathlib.Path) -> None:
    """A folder for its owner alone; those above it, if missing, get the usual mode."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)


def _changed_before(path: pathlib.Path, moment: float) -> bool:
    try:
        return path.stat().st_mtime <= moment
    except FileNotFoundError:
        return False


def _is_locked(path: pathlib.Path) -> bool:
    """Whether somebody holds the lock of a file that exists."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        return True
    finally:
        os.close(fd)


def _sync_folder(folder: pathlib.Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def open_store(folder: pathlib.Path) -> FileStore:
    return FileStore(folder)
