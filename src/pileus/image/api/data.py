"""Image data: upload, download, staging and import."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from pileus.image.api.common import seen
from pileus.image.errors import BadRange, BadRequest
from pileus.image.logic import data as logic
from pileus.kernel import clock
from pileus.kernel.errors import Failure, UnsupportedMedia
from pileus.kernel.web import Call, Operations, Reply

operations = Operations()

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})\Z")
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)\Z")
_OCTETS = "application/octet-stream"
_READ = 1 << 20
_HEARD = 256 << 20
_PATIENCE = 5.0
_IMPORT = {
    "type": "object",
    "properties": {
        "method": {
            "type": "object",
            "properties": {"name": {"type": "string"}},
            "required": ["name"],
            "additionalProperties": False,
        },
        "stores": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "all_stores": {"type": "boolean"},
        "all_stores_must_succeed": {"type": "boolean"},
    },
    "required": ["method"],
    "additionalProperties": False,
}


def _expected(call: Call) -> int | None:
    """How many bytes the caller has announced."""
    kind = (call.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
    if kind != _OCTETS:
        raise UnsupportedMedia(f"Invalid content type {kind}: image data is {_OCTETS}")
    chosen = call.headers.get("X-Image-Meta-Store")
    if chosen is not None and chosen != call.service.options.store_id:
        raise BadRequest(f"There is no store {chosen}.")
    announced = call.headers.get("X-OpenStack-Image-Size", call.headers.get("Content-Length"))
    if (
        "chunked" in (call.headers.get("Transfer-Encoding") or "").lower()
        and "X-OpenStack-Image-Size" not in call.headers
    ):
        return None
    if announced is None or announced == "":
        return None
    if not announced.isascii() or not announced.isdigit():
        raise BadRequest(f"Invalid size: {announced} is not a number of bytes")
    return int(announced)


@contextlib.contextmanager
def _listening(call: Call) -> Iterator[None]:
    """Let a client that is refused finish what it is saying, within reason: one that is cut off in the middle of its data
    sees a broken connection where it should see why.
    """
    try:
        yield
    except Failure:
        until, heard = clock.monotonic() + _PATIENCE, 0
        with contextlib.suppress(OSError):
            while heard < _HEARD and clock.monotonic() < until and (piece := call.stream.read(_READ)):
                heard += len(piece)
        raise


@operations("PUT", "/images/{image_id}/file", rule="upload_image", late=True, status=204, raw=True)
def upload_image(call: Call) -> None:
    """Upload an image's data."""
    with _listening(call):
        expected = _expected(call)
        logic.upload(call.service, seen(call).image, call.stream, expected)


@operations("PUT", "/images/{image_id}/stage", rule="modify_image", late=True, status=204, raw=True)
def stage_image(call: Call) -> None:
    """Bring an image's data to where an import will take it from."""
    with _listening(call):
        expected = _expected(call)
        logic.stage(call.service, seen(call).image, call.stream, expected)


@operations("POST", "/images/{image_id}/import", rule="modify_image", late=True, status=202, body=_IMPORT)
def import_image(call: Call) -> None:
    """Make an image of its staged data."""
    image = seen(call).image
    method = call.body["method"]["name"]
    if method != "glance-direct":
        raise BadRequest(f"Unknown import method name '{method}'.")
    unknown = [name for name in call.body.get("stores", ()) if name != call.service.options.store_id]
    if unknown:
        raise BadRequest(f"There is no store {', '.join(unknown)}.")
    logic.import_staged(call.service, image)


@operations("GET", "/images/{image_id}/file", rule="download_image", late=True)
def download_image(call: Call) -> Reply:
    """Download an image's data, or a part of it."""
    image = seen(call).image
    span = _span(call)
    part = logic.download(call.service, image, span, privileged=call.context.is_admin)
    if part is None:
        return Reply(status=204)
    headers = {"Content-Length": str(part.length)}
    if image.row["checksum"]:
        headers["Content-MD5"] = image.row["checksum"]
    if span is not None:
        headers["Content-Range"] = f"bytes {part.start}-{part.start + part.length - 1}/{part.size}"
    return Reply(body=part.body, status=206 if span else 200, headers=headers, content_type=_OCTETS)


def _span(call: Call) -> tuple[int | None, int | None] | None:
    """The bytes asked for by `Range`, or by `Content-Range` as very old clients do."""
    text = call.headers.get("Range")
    if text is not None:
        if "," in text:
            raise BadRequest(
                "Requests with multiple ranges are not supported in Glance. "
                "You may make multiple single-range requests instead."
            )
        found = _RANGE.match(text.strip())
        if not found or not (found.group(1) or found.group(2)):
            raise BadRange("Invalid Range header.")
        first, last = ((int(value) if value else None) for value in found.groups())
        return first, last
    text = call.headers.get("Content-Range")
    if text is None:
        return None
    found = _CONTENT_RANGE.match(text.strip())
    if not found:
        raise BadRange("Invalid Content-Range header.")
    return int(found.group(1)), int(found.group(2))


@operations("GET", "/info/import", rule="get_images")
def show_import(_call: Call) -> dict[str, Any]:
    """Show the ways of import there are."""
    return {
        "import-methods": {
            "description": "Import methods available.",
            "type": "array",
            "value": ["glance-direct"],
        }
    }
