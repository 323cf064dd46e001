"""What tokens say, Fernet tokens, and the repository of their keys; `kernel.jws` has the signed ones.

A token says who asked for what scope, how, and until when; nothing about rights. The payload is msgpack, first element
is the version of its form (one per scope); ids of 32 or 64 hexadecimal digits travel as 16 or 32 bytes. A project token with two
audit ids is 204 characters, any token stays below 250 as long as its ids are of that kind.

Keys live in files named by whole numbers, as in keystone: 0 is staged (accepted, becomes the next primary), the highest
is primary (it encrypts), those between are secondary (accepted until they are pruned).
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import dataclasses
import datetime as dt
import fcntl
import logging
import os
import pathlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import msgspec
from cryptography.fernet import Fernet, InvalidToken

from pileus.kernel import clock, ids
from pileus.kernel.key_kinds import FERNET, Kind

_log = logging.getLogger(__name__)

# Position in this list is the bit in the payload's mask: append only.
METHODS = (
    "password",
    "token",
    "application_credential",
    "totp",
    "external",
    "mapped",
    "oauth1",
    "trust",
    "ec2credential",
    "oauth2_credential",
)

# One number for each scope; a federated token has those of its scope and, in addition, of whom it comes from.
_UNSCOPED, _DOMAIN, _PROJECT, _TRUST, _OAUTH1, _SYSTEM, _APPLICATION_CREDENTIAL, _CERTIFICATE = 0, 1, 2, 3, 7, 8, 9, 10
_FEDERATED = {_UNSCOPED: 4, _PROJECT: 5, _DOMAIN: 6, _SYSTEM: 11}
_SCOPE_OF_FEDERATED = {number: scope for scope, number in _FEDERATED.items()}


class TokenInvalid(Exception):
    """Not a token of ours, or encrypted with a key that is gone."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Who a token stands for. At most one of project_id, domain_id, system is set."""

    user_id: str
    methods: tuple[str, ...]
    issued_at: dt.datetime
    expires_at: dt.datetime
    audit_ids: tuple[str, ...]
    project_id: str | None = None
    domain_id: str | None = None
    system: str | None = None
    trust_id: str | None = None
    application_credential_id: str | None = None
    access_token_id: str | None = None  # OAuth 1.0: what the user let a consumer do
    identity_provider_id: str | None = None  # federation: who says that it is this user
    protocol_id: str | None = None
    thumbprint: str | None = None  # RFC 8705: of the certificate without which the token is worth nothing

    @property
    def audit_id(self) -> str:
        """Names this token."""
        return self.audit_ids[0]

    @property
    def chain_id(self) -> str:
        """Names the first token of the chain that this one was made from."""
        return self.audit_ids[-1]

    @property
    def unscoped(self) -> bool:
        return self.project_id is None and self.domain_id is None and self.system is None


def new_audit_id() -> str:
    """22 URL-safe characters that name a token without giving it away."""
    return base64.urlsafe_b64encode(ids.token_bytes(16)).decode().rstrip("=")


class Keys(Protocol):
    """Whoever knows the keys of tokens."""

    def fernets(self) -> tuple[Fernet, ...]:
        """Primary first. Raises FileNotFoundError when there are none."""
        ...


class KeyRepository:
    """A directory of keys of one kind, shared by processes: read again when it changes, written atomically."""

    def __init__(self, path: pathlib.Path, kind: Kind = FERNET) -> None:
        self.path = path
        self._kind = kind
        self._lock = threading.Lock()
        self._stamp: int | None = None
        self._keys: tuple[Any, ...] = ()

    def fernets(self) -> tuple[Fernet, ...]:
        """Primary first, of a repository of Fernet keys. Raises FileNotFoundError when there is no repository."""
        return self.loaded()

    def loaded(self) -> tuple[Any, ...]:
        """The keys as their kind loads them, primary first. Raises FileNotFoundError when there is no repository."""
        stamp = self.path.stat().st_mtime_ns
        if stamp != self._stamp:
            with self._lock:
                self._keys = tuple(self._kind.load(self._file(number).read_text()) for number in reversed(self._numbers()))
                self._stamp = stamp
                if not self._keys:
                    raise FileNotFoundError(f"there is no key in {self.path}")
        return self._keys

    def content(self) -> dict[int, str]:
        """All keys by number; none where there is no repository."""
        if not self.path.is_dir():
            return {}
        return {number: self._file(number).read_text().strip() for number in self._numbers()}

    def setup(self) -> None:
        """Make the directory with a staged and a primary key unless it has keys."""
        with self._exclusive():
            if not self._numbers():
                self._write(1, self._kind.new())
                self._write(0, self._kind.new())

    def rotate(self, max_active: int = 3) -> int:
        """Make the staged key primary and stage a new one; returns the number of the primary key.

        At most `max_active` keys stay, the oldest secondary ones go first: tokens that they encrypted end with them.
        """
        self.setup()
        with self._exclusive():
            numbers = self._numbers()
            primary = max(numbers) + 1
            if 0 in numbers:
                self._file(0).rename(self._file(primary))
            else:  # a rotation was killed between its two steps: the newest key has just become primary
                primary = max(numbers)
            self._write(0, self._kind.new())
            secondaries = [number for number in self._numbers() if number not in {0, primary}]
            surplus = len(secondaries) - max(max_active - 2, 0)
            for number in secondaries[: max(surplus, 0)]:
                self._file(number).unlink()
            self._retire(secondaries[max(surplus, 0) :])
        _log.info("keys in %s rotated", self.path.name, extra={"primary": primary})
        return primary

    def _file(self, number: int) -> pathlib.Path:
        return self.path / str(number)

    def _numbers(self) -> list[int]:
        return sorted(int(file.name) for file in self.path.iterdir() if file.name.isdigit())

    def _retire(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            text = self._file(number).read_text()
            if (kept := self._kind.retired(text)) != text:
                self._write(number, kept)

    def _write(self, number: int, text: str) -> None:
        new = self.path / f".{number}.new"
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        new.rename(self._file(number))

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        """One process at a time changes the repository; the lock file is beside the keys and not a number."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
            directory = os.open(self.path, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        finally:
            os.close(descriptor)


def encode(claims: Claims, keys: Keys) -> str:
    """The token of these claims, without padding characters."""
    payload = msgspec.msgpack.encode(_payload(claims))
    return keys.fernets()[0].encrypt_at_time(payload, int(clock.time())).rstrip(b"=").decode()


def decode(token: str, keys: Keys) -> Claims:
    """What a token says, whether it has expired or not. Raises TokenInvalid."""
    if not token.isascii() or len(token) > 1024:
        raise TokenInvalid
    padded = token.encode() + b"=" * (-len(token) % 4)
    for fernet in keys.fernets():
        try:
            payload = fernet.decrypt(padded)
        except InvalidToken:
            continue
        try:
            return _claims(msgspec.msgpack.decode(payload))
        except (msgspec.DecodeError, ValueError, TypeError, LookupError, OverflowError) as error:
            raise TokenInvalid from error
    raise TokenInvalid


def _payload(claims: Claims) -> list[Any]:
    common = [
        _packed_id(claims.user_id),
        sum(1 << METHODS.index(method) for method in claims.methods),
        _microseconds(claims.issued_at),
        _microseconds(claims.expires_at),
        b"".join(_audit_bytes(audit_id) for audit_id in claims.audit_ids),
    ]
    project_id = _packed_id(claims.project_id or "")
    if claims.application_credential_id is not None:
        return [_APPLICATION_CREDENTIAL, *common, project_id, _packed_id(claims.application_credential_id)]
    if claims.trust_id is not None:
        return [_TRUST, *common, project_id, _packed_id(claims.trust_id)]
    if claims.access_token_id is not None:
        return [_OAUTH1, *common, project_id, _packed_id(claims.access_token_id)]
    if claims.thumbprint is not None:
        return [_CERTIFICATE, *common, project_id, claims.thumbprint]
    scope, target = _UNSCOPED, ""
    if claims.project_id is not None:
        scope, target = _PROJECT, claims.project_id
    elif claims.domain_id is not None:
        scope, target = _DOMAIN, claims.domain_id
    elif claims.system is not None:
        scope, target = _SYSTEM, claims.system
    packed = [] if scope == _UNSCOPED else [_packed_id(target)]
    if claims.identity_provider_id is not None:
        return [_FEDERATED[scope], *common, *packed, claims.identity_provider_id, claims.protocol_id]
    return [scope, *common, *packed]


def _claims(payload: Sequence[Any]) -> Claims:
    version, user, mask, issued, expires, audit = payload[:6]
    return Claims(
        user_id=_unpacked_id(user),
        methods=tuple(method for bit, method in enumerate(METHODS) if mask >> bit & 1),
        issued_at=_moment(issued),
        expires_at=_moment(expires),
        audit_ids=tuple(_audit_text(audit[start : start + 16]) for start in range(0, len(audit), 16)),
        **_scope(version, payload[6:]),
    )


def _scope(version: int, rest: Sequence[Any]) -> dict[str, str | None]:
    """What the payload says after what all have. Raises ValueError, LookupError for what we never wrote."""
    found: dict[str, str | None] = {}
    if version in _SCOPE_OF_FEDERATED:
        *rest, found["identity_provider_id"], found["protocol_id"] = rest
        version = _SCOPE_OF_FEDERATED[version]
    if version == _UNSCOPED:
        return found
    if version == _SYSTEM:
        return {**found, "system": rest[0]}
    if version == _DOMAIN:
        return {**found, "domain_id": _unpacked_id(rest[0])}
    found["project_id"] = _unpacked_id(rest[0]) or None
    if version == _PROJECT:
        return found
    if version == _CERTIFICATE:
        return {**found, "thumbprint": rest[1]}
    names = {_TRUST: "trust_id", _OAUTH1: "access_token_id", _APPLICATION_CREDENTIAL: "application_credential_id"}
    if version not in names:
        raise ValueError(f"payload version {version}")
    return {**found, names[version]: _unpacked_id(rest[1])}


def _packed_id(value: str) -> bytes | str:
    if len(value) in {32, 64} and value.islower() | value.isdigit():
        with contextlib.suppress(ValueError):
            packed = bytes.fromhex(value)
            if packed.hex() == value:
                return packed
    return value


def _unpacked_id(value: bytes | str) -> str:
    return value.hex() if isinstance(value, bytes) else value


_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - moments are naive UTC everywhere
_MICROSECOND = dt.timedelta(microseconds=1)


def _microseconds(moment: dt.datetime) -> int:
    """Whole microseconds, so that a revocation can tell apart tokens of the same second."""
    return (moment - _EPOCH) // _MICROSECOND


def _moment(microseconds: int) -> dt.datetime:
    return _EPOCH + dt.timedelta(microseconds=microseconds)


def _audit_bytes(audit_id: str) -> bytes:
    return base64.urlsafe_b64decode(audit_id + "==")


def _audit_text(packed: bytes) -> str:
    return binascii.b2a_base64(packed, newline=False).decode().translate(_URL_SAFE).rstrip("=")


_URL_SAFE = str.maketrans("+/", "-_")
