"""Pieces of the request schemas, and the conversions of what those let through as text."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from pileus.compute.errors import BadRequest
from pileus.kernel.web import Call

Schema = dict[str, Any]

MAX_INT = 0x7FFFFFFF
_TRUE = ("True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes", "y", "t")
_FALSE = ("False", "FALSE", "false", "0", "OFF", "Off", "off", "NO", "No", "no", "n", "f")

PRINTABLE = r"^(?!\s)(?!.*\s$)[^\x00-\x1f\x7f]+$"
NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": PRINTABLE}
TEXT: Schema = {"type": "string", "maxLength": 255}
BOOLEAN: Schema = {"enum": [True, False, *_TRUE, *_FALSE]}
UUID: Schema = {"type": "string", "format": "uuid"}
NONE: Schema = {"enum": ["none", None, {}]}
PROJECT_ID: Schema = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[a-zA-Z0-9-]*$"}
HOSTNAME: Schema = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[a-zA-Z0-9-._]*$"}
DESCRIPTION: Schema = {"type": ["string", "null"], "maxLength": 255, "pattern": r"^[^\x00-\x08\x0b\x0c\x0e-\x1f]*$"}
METADATA: Schema = {
    "type": "object",
    "patternProperties": {r"^[a-zA-Z0-9-_:. ]{1,255}$": {"type": "string", "maxLength": 255}},
    "additionalProperties": False,
}
METADATA_OR_NULL: Schema = {
    "type": "object",
    "patternProperties": {r"^[a-zA-Z0-9-_:. ]{1,255}$": {"type": ["string", "null"], "maxLength": 255}},
    "additionalProperties": False,
}
TAG: Schema = {"type": "string", "minLength": 1, "maxLength": 60, "pattern": "^[^,/]*$"}
DISK_CONFIG: Schema = {"enum": ["AUTO", "MANUAL"]}
IP4: Schema = {"type": "string", "format": "ipv4"}
IP6: Schema = {"type": "string", "format": "ipv6"}


def obj(properties: Mapping[str, Any], required: Iterable[str] = (), *, additional: bool = False) -> Schema:
    """An object with these properties and, unless `additional`, no others."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": additional,
    }


def wrap(key: str, schema: Schema) -> Schema:
    """`{key: ...}` and nothing else."""
    return obj({key: schema}, [key])


def text_or_integer(low: int = 0) -> Schema:
    """A whole number, possibly written as text; `integer` checks the range of the text."""
    return {"type": ["integer", "string"], "pattern": r"^-?[0-9]+$", "minimum": low, "maximum": MAX_INT}


def many(schema: Schema) -> Schema:
    """A query key that may be repeated."""
    return {"type": "array", "items": schema}


def once(schema: Schema) -> Schema:
    """A query key that may come once."""
    return {"type": "array", "items": schema, "maxItems": 1}


ANY_TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "string", "pattern": "^[0-9]+$"}
PAGING: dict[str, Schema] = {"limit": many(NUMBER), "marker": many(ANY_TEXT)}


def query(properties: Mapping[str, Schema], *, additional: bool = True) -> Schema:
    return obj(properties, additional=additional)


def boolean(value: Any) -> bool:
    """A boolean as the API lets it be written; raises ValueError for anything else."""
    if isinstance(value, bool):
        return value
    if str(value) in _TRUE or str(value).lower() in {"true", "1"}:
        return True
    if str(value) in _FALSE or str(value).lower() in {"false", "0"}:
        return False
    raise ValueError(f"Unrecognized value '{value}'")


def lenient(value: Any, *, default: bool = False) -> bool:
    """A boolean where anything unknown counts as `default`."""
    try:
        return boolean(value)
    except ValueError:
        return default


def integer(value: Any, name: str, low: int = 0, high: int = MAX_INT) -> int:
    """A whole number within a range; raises `BadRequest` in the words of a schema violation."""
    try:
        number = int(value)
    except (TypeError, ValueError):
        raise BadRequest(f"Invalid input for field/attribute {name}. Value: {value}. It must be an integer.") from None
    if number < low:
        raise BadRequest(
            f"Invalid input for field/attribute {name}. Value: {value}. {number} is less than the minimum of {low}"
        )
    if number > high:
        raise BadRequest(
            f"Invalid input for field/attribute {name}. Value: {value}. {number} is greater than the maximum of {high}"
        )
    return number


def address(value: str | None) -> str | None:
    """An address in its shortest form; None for an empty one."""
    return str(ipaddress.ip_address(value)) if value else None


def limit_of(call: Call) -> int:
    """Size of the page that the caller asks for, bounded by the service's own limit."""
    most: int = call.service.options.max_limit
    given = call.query.one("limit")
    if given is None or given == "":
        return most
    return min(integer(given, "limit"), most)


def sorting(call: Call, default: tuple[str, str]) -> list[tuple[str, str]]:
    """Pairs of sort key and direction; directions that are not given repeat the first one."""
    keys = call.query.all("sort_key") or [default[0]]
    directions = call.query.all("sort_dir") or [default[1]]
    if len(directions) > len(keys):
        raise BadRequest("Sort direction array size exceeds sort key array size.")
    directions = directions + [directions[0]] * (len(keys) - len(directions))
    return list(zip(keys, directions, strict=True))


def next_link(call: Call, href: str, marker: str) -> list[dict[str, str]]:
    """The `..._links` of a full page: the same question, after the last item."""
    pairs = [(key, value) for key, value in call.query.items() if key != "marker"]
    return [{"rel": "next", "href": f"{href}?{urlencode([*pairs, ('marker', marker)])}"}]
