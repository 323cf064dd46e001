"""Signatures of requests to EC2 and S3 services, as AWS documents them: version 2, version 4, and S3's old one.

Pure functions from a secret and what was signed to the signature it must have.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

_V4 = "AWS4-HMAC-SHA256"


class Malformed(Exception):
    """What was signed lacks something or is of an unknown form; the text is for the log."""


@dataclasses.dataclass(frozen=True, slots=True)
class Signed:
    """A request as the service that got it describes it. `body_hash` is the SHA-256 of its body, for version 4."""

    verb: str
    host: str
    path: str
    params: Mapping[str, Any]
    headers: Mapping[str, str]  # by lower-case name
    body_hash: str | None


def same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


def of_request(secret: str, request: Signed) -> str:
    """The signature of an EC2 request, as upstream reads it. Raises Malformed."""
    return accepted(secret, request)[0]


def accepted(secret: str, request: Signed) -> list[str]:
    """Each signature that an EC2 request may have. Raises Malformed.

    The service that got the request tells neither whether the parameters of a POST came in its URL, where version 4 signs them, or
    in its body, nor how its path was spelled. Versions 0 and 1 do not sign the whole request and are none.
    """
    if request.params.get("SignatureVersion") == "2":
        return [_version_2(secret, request)]
    if not (request.headers.get("authorization", "").startswith(_V4) or request.params.get("X-Amz-Algorithm") == _V4):
        raise Malformed("neither a version 2 nor a version 4 signature")
    query = _query(request.params, "X-Amz-Signature")
    queries = ["", query] if request.verb.upper() == "POST" else [query]
    paths = dict.fromkeys((request.path, _canonical_path(request.path)))
    return [_version_4(secret, request, path, query) for path in paths for query in queries]


def of_text(secret: str, encoded: str) -> str:
    """The signature of what S3 services send: the text that was signed, in URL-safe base64. Raises Malformed."""
    try:
        text = base64.urlsafe_b64decode(encoded)
    except (binascii.Error, ValueError):
        raise Malformed("the token is no base64") from None
    if not text.startswith(b"AWS4"):
        return base64.b64encode(hmac.digest(secret.encode(), text, "sha1")).decode()
    lines = text.split(b"\n")
    if len(lines) != 4 or lines[0] != _V4.encode():
        raise Malformed("the signed text has not four lines")
    scope = lines[2].decode("latin-1").split("/")
    if len(scope) != 4 or scope[2:] != ["s3", "aws4_request"]:
        raise Malformed("the scope is not one of s3")
    return hmac.digest(_signing_key(secret, scope), text, "sha256").hex()


def _version_2(secret: str, request: Signed) -> str:
    params = {**request.params, "SignatureMethod": "HmacSHA256"}
    names = sorted(name for name in params if name != "Signature")  # this version sorts first and encodes then
    query = "&".join(f"{_encoded(name)}={_encoded(params[name])}" for name in names)
    text = f"{request.verb}\n{request.host}\n{request.path}\n{query}"
    return base64.b64encode(hmac.digest(secret.encode(), text.encode(), "sha256")).decode()


def _version_4(secret: str, request: Signed, path: str, query: str) -> str:
    stated = _stated(request)
    scope = stated["Credential"].split("/")[1:]
    date = request.headers.get("x-amz-date") or request.params.get("X-Amz-Date")
    if len(scope) != 4 or scope[3] != "aws4_request":
        raise Malformed("the credential has no scope")
    if not isinstance(date, str) or not date.startswith(scope[0]):
        raise Malformed("the date does not fit the scope")
    if request.body_hash is None:
        raise Malformed("body_hash is missing")
    names = stated["SignedHeaders"]
    headers = "".join(
        f"{name}:{' '.join(request.headers[name].split())}\n" for name in names.split(";") if name in request.headers
    )
    canonical = f"{request.verb.upper()}\n{path}\n{query}\n{headers}\n{names}\n{request.body_hash}"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"{_V4}\n{date}\n{'/'.join(scope)}\n{digest}"
    return hmac.digest(_signing_key(secret, scope), text.encode(), "sha256").hex()


def _stated(request: Signed) -> dict[str, str]:
    """Credential and SignedHeaders, of the Authorization header or else of the query."""
    found: dict[str, str] = {}
    header = request.headers.get("authorization")
    if header is not None:
        for part in header.removeprefix(_V4).split(","):
            name, _, value = part.strip().partition("=")
            found[name] = value
    for name in ("Credential", "SignedHeaders"):
        stated = found.get(name) or request.params.get(f"X-Amz-{name}")
        if not isinstance(stated, str):
            raise Malformed(f"{name} is missing")
        found[name] = stated
    return found


def _signing_key(secret: str, scope: list[str]) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in scope:
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _query(params: Mapping[str, Any], own: str) -> str:
    """Encoded and sorted, without the signature itself."""
    pairs = sorted((_encoded(name), _encoded(value)) for name, value in params.items() if name != own)
    return "&".join(f"{name}={value}" for name, value in pairs)


def _canonical_path(path: str) -> str:
    """Encoded, without empty and dotted parts."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in {"", "."}:
            parts.append(part)
    last = "/" if parts and path.endswith(("/", "/.", "/..")) else ""
    return quote("/" + "/".join(parts) + last, safe="/~")


def _encoded(value: Any) -> str:
    return quote(str(value), safe="~")
