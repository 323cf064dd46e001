"""The certificate that a client has shown to a trusted proxy, as the proxy tells it in a header.

RFC 8705 binds tokens to it: such a token is worth nothing without the certificate.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from urllib.parse import unquote

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_LONGEST = 32 << 10


def told(assertion: Mapping[str, str], header: str) -> str | None:
    """What a trusted proxy says in this header; None when the client has shown nothing."""
    return assertion.get("HTTP_" + header.upper().replace("-", "_"), "").strip() or None


def der(text: str) -> bytes:
    """The certificate (DER) in a header: PEM, whose line ends may be spaces (Apache) or encoded as in URLs (nginx), or the
    Base64 of DER alone (HAProxy). Raises ValueError for anything else.
    """
    if len(text) > _LONGEST:
        raise ValueError("a header of that size holds no certificate")
    plain = unquote(text) if "%" in text else text
    found = _PEM.search(plain)
    try:
        data = base64.b64decode("".join((found.group(1) if found else plain).split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("this is no certificate") from error
    if not data.startswith(b"\x30"):  # a sequence, as each certificate is one
        raise ValueError("this is no certificate")
    return data


def thumbprint(certificate: bytes) -> str:
    """x5t#S256 of a certificate (DER), with the padding that keystonemiddleware compares."""
    return base64.urlsafe_b64encode(hashlib.sha256(certificate).digest()).decode()


def is_shown(wanted: str, assertion: Mapping[str, str], header: str) -> bool:
    """Whether the client has shown the certificate with this thumbprint."""
    text = told(assertion, header)
    if text is None:
        return False
    try:
        return hmac.compare_digest(thumbprint(der(text)).rstrip("="), wanted.rstrip("="))
    except ValueError:
        return False
