"""Kinds of keys that are kept as text, staged, used and retired one after the other: in files, or in the vault of an installation."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable
from typing import Any

from cryptography.fernet import Fernet

from pileus.kernel import ids


def _unchanged(text: str) -> str:
    return text


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """`new` makes a key, `load` reads one, `retired` is what is kept of one that is used for nothing new any more."""

    new: Callable[[], str]
    load: Callable[[str], Any]
    retired: Callable[[str], str] = _unchanged


def new_fernet_key() -> str:
    return base64.urlsafe_b64encode(ids.token_bytes(32)).decode()


FERNET = Kind(new_fernet_key, lambda text: Fernet(text.encode()))
