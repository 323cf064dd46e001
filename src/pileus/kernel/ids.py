"""Identifiers and random bytes. Everything random comes from here, so that tests can own it."""

from __future__ import annotations

import os
import secrets
import uuid

_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}  # RFC 9562, section 4.1
_HEX = frozenset("0123456789abcdefABCDEF")


def new_uuid() -> str:
    """A random UUID with dashes, the form of compute, network, image and placement ids."""
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"


def derived_uuid(parent: str, name: str) -> str:
    """The UUID of what `parent` has once under this name: always the same one (RFC 9562, version 5)."""
    return str(uuid.uuid5(uuid.UUID(parent), name))


def new_id() -> str:
    """A random UUID as 32 hexadecimal digits, the form of identity ids."""
    digits = os.urandom(16).hex()
    return f"{digits[:12]}4{digits[13:16]}{_VARIANT[digits[16]]}{digits[17:]}"


def request_id() -> str:
    return "req-" + new_uuid()


def token_bytes(count: int) -> bytes:
    """Bytes fit for keys and secrets."""
    return os.urandom(count)


def random_below(limit: int) -> int:
    """An unpredictable whole number in [0, limit)."""
    return secrets.randbelow(limit)


def password(length: int = 24) -> str:
    """A random password of letters and digits."""
    alphabet = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"
    return "".join(secrets.choice(alphabet) for _ in range(length))


def is_uuid_like(value: object) -> bool:
    """Whether the value is a UUID, with or without dashes, in either case."""
    if not isinstance(value, str) or len(value) not in {32, 36}:
        return False
    compact = value.replace("-", "")
    return len(compact) == 32 and all(character in _HEX for character in compact)
