"""The rooms of this release, in the order in which they start."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from pileus.kernel.config import Config
from pileus.kernel.errors import ConfigurationError
from pileus.kernel.room import Room, load

NAMES = ("identity", "placement", "image", "network", "compute")


def room(name: str) -> Room:
    """The declaration of one room. Raises ConfigurationError for a name that is none."""
    if name not in NAMES:
        raise ConfigurationError(f"there is no service {name!r}; there are {', '.join(NAMES)}")
    found: Room = load(f"pileus.{name}.room:ROOM")
    return found


def option_types(names: Iterable[str] = NAMES) -> dict[str, type[msgspec.Struct]]:
    """The option sections of rooms, for `config.load`."""
    return {name: load(room(name).options) for name in names}


def with_agents(config: Config) -> list[Room]:
    """The rooms whose agent runs on this machine: guests need their host's networks, so compute brings network along."""
    roles = set(config.pileus.roles)
    wanted = {"compute": "compute" in roles, "network": bool(roles & {"compute", "network"})}
    return [each for each in enabled(config) if each.agent and wanted.get(each.name, True)]


def enabled(config: Config) -> list[Room]:
    """The rooms that this installation runs."""
    unknown = set(config.pileus.services) - set(NAMES)
    if unknown:
        raise ConfigurationError(f"pileus.services: there is no service {', '.join(sorted(unknown))}")
    return [room(name) for name in NAMES if name in config.pileus.services]
