"""Members of shared images, and tags, and activation."""

from __future__ import annotations

from typing import Any

from pileus.image.api.common import seen
from pileus.image.errors import BadRequest, ImageNotFound
from pileus.image.logic import images, members
from pileus.image.logic.members import Member
from pileus.kernel import clock
from pileus.kernel.web import Call, Operations

operations = Operations()

_MEMBERS = "/images/{image_id}/members"
_MEMBER = "/images/{image_id}/members/{member_id}"
_ADD = {"type": "object", "properties": {"member": {"type": "string", "maxLength": 255}}}
_SET = {"type": "object", "properties": {"status": {"type": "string"}}}


def _view(row: Member) -> dict[str, Any]:
    return {
        "member_id": row["member"],
        "image_id": row["image_id"],
        "status": row["status"],
        "created_at": clock.iso(row["created_at"]),
        "updated_at": clock.iso(row["updated_at"]),
        "schema": "/v2/schemas/member",
    }


@operations("GET", _MEMBERS, rule="get_members", late=True)
def list_members(call: Call) -> dict[str, Any]:
    """List the projects an image is shared with."""
    rows = members.list_members(call.service, call.context, seen(call).image)
    return {"members": [_view(row) for row in rows], "schema": "/v2/schemas/members"}


@operations("POST", _MEMBERS, rule="add_member", late=True, body=_ADD)
def add_member(call: Call) -> dict[str, Any]:
    """Share an image with a project."""
    if "member" not in call.body:
        raise BadRequest("Member to be added not specified")
    if not call.body["member"]:
        raise BadRequest("Member can't be empty")
    return _view(members.add_member(call.service, seen(call).image, call.body["member"]))


@operations("GET", _MEMBER, rule="get_member", late=True)
def show_member(call: Call) -> dict[str, Any]:
    """Show what a project has made of an image that is shared with it."""
    image = seen(call).image
    return _view(members.get_member(call.service, call.context, image, call.params["member_id"]))


@operations("PUT", _MEMBER, rule="modify_member", late=True, body=_SET)
def update_member(call: Call) -> dict[str, Any]:
    """Accept or reject a shared image."""
    if "status" not in call.body:
        raise BadRequest("Status not specified")
    found = images.see(call.service, call.context, call.params["image_id"])
    member = call.params["member_id"]
    if not call.allows("get_image", found.target):
        raise ImageNotFound(found.image.id)
    # The right is the member's own: neither the owner's nor another member's.
    call.authorize({**found.target, "member_id": member})
    return _view(members.set_status(call.service, found.image, member, call.body["status"]))


@operations("DELETE", _MEMBER, rule="delete_member", late=True, status=204)
def delete_member(call: Call) -> None:
    """Stop sharing an image with a project."""
    members.delete_member(call.service, seen(call).image, call.params["member_id"])


@operations("PUT", "/images/{image_id}/tags/{tag}", rule="modify_image", late=True, status=204)
def add_tag(call: Call) -> None:
    """Put a tag on an image."""
    tag = call.params["tag"]
    image = seen(call, missing=f"Image {call.params['image_id']} not found.").image
    if len(tag) > 255:
        raise BadRequest(f"Provided object does not match schema 'image': '{tag}' is too long")
    images.add_tag(call.service, image, tag)


@operations("DELETE", "/images/{image_id}/tags/{tag}", rule="modify_image", late=True, status=204)
def delete_tag(call: Call) -> None:
    """Take a tag off an image."""
    image = seen(call, missing=f"Image {call.params['image_id']} not found.").image
    images.delete_tag(call.service, image, call.params["tag"])


@operations("POST", "/images/{image_id}/actions/deactivate", rule="deactivate", late=True, status=204)
def deactivate_image(call: Call) -> None:
    """Keep an image's data from being downloaded."""
    images.set_active(call.service, seen(call).image, active=False)


@operations("POST", "/images/{image_id}/actions/reactivate", rule="reactivate", late=True, status=204)
def reactivate_image(call: Call) -> None:
    """Make a deactivated image usable again."""
    images.set_active(call.service, seen(call).image, active=True)
