"""Keys and passwords of an installation, made once, readable by its owner alone."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable

import msgspec

from pileus.kernel import ids
from pileus.kernel.files import write_private

__all__ = ["passwords", "secret", "write_private"]


def secret(home: pathlib.Path, name: str) -> bytes:
    """A random secret of the installation below `keys/`, made at first use."""
    path = home / "keys" / name
    if not path.exists():
        write_private(path, ids.token_bytes(32).hex().encode())
    return path.read_bytes()


class NodeLogin(msgspec.Struct, frozen=True):
    """Who a node is to the cloud's API."""

    name: str
    user: str
    password: str


def node_login(home: pathlib.Path) -> NodeLogin | None:
    """The login of a machine that has joined a cloud as a node, None of any other."""
    path = home / "keys" / "node.json"
    return msgspec.json.decode(path.read_bytes(), type=NodeLogin) if path.exists() else None


def write_node_login(home: pathlib.Path, login: NodeLogin) -> None:
    write_private(home / "keys" / "node.json", msgspec.json.encode(login))


def passwords(home: pathlib.Path, users: Iterable[str]) -> dict[str, str]:
    """Passwords of the installation's own users, made at first use."""
    path = home / "keys" / "passwords.json"
    known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    missing = [user for user in users if user not in known]
    if missing:
        known.update({user: ids.password() for user in missing})
        write_private(path, json.dumps(known, indent=1).encode())
    return known
