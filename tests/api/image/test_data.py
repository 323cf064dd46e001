from __future__ import annotations

import hashlib
import threading
import uuid

import pytest
import sqlalchemy as sa

from pileus.clients.base import LocalBinding, PeerConflict, PeerInvalid, PeerNotFound
from pileus.clients.image import ImageClient
from pileus.image.loops import LOOPS
from pileus.image.room import ROOM
from pileus.kernel import clock
from pileus.kernel.testing import ADMIN, MEMBER, OTHER, READER, SERVICE
from tests.api.image.world import Images
from tests.unit.image.test_formats import qcow2


def run_loops(images):
    for loop in LOOPS:
        loop.run(images.service)


@pytest.fixture
def later():
    """A clock that can be moved."""
    moved = clock.VirtualClock(clock.time())
    before = clock.use(moved)
    yield moved
    clock.use(before)


def files(images):
    folder = images.store.folder
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder.exists() else []


class Pieces:
    """A source that gives these pieces and then, if told so, breaks."""

    def __init__(self, *pieces, breaks=False, then=None):
        self.pieces = list(pieces)
        self.breaks = breaks
        self.then = then

    def read(self, _size=-1):
        if self.pieces:
            return self.pieces.pop(0)
        if self.then:
            self.then()
            self.then = None
        if self.breaks:
            raise ConnectionError("gone")
        return b""


def test_an_upload_makes_the_image_active_and_tells_its_digests(images):
    key, content = images.create(), b"x" * 3_000_001
    images.put(key, content)
    shown = images.show(key)
    assert shown["status"] == "active"
    assert shown["size"] == shown["virtual_size"] == len(content)
    assert shown["checksum"] == hashlib.md5(content).hexdigest()
    assert (shown["os_hash_algo"], shown["os_hash_value"]) == ("sha512", hashlib.sha512(content).hexdigest())
    assert shown["stores"] == "file"
    loaded = images("GET", f"/images/{key}/file", ok=200)
    assert loaded.body == content
    assert loaded.headers["content-md5"] == shown["checksum"]
    assert loaded.headers["content-type"] == "application/octet-stream"
    assert loaded.headers["content-length"] == str(len(content))
    images.put(key, ok=409)
    assert len(files(images)) == 1


@pytest.mark.parametrize(
    ("header", "expected", "shown"),
    [
        ("bytes=2-4", b"234", "2-4/10"),
        ("bytes=7-", b"789", "7-9/10"),
        ("bytes=-3", b"789", "7-9/10"),
        ("bytes=-30", b"0123456789", "0-9/10"),
        ("bytes=5-300", b"56789", "5-9/10"),
    ],
)
def test_ranges(images, header, expected, shown):
    key = images.create()
    images.put(key)
    part = images("GET", f"/images/{key}/file", headers={"Range": header}, ok=206)
    assert part.body == expected
    assert part.headers["content-range"] == f"bytes {shown}"


@pytest.mark.parametrize(
    ("header", "status"),
    [("bytes=10-", 416), ("bytes=5-2", 416), ("bytes=-0", 416), ("bytes=-", 416), ("fish", 416), ("bytes=0-1,3-4", 400)],
)
def test_bad_ranges(images, header, status):
    key = images.create()
    images.put(key)
    images("GET", f"/images/{key}/file", headers={"Range": header}, ok=status)


def test_what_has_no_data_gives_none(images):
    assert images("GET", f"/images/{images.create()}/file", ok=204).body == b""


def test_uploads_that_are_refused(images):
    key = images.create()
    images("PUT", f"/images/{key}/file", {"a": 1}, ok=415)
    images.put(key, as_=READER, ok=403)
    images.put(key, as_=OTHER, ok=404)
    images.put(key, b"abc", ok=400, x_openstack_image_size="5")
    images.put(key, b"abc", ok=400, x_openstack_image_size="many")
    images.put(key, b"abc", ok=400, x_image_meta_store="elsewhere")
    images.put(images("POST", "/images", {"name": "x"}).json["id"], ok=400)
    assert images.show(key)["status"] == "queued"
    assert files(images) == []
    images.put(key, b"abc", x_openstack_image_size="3")


def test_data_must_be_what_the_image_says(images):
    raw, disk = images.create(), images.create(disk_format="qcow2")
    refused = images.put(raw, qcow2(), ok=415)
    assert "does not match stream data qcow2" in refused.text
    images.put(disk, bytes(1000), ok=415)
    assert "backing file" in images.put(disk, qcow2(backing=512), ok=415).text
    assert images.show(raw)["status"] == images.show(disk)["status"] == "queued"
    assert files(images) == []
    images.put(disk, qcow2(virtual=5 << 30, l1=10))
    assert images.show(disk)["virtual_size"] == 5 << 30


def test_the_format_check_may_be_switched_off_but_not_the_dangerous_things():
    images = Images(options={"require_image_format_match": False})
    images.put(images.create(disk_format="qcow2"), b"anything")
    images.put(images.create(disk_format="qcow2"), qcow2(backing=512), ok=415)
    images.client.close()


def test_a_size_cap():
    images = Images(options={"image_size_cap": 1000})
    key = images.create()
    images.put(key, bytes(1001), ok=413)
    assert images.stream(key, Pieces(bytes(600), bytes(600))) == 413
    assert images.show(key)["status"] == "queued"
    images.put(key, bytes(1000))
    images.client.close()


def test_an_upload_that_breaks_off_leaves_nothing(images):
    key = images.create()
    assert images.stream(key, Pieces(bytes(5_000_000), breaks=True)) == 400
    assert images.show(key)["status"] == "queued"
    assert files(images) == []
    assert images.stream(key, Pieces(b"01234", b"56789")) == 204
    assert images("GET", f"/images/{key}/file").body == b"0123456789"


def test_a_refused_client_may_finish_what_it_says(images):
    key = images.create()
    images.put(key)
    source = Pieces(bytes(1000), bytes(1000))
    assert images.stream(key, source) == 409
    assert source.pieces == []
    assert images.stream(key, Pieces(bytes(1000), breaks=True)) == 409


def test_an_image_deleted_during_its_upload_leaves_no_data(images):
    key = images.create()

    def delete():
        assert images.show(key)["status"] == "saving"
        images("DELETE", f"/images/{key}", ok=204)

    assert images.stream(key, Pieces(b"data", then=delete)) == 410
    run_loops(images)
    assert files(images) == []


def test_one_of_two_uploads_wins(images):
    key = images.create()
    inside = []

    def second():
        inside.append(images.put(key, b"other", ok=None).status)

    assert images.stream(key, Pieces(b"first", then=second)) == 204
    assert inside == [409]
    assert images("GET", f"/images/{key}/file").body == b"first"


def test_the_upload_of_a_dead_writer_is_undone(later):
    images = Images(options={"store_driver": "fake", "image_count_uploading": 1})
    key = images.create()
    from pileus.image.logic import data

    image = data.store.Image(row=_row(images, key))
    upload = "11111111-1111-4111-8111-111111111111"
    data._claim(images.service, image, upload, "saving")
    writer = images.store.writer(upload)
    writer.write(b"half")
    run_loops(images)
    later.advance(1000)
    run_loops(images)
    assert images.show(key)["status"] == "saving", "its writer lives"
    writer.vanish()
    run_loops(images)
    assert images.show(key)["status"] == "queued"
    assert images.store.abandoned(0) == []
    images.put(key)
    images.client.close()


def test_a_writer_that_died_after_the_data_was_complete_is_undone_too(later, images):
    from pileus.image.logic import data

    key, upload = images.create(), "11111111-1111-4111-8111-111111111111"
    data._claim(images.service, data.store.Image(row=_row(images, key)), upload, "saving")
    writer = images.store.writer(upload)
    writer.commit()
    later.advance(1000)
    run_loops(images)
    assert images.show(key)["status"] == "saving"
    writer.release()
    run_loops(images)
    assert images.show(key)["status"] == "queued"
    assert files(images) == []


def test_the_upload_of_another_machine_that_was_lost_is_undone_when_nothing_comes_any_more(later, images):
    from pileus.image.logic import data

    keys = {}
    for name in ("lost", "unseen"):
        keys[name], upload = images.create(), str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
        data._claim(images.service, data.store.Image(row=_row(images, keys[name])), upload, "saving")
        if name == "lost":
            folder = images.store.staging_path(upload).parent
            folder.mkdir(parents=True, exist_ok=True)
            (folder / upload).write_bytes(b"half")
    with images.service.db.write() as conn:
        conn.execute(sa.text("UPDATE images SET upload_host = 'another'"))
    run_loops(images)
    assert {images.show(key)["status"] for key in keys.values()} == {"saving"}
    later.advance(1000)
    run_loops(images)
    assert images.show(keys["lost"])["status"] == "queued"
    assert files(images) == []
    assert images.show(keys["unseen"])["status"] == "saving", "it may be on a disk that is not seen here"
    later.advance(90_000)
    run_loops(images)
    assert images.show(keys["unseen"])["status"] == "queued"


@pytest.mark.parametrize("deleted", [False, True])
def test_whoever_is_killed_before_the_data_of_a_broken_upload_is_removed_leaves_it_to_the_loops(images, deleted):
    from pileus.image.logic import data

    key, upload = images.create(), "11111111-1111-4111-8111-111111111111"
    data._claim(images.service, data.store.Image(row=_row(images, key)), upload, "saving")
    writer = images.store.writer(upload)
    writer.commit()
    if deleted:
        images("DELETE", f"/images/{key}", ok=204)
        run_loops(images)
        assert files(images), "what is still being written is left alone"
    else:
        assert data._unclaim(images.service, key, upload, "saving")
    writer.release()  # and here the process was killed
    run_loops(images)
    assert files(images) == []


def _row(images, key):
    import sqlalchemy as sa

    from pileus.image.store.tables import images as table

    with images.service.db.read() as conn:
        return conn.execute(sa.select(table).where(table.c.id == key)).mappings().one()


def test_a_store_without_room_is_told(images):
    full = Images(options={"store_driver": "fake"})
    full.store.capacity = 5
    key = full.create()
    assert full.put(key, ok=None).status == 413
    assert full.show(key)["status"] == "queued"
    full.store.capacity = None
    full.store.fail_commits = True
    assert full.put(key, ok=None).status == 413
    full.store.fail_commits = False
    full.put(key)
    full.client.close()


def test_deleted_data_is_removed_by_the_loop(images):
    key = images.create()
    images.put(key)
    images("DELETE", f"/images/{key}", ok=204)
    assert len(files(images)) == 1
    run_loops(images)
    run_loops(images)
    assert files(images) == []


def test_deactivated_images_are_for_administrators(images):
    key = images.create()
    images("POST", f"/images/{key}/actions/deactivate", ok=403)
    images.put(key)
    for _ in range(2):
        images("POST", f"/images/{key}/actions/deactivate", ok=204)
    refused = images("GET", f"/images/{key}/file", ok=403)
    assert "has been deactivated" in refused.text
    assert images("GET", f"/images/{key}/file", as_=ADMIN, ok=200).body == b"0123456789"
    images("POST", f"/images/{key}/actions/reactivate", as_=READER, ok=403)
    images("POST", f"/images/{key}/actions/reactivate", ok=204)
    images("GET", f"/images/{key}/file", ok=200)


def test_staged_data_becomes_an_image_by_import(images):
    key = images.create()
    images("POST", f"/images/{key}/import", {"method": {"name": "glance-direct"}}, ok=409)
    images.put(key, what="stage")
    shown = images.show(key)
    assert (shown["status"], shown["size"]) == ("uploading", 10)
    assert "stores" not in shown
    images.put(key, ok=409)
    images("GET", f"/images/{key}/file", ok=204)
    for body, status in (
        ({}, 400),
        ({"method": {"name": "web-download"}}, 400),
        ({"method": {"name": "glance-direct"}, "stores": ["x"]}, 400),
    ):
        images("POST", f"/images/{key}/import", body, ok=status)
    done = images("POST", f"/images/{key}/import", {"method": {"name": "glance-direct"}, "stores": ["file"]}, ok=202)
    assert "content-type" not in done.headers
    assert images.show(key)["status"] == "active"
    assert images("GET", f"/images/{key}/file").body == b"0123456789"
    images("POST", f"/images/{key}/import", {"method": {"name": "glance-direct"}}, ok=409)
    images("DELETE", f"/stores/file/{key}", as_=ADMIN, ok=403)
    images("DELETE", f"/stores/other/{key}", as_=ADMIN, ok=409)


def test_a_staged_image_that_is_deleted_leaves_nothing(images):
    key = images.create()
    images.put(key, what="stage")
    images("DELETE", f"/images/{key}", ok=204)
    run_loops(images)
    assert files(images) == []


def test_a_file_that_has_vanished_is_a_404_and_not_a_500(images):
    key = images.create()
    images.put(key)
    files(images)[0].unlink()
    images("GET", f"/images/{key}/file", ok=404)


# ---------------------------------------------------------------------------------------------------------- the client


def client_of(images, who):
    return ImageClient(LocalBinding(lambda: images.client.app, ROOM.prefix, "http://localhost:5000"), who)


def test_the_client_moves_whole_images(images, tmp_path):
    service = client_of(images, SERVICE)
    made = service.create({"name": "snapshot", "disk_format": "raw", "container_format": "bare", "owner": MEMBER.project_id})
    content = bytes(range(256)) * 20_000
    (tmp_path / "disk").write_bytes(content)
    with (tmp_path / "disk").open("rb") as file:
        service.upload(made["id"], file)
    assert service.show(made["id"])["status"] == "active"
    assert b"".join(service.download(made["id"])) == content
    assert b"".join(service.download(made["id"], start=5_000_000)) == content[5_000_000:]
    assert images.show(made["id"])["owner"] == MEMBER.project_id
    with pytest.raises(PeerConflict):
        service.upload(made["id"], iter([b"x"]))
    assert service.update(made["id"], {"name": "other", "a/b": "c"})["a/b"] == "c"
    assert [one["id"] for one in service.list(name="other")] == [made["id"]]
    for _ in range(2):
        service.remove(made["id"])
    with pytest.raises(PeerNotFound):
        service.show(made["id"])


def test_the_client_tells_why(images):
    member = client_of(images, MEMBER)
    key = images.create()
    with pytest.raises(PeerNotFound):
        member.download(key)
    with pytest.raises(PeerInvalid) as refused:
        member.upload(key, iter([qcow2()]))
    assert "qcow2" in str(refused.value.body)
    assert list(member.list(limit=1)) != []
    for _ in range(3):
        images.create()
    assert len(list(member.list(limit=1))) == 4


def test_downloads_run_side_by_side(images):
    key, content = images.create(), bytes(3_000_000)
    images.put(key, content)
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(images("GET", f"/images/{key}/file").body == content)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [True] * 4
