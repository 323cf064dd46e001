"""Files that nobody else may read and nobody ever sees half of."""

from __future__ import annotations

import os
import pathlib

from pileus.kernel import ids


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
