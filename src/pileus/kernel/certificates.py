"""Certificates of an installation's own: an authority, servers, and the nodes that its authority lets in.

Keys are those of the NIST curve P-256. A private key never leaves the machine that made it: a node sends a request, whose
signature shows that it has the key; the name in the certificate is the authority's choice.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import ipaddress
import pathlib
from collections.abc import Iterable

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pileus.kernel import clock
from pileus.kernel.errors import Invalid

_PEM = serialization.Encoding.PEM
_AUTHORITY_DAYS = 3650
_SERVER_DAYS = 825  # what clients accept
_EARLY = dt.timedelta(hours=1)  # clocks of other machines may be behind


@dataclasses.dataclass(frozen=True)
class Signed:
    """A certificate (PEM) with its serial number and its end."""

    pem: bytes
    serial: str
    expires_at: dt.datetime


@dataclasses.dataclass(frozen=True)
class Authority:
    """Signs. `key` is the one secret of it all."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @staticmethod
    def make() -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder("Pileus CA", _name("Pileus CA"), key.public_key(), _AUTHORITY_DAYS)
        constraint = x509.BasicConstraints(ca=True, path_length=0)
        return Authority(key, builder.add_extension(constraint, critical=True).sign(key, hashes.SHA256()))

    @staticmethod
    def load(folder: pathlib.Path) -> Authority:
        """The one whose ca.key and ca.pem are in a folder. Raises FileNotFoundError."""
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return Authority(key, x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes()))

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(_PEM)

    def server(self, name: str, alternatives: Iterable[str]) -> tuple[bytes, bytes]:
        """Private key and certificate chain of a server that is reached under these names and addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([_alternative(text) for text in alternatives])
        builder = _builder(name, self.certificate.subject, key.public_key(), _SERVER_DAYS)
        builder = builder.add_extension(names, critical=False)
        return private_pem(key), self._sign(builder).public_bytes(_PEM) + self.pem

    def client(self, name: str, request: bytes, days: int) -> Signed:
        """The certificate that logs its owner in as `name`, and is good for nothing else.

        Raises Invalid for what is no request, or is not signed with its key.
        """
        try:
            asked = x509.load_pem_x509_csr(request)
            if not asked.is_signature_valid:
                raise Invalid("The request is not signed with the key that it names.")
            public = asked.public_key()
        except ValueError as error:
            raise Invalid("This is no certificate signing request (PEM).") from error
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise Invalid("The key of the request is not one of an elliptic curve.")
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = _builder(name, self.certificate.subject, public, days).add_extension(usage, critical=False)
        made = self._sign(builder)
        return Signed(made.public_bytes(_PEM), f"{made.serial_number:x}", _end_of(made))

    def signed(self, chain: bytes) -> bool:
        """Whether the first certificate of a chain (PEM) is ours."""
        try:
            x509.load_pem_x509_certificate(chain).verify_directly_issued_by(self.certificate)
        except (InvalidSignature, ValueError, TypeError):
            return False
        return True

    def _sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        return builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True).sign(
            self.key, hashes.SHA256()
        )


def new_request(name: str) -> tuple[bytes, bytes]:
    """A new private key, and the request to certify it (both PEM)."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(_name(name)).sign(key, hashes.SHA256())
    return private_pem(key), request.public_bytes(_PEM)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def fingerprint(pem: bytes) -> str:
    """SHA-256 of a certificate in hexadecimal digits. Raises ValueError for what is none."""
    return x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256()).hex()


def common_name(pem: bytes) -> str:
    """Whose certificate it is. Raises ValueError for what is none."""
    found = x509.load_pem_x509_certificate(pem).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def end_of(pem: bytes) -> dt.datetime:
    """When a certificate ends, in UTC. Raises ValueError for what is none."""
    return _end_of(x509.load_pem_x509_certificate(pem))


def _end_of(certificate: x509.Certificate) -> dt.datetime:
    return certificate.not_valid_after_utc.replace(tzinfo=None)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _builder(name: str, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
    now = clock.utcnow()
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLY)
        .not_valid_after(now + dt.timedelta(days=days))
    )
