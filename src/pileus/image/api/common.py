"""What the image service's resources have in common: how an image looks, and who may touch it."""

from __future__ import annotations

from typing import Any

from pileus.image.errors import ImageNotFound
from pileus.image.logic import images as logic
from pileus.image.logic.images import BASE, Seen
from pileus.image.store.images import Image
from pileus.kernel import clock
from pileus.kernel.web import Call

_SHOWN = (*BASE, "id", "status", "size", "virtual_size", "checksum", "os_hash_algo", "os_hash_value")


def view(image: Image, store_id: str) -> dict[str, Any]:
    """An image as the API shows it. Links are without host and prefix, as upstream's are."""
    row = image.row
    shown: dict[str, Any] = dict(image.properties)
    for name in _SHOWN:
        shown[name] = row[name]
    shown["created_at"] = clock.iso(row["created_at"])
    shown["updated_at"] = clock.iso(row["updated_at"])
    shown["tags"] = list(image.tags)
    path = f"/v2/images/{row['id']}"
    shown["self"] = path
    shown["file"] = f"{path}/file"
    shown["schema"] = "/v2/schemas/image"
    if row["data_key"] and row["status"] != "uploading":
        shown["stores"] = store_id
    return shown


def seen(call: Call, rule: str | None = None, missing: str = "") -> Seen:
    """The image of the path, if this caller may do what the operation (or `rule`) is about.

    Raises ImageNotFound where the caller may not know of it, Forbidden where they may.
    """
    image_id = call.params["image_id"]
    found = logic.see(call.service, call.context, image_id, missing)
    wanted = rule or call.operation.rule
    hidden = ImageNotFound(image_id, missing)
    if wanted != "get_image" and not call.allows("get_image", found.target):
        raise hidden
    call.authorize(found.target, rule=rule, hidden=hidden if wanted == "get_image" else None)
    return found
