"""Certificates of PKI tokens: /v3/OS-SIMPLE-CERT. There are no such tokens any more; clients are told so."""

from __future__ import annotations

from pileus.kernel.errors import Gone
from pileus.kernel.web import Call, Operations

operations = Operations()

_PUBLIC = "it says to everybody that there is nothing any more"


@operations("GET", "/OS-SIMPLE-CERT/ca", public=_PUBLIC, summary="Gone: the CA of PKI tokens")
@operations("GET", "/OS-SIMPLE-CERT/certificates", public=_PUBLIC, summary="Gone: the certificates of PKI tokens")
def show_certificates(call: Call) -> None:  # noqa: ARG001 - every handler takes the call
    raise Gone("PKI tokens are no longer supported, and with them went their certificates.")
