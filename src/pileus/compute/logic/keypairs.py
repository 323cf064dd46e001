"""Key pairs of users: generated or imported SSH keys."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import string
from typing import Any

import sqlalchemy as sa
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pileus.compute.errors import BadRequest, KeypairNotFound, TooMany
from pileus.compute.logic import quotas
from pileus.compute.store.tables import KEY_PAIRS
from pileus.kernel import clock, ids, quota
from pileus.kernel.db import is_unique_violation
from pileus.kernel.errors import Conflict
from pileus.kernel.service import Service

Row = dict[str, Any]

SSH, X509 = "ssh", "x509"

_SAFE = frozenset("_- " + string.digits + string.ascii_letters)
_KEY_KINDS = ("ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-")


def check_name(name: str, *, also: str = "") -> None:
    """Raises `BadRequest` for characters that are not safe everywhere; newer API versions allow `also` as well."""
    if not set(name) <= _SAFE | set(also):
        raise BadRequest("Keypair data is invalid: Keypair name contains unsafe characters")


def fingerprint_of(public_key: str) -> str:
    """MD5 of an OpenSSH public key, in pairs of digits. Raises `BadRequest` for text that is no such key."""
    blob = _blob_of(public_key)
    if blob is None:
        raise BadRequest("Keypair data is invalid: failed to generate fingerprint")
    digest = hashlib.md5(blob, usedforsecurity=False).hexdigest()
    return ":".join(digest[i : i + 2] for i in range(0, 32, 2))


def _blob_of(public_key: str) -> bytes | None:
    """The binary part of an OpenSSH public key; None when the text is no such key."""
    parts = public_key.split(None, 2)
    if len(parts) < 2 or not parts[0].startswith(_KEY_KINDS):
        return None
    try:
        blob = base64.b64decode(parts[1], validate=True)
    except (ValueError, binascii.Error):
        return None
    length = int.from_bytes(blob[:4], "big")
    if blob[4 : 4 + length] != parts[0].encode():
        return None
    if not parts[0].startswith("sk-"):  # keys on security tokens, which the library does not know
        try:
            serialization.load_ssh_public_key(f"{parts[0]} {parts[1]}".encode())
        except (ValueError, UnsupportedAlgorithm):
            return None
    return blob


def generate() -> tuple[str, str]:
    """A fresh RSA key as (private PEM, public OpenSSH line)."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private.decode(), f"{public.decode()} Generated-by-Pileus"


def certificate_fingerprint(text: str) -> str:
    """SHA-1 of a PEM certificate, in pairs of digits. Raises `BadRequest` for text that is none."""
    try:
        found = x509.load_pem_x509_certificate(text.encode())
    except ValueError:
        raise BadRequest("Keypair data is invalid: failed to generate X509 fingerprint") from None
    return found.fingerprint(hashes.SHA1()).hex(":")  # noqa: S303 - names the certificate, protects nothing


def generate_certificate(user_id: str) -> tuple[str, str]:
    """A fresh RSA key as PEM, and a certificate over it, by itself, for logging in as a user: ten years, client authentication."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, user_id[:64] or "user")])
    now = clock.utcnow()
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(ids.token_bytes(16), "big") >> 1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=3650))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private.decode(), made.public_bytes(serialization.Encoding.PEM).decode()


def create_keypair(
    service: Service, project_id: str | None, user_id: str, name: str, public_key: str, kind: str = SSH
) -> Row:
    """Store a public key or, as kind x509, a certificate. Raises `Conflict` for a taken name, `TooMany` beyond the user's quota."""
    fingerprint = fingerprint_of(public_key) if kind == SSH else certificate_fingerprint(public_key)
    row = {
        "user_id": user_id,
        "name": name,
        "type": kind,
        "fingerprint": fingerprint,
        "public_key": public_key,
        "created_at": clock.utcnow(),
        "updated_at": None,
    }
    try:
        with service.db.write() as conn:
            limit = quotas.limits(service, conn, project_id or "")["key_pairs"]
            quota.reserve(conn, user_id, {"key_pairs": 1}, {"key_pairs": limit})
            conn.execute(KEY_PAIRS.insert().values(**row))
    except quota.Exceeded:
        raise TooMany("Quota exceeded, too many key pairs.") from None
    except sa.exc.IntegrityError as error:
        if not is_unique_violation(error):
            raise
        raise Conflict(f"Key pair '{name}' already exists.") from None
    return row


def get_keypair(conn: sa.Connection, user_id: str, name: str) -> Row:
    where = (KEY_PAIRS.c.user_id == user_id, KEY_PAIRS.c.name == name)
    row = conn.execute(sa.select(KEY_PAIRS).where(*where)).mappings().first()
    if row is None:
        raise KeypairNotFound(name, user_id)
    return dict(row)


def list_keypairs(service: Service, user_id: str, *, marker: str | None, limit: int | None) -> list[Row]:
    """A user's keys by name, after the one called `marker`. Raises `BadRequest` when there is none of that name."""
    with service.db.read() as conn:
        query = sa.select(KEY_PAIRS).where(KEY_PAIRS.c.user_id == user_id).order_by(KEY_PAIRS.c.name)
        if marker is not None:
            try:
                get_keypair(conn, user_id, marker)
            except KeypairNotFound:
                raise BadRequest(f"Marker {marker} could not be found.") from None
            query = query.where(KEY_PAIRS.c.name > marker)
        return [dict(row) for row in conn.execute(query.limit(limit)).mappings()]


def delete_keypair(service: Service, user_id: str, name: str) -> None:
    with service.db.write() as conn:
        where = (KEY_PAIRS.c.user_id == user_id, KEY_PAIRS.c.name == name)
        if not conn.execute(KEY_PAIRS.delete().where(*where)).rowcount:
            raise KeypairNotFound(name, user_id)
        quotas.release(conn, user_id, {"key_pairs": 1})
