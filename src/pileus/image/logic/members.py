"""Members: the projects an image is shared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pileus.image.errors import BadRequest, Duplicate, ImageNotFound, LimitExceeded, MemberNotFound, NotPermitted
from pileus.image.logic.images import sees_everything
from pileus.image.store import images as store
from pileus.image.store.images import Image
from pileus.kernel.context import Context
from pileus.kernel.service import Service

Member = Mapping[Any, Any]
STATUSES = ("pending", "accepted", "rejected")


def list_members(service: Service, context: Context, image: Image) -> Sequence[Member]:
    """All members for the owner, the caller alone for a member."""
    if image.visibility != "shared":
        raise NotPermitted(f"Not allowed to list members for image {image.id}: Only shared images have members.")
    with service.db.read() as conn:
        rows = store.members(conn, image.id)
    if image.owner == context.project_id or sees_everything(context):
        return rows
    return [row for row in rows if row["member"] == context.project_id]


def get_member(service: Service, context: Context, image: Image, member: str) -> Member:
    if context.project_id not in {image.owner, member} and not sees_everything(context):
        raise MemberNotFound(image.id, member)
    with service.db.read() as conn:
        row = store.member(conn, image.id, member)
    if row is None:
        raise MemberNotFound(image.id, member)
    return row


def add_member(service: Service, image: Image, member: str) -> Member:
    if image.visibility != "shared":
        raise NotPermitted(f"Not allowed to create members for image {image.id}.")
    limit = service.options.image_member_quota
    with service.db.write() as conn:
        # The image's row is the lock under which members are counted.
        if not store.lock(conn, image.id):
            raise ImageNotFound(image.id)
        count = len(store.members(conn, image.id)) + 1
        if 0 <= limit < count:
            raise LimitExceeded(
                "The limit has been exceeded on the number of allowed image members for this image. "
                f"Attempted: {count}, Maximum: {limit}"
            )
        if not store.add_member(conn, image.id, member):
            raise Duplicate(f"Member {member} is duplicated for image {image.id}")
        row = store.member(conn, image.id, member)
    assert row is not None
    return row


def set_status(service: Service, image: Image, member: str, status: str) -> Member:
    if status not in STATUSES:
        raise BadRequest('Incorrect request: Status must be "pending", "accepted" or "rejected".')
    with service.db.write() as conn:
        if store.member(conn, image.id, member) is None:
            raise MemberNotFound(image.id, member)
        store.set_member_status(conn, image.id, member, status)
        row = store.member(conn, image.id, member)
    assert row is not None
    return row


def delete_member(service: Service, image: Image, member: str) -> None:
    if image.visibility != "shared":
        raise NotPermitted(f"Not allowed to delete members for image {image.id}.")
    with service.db.write() as conn:
        if not store.delete_member(conn, image.id, member):
            raise MemberNotFound(image.id, member)
