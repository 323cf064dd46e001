"""Changes, uploads and limits under several threads, on every database there is."""

from __future__ import annotations

import threading

import pytest

from tests.api.image.world import Images, add
from tests.databases import KINDS, database_url


@pytest.fixture(params=KINDS)
def shared(request, tmp_path):
    with database_url(request.param, tmp_path) as url:
        made = Images(db_url=url, options={"image_count_total": 6})
        yield made
        made.client.close()


def at_once(*works):
    barrier = threading.Barrier(len(works))
    results = [None] * len(works)

    def run(index, work):
        barrier.wait()
        try:
            results[index] = work()
        except BaseException as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def test_changes_at_once_are_all_kept(shared):
    key = shared.create()
    works = [lambda n=n: shared.patch(key, add(f"/p{n}", "x"), ok=None).status for n in range(4)]
    works += [lambda n=n: shared("PUT", f"/images/{key}/tags/t{n}").status for n in range(2)]
    assert at_once(*works) == [200] * 4 + [204] * 2
    shown = shared.show(key)
    assert {f"p{n}" for n in range(4)} <= set(shown)
    assert shown["tags"] == ["t0", "t1"]


def test_one_upload_of_an_image_wins(shared):
    key = shared.create()
    contents = [bytes([n]) * 1000 for n in range(4)]
    statuses = at_once(*[lambda content=content: shared.put(key, content, ok=None).status for content in contents])
    assert sorted(statuses) == [204, 409, 409, 409]
    assert shared("GET", f"/images/{key}/file").body == contents[statuses.index(204)]


def test_a_limit_is_not_passed(shared):
    statuses = at_once(*[lambda: shared("POST", "/images", {"name": "x"}).status for _ in range(10)])
    assert sorted(statuses) == [201] * 6 + [413] * 4
    assert len(shared.names()) == 6


def test_a_chosen_id_is_given_once(shared):
    body = {"id": "5f6c6b62-0d1a-4f6e-8a44-000000000001"}
    statuses = at_once(*[lambda: shared("POST", "/images", body).status for _ in range(4)])
    assert sorted(statuses) == [201, 409, 409, 409]


def test_an_image_is_deleted_once_whatever_else_happens_to_it(shared):
    key = shared.create()
    shared.put(key)
    results = at_once(
        lambda: shared("DELETE", f"/images/{key}").status,
        lambda: shared("DELETE", f"/images/{key}").status,
        lambda: shared("PUT", f"/images/{key}/tags/t").status,
        lambda: shared("POST", f"/images/{key}/members", {"member": "m"}).status,
    )
    assert sorted(results[:2]) == [204, 404]
    assert results[2] in {204, 404}
    assert results[3] in {200, 404}
    shared("GET", f"/images/{key}", ok=404)
