"""Images on the host: downloaded once, checked before use, shared read-only by the disks laid over them.

A file with an image's final name is complete and checked; everything else is a `.part` that the next start removes. One download per image at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import struct
import threading
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from pileus.compute.drivers.base import DriverFailed, ImageRefused, ImageSource
from pileus.compute.wire import ImageDoc
from pileus.host import qemu_img
from pileus.host.run import CommandError
from pileus.kernel import clock

_AS_IS = {"raw": "raw", "iso": "raw", "ami": "raw", "aki": "raw", "ari": "raw", "qcow2": "qcow2"}
_CONVERTED = {"vdi": "vdi", "vhd": "vpc", "vhdx": "vhdx", "vmdk": "vmdk"}
"""Disk formats that are turned into qcow2 after the download, with QEMU's names for them."""
_VMDK_WHOLE = ("monolithicSparse", "streamOptimized")
"""The kinds of VMDK that consist of one file; the others name files of the host."""
_QCOW2 = struct.Struct(">4sIQIIQI")
_QCOW2_FEATURES = struct.Struct(">Q")
_QCOW2_FEATURES_AT = 72
_EXTERNAL_DATA = 1 << 2


@dataclass(frozen=True)
class CachedImage:
    """A checked image file. `format` is "raw" or "qcow2", `virtual_size` the bytes of disk it shows."""

    path: pathlib.Path
    format: str
    virtual_size: int


class ImageCache:
    """The images below one directory. `keep_seconds`: how long an image nobody uses stays."""

    def __init__(self, directory: pathlib.Path, keep_seconds: float) -> None:
        self._directory = directory
        self._keep_seconds = keep_seconds
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def start(self) -> None:
        """Remove what interrupted downloads left."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in self._directory.glob("*.part"):
            part.unlink()

    def find(self, image_id: str) -> CachedImage | None:
        """The checked file of an image, None when it is not here. Looking it up counts as use."""
        for image_format in ("qcow2", "raw"):
            path = self._directory / f"{image_id}.{image_format}"
            with contextlib.suppress(FileNotFoundError):
                now = clock.time()
                os.utime(path, (now, now))
                size = path.stat().st_size if image_format == "raw" else _virtual_size(path)
                return CachedImage(path, image_format, size)
        return None

    def fetch(self, image: ImageDoc, source: ImageSource) -> CachedImage:
        """The image's file, downloaded if it is not here. ImageRefused for what no repetition can mend, DriverFailed otherwise."""
        with self._locks[image.id]:
            found = self.find(image.id)
            if found is not None:
                return found
            if image.disk_format not in _AS_IS and image.disk_format not in _CONVERTED:
                raise ImageRefused(
                    f"Image {image.id} has disk format {image.disk_format}, which this host cannot boot."
                )
            part = self._directory / f"{image.id}.download.part"
            try:
                _download(image, source, part)
                return self._accept(image, part)
            except CommandError as error:
                raise ImageRefused(f"Image {image.id} is not a valid {image.disk_format} image.") from error
            except OSError as error:
                raise DriverFailed(f"Image {image.id} cannot be stored: {error.strerror}.") from error
            finally:
                part.unlink(missing_ok=True)

    def tidy(self, used: Collection[str]) -> None:
        """Remove images whose id is not in `used` and which nobody has looked up for the time set."""
        for path in self._directory.glob("*.*"):
            image_id = path.stem
            if path.suffix == ".part" or image_id in used or not self._locks[image_id].acquire(blocking=False):
                continue
            try:
                if clock.time() - path.stat().st_mtime > self._keep_seconds:
                    path.unlink(missing_ok=True)
            finally:
                self._locks[image_id].release()

    def _accept(self, image: ImageDoc, part: pathlib.Path) -> CachedImage:
        """Check the downloaded file and give it its final name."""
        if image.disk_format == "qcow2":
            _refuse_foreign_qcow2(image.id, part)
            qemu_img.info(part, "qcow2")  # the rest of the header makes sense to QEMU too
        stored = _AS_IS.get(image.disk_format, "qcow2")
        if image.disk_format in _CONVERTED:
            part = self._converted(image, part)
        final = self._directory / f"{image.id}.{stored}"
        size = part.stat().st_size if stored == "raw" else _virtual_size(part)
        part.rename(final)
        _sync(self._directory)
        return CachedImage(final, stored, size)

    def _converted(self, image: ImageDoc, part: pathlib.Path) -> pathlib.Path:
        info = qemu_img.info(part, _CONVERTED[image.disk_format])
        whole = image.disk_format != "vmdk" or info.subformat in _VMDK_WHOLE
        if info.backing or info.data_file or info.refers_to or not whole:
            raise ImageRefused(f"Image {image.id} refers to other files; images must be complete in themselves.")
        target = self._directory / f"{image.id}.converted.part"
        qemu_img.convert(part, _CONVERTED[image.disk_format], target)
        target.chmod(0o600)
        _sync(target)
        part.unlink()
        return target


def _download(image: ImageDoc, source: ImageSource, part: pathlib.Path) -> None:
    """Write the image's data to `part`, synced; DriverFailed when some is missing, ImageRefused when it is not what was promised."""
    algorithm, expected = image.os_hash_algo, image.os_hash_value
    if not (algorithm and expected):
        algorithm, expected = "md5", image.checksum
    digest = hashlib.new(algorithm, usedforsecurity=False)
    written = 0
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        for piece in source.download(image.id):
            digest.update(piece)
            written += len(piece)
            if piece.count(0) == len(piece):
                out.seek(len(piece), os.SEEK_CUR)  # a hole instead of zeros: raw images are mostly empty
            else:
                out.write(piece)
        out.truncate(written)
        out.flush()
        os.fsync(out.fileno())
    if written != image.size:
        raise DriverFailed(f"Image {image.id} has {image.size} bytes, {written} arrived.")
    if expected and digest.hexdigest() != expected.lower():
        raise ImageRefused(f"Image {image.id} does not have the {algorithm} checksum that the image service states.")


def _refuse_foreign_qcow2(image_id: str, path: pathlib.Path) -> None:
    """Refuse qcow2 files that name other files or are encrypted, from the header alone: QEMU's tools would open what it names."""
    with path.open("rb") as file:
        header = file.read(_QCOW2_FEATURES_AT + _QCOW2_FEATURES.size)
    if len(header) < _QCOW2_FEATURES_AT or not header.startswith(b"QFI\xfb"):
        raise ImageRefused(f"Image {image_id} is not a valid qcow2 image.")
    _, version, backing_at, _, _, _, encryption = _QCOW2.unpack_from(header)
    features = _QCOW2_FEATURES.unpack_from(header, _QCOW2_FEATURES_AT)[0] if version >= 3 else 0
    if backing_at or features & _EXTERNAL_DATA:
        raise ImageRefused(f"Image {image_id} refers to other files; images must be complete in themselves.")
    if encryption:
        raise ImageRefused(f"Image {image_id} is encrypted; encrypted images cannot be booted.")


def _virtual_size(path: pathlib.Path) -> int:
    """The disk size that a qcow2 file shows; a raw one would have its own length."""
    with path.open("rb") as file:
        size: int = _QCOW2.unpack(file.read(_QCOW2.size))[5]
    return size


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
