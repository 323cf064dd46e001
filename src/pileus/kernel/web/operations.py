"""Operations: each route of the API, declared beside its handler.

Routing, version ranges, validation, policy enforcement, the OpenAPI document and the coverage table come from here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pileus.kernel.web import microversions
from pileus.kernel.web.microversions import Version
from pileus.kernel.web.schema import Validator

Handler = Callable[..., Any]
Schemas = dict[str, Any] | Sequence[tuple[str, dict[str, Any] | None]] | None


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation: what it answers to, who may call it, what it takes and gives."""

    method: str
    path: str
    handler: Handler
    rule: str | None
    public: str
    late: bool
    statuses: tuple[int, ...]
    bodies: tuple[tuple[Version, Validator | None], ...]
    queries: tuple[tuple[Version, Validator | None], ...]
    first: Version
    last: Version
    action: str | None
    raw: bool
    max_body: int | None
    accepts: tuple[str, ...]
    aliases: tuple[str, ...]
    root: bool
    waits: bool
    summary: str
    response: dict[str, Any] | None

    @property
    def status(self) -> int:
        """Of success, unless the handler's reply says another one."""
        return self.statuses[0]

    def body_for(self, version: Version) -> Validator | None:
        return _newest(self.bodies, version)

    def query_for(self, version: Version) -> Validator | None:
        return _newest(self.queries, version)


def _newest(schemas: tuple[tuple[Version, Validator | None], ...], version: Version) -> Validator | None:
    for first, validator in schemas:  # newest first
        if first <= version:
            return validator
    return None


def _schemas(given: Schemas) -> tuple[tuple[Version, Validator | None], ...]:
    if given is None:
        return ()
    if isinstance(given, dict):
        return (((0, 0), Validator(given)),)
    parsed = [(microversions.parse(text), Validator(schema) if schema is not None else None) for text, schema in given]
    parsed.sort(key=lambda pair: pair[0], reverse=True)
    return tuple(parsed)


class Operations:
    """The operations of one module, collected by decorating their handlers."""

    def __init__(self) -> None:
        self._all: list[Operation] = []

    def __iter__(self) -> Iterator[Operation]:
        return iter(self._all)

    def __call__(
        self,
        method: str,
        path: str,
        *,
        rule: str | None = None,
        public: str = "",
        late: bool = False,
        status: int | tuple[int, ...] = 200,
        body: Schemas = None,
        query: Schemas = None,
        versions: str = "",
        action: str | None = None,
        raw: bool = False,
        max_body: int | None = None,
        accepts: tuple[str, ...] = (),
        aliases: tuple[str, ...] = (),
        root: bool = False,
        waits: bool = False,
        summary: str = "",
        response: dict[str, Any] | None = None,
    ) -> Callable[[Handler], Handler]:
        """Declare a handler.

        `rule` is the policy rule; without one `public` must give the reason why no token is needed. With `late` the
        handler authorizes itself, with the resource as target. `root` puts the path below the service's prefix instead
        of its base. Of several `status`es the first is usual. `waits` marks a handler that waits for a host. `accepts` are content types of the body besides JSON. `raw` leaves the body on `call.stream`.
        """
        if (rule is None) == (not public):
            raise ValueError(f"{method} {path}: give a policy rule, or the reason why it is public")
        first, last = microversions.parse_range(versions)

        def declare(handler: Handler) -> Handler:
            self._all.append(
                Operation(
                    method=method.upper(),
                    path=path,
                    handler=handler,
                    rule=rule,
                    public=public,
                    late=late,
                    statuses=(status,) if isinstance(status, int) else status,
                    bodies=_schemas(body),
                    queries=_schemas(query),
                    first=first,
                    last=last,
                    action=action,
                    raw=raw,
                    max_body=max_body,
                    accepts=accepts,
                    aliases=aliases,
                    root=root,
                    waits=waits,
                    summary=summary or (handler.__doc__ or "").strip().split("\n")[0],
                    response=response,
                )
            )
            return handler

        return declare
