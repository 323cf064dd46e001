"""Signatures of requests by OAuth 1.0 (RFC 5849): pure functions from secrets and what was signed to yes or no."""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote, unquote, urlsplit

from .proofs import SignedRequest

DIGESTS = {"HMAC-SHA1": "sha1", "HMAC-SHA256": "sha256", "HMAC-SHA512": "sha512"}
PLAINTEXT = "PLAINTEXT"
_MOST = 4096
"""Characters of an Authorization header: far more than any client sends."""
_PARAMETER = re.compile(r'\s*([^\s=",]+)\s*=\s*"([^"]*)"\s*(?:,|\Z)')
_PORTS = {"http": 80, "https": 443}


class Malformed(Exception):
    """The request cannot be read as a signed one; the text says why and is for the client."""


def parameters(authorization: str) -> dict[str, str]:
    """The parameters of an Authorization header, decoded, without the realm. Raises Malformed."""
    scheme, _, rest = authorization.strip().partition(" ")
    if scheme.lower() != "oauth" or len(authorization) > _MOST:
        raise Malformed("There is no Authorization header of OAuth.")
    found: dict[str, str] = {}
    at = 0
    while at < len(rest):
        match = _PARAMETER.match(rest, at)
        if match is None:
            raise Malformed("The Authorization header cannot be read.")
        name = _decoded(match.group(1))
        if name in found:
            raise Malformed(f"The parameter {name} is given twice.")
        found[name] = _decoded(match.group(2))
        at = match.end()
    found.pop("realm", None)
    return found


def is_right(request: SignedRequest, stated: Mapping[str, str], consumer_secret: str, token_secret: str = "") -> bool:
    """Whether the signature among the stated parameters is that of the request. Raises Malformed for unknown methods."""
    method = stated.get("oauth_signature_method", "")
    key = f"{_encoded(consumer_secret)}&{_encoded(token_secret)}"
    if method == PLAINTEXT:
        if urlsplit(request.url).scheme != "https":
            raise Malformed("Signatures in plain text are for TLS alone.")
        expected = key
    elif method in DIGESTS:
        text = base_string(request, stated)
        expected = base64.b64encode(hmac.digest(key.encode(), text.encode(), DIGESTS[method])).decode()
    else:
        raise Malformed(f"The signature method {method!r} is not one of {', '.join((*DIGESTS, PLAINTEXT))}.")
    return hmac.compare_digest(stated.get("oauth_signature", "").encode(), expected.encode())


def base_string(request: SignedRequest, stated: Mapping[str, str]) -> str:
    """What is signed (RFC 5849, section 3.4.1)."""
    own = ((name, value) for name, value in stated.items() if name != "oauth_signature")
    parts = (request.method.upper(), _base_url(request.url), _normalized((*request.query, *request.form, *own)))
    return "&".join(_encoded(part) for part in parts)


def _base_url(url: str) -> str:
    """Scheme and host in lower case, no port where it is the scheme's own (section 3.4.1.2)."""
    parts = urlsplit(url)
    scheme, host = parts.scheme.lower(), parts.netloc.lower()
    name, _, port = host.rpartition(":")
    if name and port == str(_PORTS.get(scheme)):
        host = name
    return f"{scheme}://{host}{parts.path or '/'}"


def _normalized(pairs: Iterable[tuple[str, str]]) -> str:
    """Section 3.4.1.3.2: encoded first, then sorted by name and value."""
    return "&".join(
        f"{name}={value}" for name, value in sorted((_encoded(name), _encoded(value)) for name, value in pairs)
    )


def _encoded(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="~")


def _decoded(text: str) -> str:
    """Raises Malformed for what is no text, or has characters that no text here may have."""
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        decoded = "\0"
    if not decoded.isprintable():
        raise Malformed("The Authorization header cannot be read.")
    return decoded
