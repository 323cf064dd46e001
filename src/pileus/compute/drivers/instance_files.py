"""The directory of a server: its disks, config drive, console log and the document it was made from.

`<instances>/<server id>/` holds `disk` (qcow2 over the cached image), `disk.eph0`, `disk.swap`, `disk.config`, `console.log` and `server.json`.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator

import msgspec

from pileus.compute.drivers import config_drive
from pileus.compute.drivers.base import CONSOLE_BYTES, DriverFailed, ImageRefused
from pileus.compute.drivers.domain_xml import Disk
from pileus.compute.drivers.image_cache import CachedImage
from pileus.compute.wire import ServerDoc
from pileus.host import qemu_img
from pileus.host.run import CommandError, run

GIB = 1 << 30
MIB = 1 << 20
_COPY_SECONDS = 1800.0


class InstanceFiles:
    """The files of one server. `group` is the group that guests' processes have, None when they run as root."""

    def __init__(self, instances: pathlib.Path, server_id: str, group: int | None) -> None:
        self.directory = instances / server_id
        self._group = group
        self.root = self.directory / "disk"
        self.ephemeral = self.directory / "disk.eph0"
        self.swap = self.directory / "disk.swap"
        self.config = self.directory / "disk.config"
        self.console_log = self.directory / "console.log"
        self._copy = self.directory / "before"
        self._document = self.directory / "server.json"

    def document(self) -> ServerDoc | None:
        """The document last written, None when there is none or it is unreadable."""
        try:
            return msgspec.json.decode(self._document.read_bytes(), type=ServerDoc)
        except (OSError, msgspec.DecodeError):
            return None

    def complete(self) -> bool:
        """Whether `prepare` has run to its end: the document is written last."""
        return self._document.exists()

    def keep(self, doc: ServerDoc) -> None:
        """Write the document, replacing the old one in one step."""
        temporary = self.directory / "server.json.new"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(msgspec.json.encode(doc))
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(self._document)

    def make(self, doc: ServerDoc, image: CachedImage | None) -> None:
        """Make what is missing; grow the root disk when the flavor's has grown. ImageRefused when the image does not fit the flavor."""
        self._make_directory()
        try:
            self._make_root(doc, image)
            if doc.flavor.ephemeral_gb:
                _formatted(
                    self.ephemeral,
                    doc.flavor.ephemeral_gb * GIB,
                    ["mke2fs", "-q", "-F", "-t", "ext4", "-L", "ephemeral0"],
                )
                if self.ephemeral.stat().st_size < doc.flavor.ephemeral_gb * GIB:
                    os.truncate(self.ephemeral, doc.flavor.ephemeral_gb * GIB)
            if doc.flavor.swap_mb:
                _formatted(self.swap, doc.flavor.swap_mb * MIB, ["mkswap", "-q"])
            if doc.config_drive and (not self.config.exists() or self.document() != doc):
                config_drive.write(self.config, doc.metadata)
        except CommandError as error:
            raise DriverFailed(str(error)) from error
        except OSError as error:
            raise DriverFailed(f"The disks of server {doc.id} cannot be made: {error.strerror}.") from error
        self.keep(doc)

    def receive(self, name: str, size: int, pieces: Iterator[tuple[int, bytes]], image: CachedImage | None) -> None:
        """Make one disk file out of pieces. The root disk comes to lie over the image of this host."""
        path = self.directory / name
        if path not in {self.root, self.ephemeral, self.swap}:
            raise DriverFailed(f"'{name}' is no disk of a server.")
        if path.exists():
            return
        self._make_directory()
        temporary = self.directory / f"{name}.arriving"
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
                for at, data in pieces:
                    out.seek(at)
                    out.write(data)
                out.truncate(size)
                out.flush()
                os.fsync(out.fileno())
            if path == self.root:
                if image is None:
                    raise DriverFailed("A root disk has arrived without the image that it lies over.")
                qemu_img.rebase(temporary, image.path, image.format)
        except CommandError as error:
            raise DriverFailed(str(error)) from error
        except OSError as error:
            raise DriverFailed(f"Disk {name} cannot be stored: {error.strerror}.") from error
        temporary.rename(path)

    def read(self, name: str, offset: int, most: int) -> tuple[int, bytes]:
        """The next bytes of a disk file that are no hole, and where they stand."""
        if name not in {disk.path.name for disk in self.disks()}:
            raise DriverFailed(f"'{name}' is no disk of this server.")
        with (self.directory / name).open("rb") as file:
            try:
                at = os.lseek(file.fileno(), offset, os.SEEK_DATA)
            except OSError:  # nothing but holes to the end
                return offset, b""
            file.seek(at)
            return at, file.read(most)

    def keep_copy(self) -> None:
        """Copy the disks into a directory of their own; it has its name once it is whole."""
        if self._copy.exists():
            return
        scratch = self.directory / "before.new"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(mode=0o700)
        try:
            for disk in self.disks():
                run(
                    ["cp", "--sparse=always", "--reflink=auto", "--", str(disk.path), str(scratch)],
                    timeout=_COPY_SECONDS,
                )
        except CommandError as error:
            raise DriverFailed(str(error)) from error
        scratch.rename(self._copy)

    def has_copy(self) -> bool:
        return self._copy.exists()

    def restore_copy(self) -> None:
        """The disks that were kept take the place of the present ones; what has come to the server since goes."""
        for disk in self.disks():
            kept = self._copy / disk.path.name
            if kept.exists():
                kept.replace(disk.path)
            elif disk.path != self.root:
                disk.path.unlink()
        shutil.rmtree(self._copy)

    def drop_copy(self) -> None:
        shutil.rmtree(self._copy, ignore_errors=True)

    def _make_directory(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._group is not None:
            os.chown(self.directory, -1, self._group)
            self.directory.chmod(0o710)

    def disks(self) -> list[Disk]:
        """The disks there are, in the order the guest sees them."""
        files = ((self.root, "qcow2"), (self.ephemeral, "raw"), (self.swap, "raw"))
        return [Disk(path, image_format) for path, image_format in files if path.exists()]

    def remove(self) -> None:
        """Remove the directory with all in it; nothing happens when there is none."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.directory)

    def console(self) -> str:
        """The end of the console log, across its last rotation."""
        kept = b""
        for path in (self.console_log, self.console_log.with_name("console.log.0")):
            missing = CONSOLE_BYTES - len(kept)
            if missing <= 0:
                break
            with contextlib.suppress(FileNotFoundError), path.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - missing))
                kept = log.read() + kept
        return kept.decode(errors="replace")

    def unwritten(self, doc: ServerDoc) -> int:
        """Bytes that the disks may still grow by."""
        promised = doc.flavor.root_gb * GIB + doc.flavor.ephemeral_gb * GIB + doc.flavor.swap_mb * MIB
        written = 0
        for disk in self.disks():
            with contextlib.suppress(FileNotFoundError):
                written += disk.path.stat().st_blocks * 512
        return max(0, promised - written)

    def _make_root(self, doc: ServerDoc, image: CachedImage | None) -> None:
        size = doc.flavor.root_gb * GIB
        if image is None:
            raise ImageRefused(f"Server {doc.id} has no image to boot from.")
        if size and image.virtual_size > size:
            raise ImageRefused(
                f"The image needs a disk of {image.virtual_size} bytes; flavor {doc.flavor.name} has one of {size} bytes."
            )
        size = size or image.virtual_size
        if not self.root.exists():
            temporary = self.directory / "disk.new"
            qemu_img.create_overlay(temporary, image.path, image.format, size)
            temporary.chmod(0o600)
            temporary.rename(self.root)
        elif doc.flavor.root_gb and qemu_img.info(self.root, "qcow2").virtual_size < size:
            qemu_img.grow(self.root, "qcow2", size)


def _formatted(path: pathlib.Path, size: int, make: list[str]) -> None:
    """A sparse file of `size` bytes with a file system on it, unless it is there."""
    if path.exists():
        return
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.ftruncate(descriptor, size)
    os.close(descriptor)
    run([*make, str(temporary)])
    temporary.rename(path)
