"""Microversions: the version of the API that one request speaks (API-SIG microversion specification)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from pileus.kernel.errors import Invalid, NotAcceptable

Version = tuple[int, int]

_VERSION = re.compile(r"([1-9]\d*)\.(0|[1-9]\d*)\Z")


def parse(text: str) -> Version:
    """ "2.60" as (2, 60); ValueError when it is none."""
    found = _VERSION.match(text)
    if not found:
        raise ValueError(text)
    return int(found.group(1)), int(found.group(2))


def show(version: Version) -> str:
    return f"{version[0]}.{version[1]}"


def parse_range(text: str) -> tuple[Version, Version]:
    """ "2.1-2.35", "2.36-" or "" (every version) as a closed range."""
    low, _, high = text.partition("-")
    if text and "-" not in text:
        high = low
    return (parse(low) if low else (0, 0)), (parse(high) if high else (9999, 9999))


@dataclasses.dataclass(frozen=True)
class Microversions:
    """The versions one service speaks. `service` is the name in `OpenStack-API-Version: <service> 2.1`."""

    service: str
    min: Version
    max: Version
    legacy: str = ""
    header: str = "OpenStack-API-Version"

    def requested(self, headers: Mapping[str, str]) -> Version:
        """The version a request asks for; the minimum when it asks for none.

        Raises Invalid for text that is no version, NotAcceptable for one outside the range.
        """
        text = self._text(headers)
        if text is None:
            return self.min
        if text == "latest":
            return self.max
        try:
            version = parse(text)
        except ValueError:
            raise Invalid(
                f"API Version String '{text}' is of invalid format. Must be of format MajorNum.MinorNum."
            ) from None
        if not self.min <= version <= self.max:
            raise NotAcceptable(
                f"Version {text} is not supported by the API. Minimum is {show(self.min)} and maximum is {show(self.max)}."
            )
        return version

    def _text(self, headers: Mapping[str, str]) -> str | None:
        for part in headers.get(self.header.lower(), "").split(","):
            service, _, version = part.strip().partition(" ")
            if service.lower() == self.service and version:
                return version.strip().lower()
        return headers[self.legacy.lower()].strip().lower() if self.legacy and self.legacy.lower() in headers else None

    def response_headers(self, version: Version) -> dict[str, str]:
        headers = {self.header: f"{self.service} {show(version)}", "Vary": self.header}
        if self.legacy:
            headers[self.legacy] = show(version)
            headers["Vary"] = f"{self.header}, {self.legacy}"
        return headers
