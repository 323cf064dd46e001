"""`qemu-img` with types. Formats are always named, never guessed: a guest decides what its own disk looks like."""

from __future__ import annotations

import json
import pathlib
from dataclasses import dataclass
from typing import Any

from pileus.host.run import run

_LONG = 1800.0
_LIMITS = ("prlimit", "--as=2147483648", "--cpu=60")
"""A crafted image may make `qemu-img info` eat memory and time; 2 GiB and 60 s are far more than an honest one needs."""


@dataclass(frozen=True)
class ImageInfo:
    """What an image file says about itself. Sizes in bytes; `backing` and `data_file` name other files it refers to."""

    format: str
    virtual_size: int
    actual_size: int
    backing: str | None
    data_file: str | None
    encrypted: bool
    subformat: str | None
    refers_to: tuple[str, ...] = ()


def info(path: pathlib.Path, image_format: str) -> ImageInfo:
    """Read the file's header as `image_format`; CommandFailed when it is none. A running guest may hold the file."""
    done = run([*_LIMITS, "qemu-img", "info", "-U", "-f", image_format, "--output=json", str(path)])
    shown: dict[str, Any] = json.loads(done.stdout)
    special: dict[str, Any] = shown.get("format-specific", {}).get("data", {})
    extents = special.get("extents", [])
    return ImageInfo(
        format=shown["format"],
        virtual_size=shown["virtual-size"],
        actual_size=shown.get("actual-size", 0),
        backing=shown.get("full-backing-filename") or shown.get("backing-filename"),
        data_file=special.get("data-file"),
        encrypted=bool(shown.get("encrypted")),
        subformat=special.get("create-type"),
        refers_to=tuple(extent["filename"] for extent in extents if extent.get("filename") != str(path)),
    )


def create_overlay(path: pathlib.Path, backing: pathlib.Path, backing_format: str, size: int) -> None:
    """A qcow2 file of `size` bytes that shows `backing` where it has not been written."""
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(backing), "-F", backing_format, str(path), str(size)])


def create_empty(path: pathlib.Path, size: int) -> None:
    """An empty qcow2 file of `size` bytes."""
    run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), str(size)])


def convert(source: pathlib.Path, source_format: str, target: pathlib.Path) -> None:
    """Write the content of `source` into a new qcow2 file, with low priority."""
    argv = ["nice", "-n", "10", "qemu-img", "convert", "-q", "-t", "none", "-f", source_format, "-O", "qcow2"]
    run([*argv, str(source), str(target)], timeout=_LONG)


def version() -> tuple[int, int, int]:
    """QEMU's version as its tools tell it."""
    word = run(["qemu-img", "--version"]).stdout.split()[2]
    major, minor, micro = (int(part) for part in word.split("(")[0].strip().split(".")[:3])
    return major, minor, micro


def rebase(path: pathlib.Path, backing: pathlib.Path, backing_format: str) -> None:
    """Let a qcow2 overlay lie over the same content at another place; nothing is read or compared."""
    run(["qemu-img", "rebase", "-q", "-u", "-f", "qcow2", "-b", str(backing), "-F", backing_format, str(path)])


def grow(path: pathlib.Path, image_format: str, size: int) -> None:
    """Make the disk in the file `size` bytes large; nothing may use it meanwhile."""
    run(["qemu-img", "resize", "-q", "-f", image_format, str(path), str(size)])
