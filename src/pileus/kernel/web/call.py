"""One request as a handler sees it, and what it may answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from pileus.kernel.context import Context
from pileus.kernel.errors import Failure, Forbidden, Invalid, TooLarge
from pileus.kernel.web.microversions import Version

if TYPE_CHECKING:
    from pileus.kernel.service import Service
    from pileus.kernel.web.operations import Operation


ASSERTION_KEY = "pileus.assertion"
"""Environ key under which the edge hands over what a trusted proxy says of who is asking. No HTTP header can set it."""


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


def read_bounded(stream: BinaryIO | Readable, length: int | None, limit: int) -> bytes:
    """A whole body of this length (None: up to its end). Raises TooLarge beyond `limit` bytes.

    The edge's streams may give less than asked for at a time.
    """
    if length is not None and length > limit:
        raise TooLarge("Request is too large.")
    size = limit + 1 if length is None else length
    data = stream.read(size)
    while len(data) < size and (more := stream.read(size - len(data))):
        data += more
    if len(data) > limit:
        raise TooLarge("Request is too large.")
    return data


MOST_LEVELS = 30
"""Levels of a JSON body. MariaDB stores 32; what is deeper than 250 could never be answered again, nor any list that holds it."""


def is_deep(document: Any) -> bool:
    """Whether a JSON document has more than MOST_LEVELS levels of lists and objects."""
    level = [document]
    for _ in range(MOST_LEVELS + 1):
        containers = [one for one in level if isinstance(one, (dict, list))]
        if not containers:
            return False
        level = [inner for one in containers for inner in (one.values() if isinstance(one, dict) else one)]
    return True


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is more than a JSON body. `body`: JSON value, bytes, text, an iterator of bytes, or None."""

    body: Any = None
    status: int | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    content_type: str | None = None


class Query:
    """The query string: every key may come several times."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for key, value in pairs:
            self._values.setdefault(key, []).append(value)

    def one(self, name: str, default: str | None = None) -> str | None:
        """The last value of a key, as upstream's services read a repeated one."""
        values = self._values.get(name)
        return values[-1] if values else default

    def all(self, name: str) -> list[str]:
        return list(self._values.get(name, ()))

    def items(self) -> Iterator[tuple[str, str]]:
        return ((key, value) for key, values in self._values.items() for value in values)

    def as_lists(self) -> dict[str, list[str]]:
        return self._values

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __bool__(self) -> bool:
        return bool(self._values)


class Headers:
    """Request headers, whatever their case."""

    def __init__(self, environ: Mapping[str, Any]) -> None:
        self._environ = environ

    def get(self, name: str, default: str | None = None) -> str | None:
        key = name.upper().replace("-", "_")
        if key not in {"CONTENT_TYPE", "CONTENT_LENGTH"}:
            key = "HTTP_" + key
        value = self._environ.get(key)
        return default if value is None else str(value)

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def items(self) -> Iterator[tuple[str, str]]:
        """Lower-case names and values."""
        for key, value in self._environ.items():
            if key.startswith("HTTP_"):
                yield key[5:].lower().replace("_", "-"), str(value)


class Call:
    """One request: the caller, what it asks, and the service that answers."""

    __slots__ = (
        "_authorized",
        "assertion",
        "base_url",
        "body",
        "client",
        "context",
        "headers",
        "method",
        "operation",
        "params",
        "path",
        "query",
        "refusal",
        "service",
        "stream",
        "version",
    )

    def __init__(
        self,
        *,
        context: Context,
        service: Service,
        operation: Operation,
        params: dict[str, str],
        query: Query,
        headers: Headers,
        method: str,
        path: str,
        base_url: str,
        version: Version,
        body: Any = None,
        stream: BinaryIO | Readable | None = None,
        refusal: Callable[[str], str] = str,
        client: str = "",
        assertion: Mapping[str, str] | None = None,
    ) -> None:
        self.client = client  # the address that asks; none is this process itself
        self.context = context
        self.service = service
        self.operation = operation
        self.params = params
        self.query = query
        self.headers = headers
        self.method = method
        self.path = path
        self.base_url = base_url
        self.version = version
        self.body = body
        self.stream: Any = stream
        self.refusal = refusal
        self.assertion: Mapping[str, str] = assertion or {}
        self._authorized = False

    @property
    def authorized(self) -> bool:
        return self._authorized

    def content(self, limit: int) -> bytes:
        """The body of a `raw` operation, where it is small. Raises TooLarge."""
        told = self.headers.get("Content-Length")
        if told and not told.isdecimal():
            raise Invalid("Content-Length is no number.")
        return b"" if self.stream is None else read_bounded(self.stream, int(told) if told else None, limit)

    def at_least(self, major: int, minor: int) -> bool:
        return self.version >= (major, minor)

    def link(self, path: str = "") -> str:
        """The absolute URL of a path below this service's base, as this client reaches it."""
        return self.base_url + self.service.base + path

    def root_link(self, path: str = "") -> str:
        """The absolute URL of a path below this service's prefix."""
        return self.base_url + path

    def allows(self, rule: str, target: Mapping[str, Any] | None = None) -> bool:
        return self.service.policy.check(rule, self.context, self._target(target))

    def authorize(
        self, target: Mapping[str, Any] | None = None, *, rule: str | None = None, hidden: Failure | None = None
    ) -> None:
        """Refuse unless the rule (the operation's by default) allows this caller with this target.

        Raises Forbidden, or `hidden` for a resource whose existence the caller must not learn of.
        """
        wanted = rule or self.operation.rule or ""
        self._authorized = True
        if not self.allows(wanted, target):
            raise hidden or Forbidden(self.refusal(wanted), code="PolicyNotAuthorized")

    def mark_authorized(self) -> None:
        """For lists whose filter is the authorization."""
        self._authorized = True

    def _target(self, target: Mapping[str, Any] | None) -> Mapping[str, Any]:
        if target is not None:
            return target
        own = {"project_id": self.context.project_id, "user_id": self.context.user_id}
        own["tenant_id"] = own["project_id"]
        return {**own, **self.params}
