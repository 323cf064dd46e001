"""Credentials: small secrets of users (EC2 keys, certificates), encrypted at rest with keys of their own."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import sqlalchemy as sa

from pileus.identity.errors import duplicate_name, invalid, not_found
from pileus.identity.store import credentials as store
from pileus.identity.store import listing, people, projects
from pileus.identity.store.listing import Listing, Record
from pileus.identity.store.tables import credentials
from pileus.kernel import ids
from pileus.kernel.db import is_unique_violation
from pileus.kernel.service import Service

from . import sealing, totp


@dataclasses.dataclass(frozen=True, slots=True)
class Ec2:
    """A key pair for the EC2 and S3 APIs, out of a credential of type `ec2`."""

    credential_id: str
    user_id: str
    project_id: str | None
    access: str
    secret: str
    bound: bool = False  # to a trust or another credential, as upstream's may be


KNOWN = frozenset({"id", "user_id", "project_id", "type", "blob"})


def decrypted(service: Service, row: Record) -> str:
    """The blob as it was given."""
    return sealing.unseal(service, row.blob)


def find(service: Service, credential_id: str) -> Record | None:
    with service.db.read() as conn:
        return listing.by_id(conn, store.COLUMNS, credentials, credential_id)


def list_credentials(service: Service, wanted: Listing) -> Sequence[Record]:
    with service.db.read() as conn:
        return listing.select(conn, store.COLUMNS, credentials, wanted)


def create(service: Service, body: Mapping[str, Any]) -> Record:
    """Store a credential. An EC2 one is found by its access key: its id is the digest of that.

    Raises AlreadyExists, Invalid.
    """
    credential_id = ids.new_id()
    if body["type"].lower() == "ec2":
        credential_id = hashlib.sha256(_access_key(body).encode()).hexdigest()
    _check_totp(body["type"], body["blob"])
    sealed = sealing.seal(service, body["blob"])
    values = {
        "id": credential_id,
        "user_id": body["user_id"],
        "project_id": body.get("project_id"),
        "type": body["type"],
        "blob": sealed,
        "extra": {name: value for name, value in body.items() if name not in KNOWN},
    }
    try:
        with service.db.write() as conn:
            conn.execute(sa.insert(credentials).values(**values))
            created = listing.by_id(conn, store.COLUMNS, credentials, credential_id)
    except sa.exc.IntegrityError as error:
        if is_unique_violation(error):
            raise duplicate_name("credential", credential_id) from None
        raise
    if created is None:
        raise not_found("credential", credential_id)
    return created


def _ec2(service: Service, row: Record) -> Ec2:
    try:
        blob = orjson.loads(decrypted(service, row))
    except orjson.JSONDecodeError:
        blob = None
    if not isinstance(blob, dict):
        blob = {}  # it was of another type when the blob was given
    bound = any(blob.get(name) for name in ("trust_id", "app_cred_id", "access_token_id"))
    return Ec2(row.id, row.user_id, row.project_id, str(blob.get("access", "")), str(blob.get("secret") or ""), bound)


def ec2_of(service: Service, user_id: str) -> list[Ec2]:
    wanted = Listing().with_filter("user_id", user_id).with_filter("type", "ec2")
    return [_ec2(service, row) for row in list_credentials(service, wanted)]


def find_ec2(service: Service, access: str) -> Ec2 | None:
    row = find(service, hashlib.sha256(access.encode()).hexdigest())
    return _ec2(service, row) if row is not None and row.type == "ec2" else None


def create_ec2(service: Service, user_id: str, project_id: str) -> Ec2:
    """A new key pair. Raises NotFound for the user or the project."""
    with service.db.read() as conn:
        if people.user(conn, user_id) is None:
            raise not_found("user", user_id)
        if projects.project(conn, project_id) is None:
            raise not_found("project", project_id)
    blob = {"access": ids.new_id(), "secret": ids.new_id(), "trust_id": None}
    body = {"type": "ec2", "user_id": user_id, "project_id": project_id, "blob": orjson.dumps(blob).decode()}
    return _ec2(service, create(service, body))


def _access_key(body: Mapping[str, Any]) -> str:
    try:
        blob = orjson.loads(body["blob"])
    except orjson.JSONDecodeError:
        raise invalid("Invalid blob in credential") from None
    if not isinstance(blob, dict) or not isinstance(blob.get("access"), str):
        raise invalid("Invalid blob in credential")
    if not body.get("project_id"):
        raise invalid("Expecting to find project_id in credential.")
    access: str = blob["access"]
    return access


def _check_totp(kind: str, blob: str) -> None:
    """Passcodes can be made of it. Raises Invalid."""
    if kind != "totp":
        return
    try:
        totp.key_of(blob)
    except ValueError:
        raise invalid("The blob of a credential of type totp has to be its key in base32.") from None


def update(service: Service, credential_id: str, body: Mapping[str, Any]) -> Record:
    """Raises NotFound, Invalid."""
    values: dict[str, Any] = {name: body[name] for name in ("user_id", "project_id", "type") if name in body}
    if body.get("type") == "totp" and "blob" not in body:
        kept = find(service, credential_id)
        if kept is None:
            raise not_found("credential", credential_id)
        _check_totp("totp", decrypted(service, kept))
    if "blob" in body:
        values["blob"] = sealing.seal(service, body["blob"])
    with service.db.write() as conn:
        present = listing.by_id(conn, store.COLUMNS, credentials, credential_id)
        if present is None:
            raise not_found("credential", credential_id)
        if body.get("type", present.type).lower() == "ec2" and "blob" in body:
            project = body.get("project_id", present.project_id)
            _access_key({"blob": body["blob"], "project_id": project})
        if "blob" in body:
            _check_totp(body.get("type", present.type), body["blob"])
        values["extra"] = {**present.extra, **{name: value for name, value in body.items() if name not in KNOWN}}
        listing.change(conn, credentials, credential_id, values)
        changed = listing.by_id(conn, store.COLUMNS, credentials, credential_id)
    if changed is None:
        raise not_found("credential", credential_id)
    return changed


def delete(service: Service, credential_id: str) -> None:
    """Raises NotFound."""
    with service.db.write() as conn:
        if listing.remove(conn, credentials, credential_id) == 0:
            raise not_found("credential", credential_id)
