"""Signed tokens: JSON Web Tokens (RFC 7519) with ES256 alone, and their keys.

They say what Fernet tokens say (`kernel.tokens`), with upstream's names, and everybody can read them. Who holds the public keys can
check that identity made one; what it is worth now, identity alone knows. Times may have fractions of a second: a revocation tells apart tokens of the
same second.

A token has one spelling: its header must be the one written here, its base64 canonical. Nothing in the header chooses an algorithm or
a key.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import datetime as dt
from collections.abc import Sequence

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from pileus.kernel.key_kinds import Kind
from pileus.kernel.tokens import METHODS, Claims, TokenInvalid

LONGEST = 4096
"""Characters; the tokens of today stay below 900."""
_HEADER = {"alg": "ES256", "typ": "JWT"}
_SHA256 = ec.ECDSA(hashes.SHA256())
_SIZE = 32  # bytes of each number of a signature
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - moments are naive UTC everywhere


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """A key pair on P-256. A retired one has lost its private half: it signs nothing more."""

    public: ec.EllipticCurvePublicKey
    private: ec.EllipticCurvePrivateKey | None = dataclasses.field(repr=False)


def _new() -> str:
    return _private_pem(ec.generate_private_key(ec.SECP256R1()))


def _private_pem(key: ec.EllipticCurvePrivateKey) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def _load(text: str) -> Pair:
    if "PRIVATE KEY" in text:
        private = serialization.load_pem_private_key(text.encode(), None)
        if isinstance(private, ec.EllipticCurvePrivateKey) and isinstance(private.curve, ec.SECP256R1):
            return Pair(private.public_key(), private)
    else:
        public = serialization.load_pem_public_key(text.encode())
        if isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1):
            return Pair(public, None)
    raise ValueError("not a key on P-256")


def public_pem(text: str) -> str:
    """The public half of a key, for those who only check."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return _load(text).public.public_bytes(serialization.Encoding.PEM, form).decode()


P256 = Kind(_new, _load, public_pem)


class _Payload(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What is signed. A claim that is not known may limit what the token is good for, so such a token is none of ours."""

    sub: str
    iat: float
    exp: float
    openstack_methods: list[str]
    openstack_audit_ids: list[str]
    openstack_system: str | None = None
    openstack_domain_id: str | None = None
    openstack_project_id: str | None = None
    openstack_trust_id: str | None = None
    openstack_idp_id: str | None = None
    openstack_protocol_id: str | None = None
    openstack_access_token_id: str | None = None
    openstack_app_cred_id: str | None = None
    openstack_thumbprint: str | None = None


_PAYLOAD = msgspec.json.Decoder(_Payload)
_NAMES = {
    "system": "openstack_system",
    "domain_id": "openstack_domain_id",
    "project_id": "openstack_project_id",
    "trust_id": "openstack_trust_id",
    "identity_provider_id": "openstack_idp_id",
    "protocol_id": "openstack_protocol_id",
    "access_token_id": "openstack_access_token_id",
    "application_credential_id": "openstack_app_cred_id",
    "thumbprint": "openstack_thumbprint",
}


def is_signed(token: str) -> bool:
    """Whether it has the form of a signed token, which no Fernet token has."""
    return token.count(".") == 2


def encode(claims: Claims, pairs: Sequence[Pair]) -> str:
    """The token of these claims, signed with the first pair. Raises LookupError when that cannot sign."""
    if not pairs or pairs[0].private is None:
        raise LookupError("there is no key to sign with")
    payload = _Payload(
        sub=claims.user_id,
        iat=_seconds(claims.issued_at),
        exp=_seconds(claims.expires_at),
        openstack_methods=list(claims.methods),
        openstack_audit_ids=list(claims.audit_ids),
        **{name: getattr(claims, ours) for ours, name in _NAMES.items()},
    )
    signed = f"{_base64(msgspec.json.encode(_HEADER))}.{_base64(msgspec.json.encode(payload))}"
    r, s = utils.decode_dss_signature(pairs[0].private.sign(signed.encode(), _SHA256))
    return f"{signed}.{_base64(r.to_bytes(_SIZE, 'big') + s.to_bytes(_SIZE, 'big'))}"


def decode(token: str, pairs: Sequence[Pair]) -> Claims:
    """What a token says that one of these pairs has signed, whether it has expired or not. Raises TokenInvalid."""
    if not token.isascii() or len(token) > LONGEST or not is_signed(token):
        raise TokenInvalid
    signed, _, last = token.rpartition(".")
    header, _, body = signed.partition(".")
    signature = _bytes(last)
    if len(signature) != 2 * _SIZE or _json(_bytes(header)) != _HEADER:
        raise TokenInvalid
    r, s = int.from_bytes(signature[:_SIZE], "big"), int.from_bytes(signature[_SIZE:], "big")
    der = utils.encode_dss_signature(r, s)
    if not any(_signed_by(pair, der, signed.encode()) for pair in pairs):
        raise TokenInvalid
    try:
        return _claims(_PAYLOAD.decode(_bytes(body)))
    except (msgspec.DecodeError, ValueError, OverflowError) as error:
        raise TokenInvalid from error


def _signed_by(pair: Pair, signature: bytes, text: bytes) -> bool:
    try:
        pair.public.verify(signature, text, _SHA256)
    except InvalidSignature:
        return False
    return True


def _claims(payload: _Payload) -> Claims:
    scopes = (payload.openstack_system, payload.openstack_domain_id, payload.openstack_project_id)
    if sum(scope is not None for scope in scopes) > 1 or not 1 <= len(payload.openstack_audit_ids) <= 2:
        raise ValueError("not a token of ours")
    if not payload.openstack_methods or not set(payload.openstack_methods) <= set(METHODS):
        raise ValueError("not methods of ours")
    return Claims(
        user_id=payload.sub,
        methods=tuple(payload.openstack_methods),
        issued_at=_moment(payload.iat),
        expires_at=_moment(payload.exp),
        audit_ids=tuple(payload.openstack_audit_ids),
        **{ours: getattr(payload, name) for ours, name in _NAMES.items()},
    )


def _json(data: bytes) -> object:
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError:
        raise TokenInvalid from None


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    """Raises TokenInvalid for anything but the one spelling of the bytes."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raise TokenInvalid from None
    if _base64(data) != text:
        raise TokenInvalid
    return data


def _seconds(moment: dt.datetime) -> float:
    """Since the epoch. Until the year 2242 a float is nearer to its microsecond than to any other."""
    return (moment - _EPOCH) / dt.timedelta(seconds=1)


def _moment(seconds: float) -> dt.datetime:
    return _EPOCH + dt.timedelta(seconds=seconds)
