"""Attributes of resources: what a body may name, how each value is checked and converted, what stands in when it is absent.

A converter takes the value from the body and gives the stored one; it raises Wrong with the reason, which becomes upstream's sentence
"Invalid input for NAME. Reason: ...". An attribute without a default that is absent stays absent: the logic then decides.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pileus.kernel import ids
from pileus.network.errors import HTTPBadRequest

Converter = Callable[[Any], Any]
ABSENT: Any = object()
REQUIRED: Any = object()

_MAC = re.compile(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}\Z")


class Wrong(ValueError):
    """A value that an attribute cannot have; the text is the reason."""


@dataclasses.dataclass(frozen=True)
class Attribute:
    """One attribute. `default` REQUIRED: a create must name it; ABSENT: the logic decides; else the value that stands in."""

    convert: Converter | None = None
    create: bool = True
    update: bool = True
    default: Any = ABSENT


Attributes = Mapping[str, Attribute]


def read_only() -> Attribute:
    """An attribute that only the service sets."""
    return Attribute(create=False, update=False)


STANDARD: dict[str, Attribute] = {}


def on_create(resource: str, attributes: Attributes, body: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a create's body, with defaults. Raises HTTPBadRequest."""
    values = _known(resource, attributes, body)
    for name in values:
        if not attributes[name].create:
            raise HTTPBadRequest(f"Attribute '{name}' not allowed in POST")
    result = {}
    for name, attribute in attributes.items():
        if name in values:
            result[name] = _converted(name, attribute, values[name])
        elif attribute.default is REQUIRED:
            raise HTTPBadRequest(f"Failed to parse request. Required attribute '{name}' not specified")
        elif attribute.default is not ABSENT:
            default = attribute.default
            result[name] = default.copy() if isinstance(default, (list, dict)) else default
    return result


def on_update(resource: str, attributes: Attributes, body: Mapping[str, Any]) -> dict[str, Any]:
    """The values of an update's body. Raises HTTPBadRequest."""
    values = _known(resource, attributes, body)
    for name in values:
        if not attributes[name].update:
            raise HTTPBadRequest(f"Cannot update read-only attribute {name}")
    return {name: _converted(name, attributes[name], value) for name, value in values.items()}


def _known(resource: str, attributes: Attributes, body: Any) -> dict[str, Any]:
    if not isinstance(body, Mapping):
        raise HTTPBadRequest(f"Invalid input for {resource}. Reason: '{body}' is not a dictionary.")
    values = dict(body)
    if "tenant_id" in values:
        tenant = values.pop("tenant_id")
        if values.setdefault("project_id", tenant) != tenant:
            raise HTTPBadRequest("'project_id' and 'tenant_id' do not match")
    unknown = sorted(name for name in values if name not in attributes)
    if unknown:
        raise HTTPBadRequest(f"Unrecognized attribute(s) '{', '.join(unknown)}'")
    return values


def _converted(name: str, attribute: Attribute, value: Any) -> Any:
    if attribute.convert is None:
        return value
    try:
        return attribute.convert(value)
    except ValueError as error:
        raise HTTPBadRequest(f"Invalid input for {name}. Reason: {error}.") from None


# -- converters ------------------------------------------------------------------------------------------------------


def text(limit: int = 255) -> Converter:
    """A string of at most `limit` characters."""

    def convert(value: Any) -> str:
        if not isinstance(value, str):
            raise Wrong(f"'{value}' is not a valid string")
        if len(value) > limit:
            raise Wrong(f"'{value}' exceeds maximum length of {limit}")
        if "\x00" in value:
            raise Wrong("a string must not contain NUL")
        return value

    return convert


def boolean(value: Any) -> bool:
    """True and false in the spellings that clients send."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "false", "1", "0"}:
        return value.lower() in {"true", "1"}
    if isinstance(value, int) and value in {0, 1}:
        return bool(value)
    raise Wrong(f"'{value}' cannot be converted to boolean")


def uuid(value: Any) -> str:
    if not ids.is_uuid_like(value):
        raise Wrong(f"'{value}' is not a valid UUID")
    return str(value)


def integer(low: int | None = None, high: int | None = None) -> Converter:
    """A whole number, also as text, within bounds."""

    def convert(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise Wrong(f"'{value}' is not an integer")
        try:
            number = int(value)
        except ValueError:
            raise Wrong(f"'{value}' is not an integer") from None
        if low is not None and number < low:
            raise Wrong(f"'{value}' is too small - must be at least '{low}'")
        if high is not None and number > high:
            raise Wrong(f"'{value}' is too large - must be no larger than '{high}'")
        return number

    return convert


def one_of(*choices: Any) -> Converter:
    def convert(value: Any) -> Any:
        if isinstance(value, (dict, list)) or value not in choices:
            raise Wrong(f"'{value}' is not in {list(choices)}")
        return value

    return convert


def or_none(convert: Converter) -> Converter:
    return lambda value: None if value is None else convert(value)


def none_as(replacement: Any, convert: Converter) -> Converter:
    """None stands for the replacement."""
    return lambda value: replacement if value is None else convert(value)


def address(value: Any) -> str:
    """An IP address in its canonical form; leading zeros are refused."""
    if not isinstance(value, str):
        raise Wrong(f"'{value}' is not a valid IP address")
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise Wrong(f"'{value}' is not a valid IP address") from None


def cidr(value: Any) -> str:
    """A subnet in its canonical form: bits of the host part are dropped."""
    if not isinstance(value, str) or "/" not in value:
        raise Wrong(f"'{value}' is not a valid IP subnet")
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise Wrong(f"'{value}' is not a valid IP subnet") from None


def mac(value: Any) -> str:
    """A unicast MAC address, lower case with colons."""
    if not isinstance(value, str) or not _MAC.match(value):
        raise Wrong(f"'{value}' is not a valid MAC address")
    canonical = value.lower().replace("-", ":")
    if canonical == "00:00:00:00:00:00" or int(canonical[:2], 16) & 1:
        raise Wrong(f"'{value}' is not a MAC address that a port can have")
    return canonical


def list_of(convert: Converter, *, unique: bool = False, limit: int | None = None) -> Converter:
    """A list, each item converted; None is an empty list."""

    def convert_all(value: Any) -> list[Any]:
        if value is None:
            return []
        if not isinstance(value, list):
            raise Wrong(f"'{value}' is not a list")
        items = [convert(item) for item in value]
        for index, item in enumerate(items):
            if unique and item in items[:index]:
                raise Wrong(f"Duplicate items in the list: '{item}'")
        if limit is not None and len(items) > limit:
            raise Wrong(f"'{value}' has more than {limit} items")
        return items

    return convert_all


def mapping(fields: Mapping[str, Converter], required: Sequence[str] = ()) -> Converter:
    """A dictionary with known keys only, each value converted."""

    def convert(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Wrong(f"'{value}' is not a dictionary")
        unknown = sorted(str(key) for key in value if key not in fields)
        if unknown:
            raise Wrong(f"'{', '.join(unknown)}' is not allowed here; allowed keys are {sorted(fields)}")
        missing = [key for key in required if key not in value]
        if missing:
            raise Wrong(f"'{value}' lacks the required key(s) {missing}")
        return {key: fields[key](item) for key, item in value.items()}

    return convert


def dictionary(value: Any) -> dict[str, Any]:
    """Any JSON object; None is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Wrong(f"'{value}' is not a dictionary")
    return value


def project(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 255:
        raise Wrong(f"'{value}' is not a valid string")
    return value


STANDARD.update(
    {
        "id": read_only(),
        "project_id": Attribute(project, update=False),
        "revision_number": read_only(),
        "created_at": read_only(),
        "updated_at": read_only(),
        "tags": read_only(),
    }
)
"""What every resource has."""

NAME = Attribute(text(), default="")
DESCRIPTION = Attribute(none_as("", text()), default="")
ADMIN_STATE = Attribute(boolean, default=True)
