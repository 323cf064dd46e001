"""Images as records: who may see which, making, changing, removing them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from pileus.image.errors import (
    BadRequest,
    CountExceeded,
    DataTooLarge,
    Duplicate,
    ImageNotFound,
    LimitExceeded,
    NotPermitted,
    StatusForbids,
    TagNotFound,
    WrongStatus,
)
from pileus.image.options import Options
from pileus.image.store import images as store
from pileus.image.store.images import Image
from pileus.kernel import ids, quota
from pileus.kernel.context import Context
from pileus.kernel.db import is_unique_violation
from pileus.kernel.service import Service

MIB = 1 << 20
_ATTEMPTS = 10
READ_ONLY = frozenset(
    ("created_at", "updated_at", "status", "checksum", "size", "virtual_size", "direct_url", "self", "file", "schema")
    + ("os_hash_algo", "os_hash_value", "stores")
)
RESERVED = "os_glance_"
BASE = (
    "name",
    "visibility",
    "disk_format",
    "container_format",
    "min_disk",
    "min_ram",
    "protected",
    "os_hidden",
    "owner",
)
"""What a caller may set on an image besides tags and additional properties."""


@dataclass(frozen=True)
class Seen:
    """An image as one caller sees it."""

    image: Image
    target: Mapping[str, Any]
    """What policy rules compare."""


def sees_everything(context: Context) -> bool:
    """Administrators do, and other services and the hosts of guests, which act for users whose access was checked."""
    return context.is_admin or not {"service", "node"}.isdisjoint(context.roles)


def see(service: Service, context: Context, image_id: str, missing: str = "") -> Seen:
    """The image, if this caller may know of it. Raises ImageNotFound."""
    with service.db.read() as conn:
        image = store.find(conn, image_id)
        mine = image is not None and context.project_id is not None and image.owner == context.project_id
        member = None
        if image is not None and image.visibility == "shared" and not mine and context.project_id:
            member = store.member(conn, image_id, context.project_id)
    if image is None:
        raise ImageNotFound(image_id, missing)
    open_to_all = image.visibility in {"public", "community"} or image.owner is None
    if not (mine or open_to_all or member is not None or sees_everything(context)):
        raise ImageNotFound(image_id, missing)
    target = {
        "project_id": image.owner,
        "tenant_id": image.owner,
        "owner": image.owner,
        "visibility": image.visibility,
        "member_id": context.project_id if member is not None else None,
        "image_id": image.id,
    }
    return Seen(image, target)


# ------------------------------------------------------------------------------------------------------- what fits


def check_names(names: Collection[str]) -> None:
    """Refuse what no caller may set."""
    for name in names:
        if name in READ_ONLY:
            raise NotPermitted(f"Attribute '{name}' is read-only.")
        if name.startswith(RESERVED):
            raise NotPermitted(f"Attribute '{name}' is reserved.")


def check_values(
    options: Options, values: Mapping[str, Any], properties: Mapping[str, str], tags: Collection[str]
) -> None:
    """Refuse formats this cloud does not have, negative minimums, and too many of anything."""
    for name, allowed in (("disk_format", options.disk_formats), ("container_format", options.container_formats)):
        value = values.get(name)
        if value is not None and value not in allowed:
            raise BadRequest(
                f"Provided object does not match schema 'image': '{value}' is not one of {[None, *allowed]} for {name}"
            )
    disk, container = values.get("disk_format"), values.get("container_format")
    special = {"ami", "ari", "aki"}
    if disk and container and disk != container and (disk in special or container in special):
        raise BadRequest(
            "Invalid mix of disk and container formats. When setting a disk or container format to one of "
            "'aki', 'ari', or 'ami', the container and disk formats must match."
        )
    for name in ("min_disk", "min_ram"):
        if values.get(name, 0) < 0:
            raise BadRequest(f"Invalid value '{values[name]}' for parameter '{name}': Cannot be a negative value")
        if values.get(name, 0) > 2**31 - 1:
            raise BadRequest(f"Invalid value '{values[name]}' for parameter '{name}': It is too large")
    for what, count, limit in (
        ("properties", len(properties), options.image_property_quota),
        ("tags", len(set(tags)), options.image_tag_quota),
    ):
        if 0 <= limit < count:
            raise LimitExceeded(
                f"The limit has been exceeded on the number of allowed image {what}. Attempted: {count}, Maximum: {limit}"
            )


def limits(options: Options) -> dict[str, int]:
    """Default limits of a project; sizes in bytes."""

    def size(mib: int) -> int:
        return mib if mib < 0 else mib * MIB

    return {
        "image_count_total": options.image_count_total,
        "image_count_uploading": options.image_count_uploading,
        "image_size_total": size(options.image_size_total),
        "image_stage_total": size(options.image_stage_total),
    }


def reserve(service: Service, conn: sa.Connection, owner: str | None, **amounts: int) -> None:
    """Count what an owner uses. Raises CountExceeded or DataTooLarge."""
    if owner is None:
        return
    try:
        quota.reserve(conn, owner, amounts, limits(service.options))
    except quota.Exceeded as error:
        sizes = error.resource in {"image_size_total", "image_stage_total"}
        unit = MIB if sizes else 1
        kind = DataTooLarge if sizes else CountExceeded
        raise kind(
            f"Project {owner} is over the limit of {error.limit // unit} for {error.resource}"
            + (" (MiB)" if sizes else "")
            + f": it uses {-(-error.used // unit)} and asks for {-(-error.requested // unit)} more"
        ) from None


# ------------------------------------------------------------------------------------------------------ the records


def create_image(
    service: Service, values: Mapping[str, Any], properties: Mapping[str, str], tags: Collection[str]
) -> Image:
    """A new image without data."""
    check_values(service.options, values, properties, tags)
    image_id = values.get("id") or ids.new_uuid()
    try:
        with service.db.write() as conn:
            if "id" in values and store.is_retired(conn, image_id):
                raise Duplicate(f"Image ID {image_id} already exists!")
            reserve(service, conn, values.get("owner"), image_count_total=1)
            store.insert(conn, {**values, "id": image_id}, properties, tags)
            image = store.find(conn, image_id)
    except sa.exc.IntegrityError as error:
        if is_unique_violation(error):
            raise Duplicate(f"Image ID {image_id} already exists!") from None
        raise
    assert image is not None
    return image


@dataclass(frozen=True)
class Wanted:
    """An image as it shall be: all settable values, all properties, all tags."""

    values: Mapping[str, Any]
    properties: Mapping[str, str]
    tags: Collection[str]


def update_image(service: Service, image: Image, change: Callable[[Image], Wanted]) -> Image:
    """Replace what an image says of itself by what `change` makes of it.

    Should somebody else change the image meanwhile, `change` is asked again.
    """
    for _ in range(_ATTEMPTS):
        wanted = change(image)
        check_values(service.options, wanted.values, wanted.properties, wanted.tags)
        with service.db.write() as conn:
            owner = wanted.values.get("owner")
            if store.update(conn, image, wanted.values, wanted.properties, wanted.tags):
                if owner != image.owner:
                    size = (image.row["size"] or 0) if image.row["data_key"] else 0
                    reserve(service, conn, owner, image_count_total=1, image_size_total=size)
                    reserve(service, conn, image.owner, image_count_total=-1, image_size_total=-size)
                changed = store.find(conn, image.id)
                assert changed is not None
                return changed
            again = store.find(conn, image.id)
        if again is None:
            raise ImageNotFound(image.id)
        image = again
    raise WrongStatus(f"Image {image.id} is being changed by others all the time. Try again later.")


def delete_image(service: Service, image: Image) -> None:
    """Remove an image; its data follows soon after. Refuses a protected one."""
    for _ in range(_ATTEMPTS):
        if image.row["protected"]:
            raise NotPermitted(f"Image {image.id} is protected and cannot be deleted.")
        with service.db.write() as conn:
            if store.delete(conn, image):
                _release(service, conn, image)
                break
            again = store.find(conn, image.id)
        if again is None:
            raise ImageNotFound(image.id, f"Failed to find image {image.id} to delete")
        image = again
    else:
        raise WrongStatus(f"Image {image.id} is being changed by others all the time. Try again later.")
    service.loops.nudge("image_removals")


def _release(service: Service, conn: sa.Connection, image: Image) -> None:
    size = int(image.row["size"] or 0)
    staged = image.status == "uploading" and image.row["data_key"]
    reserve(
        service,
        conn,
        image.owner,
        image_count_total=-1,
        image_count_uploading=-1 if image.status in {"saving", "uploading", "importing"} else 0,
        image_size_total=-size if image.row["data_key"] and not staged else 0,
        image_stage_total=-size if staged else 0,
    )


def set_active(service: Service, image: Image, *, active: bool) -> None:
    """Activate or deactivate; nothing happens when it is so already."""
    before, after = ("deactivated", "active") if active else ("active", "deactivated")
    with service.db.write() as conn:
        if store.transition(conn, image.id, {"status": before}, {"status": after}):
            return
        now = store.find(conn, image.id)
    if now is None:
        raise ImageNotFound(image.id)
    if now.status != after:
        word = "reactivate" if active else "deactivate"
        raise StatusForbids(f"Not allowed to {word} image in status '{now.status}'")


def add_tag(service: Service, image: Image, tag: str) -> None:
    def change(now: Image) -> Wanted:
        return Wanted(_values(now), now.properties, {*now.tags, tag})

    update_image(service, image, change)


def delete_tag(service: Service, image: Image, tag: str) -> None:
    def change(now: Image) -> Wanted:
        if tag not in now.tags:
            raise TagNotFound("The resource could not be found.")
        return Wanted(_values(now), now.properties, set(now.tags) - {tag})

    update_image(service, image, change)


def _values(image: Image) -> dict[str, Any]:
    return {name: image.row[name] for name in BASE}


def usage(service: Service, project_id: str) -> dict[str, dict[str, int]]:
    """Limit and usage of each resource that is limited for this project; sizes in MiB."""
    with service.db.read() as conn:
        own = quota.limits(conn, project_id, limits(service.options))
        used = quota.usages(conn, project_id)
    shown = {}
    for name, limit in own.items():
        if limit == quota.UNLIMITED:
            continue
        unit = MIB if "_size_" in name or "_stage_" in name else 1
        shown[name] = {"limit": limit // unit, "usage": -(-used.get(name, 0) // unit)}
    return shown
