"""From a request signed with an EC2 key to a token of the key's user for its project."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from pileus.identity.errors import AuthenticationFailed
from pileus.identity.store import passwords
from pileus.kernel import clock
from pileus.kernel.errors import NotFound
from pileus.kernel.service import Service

from . import auth, compliance, credentials, signatures
from .auth import Issued
from .credentials import Ec2
from .proofs import Who

Given = Mapping[str, Any]
"""The credentials of the request, whose schema was checked."""


def ec2(service: Service, given: Given) -> Issued:
    """Raises AuthenticationFailed, NotFound for an unknown key."""
    key = _key(service, given)
    hosts = [given.get("host", "")]
    if ":" in hosts[0]:
        hosts.append(hosts[0].rpartition(":")[0])  # there are clients that sign without the port
    signature = given.get("signature") or ""
    if not any(signatures.same(signature, one) for host in hosts for one in _accepted(key, given, host)):
        raise AuthenticationFailed(f"wrong EC2 signature for credential {key.credential_id}")
    return _issue(service, key, given)


def s3(service: Service, given: Given) -> Issued:
    """Raises AuthenticationFailed, NotFound for an unknown key."""
    key = _key(service, given)
    try:
        expected = signatures.of_text(key.secret, given.get("token") or "")
    except signatures.Malformed as reason:
        raise AuthenticationFailed(f"S3 signature: {reason}") from None
    if not signatures.same(given.get("signature") or "", expected):
        raise AuthenticationFailed(f"wrong S3 signature for credential {key.credential_id}")
    return _issue(service, key, given)


def _key(service: Service, given: Given) -> Ec2:
    if not given.get("access"):
        raise AuthenticationFailed("no EC2 access key")
    key = credentials.find_ec2(service, given["access"])
    if key is None:
        raise NotFound("EC2 access key not found.")
    if not key.secret or key.bound:
        raise AuthenticationFailed(
            f"EC2 credential {key.credential_id} has no secret or is bound to another credential"
        )
    return key


def _accepted(key: Ec2, given: Given, host: str) -> list[str]:
    headers = {name.lower().strip(): value for name, value in (given.get("headers") or {}).items()}
    request = signatures.Signed(
        verb=given.get("verb", ""),
        host=host,
        path=given.get("path", ""),
        params=given.get("params") or {},
        headers=headers,
        body_hash=given.get("body_hash"),
    )
    try:
        return signatures.accepted(key.secret, request)
    except signatures.Malformed as reason:
        raise AuthenticationFailed(f"EC2 signature: {reason}") from None


def _issue(service: Service, key: Ec2, given: Given) -> Issued:
    _check_age(service, given)
    who = Who(user_id=key.user_id, methods=("ec2credential",), proved_at=clock.utcnow())
    issued = auth.issue(service, who, {"project": {"id": key.project_id or ""}})
    with service.db.read() as conn:
        _options, last_active = passwords.at_login(conn, who.user_id)
    compliance.note_active(service, who.user_id, last_active)
    return issued


def _check_age(service: Service, given: Given) -> None:
    """What was signed long ago may have been overheard, and what is of tomorrow would be good until then.

    The time is the one that the signature covers: a member that the version of the signature does not know can be added to a
    captured request. A request that states no time has none to check.
    """
    params = given.get("params") or {}
    headers = {name.lower().strip(): value for name, value in (given.get("headers") or {}).items()}
    if params.get("SignatureVersion") == "2":
        stated = params.get("Timestamp")
    else:
        stated = headers.get("x-amz-date") or params.get("X-Amz-Date")
    if not stated:
        return
    try:
        moment = clock.parse(str(stated))
    except (ValueError, OverflowError):
        raise AuthenticationFailed("the time of an EC2 signature cannot be read") from None
    if abs(clock.utcnow() - moment) > dt.timedelta(minutes=service.options.credential_auth_ttl):
        raise AuthenticationFailed("the time of an EC2 signature is not now")
