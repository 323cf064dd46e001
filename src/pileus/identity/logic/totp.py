"""Time-based one-time passcodes (RFC 6238) of six digits, SHA-1 and 30 seconds, as authenticator programs make them."""

from __future__ import annotations

import base64
import binascii
import hmac

_SECONDS = 30
_DIGITS = 6


def key_of(secret: str) -> bytes:
    """The key in base32 as it is shown to people: case, spaces and padding do not count. Raises ValueError."""
    plain = "".join(secret.split()).rstrip("=").upper()
    try:
        key = base64.b32decode(plain + "=" * (-len(plain) % 8))
    except (binascii.Error, ValueError) as error:
        raise ValueError("not base32") from error
    if not key:
        raise ValueError("an empty key")
    return key


def step_at(seconds: float) -> int:
    """The time step of a moment, in seconds since the epoch."""
    return int(seconds) // _SECONDS


def passcode(key: bytes, step: int) -> str:
    """The passcode of one time step."""
    digest = hmac.digest(key, step.to_bytes(8, "big"), "sha1")
    start = digest[-1] & 15
    number = int.from_bytes(digest[start : start + 4], "big") & 0x7FFFFFFF
    return str(number % 10**_DIGITS).zfill(_DIGITS)


def step_of(key: bytes, given: str, now: float, earlier: int) -> int | None:
    """The newest step of now and so many before whose passcode was given. Every one is compared, all in the same time."""
    present = step_at(now)
    found: int | None = None
    for step in range(present - earlier, present + 1):
        if hmac.compare_digest(passcode(key, step).encode(), given.encode("utf-8", "surrogatepass")):
            found = step
    return found
