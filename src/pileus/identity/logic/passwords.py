"""Password hashes: argon2id is made; bcrypt, bcrypt-sha256 and scrypt of an upstream database are verified too.

A hash takes 20-200 ms of a core: no more run at once than there are cores, and never inside a transaction.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import threading

import argon2
import bcrypt

from pileus.kernel import ids
from pileus.kernel.db import forbid_in_transaction

_GENERATED = "$sha256$"


class Hasher:
    """Hashes and verifies; `concurrent` 0 is the number of cores."""

    def __init__(self, time_cost: int = 2, memory_kib: int = 19456, concurrent: int = 0) -> None:
        self._argon2 = argon2.PasswordHasher(time_cost=time_cost, memory_cost=memory_kib, parallelism=1)
        self._slots = threading.BoundedSemaphore(concurrent or os.cpu_count() or 1)
        settings = f"$argon2id$v={argon2.low_level.ARGON2_VERSION}$m={memory_kib},t={time_cost},p=1"
        self._nobody = f"{settings}${_random(16)}${_random(32)}"  # the hash of no password

    def hash(self, password: str) -> str:
        forbid_in_transaction("a password hash")
        with self._slots:
            return self._argon2.hash(_bytes(password))

    def verify(self, password: str, stored: str | None) -> bool:
        """Whether the password is the stored one. Takes as long where nothing is stored: nobody learns who exists."""
        forbid_in_transaction("a password hash")
        with self._slots:
            if not stored:
                self._matches(password, self._nobody)
                return False
            return self._matches(password, stored)

    def _matches(self, password: str, stored: str) -> bool:
        secret = _bytes(password)
        try:
            if stored.startswith("$argon2"):
                return self._argon2.verify(stored, secret)
            if stored.startswith(("$2a$", "$2b$", "$2y$")):
                return bcrypt.checkpw(secret[:72], stored.encode())
            if stored.startswith("$bcrypt-sha256$"):
                return _bcrypt_sha256(secret, stored)
            if stored.startswith("$scrypt$"):
                return _scrypt(secret, stored)
        except (argon2.exceptions.Argon2Error, argon2.exceptions.InvalidHashError, ValueError, binascii.Error):
            return False
        return False


def hash_generated(secret: str) -> str:
    """For secrets that we made with 256 bits or more: guessing is hopeless, so a plain digest is enough."""
    return _GENERATED + hashlib.sha256(secret.encode()).hexdigest()


def is_generated(stored: str) -> bool:
    return stored.startswith(_GENERATED)


def verify_generated(secret: str, stored: str) -> bool:
    return hmac.compare_digest(hash_generated(secret), stored)


def _random(size: int) -> str:
    return base64.b64encode(ids.token_bytes(size)).decode().rstrip("=")


def _bytes(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")


def _bcrypt_sha256(secret: bytes, stored: str) -> bool:
    """`$bcrypt-sha256$v=2,t=2b,r=12$<salt>$<digest>`: bcrypt over an HMAC keyed with the salt."""
    _, _, settings, salt, digest = stored.split("$")
    fields = dict(part.split("=") for part in settings.split(","))
    if fields.get("v") != "2":
        return False
    key = base64.b64encode(hmac.new(salt.encode(), secret, hashlib.sha256).digest())
    return bcrypt.checkpw(key, f"${fields['t']}${int(fields['r']):02d}${salt}{digest}".encode())


def _scrypt(secret: bytes, stored: str) -> bool:
    """`$scrypt$ln=16,r=8,p=1$<salt>$<digest>`, both in base64 with "." for "+" and without padding."""
    _, _, settings, salt, digest = stored.split("$")
    fields = {name: int(value) for name, value in (part.split("=") for part in settings.split(","))}
    expected = _unpadded(digest)
    rounds, block, lanes = 1 << fields["ln"], fields["r"], fields["p"]
    made = hashlib.scrypt(
        secret,
        salt=_unpadded(salt),
        n=rounds,
        r=block,
        p=lanes,
        dklen=len(expected),
        maxmem=rounds * block * 129 + lanes * block * 128 + 1024 * 1024,
    )
    return hmac.compare_digest(made, expected)


def _unpadded(text: str) -> bytes:
    return base64.b64decode(text.replace(".", "+") + "=" * (-len(text) % 4))
