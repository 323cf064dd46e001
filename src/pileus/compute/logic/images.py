"""What compute asks of the image service, and whether an image fits a flavor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pileus.clients.base import PeerForbidden, PeerInvalid, PeerNotFound
from pileus.compute.errors import BadRequest
from pileus.kernel.context import Context
from pileus.kernel.service import Service

GIB = 1 << 30

_OWN_FIELDS = frozenset(
    [
        "id",
        "name",
        "status",
        "visibility",
        "owner",
        "size",
        "virtual_size",
        "checksum",
        "os_hash_algo",
        "os_hash_value",
        "os_hidden",
        "disk_format",
        "container_format",
        "min_disk",
        "min_ram",
        "protected",
        "tags",
        "created_at",
        "updated_at",
        "self",
        "file",
        "schema",
        "direct_url",
        "locations",
        "stores",
        "members",
        "properties",
    ]
)


def get_image(service: Service, context: Context, image_id: str) -> dict[str, Any]:
    """The image as the caller may see it: id, name, status, size, min_disk, min_ram, hashes and `properties`.

    Raises `BadRequest` when there is none.
    """
    try:
        found = service.clients.image(context).show(image_id)
    except (PeerNotFound, PeerForbidden, PeerInvalid):
        raise BadRequest("Can not find requested image") from None
    image = {
        name: found.get(name)
        for name in [
            "id",
            "name",
            "status",
            "size",
            "virtual_size",
            "disk_format",
            "container_format",
            "min_disk",
            "min_ram",
            "checksum",
            "os_hash_algo",
            "os_hash_value",
            "owner",
        ]
    }
    image["properties"] = {key: value for key, value in found.items() if key not in _OWN_FIELDS}
    return image


def check_fits(image: Mapping[str, Any], flavor: Mapping[str, Any]) -> None:
    """Raises `BadRequest` when the image is not active or wants more than the flavor gives."""
    if image["status"] != "active":
        raise BadRequest(f"Image {image['id']} is not active.")
    if (image["min_ram"] or 0) > flavor["memory_mb"]:
        raise BadRequest("Flavor's memory is too small for requested image.")
    if not flavor["root_gb"]:
        return  # the disk is as large as the image
    disk = flavor["root_gb"] * GIB
    size = max(image["size"] or 0, image["virtual_size"] or 0)
    if size > disk:
        raise BadRequest(
            f"Flavor's disk is too small for requested image. Flavor disk is {disk} bytes, image is {size} bytes."
        )
    if (image["min_disk"] or 0) * GIB > disk:
        raise BadRequest(
            "Flavor's disk is smaller than the minimum size specified in image metadata. "
            f"Flavor disk is {disk} bytes, minimum size is {image['min_disk'] * GIB} bytes."
        )
