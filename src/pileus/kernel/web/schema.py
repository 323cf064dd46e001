"""JSON schema validation: compiled by fastjsonschema on first use; the text of an error comes from jsonschema."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any

import fastjsonschema

from pileus.kernel import clock, ids

_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}\Z")


def _works(function: Callable[[str], Any], *errors: type[Exception]) -> Callable[[str], bool]:
    caught = errors or (ValueError,)

    def check(value: str) -> bool:
        try:
            function(value)
        except caught:
            return False
        return True

    return check


SECRETS = frozenset(
    {"auth", "password", "original_password", "adminPass", "secret", "client_secret", "blob", "token", "user_data"}
)
"""Names of properties whose values are not repeated in the sentence about an error."""

FORMATS: dict[str, Callable[[str], bool]] = {
    "uuid": ids.is_uuid_like,
    "ipv4": _works(ipaddress.IPv4Address),
    "ipv6": _works(ipaddress.IPv6Address),
    "ip": _works(ipaddress.ip_address),
    "cidr": _works(lambda value: ipaddress.ip_network(value, strict=False)),
    "mac": lambda value: bool(_MAC.match(value)),
    "date-time": _works(clock.parse),
    "base64": _works(lambda value: base64.b64decode(value, validate=True), ValueError, binascii.Error),
}
"""String formats that schemas may name, the same for both validators."""


class SchemaError(ValueError):
    """A document that does not fit: `path` ("server/name"), `value` found there, `message`."""

    def __init__(self, path: str, value: Any, message: str) -> None:
        super().__init__(message)
        self.path = path
        self.value = value
        self.message = message


class Validator:
    """One schema. Compiling takes milliseconds, so it happens when the first document comes."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.schema = schema
        self._check: Callable[[Any], Any] | None = None
        self._lock = threading.Lock()

    def __call__(self, document: Any) -> None:
        """Raise SchemaError unless the document fits. The document is not changed."""
        if self._check is None:
            with self._lock:
                if self._check is None:
                    self._check = fastjsonschema.compile(
                        self.schema, formats=FORMATS, use_default=False, detailed_exceptions=False
                    )
        try:
            self._check(document)
        except fastjsonschema.JsonSchemaValueException as error:
            raise self._explain(document, error.message) from None

    def _explain(self, document: Any, fallback: str) -> SchemaError:
        import jsonschema  # noqa: PLC0415 - 50 ms of import that only a wrong request needs

        checker = jsonschema.FormatChecker(formats=())
        for name, function in FORMATS.items():
            checker.checks(name)(_strings_only(function))
        validator = jsonschema.Draft7Validator(self.schema, format_checker=checker)
        found = jsonschema.exceptions.best_match(validator.iter_errors(document))
        if found is None:
            return SchemaError("", document, fallback)
        path = [str(part) for part in found.absolute_path]
        if _is_secret(path, found.instance):
            return SchemaError("/".join(path), "***", found.message.replace(repr(found.instance), "The value"))
        return SchemaError("/".join(path), found.instance, found.message)


def _is_secret(path: Sequence[str], value: Any) -> bool:
    """Whether the place, or something in the value, has a name that secrets have."""
    if not SECRETS.isdisjoint(path):
        return True
    if isinstance(value, dict):
        return any(_is_secret([name], inner) for name, inner in value.items())
    return isinstance(value, list) and any(_is_secret((), inner) for inner in value)


def _strings_only(function: Callable[[str], bool]) -> Callable[[object], bool]:
    return lambda value: not isinstance(value, str) or function(value)
