"""Images reach a host whole and checked, or not at all."""

from __future__ import annotations

import os
import pathlib
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from pileus.compute.drivers.base import DriverFailed, ImageRefused
from pileus.compute.drivers.image_cache import ImageCache
from pileus.kernel import clock
from tests.contracts.compute_servers import Images

RAW = bytes(range(256)) * 4096


@pytest.fixture
def images() -> Images:
    return Images()


@pytest.fixture
def cache(tmp_path: pathlib.Path) -> ImageCache:
    cache = ImageCache(tmp_path / "cache", keep_seconds=100.0)
    cache.start()
    return cache


def qemu_img(*arguments: object) -> None:
    subprocess.run(["qemu-img", *map(str, arguments)], check=True, capture_output=True)


def made(tmp_path: pathlib.Path, image_format: str, *options: str) -> bytes:
    (tmp_path / "source.raw").write_bytes(RAW)
    target = tmp_path / f"made.{image_format}"
    qemu_img("convert", "-f", "raw", "-O", image_format, *options, tmp_path / "source.raw", target)
    return target.read_bytes()


def left(cache: ImageCache) -> list[str]:
    return sorted(path.name for path in cache._directory.iterdir())


def test_a_raw_image_is_kept_as_it_is(cache: ImageCache, images: Images) -> None:
    doc = images.add(RAW, "raw")
    assert cache.find(doc.id) is None
    found = cache.fetch(doc, images)
    assert found.path.read_bytes() == RAW
    assert (found.format, found.virtual_size) == ("raw", len(RAW))
    assert cache.find(doc.id) == found
    cache.fetch(doc, images)
    assert images.downloads == 1
    assert found.path.stat().st_mode & 0o777 == 0o600


def test_the_empty_part_of_a_raw_image_takes_no_space(cache: ImageCache, images: Images) -> None:
    content = b"start" + b"\0" * (1 << 22) + b"middle" + b"\0" * (1 << 22)
    found = cache.fetch(images.add(content), images)
    assert found.path.read_bytes() == content
    assert found.path.stat().st_blocks * 512 < 1 << 20


def test_a_qcow2_image_shows_its_virtual_size(cache: ImageCache, images: Images, tmp_path: pathlib.Path) -> None:
    found = cache.fetch(images.add(made(tmp_path, "qcow2", "-c"), "qcow2"), images)
    assert (found.format, found.virtual_size) == ("qcow2", len(RAW))


@pytest.mark.parametrize(("disk_format", "name"), [("vmdk", "vmdk"), ("vdi", "vdi"), ("vhd", "vpc"), ("vhdx", "vhdx")])
def test_other_formats_become_qcow2(cache: ImageCache, images: Images, tmp_path: pathlib.Path, disk_format: str, name: str) -> None:
    found = cache.fetch(images.add(made(tmp_path, name), disk_format), images)
    back = tmp_path / "back.raw"
    qemu_img("convert", "-f", "qcow2", "-O", "raw", found.path, back)
    assert back.read_bytes()[: len(RAW)] == RAW
    assert len(left(cache)) == 1


def test_a_wrong_checksum_is_refused_and_leaves_nothing(cache: ImageCache, images: Images) -> None:
    doc = images.add(RAW)
    for bad in (replace(doc, os_hash_value="0" * 128), replace(doc, os_hash_algo=None, checksum="0" * 32)):
        with pytest.raises(ImageRefused, match="checksum"):
            cache.fetch(bad, images)
    assert left(cache) == []


def test_a_cut_download_can_be_repeated(cache: ImageCache, images: Images) -> None:
    doc = images.add(RAW)
    images.contents[doc.id] = RAW[:-1]
    with pytest.raises(DriverFailed, match="arrived"):
        cache.fetch(doc, images)
    images.contents[doc.id] = RAW
    assert cache.fetch(doc, images).virtual_size == len(RAW)


def test_images_that_name_other_files_are_refused(cache: ImageCache, images: Images, tmp_path: pathlib.Path) -> None:
    base = tmp_path / "base.raw"
    base.write_bytes(RAW)
    backed, outside, flat = tmp_path / "backed.qcow2", tmp_path / "outside.qcow2", tmp_path / "flat.vmdk"
    qemu_img("create", "-f", "qcow2", "-b", base, "-F", "raw", backed)
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={tmp_path}/data.raw", outside, "1M")
    qemu_img("create", "-f", "vmdk", "-o", "subformat=monolithicFlat", flat, "1M")
    for path, disk_format in ((backed, "qcow2"), (outside, "qcow2"), (flat, "vmdk")):
        with pytest.raises(ImageRefused):
            cache.fetch(images.add_file(path, disk_format), images)
    assert left(cache) == []


@pytest.mark.parametrize("disk_format", ["qcow2", "vmdk", "ploop"])
def test_what_is_not_in_the_format_it_claims_is_refused(cache: ImageCache, images: Images, disk_format: str) -> None:
    with pytest.raises(ImageRefused):
        cache.fetch(images.add(RAW, disk_format), images)
    assert left(cache) == []


def test_many_ask_and_one_downloads(cache: ImageCache, images: Images) -> None:
    doc = images.add(RAW)
    threads = [threading.Thread(target=cache.fetch, args=(doc, images)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert images.downloads == 1


def test_only_old_unused_images_are_removed(cache: ImageCache, images: Images) -> None:
    used, old, fresh = (images.add(RAW + bytes([number])) for number in range(3))
    for doc in (used, old, fresh):
        cache.fetch(doc, images)
    before = clock.time() - 101
    for doc in (used, old):
        os.utime(cache._directory / f"{doc.id}.raw", (before, before))
    cache.tidy({used.id})
    assert left(cache) == sorted([f"{used.id}.raw", f"{fresh.id}.raw"])


def test_what_an_interrupted_download_left_is_removed_at_start(cache: ImageCache) -> None:
    (cache._directory / "x.download.part").write_bytes(b"half")
    cache.start()
    assert left(cache) == []


def test_a_full_disk_is_said_so(cache: ImageCache, images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DriverFailed, match="No space left"):
        cache.fetch(images.add(RAW), images)
    assert left(cache) == []


class Broken(Images):
    def download(self, image_id: str) -> Iterator[bytes]:
        yield b"a"
        raise ConnectionError


def test_a_broken_connection_leaves_nothing(cache: ImageCache) -> None:
    broken = Broken()
    with pytest.raises(DriverFailed):
        cache.fetch(broken.add(RAW), broken)
    assert left(cache) == []
