"""Image data: coming in, going out, and what is left of broken uploads.

A write has three parts, so that neither the database nor the store is ever left believing in half an image:
the image is claimed under a fresh key (queued -> saving); the data flows into the store under that key, hashed and looked at on its way; the image
gets the key as its data (saving -> active). What breaks off in between is undone by the writer itself or, if that died, by the loops.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import pathlib
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from pileus.image.errors import (
    BadRange,
    BadRequest,
    DataTooLarge,
    ImageGone,
    ImageNotFound,
    NotPermitted,
    WrongFormat,
    WrongStatus,
)
from pileus.image.logic import formats
from pileus.image.logic.images import reserve
from pileus.image.store import images as store
from pileus.image.store.images import Image
from pileus.kernel import clock, ids
from pileus.kernel.room import load
from pileus.kernel.service import Service

_log = logging.getLogger(__name__)
_PIECE = 4 << 20
_CRUMBS = 256  # of a piece, at most: a client may send byte by byte
_SILENT_AFTER = 120.0
"""Seconds without a byte after which a file whose lock may not be seen here is a dead writer's: longer than an upload may stall."""
_ABANDONED_AFTER = 20.0
"""Seconds after which an upload without a living writer is undone."""
_SURELY_ABANDONED = dt.timedelta(days=1)
"""When an upload of another machine is undone of which nothing is seen here."""

_DRIVERS = {"file": "pileus.image.drivers.file:open_store", "fake": "pileus.image.drivers.fake:open_store"}


Piece = list[bytes]
"""Some of the data, as it came."""


class Source(Protocol):
    """Where data comes from: `read(n)` gives some bytes, at most n, and b"" at the end."""

    def read(self, size: int = -1, /) -> bytes: ...


def data_store(service: Service) -> Any:
    """The store of image data (`drivers.base.ImageStore`)."""
    options = service.options
    folder = pathlib.Path(options.store_directory) if options.store_directory else service.home / "images"
    return load(_DRIVERS[options.store_driver])(folder)


@dataclass(frozen=True)
class Summary:
    """What a complete upload was."""

    size: int
    virtual_size: int | None
    checksum: str
    os_hash_algo: str
    os_hash_value: str


class _Hasher:
    """Hashes in threads of its own: hashing lets go of the interpreter, so both digests and the disk work side by side."""

    def __init__(self, algorithm: str) -> None:
        self._hashes = (hashlib.md5(usedforsecurity=False), hashlib.new(algorithm))
        self._queues: list[queue.Queue[Piece | None]] = [queue.Queue(2) for _ in self._hashes]
        self._threads = [
            threading.Thread(target=self._run, args=pair, name="hash", daemon=True)
            for pair in zip(self._hashes, self._queues, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _run(digest: Any, pieces: queue.Queue[Piece | None]) -> None:
        while (piece := pieces.get()) is not None:
            for crumb in piece:
                digest.update(crumb)

    def update(self, piece: Piece) -> None:
        for pieces in self._queues:
            pieces.put(piece)

    def close(self) -> tuple[str, str]:
        """(md5, the other one) in hexadecimal; ends the threads."""
        for pieces in self._queues:
            pieces.put(None)
        for thread in self._threads:
            thread.join()
        return self._hashes[0].hexdigest(), self._hashes[1].hexdigest()


# ------------------------------------------------------------------------------------------------------- coming in


def upload(service: Service, image: Image, source: Source, expected: int | None) -> None:
    """Fill a queued image and make it active. `expected` is the length the caller has announced, if any."""
    _write(service, image, source, expected, "saving")


def stage(service: Service, image: Image, source: Source, expected: int | None) -> None:
    """Fill a queued image without making it active: `import_staged` does that."""
    _write(service, image, source, expected, "uploading")


def _write(service: Service, image: Image, source: Source, expected: int | None, status: str) -> None:
    if not image.row["disk_format"] or not image.row["container_format"]:
        missing = [name for name in ("disk_format", "container_format") if not image.row[name]]
        raise BadRequest(f"Properties {', '.join(missing)} must be set prior to saving data.")
    if expected is not None and expected > service.options.image_size_cap:
        raise DataTooLarge(
            f"The image has {expected} bytes, more than the {service.options.image_size_cap} that images may have."
        )
    key = ids.new_uuid()
    image = _claim(service, image, key, status)
    writer = None
    try:
        writer = data_store(service).writer(key)
        summary = _copy(service, image, source, writer, expected)
        writer.commit()
        _finish(service, image, key, status, summary)
    except BaseException:
        if writer is not None:
            writer.release()  # first of all: on a full disk its place is what the database needs
        _abandon(service, image.id, key, status)
        raise
    finally:
        if writer is not None:
            writer.release()


def _claim(service: Service, image: Image, key: str, status: str) -> Image:
    """Make the image ours to fill; as it is then. Raises WrongStatus."""
    values = {"status": status, "upload_key": key, "upload_host": service.host, "upload_since": clock.utcnow()}
    with service.db.write() as conn:
        claimed = store.transition(conn, image.id, {"status": "queued"}, values)
        now = store.find(conn, image.id)
        if claimed and now is not None:
            reserve(service, conn, now.owner, image_count_uploading=1)
            return now
    if now is None:
        raise ImageNotFound(image.id)
    raise WrongStatus(f"Image status transition from {now.status} to {status} is not allowed")


def _copy(service: Service, image: Image, source: Source, writer: Any, expected: int | None) -> Summary:
    """Move all data into the store. Raises what the store, the source and the look at the data raise."""
    options = service.options
    hasher = _Hasher(options.hashing_algorithm)
    head, size, found = b"", 0, None
    try:
        for piece in _pieces(source):
            size += sum(map(len, piece))
            if size > options.image_size_cap:
                raise DataTooLarge(f"The image has more than the {options.image_size_cap} bytes that images may have.")
            hasher.update(piece)
            if found is None:
                head += b"".join(piece)[: formats.HEAD - len(head)]
                if len(head) >= formats.HEAD:
                    # The length is not known yet; what is announced, or else the cap, bounds what headers may point at.
                    found = _look(service, image, head, expected or options.image_size_cap)
            for crumb in piece:
                writer.write(crumb)
        if expected is not None and size != expected:
            raise BadRequest(f"Size mismatch: expected {expected} bytes, got {size} bytes")
        found = _look(service, image, head, size)
    finally:
        checksum, value = hasher.close()
    virtual = size if found.format in {"raw", "iso"} else found.virtual_size
    return Summary(size, virtual, checksum, options.hashing_algorithm, value)


def _pieces(source: Source) -> Iterator[Piece]:
    """The data in pieces worth handing to threads and to the disk: a network gives it in crumbs, which nobody joins."""
    piece: Piece = []
    size = 0
    while True:
        try:
            crumb = source.read(_PIECE - size)
        except ConnectionError as error:
            raise BadRequest("The data ended before all of it had arrived.", inside=str(error)) from None
        if crumb:
            piece.append(crumb)
            size += len(crumb)
        if size >= _PIECE or len(piece) >= _CRUMBS or (piece and not crumb):
            yield piece
            piece, size = [], 0
        if not crumb:
            return


def _look(service: Service, image: Image, head: bytes, size: int) -> formats.Found:
    found = formats.inspect(head, size)
    reason = formats.refusal(image.row["disk_format"], found)
    if reason and (found.problems or service.options.require_image_format_match):
        raise WrongFormat(reason)
    return found


def _finish(service: Service, image: Image, key: str, status: str, summary: Summary) -> None:
    values = {
        "size": summary.size,
        "virtual_size": summary.virtual_size,
        "checksum": summary.checksum,
        "os_hash_algo": summary.os_hash_algo,
        "os_hash_value": summary.os_hash_value,
        "data_key": key,
        "upload_key": None,
        "upload_host": None,
        "upload_since": None,
    }
    active = status == "saving"
    with service.db.write() as conn:
        if store.transition(conn, image.id, {"upload_key": key}, {**values, "status": "active"} if active else values):
            if active:
                reserve(service, conn, image.owner, image_count_uploading=-1, image_size_total=summary.size)
            else:
                reserve(service, conn, image.owner, image_stage_total=summary.size)
            return
    raise ImageGone(
        f"Image {image.id} could not be found after upload. The image may have been deleted during the upload."
    )


def _abandon(service: Service, image_id: str, key: str, status: str) -> None:
    """Undo a write that broke off. What cannot be undone now, the loops will."""
    try:
        _unclaim(service, image_id, key, status)
        with service.db.read() as conn:
            # The last commit may have succeeded although its answer was lost: then the data belongs to the image.
            wanted = key in store.known_keys(conn, [key])
        if not wanted:
            data_store(service).delete(key)
            with service.db.write(durable=False) as conn:
                store.forget_removal(conn, key)
    except Exception:
        _log.exception("the broken upload of image %s is left to the loops", image_id)


def _unclaim(service: Service, image_id: str, key: str, status: str) -> bool:
    """Put an image whose write broke off back to where it was; False when it is no longer ours.

    What was written is noted for removal with it: whoever deletes it next may be killed before.
    """
    nothing = {"status": "queued", "upload_key": None, "upload_host": None, "upload_since": None}
    with service.db.write() as conn:
        image = store.find(conn, image_id)
        if image is None or not store.transition(conn, image_id, {"status": status, "upload_key": key}, nothing):
            return False
        reserve(service, conn, image.owner, image_count_uploading=-1)
        store.note_removal(conn, key)
    return True


def import_staged(service: Service, image: Image) -> None:
    """Make a staged image active. It has been hashed and looked at when it was staged."""
    size = int(image.row["size"] or 0)
    staged = {"status": "uploading", "upload_key": None, "data_key": image.row["data_key"]}
    with service.db.write() as conn:
        if image.row["data_key"] and store.transition(conn, image.id, staged, {"status": "active"}):
            reserve(
                service, conn, image.owner, image_count_uploading=-1, image_stage_total=-size, image_size_total=size
            )
            return
    raise WrongStatus(f"Image with status {image.status} cannot be target for import")


# -------------------------------------------------------------------------------------------------------- going out


@dataclass(frozen=True)
class Part:
    """A part of an image's data: `length` bytes from `start` of `size` in all."""

    start: int
    length: int
    size: int
    body: Iterator[bytes]


def download(
    service: Service, image: Image, span: tuple[int | None, int | None] | None, *, privileged: bool
) -> Part | None:
    """The data, or the (first, last) bytes of it; None when there is none. Deactivated images are for administrators."""
    if image.status == "deactivated" and not privileged:
        raise NotPermitted("The requested image has been deactivated. Image data download is forbidden.")
    key = image.row["data_key"]
    if not key or image.status not in {"active", "deactivated"}:
        return None
    data = data_store(service)
    size = data.size(key)
    start, length = _resolve(span, size) if span else (0, size)
    return Part(start, length, size, data.read(key, start, length))


def _resolve(span: tuple[int | None, int | None], size: int) -> tuple[int, int]:
    """(start, length) of a range; a missing first byte counts from the end."""
    first, last = span
    if first is None:
        length = min(last or 0, size)
        if not length:
            raise BadRange("Invalid Range header: it asks for nothing.")
        return size - length, length
    if first >= size:
        raise BadRange(
            "Invalid start position in Range header. "
            f"Start position MUST be in the inclusive range [0, {max(size - 1, 0)}]."
        )
    end = size - 1 if last is None else min(last, size - 1)
    if end < first:
        raise BadRange("Invalid Range header: its end is before its start.")
    return first, end - first + 1


# ------------------------------------------------------------------------------------------------------- cleaning up


def remove_deleted(service: Service) -> None:
    """Remove the data of images that are gone, and of writes that broke off; what is still being written comes later."""
    with service.db.read() as conn:
        keys = store.pending_removals(conn)
    data = data_store(service)
    for key in keys:
        if data.is_being_written(key):
            continue
        data.delete(key)
        with service.db.write(durable=False) as conn:
            store.forget_removal(conn, key)


def undo_broken_uploads(service: Service) -> None:
    """Free the images whose writer died, and remove what it left in the store."""
    data = data_store(service)
    before = clock.from_epoch(clock.time() - _ABANDONED_AFTER)
    with service.db.read() as conn:
        rows = store.unfinished_uploads(conn, before)
    leftovers = data.abandoned(_SILENT_AFTER)
    for row in rows:
        key = row["upload_key"]
        if row["upload_host"] == service.host:
            broken = not data.is_being_written(key)
        else:  # where several machines share the store: their locks may not be seen here, but that nothing comes any more is
            broken = key in leftovers or row["upload_since"] < clock.utcnow() - _SURELY_ABANDONED
        if broken and _unclaim(service, row["id"], key, row["status"]):
            data.delete(key)
    if not leftovers:
        return
    with service.db.read() as conn:
        known = store.known_keys(conn, leftovers)
    for key in leftovers:
        if key not in known:
            data.delete(key)
