"""Who may call what: every declared operation, by every persona, on an image of the members' project."""

from __future__ import annotations

import re

import pytest

from pileus.image.room import ROOM
from pileus.kernel.testing import OTHER_PROJECT, PERSONAS, persona
from tests.api.image.world import PATCH

OPERATIONS = [op for op in ROOM.operations() if op.rule is not None]
OWNERS = {"admin", "manager", "member", "service"}
PEOPLE = {"admin", "manager", "member"}
READERS = {*OWNERS, "reader"}
EVERYBODY = set(PERSONAS) - {"nobody"}
ALLOWED: dict[str, set[str]] = {
    "add_image": {*OWNERS, "other"},
    "get_image": READERS,
    "get_images": EVERYBODY,
    "delete_image": OWNERS,
    "modify_image": OWNERS,
    "upload_image": OWNERS,
    "download_image": OWNERS,
    "add_member": PEOPLE,
    "delete_member": PEOPLE,
    "get_member": READERS,
    "get_members": READERS,
    "modify_member": {"admin"},
    "deactivate": PEOPLE,
    "reactivate": PEOPLE,
    "stores_info_detail": {"admin", "service"},
    "delete_image_location": set(),
}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda op: f"{op.method} {op.path}")
def test_every_operation_by_every_persona(images, operation):
    for name, who in PERSONAS.items():
        key = images.create()
        images("POST", f"/images/{key}/members", {"member": "member1"}, ok=200)
        status = attempt(images, operation, key, who)
        on_image = "{image_id}" in operation.path
        if name == "nobody":
            assert status == 401
        elif name in ALLOWED[operation.rule]:
            assert status not in {401, 403} and status < 500, (name, status)
            assert status != 404 or "tag" in operation.path, (name, status)
        else:
            assert status == (404 if on_image and name == "other" else 403), (name, status)


def attempt(images, operation, key, who):
    path = operation.path.replace("{image_id}", key).replace("{member_id}", "member1").replace("{store_id}", "file")
    path = re.sub(r"\{[^}]+\}", "x", path)
    bodies = {
        "POST /images": {"name": "x"},
        "POST /images/{image_id}/members": {"member": "member2"},
        "PUT /images/{image_id}/members/{member_id}": {"status": "accepted"},
        "POST /images/{image_id}/import": {"method": {"name": "glance-direct"}},
        "PATCH /images/{image_id}": [{"op": "replace", "path": "/name", "value": "y"}],
    }
    options = {}
    if operation.raw:
        options = {"body": b"data", "headers": {"Content-Type": "application/octet-stream"}}
    elif operation.method == "PATCH":
        options = {"headers": {"Content-Type": PATCH}}
    if operation.path.endswith("activate"):
        images.put(key)
    return images(operation.method, path, bodies.get(f"{operation.method} {operation.path}"), as_=who, **options).status


def test_others_find_neither_images_nor_what_may_not_be_done_to_them(images):
    key = images.create(visibility="private")
    other = PERSONAS["other"]
    assert other.project_id == OTHER_PROJECT
    missing = images("GET", f"/images/{key}", as_=other, ok=404)
    assert f"No image found with ID {key}" in missing.text
    assert missing.headers["content-type"].startswith("text/html")


def test_a_public_image_can_be_used_and_not_changed(images):
    key = images.create("public", as_=PERSONAS["admin"], visibility="public")
    images.put(key, as_=PERSONAS["admin"])
    for name in ("member", "other", "reader"):
        who = PERSONAS[name]
        assert images.show(key, as_=who)["name"] == "public"
        images("GET", f"/images/{key}/file", as_=who, ok=403 if name == "reader" else 200)
        images("DELETE", f"/images/{key}", as_=who, ok=403)
        images.patch(key, {"op": "replace", "path": "/name", "value": "x"}, as_=who, ok=403)


def test_the_host_of_a_guest_reads_any_image_and_does_nothing_else(images):
    node = persona("node", "node", project_id=PERSONAS["service"].project_id)
    key = images.create(visibility="private")
    images.put(key)
    assert images.show(key, as_=node)["id"] == key
    assert images("GET", f"/images/{key}/file", as_=node, ok=200).body
    images("GET", "/images", as_=node, ok=403)
    images("DELETE", f"/images/{key}", as_=node, ok=403)
    images("PUT", f"/images/{key}/file", body=b"x", as_=node, headers={"Content-Type": "application/octet-stream"}, ok=403)
    images.patch(key, {"op": "replace", "path": "/name", "value": "x"}, as_=node, ok=403)
