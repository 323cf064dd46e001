"""What every store of image data must do: the same tests for files and for memory."""

from __future__ import annotations

import os
import signal

import pytest

from pileus.image.drivers import fake, file
from pileus.image.drivers.base import DataMissing, StoreFull
from pileus.kernel import ids

DATA = b"0123456789" * 300_000


@pytest.fixture(params=["file", "fake"])
def store(request, tmp_path):
    return {"file": file, "fake": fake}[request.param].open_store(tmp_path / "images")


def put(store, data=DATA):
    key = ids.new_uuid()
    writer = store.writer(key)
    for start in range(0, len(data), 1_000_000):
        writer.write(data[start : start + 1_000_000])
    writer.commit()
    writer.release()
    return key


def test_data_is_read_as_it_was_written(store):
    key = put(store)
    assert store.size(key) == len(DATA)
    assert b"".join(store.read(key, 0, len(DATA))) == DATA
    assert b"".join(store.read(key, 5, 10)) == DATA[5:15]
    assert b"".join(store.read(key, len(DATA) - 3, 3)) == DATA[-3:]
    assert store.size(put(store, b"")) == 0


def test_data_can_be_read_only_after_the_commit(store):
    key = ids.new_uuid()
    writer = store.writer(key)
    writer.write(DATA)
    assert store.is_being_written(key)
    with pytest.raises(DataMissing):
        store.size(key)
    with pytest.raises(DataMissing):
        next(store.read(key, 0, 1))
    writer.commit()
    assert store.is_being_written(key)
    assert store.size(key) == len(DATA)
    writer.release()
    assert not store.is_being_written(key)


def test_what_is_released_uncommitted_is_gone(store):
    key = ids.new_uuid()
    writer = store.writer(key)
    writer.write(DATA)
    writer.release()
    writer.release()
    assert not store.is_being_written(key)
    assert store.abandoned(0) == []
    with pytest.raises(DataMissing):
        store.size(key)


def test_a_key_is_written_once_at_a_time(store):
    key = ids.new_uuid()
    store.writer(key)
    with pytest.raises(FileExistsError):
        store.writer(key)


def test_deleting_may_be_repeated(store):
    key = put(store)
    store.delete(key)
    store.delete(key)
    with pytest.raises(DataMissing):
        store.size(key)


def test_a_living_writer_is_not_abandoned(store):
    store.writer(ids.new_uuid()).write(b"x")
    assert store.abandoned(0) == []


def test_the_store_says_what_it_is(store):
    assert set(store.describe()) == {"type", "properties"}


def test_a_writer_that_dies_leaves_abandoned_data(tmp_path):
    store = file.open_store(tmp_path)
    key = ids.new_uuid()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        store.writer(key).write(b"half")
        os.write(writing, b"x")
        signal.pause()
    os.read(reading, 1)
    assert store.is_being_written(key)
    assert store.abandoned(0) == []
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not store.is_being_written(key)
    assert store.abandoned(0) == [key]
    assert store.abandoned(3600) == []
    store.delete(key)
    assert store.abandoned(0) == []


def test_files_are_for_their_owner_alone(tmp_path):
    store = file.open_store(tmp_path / "images")
    path = store.path(put(store))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == path.parent.parent.stat().st_mode & 0o777 == 0o700


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    store = file.open_store(tmp_path)
    writer = store.writer(ids.new_uuid())

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreFull):
        writer.write(b"x")


def test_the_memory_store_has_knobs(tmp_path):
    store = fake.open_store(tmp_path)
    store.capacity = 10
    writer = store.writer("a")
    writer.write(b"0123456789")
    with pytest.raises(StoreFull):
        writer.write(b"x")
    store.fail_commits = True
    with pytest.raises(StoreFull):
        writer.commit()
    writer.vanish()
    assert store.abandoned(0) == ["a"]
