"""Kernel settings below /proc/sys, and a record of those that were changed so that they can be put back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

_ROOT = Path("/proc/sys")
_SECTION = "sysctls"


def read(name: str) -> str | None:
    """The value of a setting ("net/ipv4/ip_forward"; slashes, since interface names may have dots), None where the kernel lacks it."""
    try:
        return (_ROOT / name).read_text().strip()
    except OSError:
        return None


def write(name: str, value: str) -> bool:
    """Set a setting of this thread's namespace; True when it had another value. Raises OSError when the kernel lacks or refuses it."""
    if read(name) == value:
        return False
    (_ROOT / name).write_text(value)
    return True


class Recorder:
    """Changes settings of the host and keeps their first values in a JSON file that other rooms may share (one key each)."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def set(self, name: str, value: str) -> bool:
        """Set a setting; its value before our first change is on disk before the change is made. True when something changed."""
        now = read(name)
        if now is None:
            raise FileNotFoundError(f"this kernel has no setting {name}")
        if now == value:
            return False
        document = self._load()
        recorded = document.setdefault(_SECTION, {})
        if name not in recorded:
            recorded[name] = now
            self._store(document)
        return write(name, value)

    def recorded(self, name: str) -> str | None:
        """The value a setting had before us, None when we never changed it."""
        value: str | None = self._load().get(_SECTION, {}).get(name)
        return value

    def restore(self) -> None:
        """Put every changed setting back and forget them; settings of interfaces that are gone are skipped."""
        document = self._load()
        for name, value in document.pop(_SECTION, {}).items():
            if read(name) is not None:
                write(name, value)
        if document:
            self._store(document)
        else:
            self._path.unlink(missing_ok=True)

    def _load(self) -> dict[str, Any]:
        try:
            document: dict[str, Any] = msgspec.json.decode(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        return document

    def _store(self, document: dict[str, Any]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_file(self._path, msgspec.json.encode(document))


def replace_file(path: Path, content: bytes, mode: int = 0o600, owner: int = -1, durable: bool = True) -> bool:
    """Write a file as a whole (readers see the old or the new one); False when it already had that content. `owner` is a uid;
    `durable`: on the disk when this returns.
    """
    try:
        if path.read_bytes() == content:
            return False
    except FileNotFoundError:
        pass
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchmod(descriptor, mode)
        os.fchown(descriptor, owner, -1)
        stream.write(content)
        stream.flush()
        if durable:
            os.fsync(descriptor)
    temporary.replace(path)
    return True
