"""Changing an image: JSON patches, in the two dialects that glance has had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pileus.image.api.common import seen, view
from pileus.image.api.images import IMAGE, check_visibility
from pileus.image.errors import BadRequest, NotPermitted, WrongStatus
from pileus.image.logic import images as logic
from pileus.image.logic.images import BASE, Wanted
from pileus.image.store.images import Image
from pileus.kernel.errors import UnsupportedMedia
from pileus.kernel.web import Call, Operations
from pileus.kernel.web.schema import SchemaError, Validator

operations = Operations()

_V2_0 = "application/openstack-images-v2.0-json-patch"
_V2_1 = "application/openstack-images-v2.1-json-patch"
_WORDS = ("add", "remove", "replace")
_BODY = {"type": ["array", "object", "string", "number", "boolean", "null"]}
_valid = Validator(IMAGE)


@dataclass(frozen=True)
class Change:
    """One operation: `word` is add, remove or replace, `name` what it is about."""

    word: str
    name: str
    value: Any = None


@operations("PATCH", "/images/{image_id}", rule="modify_image", late=True, body=_BODY, accepts=(_V2_0, _V2_1))
def update_image(call: Call) -> dict[str, Any]:
    """Change what an image says of itself."""
    changes = _read(call)
    found = seen(call)
    target = dict(found.target)
    _check_owner(call, target, changes)
    for change in changes:
        if change.name == "visibility" and change.value != found.image.visibility:
            check_visibility(call, target, change.value if isinstance(change.value, str) else None)
    if not changes:
        return view(found.image, call.service.options.store_id)
    image = logic.update_image(call.service, found.image, lambda now: _apply(now, changes))
    return view(image, call.service.options.store_id)


def _check_owner(call: Call, target: Mapping[str, Any], changes: list[Change]) -> None:
    changing = any(change.name == "owner" and change.value != target["owner"] for change in changes)
    if changing and not call.context.is_admin:
        raise NotPermitted("Owner can't be updated by non admin.")


def _read(call: Call) -> list[Change]:
    kind = (call.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
    if kind not in {_V2_0, _V2_1}:
        raise UnsupportedMedia(
            f"Image PATCH expects Content-Type one of: {_V2_0}, {_V2_1}", headers={"Accept-Patch": f"{_V2_0}, {_V2_1}"}
        )
    if not isinstance(call.body, list):
        raise BadRequest("Request body must be a JSON array of operation objects.")
    return [_operation(raw, old=kind == _V2_0) for raw in call.body]


def _operation(raw: Any, *, old: bool) -> Change:
    if not isinstance(raw, dict):
        raise BadRequest("Operations must be JSON objects.")
    if old:
        words = [word for word in _WORDS if word in raw]
        if len(words) != 1:
            raise BadRequest("Operation objects must contain exactly one member named add, remove, or replace.")
        word, path = words[0], raw[words[0]]
    else:
        if "op" not in raw:
            raise BadRequest("Unable to find 'op' in JSON Schema change. It must be one of: add, remove, replace.")
        word = raw["op"]
        if word not in _WORDS:
            raise BadRequest(f"Invalid operation: `{word}`. It must be one of the following: {', '.join(_WORDS)}.")
        if "path" not in raw:
            raise BadRequest("Unable to find 'path' in JSON Schema change")
        path = raw["path"]
    if word != "remove" and "value" not in raw:
        raise BadRequest(f'Operation "{word}" requires a member named "value".')
    return Change(word, _pointer(path), raw.get("value"))


def _pointer(path: Any) -> str:
    """The one name that a JSON pointer of an image has."""
    if not isinstance(path, str) or not path.startswith("/"):
        raise BadRequest(f'Pointer `{path}` does not start with "/".')
    name = path[1:]
    if "/" in name or not name:
        raise BadRequest(f"Invalid JSON pointer for this resource: '{path}'")
    if "~" in name.replace("~0", "").replace("~1", ""):
        raise BadRequest(f'Pointer `{path}` contains "~" not part of a recognized escape sequence.')
    return name.replace("~1", "/").replace("~0", "~")


def _apply(image: Image, changes: list[Change]) -> Wanted:
    """What the image is to be after the changes, in their order."""
    values: dict[str, Any] = {name: image.row[name] for name in BASE}
    values["tags"] = list(image.tags)
    properties = dict(image.properties)
    for change in changes:
        _check(image, change)
        if change.name in values:
            values[change.name] = change.value
        elif change.word != "add" and change.name not in properties:
            raise WrongStatus(f"Property {change.name} does not exist.")
        elif change.word == "remove":
            del properties[change.name]
        else:
            properties[change.name] = change.value
    try:
        _valid({**properties, **values})
    except SchemaError as error:
        raise BadRequest(f"Provided object does not match schema 'image': {error.message} at {error.path}") from None
    tags = values.pop("tags")
    return Wanted(values, properties, tags)


def _check(image: Image, change: Change) -> None:
    if change.name == "id":
        raise NotPermitted("Attribute 'id' is read-only.")
    logic.check_names([change.name])
    if change.name == "locations":
        raise NotPermitted("Images are not made from locations here: upload the data.")
    if change.word == "remove" and (change.name in BASE or change.name == "tags"):
        raise NotPermitted(f"Property {change.name} may not be removed.")
    if change.name in {"disk_format", "container_format"} and image.status != "queued":
        raise NotPermitted(f"Attribute {change.name} can be only replaced for a queued image.")
