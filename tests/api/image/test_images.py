from __future__ import annotations

import pytest

from pileus.kernel.testing import ADMIN, MEMBER, OTHER, READER, SERVICE
from tests.api.image.world import Images, add, replace


def test_a_new_image_is_queued_and_shared_with_nobody_yet(images):
    made = images("POST", "/images", {"name": "a", "tags": ["x", "y", "x"], "hw_disk_bus": "virtio"}, ok=201)
    image = made.json
    key = image["id"]
    assert made.headers["location"] == f"http://localhost:5000/image/v2/images/{key}"
    assert made.headers["openstack-image-import-methods"] == "glance-direct"
    assert image.pop("created_at") == image.pop("updated_at")
    assert image == {
        "id": key, "name": "a", "status": "queued", "visibility": "shared", "owner": MEMBER.project_id, "size": None,
        "virtual_size": None, "checksum": None, "os_hash_algo": None, "os_hash_value": None, "protected": False,
        "os_hidden": False, "min_disk": 0, "min_ram": 0, "disk_format": None, "container_format": None,
        "tags": ["x", "y"], "hw_disk_bus": "virtio", "self": f"/v2/images/{key}", "file": f"/v2/images/{key}/file",
        "schema": "/v2/schemas/image",
    }  # fmt: skip
    assert images.show(key) == made.json | {"created_at": made.json.get("created_at", images.show(key)["created_at"]),
                                            "updated_at": images.show(key)["updated_at"]}  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"disk_format": "zip"}, 400),
        ({"container_format": "box"}, 400),
        ({"disk_format": "ami", "container_format": "bare"}, 400),
        ({"status": "active"}, 403),
        ({"size": 5}, 403),
        ({"checksum": "x"}, 403),
        ({"os_glance_x": "5"}, 403),
        ({"owner": "somebody"}, 403),
        ({"visibility": "public"}, 403),
        ({"visibility": "fish"}, 400),
        ({"id": "x"}, 400),
        ({"colour": 5}, 400),
        ({"name": "x" * 256}, 400),
        ({"min_disk": -1}, 400),
        ({"min_ram": 2**40}, 400),
        ({"min_ram": "x"}, 400),
        ({"tags": "x"}, 400),
        ({"tags": ["x" * 256]}, 400),
        ({"protected": "yes"}, 400),
        ({"locations": []}, 403),
        ({"x" * 256: "y"}, 400),
        ([], 400),
        (None, 400),
    ],
)
def test_a_bad_image_is_refused(images, body, status):
    images("POST", "/images", body, ok=status)


def test_an_id_may_be_chosen_once(images):
    key = images.create(id="5f6c6b62-0d1a-4f6e-8a44-000000000001")
    images("POST", "/images", {"id": key}, ok=409)
    images("DELETE", f"/images/{key}", ok=204)
    images("POST", "/images", {"id": key}, ok=409)


def test_admins_and_services_make_images_for_others(images):
    for who in (ADMIN, SERVICE):
        assert images.show(images.create(as_=who, owner=MEMBER.project_id))["owner"] == MEMBER.project_id


def test_patches_add_replace_and_remove(images):
    key = images.create(colour="blue")
    changed = images.patch(
        key, replace("/name", "b"), add("/shape", "round"), replace("/colour", "red"), replace("/tags", ["t"]),
        add("/a~1b~0c", "odd"), replace("/min_disk", 3), replace("/protected", True),
    ).json  # fmt: skip
    assert (changed["name"], changed["shape"], changed["colour"], changed["tags"]) == ("b", "round", "red", ["t"])
    assert (changed["a/b~c"], changed["min_disk"], changed["protected"]) == ("odd", 3, True)
    images.patch(key, {"op": "remove", "path": "/shape"})
    assert "shape" not in images.show(key)
    old = [{"replace": "/name", "value": "c"}]
    kind = {"Content-Type": "application/openstack-images-v2.0-json-patch"}
    assert images("PATCH", f"/images/{key}", old, headers=kind, ok=200).json["name"] == "c"
    assert images.patch(key).json["name"] == "c"


@pytest.mark.parametrize(
    ("operation", "status"),
    [
        (replace("/status", "active"), 403),
        (replace("/id", "x"), 403),
        (replace("/owner", "x"), 403),
        (replace("/visibility", "public"), 403),
        (replace("/visibility", "fish"), 400),
        (replace("/nothing", "x"), 409),
        ({"op": "remove", "path": "/nothing"}, 409),
        ({"op": "remove", "path": "/name"}, 403),
        ({"op": "remove", "path": "/tags"}, 403),
        (add("/os_glance_x", "y"), 403),
        (add("/a/b", "x"), 400),
        (add("/", "x"), 400),
        (add("name", "x"), 400),
        (add("/x~2", "x"), 400),
        (add("/x", 5), 400),
        (add("/name", 5), 400),
        (add("/min_ram", True), 400),
        (add("/disk_format", "zip"), 400),
        (add("/locations", []), 403),
        ({"op": "test", "path": "/name", "value": "x"}, 400),
        ({"op": "add", "path": "/name"}, 400),
        ({"op": "add", "value": "x"}, 400),
        ({"path": "/name", "value": "x"}, 400),
        ("x", 400),
        ([], 400),
        ({"op": "add", "path": 5, "value": "x"}, 400),
    ],
)
def test_a_bad_patch_is_refused_and_changes_nothing(images, operation, status):
    key = images.create()
    before = images.show(key)
    images.patch(key, replace("/name", "other"), operation, ok=status)
    assert images.show(key) == before


def test_a_patch_has_its_own_content_type(images):
    key = images.create()
    refused = images.patch(key, kind="application/json", ok=415)
    assert "images-v2.1-json-patch" in refused.headers["accept-patch"]
    images("PATCH", f"/images/{key}", {"a": 1}, headers={"Content-Type": "application/openstack-images-v2.1-json-patch"}, ok=400)


def test_formats_are_fixed_once_there_is_data(images):
    key = images.create()
    images.patch(key, replace("/disk_format", "qcow2"))
    images.patch(key, replace("/disk_format", "raw"))
    images.put(key)
    images.patch(key, replace("/disk_format", "qcow2"), ok=403)


def test_a_protected_image_stays(images):
    key = images.create(protected=True)
    refused = images("DELETE", f"/images/{key}", ok=403)
    assert f"Image {key} is protected and cannot be deleted." in refused.text
    images.patch(key, replace("/protected", False))
    images("DELETE", f"/images/{key}", ok=204)
    images("GET", f"/images/{key}", ok=404)
    gone = images("DELETE", f"/images/{key}", ok=404)
    assert f"Failed to find image {key} to delete" in gone.text


def test_tags(images):
    key = images.create()
    for _ in range(2):
        images("PUT", f"/images/{key}/tags/gold", ok=204)
    assert images.show(key)["tags"] == ["gold"]
    images("PUT", f"/images/{key}/tags/{'x' * 256}", ok=400)
    images("DELETE", f"/images/{key}/tags/gold", ok=204)
    images("DELETE", f"/images/{key}/tags/gold", ok=404)
    images("PUT", f"/images/{key}/tags/gold", as_=OTHER, ok=404)
    images("PUT", f"/images/{key}/tags/gold", as_=READER, ok=403)


def test_who_sees_what(images):
    images.create("mine")
    images.create("theirs", as_=OTHER)
    images.create("public", as_=ADMIN, visibility="public")
    images.create("community", as_=OTHER, visibility="community")
    images.create("private", as_=OTHER, visibility="private")
    images.create("hidden", os_hidden=True)
    assert images.names() == images.names(as_=READER) == ["public", "mine"]
    assert images.names(as_=OTHER) == ["private", "community", "public", "theirs"]
    assert images.names("visibility=community") == ["community"]
    assert images.names("visibility=all") == ["community", "public", "mine"]
    assert images.names("visibility=private") == []
    assert images.names("os_hidden=true") == ["hidden"]
    assert set(images.names(as_=ADMIN)) == {"mine", "theirs", "public", "private"}
    assert set(images.names("visibility=all", as_=SERVICE)) == {"mine", "theirs", "public", "private", "community"}


def test_every_filter(images):
    a, b = images.create("a", colour="blue", tags=["t", "u"], min_disk=2), images.create("b, c", tags=["t"], protected=True)
    images.put(a)
    checksum = images.show(a)["checksum"]
    for query, expected in {
        "name=a": ["a"],
        "name=in:a,%22b, c%22": ["b, c", "a"],
        "name=": [],
        "status=active": ["a"],
        "status=in:active,queued": ["b, c", "a"],
        "status=fish": [],
        f"id={b}": ["b, c"],
        f"id=in:{a},{b}": ["b, c", "a"],
        "disk_format=raw": ["b, c", "a"],
        "container_format=in:ovf,bare": ["b, c", "a"],
        "tag=t": ["b, c", "a"],
        "tag=t&tag=u": ["a"],
        f"owner={MEMBER.project_id}": ["b, c", "a"],
        f"owner={OTHER.project_id}": [],
        f"checksum={checksum}": ["a"],
        "size=10": ["a"],
        "size_min=10": ["a"],
        "size_max=9": [],
        "min_disk=2": ["a"],
        "min_disk=x": [],
        "min_disk=--2": [],
        "min_ram=99999999999": [],
        f"size={10**30}": [],
        f"size_min={10**30}": [],
        "protected=true": ["b, c"],
        "colour=blue": ["a"],
        "colour=red": [],
        "created_at=gt:2020-01-01T00:00:00Z": ["b, c", "a"],
        "updated_at=lte:2020-01-01T00:00:00Z": [],
        "visibility=shared&member_status=all": ["b, c", "a"],
    }.items():
        assert images.names(query.replace(" ", "%20")) == expected, query
    for query in ("visibility=x", "member_status=x", "size_min=x", "size_max=-1", "protected=x", "os_hidden=x",
                  "created_at=x", "created_at=gt:x", "name=in:%22a", "limit=x", "limit=-1", "marker=x", "sort_key=x",
                  "sort_dir=x", "sort=name&sort_key=name", "sort=name:up",
                  "sort_key=name&sort_key=size&sort_key=id&sort_dir=asc&sort_dir=desc"):  # fmt: skip
        images("GET", f"/images?{query}", ok=400)


def test_pages_follow_each_other_in_any_order(images):
    for name in "dacbe":
        images.create(name)
    assert images.names("sort=name:asc") == list("abcde")
    assert images.names("sort_key=name") == list("edcba")
    assert images.names("sort_key=status&sort_key=name&sort_dir=asc") == list("abcde")
    path, seen = "/images?limit=2&sort=name%3Aasc", []
    first = images("GET", path).json
    assert first["first"] == "/v2/images?limit=2&sort=name%3Aasc"
    assert first["next"].startswith("/v2/images?limit=2&sort=name%3Aasc&marker=")
    while path:
        page = images("GET", path, ok=200).json
        seen += [one["name"] for one in page["images"]]
        path = page.get("next", "").removeprefix("/v2")
    assert seen == list("abcde")
    assert images.names("limit=0") == []
    hidden = images.create("theirs", as_=OTHER)
    images("GET", f"/images?marker={hidden}", ok=400)
    images.put(images.create("f"))
    for order in ("asc", "desc"):
        path, seen = f"/images?limit=1&sort_key=size&sort_dir={order}", []
        while path:
            page = images("GET", path, ok=200).json
            seen += [one["name"] for one in page["images"]]
            path = page.get("next", "").removeprefix("/v2")
        assert sorted(seen) == list("abcdef")


def test_a_list_costs_the_same_statements_for_few_and_many(images):
    for number in range(3):
        images.create(str(number), colour="blue", tags=["t"])
    with images.client.count_queries() as few:
        images("GET", "/images?limit=100", ok=200)
    for number in range(30):
        images.create(str(number), colour="blue", tags=["t"])
    with images.client.count_queries() as many:
        images("GET", "/images?limit=100", ok=200)
    assert len(few) == len(many) == 3


def test_quotas_of_one_image():
    images = Images(options={"image_property_quota": 1, "image_tag_quota": 1, "image_member_quota": 1})
    images("POST", "/images", {"a": "b", "c": "d"}, ok=413)
    images("POST", "/images", {"tags": ["a", "b"]}, ok=413)
    key = images.create(a="b", tags=["t"])
    images.patch(key, add("/c", "d"), ok=413)
    images("PUT", f"/images/{key}/tags/u", ok=413)
    images("POST", f"/images/{key}/members", {"member": "a"}, ok=200)
    images("POST", f"/images/{key}/members", {"member": "b"}, ok=413)
    images.client.close()


def test_quotas_of_a_project():
    images = Images(options={"image_count_total": 2, "image_size_total": 1})
    first = images.create()
    images.create()
    images("POST", "/images", {}, ok=413)
    images.create(as_=OTHER)
    images.put(first, bytes(1 << 20))
    usage = images("GET", "/info/usage", ok=200).json["usage"]
    assert usage == {"image_count_total": {"limit": 2, "usage": 2}, "image_size_total": {"limit": 1, "usage": 1}}
    images("DELETE", f"/images/{first}", ok=204)
    second = images.create()
    images.put(second, bytes((1 << 20) + 1), ok=413)
    assert images.show(second)["status"] == "queued"
    images.put(second, b"small")
    assert images("GET", "/info/usage").json["usage"]["image_size_total"] == {"limit": 1, "usage": 1}
    images.client.close()


def test_members_accept_and_reject(images):
    key, other = images.create("shared"), OTHER.project_id
    path = f"/images/{key}/members"
    images("GET", f"/images/{key}", as_=OTHER, ok=404)
    made = images("POST", path, {"member": other}, ok=200).json
    assert (made["member_id"], made["image_id"], made["status"]) == (other, key, "pending")
    images("POST", path, {"member": other}, ok=409)
    images("POST", path, {"member": ""}, ok=400)
    images("POST", path, {}, ok=400)
    assert images.names(as_=OTHER) == []
    assert images.names("member_status=pending", as_=OTHER) == ["shared"]
    assert images.show(key, as_=OTHER)["name"] == "shared"
    images("PUT", f"{path}/{other}", {"status": "accepted"}, ok=403)
    images("PUT", f"{path}/{other}", {"status": "fish"}, as_=OTHER, ok=400)
    images("PUT", f"{path}/{other}", {}, as_=OTHER, ok=400)
    images("PUT", f"{path}/{other}", {"status": "accepted"}, as_=OTHER, ok=200)
    assert images.names(as_=OTHER) == ["shared"]
    images("POST", path, {"member": "third"}, ok=200)
    assert [one["member_id"] for one in images("GET", path).json["members"]] == [other, "third"]
    assert [one["member_id"] for one in images("GET", path, as_=OTHER).json["members"]] == [other]
    images("GET", f"{path}/third", as_=OTHER, ok=404)
    images("GET", f"{path}/third", ok=200)
    for method, extra, body in (("POST", "", {"member": "x"}), ("DELETE", f"/{other}", None)):
        images(method, path + extra, body, as_=OTHER, ok=403)
    images.patch(key, replace("/name", "x"), as_=OTHER, ok=403)
    images("DELETE", f"/images/{key}", as_=OTHER, ok=403)
    images("DELETE", f"{path}/{other}", ok=204)
    images("DELETE", f"{path}/{other}", ok=404)
    images("GET", f"/images/{key}", as_=OTHER, ok=404)
    private = images.create(visibility="private")
    images("POST", f"/images/{private}/members", {"member": other}, ok=403)
    images("GET", f"/images/{private}/members", ok=403)


def test_versions_stores_and_schemas(images):
    for path, status in (("/", 300), ("", 300), ("/versions", 200), ("/v2", 300), ("/v2/", 300)):
        document = images.client.get(path, as_=None)
        assert document.status == status, path
        assert document.json["versions"][0]["status"] == "CURRENT"
        assert document.json["versions"][0]["links"][0]["href"] == "http://localhost:5000/image/v2/"
    assert images("GET", "/info/stores", ok=200).json == {"stores": [{"id": "file", "default": "true"}]}
    images("GET", "/info/stores/detail", ok=403)
    assert images("GET", "/info/stores/detail", as_=ADMIN, ok=200).json["stores"][0]["type"] == "file"
    assert images("GET", "/info/import", ok=200).json["import-methods"]["value"] == ["glance-direct"]
    schema = images("GET", "/schemas/image", ok=200).json
    assert schema["properties"]["status"]["readOnly"] is True
    assert schema["additionalProperties"] == {"type": "string"}
    shown = images.show(images.create(colour="blue"))
    assert set(shown) - set(schema["properties"]) == {"colour"}
    for name in ("images", "member", "members"):
        assert images("GET", f"/schemas/{name}", ok=200).json["name"] == name
