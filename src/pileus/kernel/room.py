"""The declaration of a service: what `server` needs to know to assemble it, by name where importing would cost."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from pileus.kernel.web.microversions import Microversions
from pileus.kernel.web.operations import Operation


def load(path: str) -> Any:
    """The object behind "package.module:name"."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Room:
    """One service. Paths are "module:name" and are imported only by the processes that need them.

    `api` are modules with a list `operations`; `scopes` maps policy rules to the token scopes they take; `prefix` and `base` are where they are served; `catalog` is the path of
    the catalog URL, with `$(project_id)s` where upstream has it; `port` is the classical one. `revision` is identity's
    alone: a function of its Service that reads the revision number, asked before each request on the same machine; so are
    `rotate_keys` and `rotate_credential_keys`, for `pileus keys rotate`.
    `explain` is a function of a connection and an id that says how a resource is and what comes next, for `pileus why`. `logins`
    are (method, path below the prefix, `*` for any part of it) of requests that hash passwords: the edge keeps them apart from all others.
    """

    name: str
    service_type: str
    service_name: str
    prefix: str
    base: str
    catalog: str
    port: int
    options: str
    tables: str
    policy: str
    fault: str
    api: tuple[str, ...]
    microversions: Microversions | None = None
    scopes: str = ""
    flows: str = ""
    loops: str = ""
    calls: str = ""
    agent: str = ""
    bootstrap: str = ""
    revision: str = ""
    rotate_keys: str = ""
    rotate_credential_keys: str = ""
    explain: str = ""
    logins: frozenset[tuple[str, str]] = frozenset()
    extra_apps: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def database(self) -> str:
        return self.name

    def operations(self) -> Iterator[Operation]:
        """All operations; imports the API modules."""
        for module in self.api:
            yield from importlib.import_module(module).operations
