"""Files that nobody else may read and nobody ever sees half of."""

from __future__ import annotations

import os
import pathlib

from pileus.kernel import ids


def agree_private(path: pathlib.Path, own: bytes) -> bytes:
    """The content of a file of mode 0600 that several processes would make: the first one's. On the disk when this returns."""
    scratch = path.with_name(f".{path.name}.{ids.new_id()[:8]}")
    write_private(scratch, own)
    try:
        path.hardlink_to(scratch)
    except FileExistsError:
        return path.read_bytes()
    finally:
        scratch.unlink()
    return own


def write_private(path: pathlib.Path, data: bytes) -> None:
    """Write a file of mode 0600, whole or not at all, and on the disk when this returns."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{ids.new_id()[:8]}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        scratch.rename(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
