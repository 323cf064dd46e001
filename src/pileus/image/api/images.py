"""Images."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from pileus.image.api.common import seen, view
from pileus.image.errors import BadRequest, NotPermitted
from pileus.image.logic import images as logic
from pileus.image.logic import listing
from pileus.image.logic.images import BASE, READ_ONLY
from pileus.image.logic.listing import COMPARISONS, Filter
from pileus.kernel import clock, pagination
from pileus.kernel.web import Call, Operations, Reply

operations = Operations()

_ANY: dict[str, Any] = {}
_TEXT = {"type": ["null", "string"], "maxLength": 255}
_TAGS = {"type": "array", "items": {"type": "string", "maxLength": 255}}
_PROPERTIES: dict[str, dict[str, Any]] = {
    "id": {"type": "string", "pattern": "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"},
    "name": _TEXT,
    "owner": _TEXT,
    "visibility": {"type": "string", "enum": ["community", "public", "private", "shared"]},
    "disk_format": {"type": ["null", "string"]},
    "container_format": {"type": ["null", "string"]},
    "min_disk": {"type": "integer"},
    "min_ram": {"type": "integer"},
    "protected": {"type": "boolean"},
    "os_hidden": {"type": "boolean"},
    "tags": _TAGS,
}
IMAGE: dict[str, Any] = {
    "type": "object",
    # Read-only names pass here and are refused by name afterwards.
    "properties": {**_PROPERTIES, **dict.fromkeys((*READ_ONLY, "locations"), _ANY)},
    "propertyNames": {"minLength": 1, "maxLength": 255},
    "additionalProperties": {"type": "string", "maxLength": 65535},
}
_SORT_KEYS = ("name", "status", "container_format", "disk_format", "size", "id", "created_at", "updated_at")
_LISTED = frozenset({"name", "status", "id", "disk_format", "container_format"})
_EXACT = frozenset({"checksum", "os_hash_algo", "os_hash_value", "owner"})
_NUMBERS = {"size": 2**63 - 1, "virtual_size": 2**63 - 1, "min_disk": 2**31 - 1, "min_ram": 2**31 - 1}
_NUMBER = re.compile(r"\d{1,19}\Z", re.ASCII)
_FLAGS = frozenset({"protected", "os_hidden"})
_MOMENTS = frozenset({"created_at", "updated_at"})
_PAGING = frozenset({"limit", "marker", "sort", "sort_key", "sort_dir"})


def check_visibility(call: Call, target: dict[str, Any], visibility: str | None) -> None:
    """Making an image public, or open to the community, is a right of its own."""
    rule = {"public": "publicize_image", "community": "communitize_image"}.get(visibility or "")
    if rule:
        call.authorize(target, rule=rule)


@operations("POST", "/images", rule="add_image", late=True, status=201, body=IMAGE)
def create_image(call: Call) -> Reply:
    """Create an image record; its data comes afterwards."""
    body = dict(call.body)
    tags = body.pop("tags", [])
    logic.check_names(body)
    if "locations" in body:
        raise NotPermitted("Images are not made from locations here: upload the data.")
    values = {name: body.pop(name) for name in ("id", *BASE) if name in body}
    own = call.context.project_id
    owner = values.setdefault("owner", own)
    target = {"project_id": own, "owner": own, "visibility": values.get("visibility", "shared"), "member_id": None}
    call.authorize(target)
    if owner != own and not call.allows("add_image", {**target, "project_id": owner, "owner": owner}):
        raise NotPermitted(f"You are not permitted to create images owned by '{owner}'")
    check_visibility(call, target, values.get("visibility"))
    image = logic.create_image(call.service, values, body, tags)
    headers = {
        "Location": call.link(f"/images/{image.id}"),
        "OpenStack-image-import-methods": "glance-direct",
        "OpenStack-image-store-ids": call.service.options.store_id,
    }
    return Reply(body=view(image, call.service.options.store_id), headers=headers)


@operations("GET", "/images/{image_id}", rule="get_image", late=True)
def show_image(call: Call) -> dict[str, Any]:
    """Show an image."""
    return view(seen(call).image, call.service.options.store_id)


@operations("DELETE", "/images/{image_id}", rule="delete_image", late=True, status=204)
def delete_image(call: Call) -> None:
    """Delete an image and its data."""
    missing = f"Failed to find image {call.params['image_id']} to delete"
    logic.delete_image(call.service, seen(call, missing=missing).image)


@operations("GET", "/images", rule="get_images")
def list_images(call: Call) -> dict[str, Any]:
    """List the images this caller may see."""
    options = call.service.options
    limit = pagination.parse_limit(call, options.max_page, options.default_page)
    assert limit is not None
    wanted = _filter(call)
    found = listing.list_images(call.service, call.context, wanted, _sort(call), call.query.one("marker"), limit)
    pairs = [pair for pair in call.query.items() if pair[0] != "marker"]
    body: dict[str, Any] = {
        "images": [view(image, options.store_id) for image in found],
        "first": _page_link(pairs),
        "schema": "/v2/schemas/images",
    }
    if found and len(found) == limit:
        body["next"] = _page_link([*pairs, ("marker", found[-1].id)])
    return body


def _page_link(pairs: list[tuple[str, str]]) -> str:
    return "/v2/images" + (f"?{urlencode(pairs)}" if pairs else "")


def _sort(call: Call) -> list[tuple[str, str]]:
    keys, directions = call.query.all("sort_key"), call.query.all("sort_dir")
    combined = call.query.one("sort")
    if combined is not None:
        if keys or directions:
            raise BadRequest("Old and new sorting syntax cannot be combined")
        parts = [part.partition(":") for part in combined.split(",")]
        keys = [part[0].strip() for part in parts]
        directions = [part[2].strip() or "desc" for part in parts]
    elif keys and len(directions) > 1 and len(directions) != len(keys):
        raise BadRequest("Number of sort dirs does not match the number of sort keys")
    for key in keys:
        if key not in _SORT_KEYS:
            raise BadRequest(f"Invalid sort key: {key}. It must be one of the following: {', '.join(_SORT_KEYS)}.")
    for direction in directions:
        if direction not in {"asc", "desc"}:
            raise BadRequest(f"Invalid sort direction: {direction}")
    last = directions[-1] if directions else "desc"
    sort = [(key, directions[n] if n < len(directions) else last) for n, key in enumerate(dict.fromkeys(keys))]
    present = {key for key, _ in sort}
    return sort + [(key, last) for key in ("created_at", "id") if key not in present]


def _filter(call: Call) -> Filter:
    query = call.query
    visibility = query.one("visibility")
    if visibility not in {None, "public", "private", "shared", "community", "all"}:
        raise BadRequest(f"Invalid visibility value: {visibility}")
    member_status = query.one("member_status", "accepted")
    if member_status not in {"pending", "accepted", "rejected", "all"}:
        raise BadRequest(f"Invalid status: {member_status}")
    equal: dict[str, Sequence[object]] = {"os_hidden": [False]}
    moments, properties, nothing = [], {}, False
    for name in query:
        value = str(query.one(name))
        if name in _PAGING or name in {"visibility", "member_status", "tag", "size_min", "size_max"}:
            continue
        if name in _LISTED:
            equal[name] = list(_listed(value))
        elif name in _EXACT:
            equal[name] = [value]
        elif name in _FLAGS:
            equal[name] = [_flag(name, value)]
        elif name in _NUMBERS:
            number = int(value) if _NUMBER.match(value) else None
            nothing = nothing or number is None or number > _NUMBERS[name]
            equal[name] = [number]
        elif name in _MOMENTS:
            moments.append((name, *_moment(name, value)))
        else:
            properties[name] = value
    return Filter(
        visibility=visibility,
        member_status=None if member_status == "all" else member_status,
        equal=equal,
        moments=moments,
        size_min=_bound(query.one("size_min")),
        size_max=_bound(query.one("size_max")),
        tags=query.all("tag"),
        properties=properties,
        nothing=nothing,
    )


def _listed(value: str) -> list[str]:
    """`in:a,"b,c"` as its values; anything else as one value."""
    if not value.startswith("in:"):
        return [value]
    text = value.removeprefix("in:")
    if text.count('"') % 2:
        raise BadRequest(f"Invalid filter value {value}. The quote is not closed.")
    return next(csv.reader([text]), [])


def _flag(name: str, value: str) -> bool:
    if value.lower() not in {"true", "false"}:
        raise BadRequest(f"Invalid value '{value}' for '{name}' filter. Valid values are 'true' or 'false'.")
    return value.lower() == "true"


def _bound(value: str | None) -> int | None:
    if value is None:
        return None
    if not (value.isascii() and value.isdigit()) or len(value) > 4000:
        raise BadRequest("Unable to filter on a range with a non-numeric value.")
    return min(int(value), 2**63 - 1)


def _moment(name: str, value: str) -> tuple[str, Any]:
    word, colon, text = value.partition(":")
    if not colon or word not in COMPARISONS:
        word, text = "eq", value
    try:
        return word, clock.parse(text)
    except ValueError:
        raise BadRequest(f'Bad "{name}" query filter format. Use ISO 8601 DateTime notation.') from None
