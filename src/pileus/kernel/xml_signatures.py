"""Signed XML (XML Signature, enveloped): a key pair, and what is done with it.

Importing signxml and lxml costs 60 ms and some megabytes, so it happens with the first signature.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from pileus.kernel import clock

DSIG = "http://www.w3.org/2000/09/xmldsig#"
_PEM = serialization.Encoding.PEM
_BITS = 3072
_DAYS = 3650
_EARLY = dt.timedelta(hours=1)  # clocks of other machines may be behind


def new_pair(name: str) -> bytes:
    """A new RSA key and its self-signed certificate for `name`, both PEM, in one. Takes a part of a second."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=_BITS)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = clock.utcnow()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLY)
        .not_valid_after(now + dt.timedelta(days=_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private + certificate.public_bytes(_PEM)


@dataclasses.dataclass(frozen=True)
class Signer:
    """Signs elements with RSA and SHA-256. Whoever has the certificate can check it."""

    key: rsa.RSAPrivateKey = dataclasses.field(repr=False)
    certificate: x509.Certificate

    @staticmethod
    def load(key: bytes, certificate: bytes) -> Signer:
        """From PEM. Raises ValueError for what is no RSA key of 2048 bits or more, or not the certificate's."""
        try:
            private = serialization.load_pem_private_key(key, None)
        except TypeError as error:
            raise ValueError("the key is encrypted") from error
        found = x509.load_pem_x509_certificate(certificate)
        if not isinstance(private, rsa.RSAPrivateKey) or private.key_size < 2048:
            raise ValueError("the key is no RSA key of at least 2048 bits")
        if found.public_key() != private.public_key():
            raise ValueError("the certificate is of another key")
        return Signer(private, found)

    def sign(self, element: Any, identifier: str) -> Any:
        """The element with its signature, which takes the place of a `Signature` of DSIG whose Id is "placeholder".

        `identifier` is what its attribute ID says.
        """
        from signxml.algorithms import (  # noqa: PLC0415 - see above
            CanonicalizationMethod,
            DigestAlgorithm,
            SignatureConstructionMethod,
            SignatureMethod,
        )
        from signxml.signer import XMLSigner  # noqa: PLC0415

        signer = XMLSigner(
            method=SignatureConstructionMethod.enveloped,
            signature_algorithm=SignatureMethod.RSA_SHA256,
            digest_algorithm=DigestAlgorithm.SHA256,
            c14n_algorithm=CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0,
        )
        return signer.sign(element, key=self.key, cert=[self.certificate], reference_uri="#" + identifier, id_attribute="ID")
