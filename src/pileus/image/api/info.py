"""What this service is and has: versions, stores, usage, schemas."""

from __future__ import annotations

from typing import Any

from pileus.image.api.common import seen
from pileus.image.errors import NotPermitted, WrongStatus
from pileus.image.logic import data, images
from pileus.image.logic.members import STATUSES
from pileus.kernel.web import Call, Operations, Reply

operations = Operations()

_VERSIONS = (
    "2.0",
    "2.1",
    "2.2",
    "2.3",
    "2.4",
    "2.5",
    "2.6",
    "2.7",
    "2.8",
    "2.9",
    "2.10",
    "2.11",
    "2.12",
    "2.13",
    "2.15",
)
"""Without 2.14, 2.16 (the cache) and 2.17 (locations), which are not served."""


def _documents(call: Call) -> dict[str, Any]:
    newest = _VERSIONS[-1]
    link = {"rel": "self", "href": call.root_link("/v2/")}
    return {
        "versions": [
            {"id": f"v{version}", "status": "CURRENT" if version == newest else "SUPPORTED", "links": [link]}
            for version in reversed(_VERSIONS)
        ]
    }


@operations("GET", "/", root=True, public="the version document", status=300)
def choose_version(call: Call) -> dict[str, Any]:
    """List the API versions, for the client to choose one."""
    return _documents(call)


@operations("GET", "/versions", root=True, public="the version document")
def list_versions(call: Call) -> dict[str, Any]:
    """List the API versions."""
    return _documents(call)


@operations("GET", "/", public="the version document", status=300)
def show_v2(call: Call) -> dict[str, Any]:
    """List the versions below /v2 as well."""
    return _documents(call)


@operations("GET", "/info/stores", rule="get_images")
def list_stores(call: Call) -> dict[str, Any]:
    """List the places where image data is kept."""
    return {"stores": [{"id": call.service.options.store_id, "default": "true"}]}


@operations("GET", "/info/stores/detail", rule="stores_info_detail")
def show_stores(call: Call) -> dict[str, Any]:
    """Show the places where image data is kept, for operators."""
    shown = data.data_store(call.service).describe()
    return {"stores": [{"id": call.service.options.store_id, "default": "true", **shown, "weight": 0}]}


@operations("DELETE", "/stores/{store_id}/{image_id}", rule="delete_image_location", late=True, status=204)
def delete_from_store(call: Call) -> Reply:
    """Remove an image's data from one of several stores; here there is one, which must keep it."""
    seen(call)
    if call.params["store_id"] != call.service.options.store_id:
        raise WrongStatus(f"The selected store {call.params['store_id']} is not available on this node.")
    raise NotPermitted(
        "The only store that has the image's data keeps it as long as the image lives: delete the image instead."
    )


@operations("GET", "/info/usage", rule="get_images")
def show_usage(call: Call) -> dict[str, Any]:
    """Show what the caller's project uses of the limits it has."""
    return {"usage": images.usage(call.service, str(call.context.project_id))}


@operations("GET", "/images/{image_id}/tasks", rule="get_image", late=True)
def list_image_tasks(call: Call) -> dict[str, Any]:
    """List the tasks of an image: imports end before they are answered, so there are none."""
    seen(call)
    return {"tasks": []}


_ID = {
    "type": "string",
    "pattern": "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$",
}
_MOMENT = {"type": "string", "readOnly": True}
_LINK = {"type": "string", "readOnly": True}


def _text(longest: int, *, read_only: bool = False) -> dict[str, Any]:
    return {"type": ["null", "string"], "maxLength": longest, **({"readOnly": True} if read_only else {})}


def _image_schema(call: Call) -> dict[str, Any]:
    options = call.service.options
    bytes_ = {"type": ["null", "integer"], "readOnly": True}
    statuses = [
        "queued",
        "saving",
        "active",
        "killed",
        "deleted",
        "uploading",
        "importing",
        "pending_delete",
        "deactivated",
    ]
    properties: dict[str, Any] = {
        "id": {**_ID, "description": "The image's identifier"},
        "name": {**_text(255), "description": "The image's name, which need not be unique"},
        "status": {
            "type": "string",
            "readOnly": True,
            "enum": statuses,
            "description": "Where in its life the image is",
        },
        "visibility": {
            "type": "string",
            "enum": ["community", "public", "private", "shared"],
            "description": "Who may see the image",
        },
        "protected": {"type": "boolean", "description": "Whether deleting the image is refused"},
        "os_hidden": {"type": "boolean", "description": "Whether lists leave the image out unless asked for it"},
        "checksum": {**_text(32, read_only=True), "description": "MD5 of the data"},
        "os_hash_algo": {**_text(64, read_only=True), "description": "The algorithm of os_hash_value"},
        "os_hash_value": {**_text(128, read_only=True), "description": "Digest of the data"},
        "owner": {**_text(255), "description": "The project that owns the image"},
        "size": {**bytes_, "description": "Bytes of the data"},
        "virtual_size": {**bytes_, "description": "Bytes of the disk that the data describes"},
        "container_format": {"type": ["null", "string"], "enum": [None, *options.container_formats]},
        "disk_format": {"type": ["null", "string"], "enum": [None, *options.disk_formats]},
        "created_at": {**_MOMENT, "description": "When the image was registered"},
        "updated_at": {**_MOMENT, "description": "When the image last changed"},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 255}, "description": "Labels"},
        "min_ram": {"type": "integer", "description": "MiB of memory a server needs for the image"},
        "min_disk": {"type": "integer", "description": "GiB of disk a server needs for the image"},
        "self": {**_LINK, "description": "Where the image is"},
        "file": {**_LINK, "description": "Where the image's data is"},
        "stores": {**_LINK, "description": "The stores that have the image's data"},
        "schema": {**_LINK, "description": "Where this schema is"},
    }
    links = [
        {"rel": "self", "href": "{self}"},
        {"rel": "enclosure", "href": "{file}"},
        {"rel": "describedby", "href": "{schema}"},
    ]
    return {"name": "image", "properties": properties, "additionalProperties": {"type": "string"}, "links": links}


def _member_schema() -> dict[str, Any]:
    properties = {
        "member_id": {"type": "string", "description": "The project the image is shared with"},
        "image_id": {**_ID, "description": "The image's identifier"},
        "created_at": {"type": "string", "description": "When the image was shared"},
        "updated_at": {"type": "string", "description": "When the member last changed its mind"},
        "status": {"type": "string", "enum": list(STATUSES), "description": "What the project made of the offer"},
        "schema": {"type": "string", "readOnly": True},
    }
    return {"name": "member", "properties": properties}


def _list_schema(name: str, item: dict[str, Any]) -> dict[str, Any]:
    properties = {
        name: {"type": "array", "items": item},
        "first": {"type": "string"},
        "next": {"type": "string"},
        "schema": {"type": "string"},
    }
    links = [{"rel": word, "href": "{" + word + "}"} for word in ("first", "next")]
    return {"name": name, "properties": properties, "links": [*links, {"rel": "describedby", "href": "{schema}"}]}


@operations("GET", "/schemas/image", rule="get_images")
def show_image_schema(call: Call) -> dict[str, Any]:
    """Show the schema of an image."""
    return _image_schema(call)


@operations("GET", "/schemas/images", rule="get_images")
def show_images_schema(call: Call) -> dict[str, Any]:
    """Show the schema of a list of images."""
    return _list_schema("images", _image_schema(call))


@operations("GET", "/schemas/member", rule="get_images")
def show_member_schema(_call: Call) -> dict[str, Any]:
    """Show the schema of a member."""
    return _member_schema()


@operations("GET", "/schemas/members", rule="get_images")
def show_members_schema(_call: Call) -> dict[str, Any]:
    """Show the schema of a list of members."""
    schema = _list_schema("members", _member_schema())
    return {"name": "members", "properties": {key: schema["properties"][key] for key in ("members", "schema")}}
