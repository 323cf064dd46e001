"""Signed tokens: what they say, and that nothing but a signature with one of the keys makes one."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils
from hypothesis import given
from hypothesis import strategies as st

from pileus.kernel import ids, jws, shared_keys, tokens
from pileus.kernel.tokens import KeyRepository, TokenInvalid
from tests.unit.kernel.test_tokens import IDS, SCOPES, claims, scoped

KEY, OTHER = jws.P256.load(jws.P256.new()), jws.P256.load(jws.P256.new())
MOMENTS = st.datetimes(dt.datetime(2000, 1, 1), dt.datetime(2242, 1, 1))


def plain(data):
    return base64.urlsafe_b64encode(data if isinstance(data, bytes) else json.dumps(data).encode()).rstrip(b"=").decode()


def signed(header, payload, key=KEY):
    """A token as whoever has the key can make one."""
    text = f"{plain(header)}.{plain(payload)}"
    r, s = utils.decode_dss_signature(key.private.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{text}.{plain(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def payload_of(token):
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


def refused(token, pairs=(KEY,)):
    with pytest.raises(TokenInvalid):
        jws.decode(token, pairs)


@given(
    scope=SCOPES,
    user_id=IDS,
    target=IDS,
    methods=st.lists(st.sampled_from(tokens.METHODS), min_size=1, unique=True),
    chained=st.booleans(),
    times=st.tuples(MOMENTS, MOMENTS),
)
def test_what_goes_in_comes_out(scope, user_id, target, methods, chained, times):
    audit_ids = tuple(tokens.new_audit_id() for _ in range(1 + chained))
    made = claims(
        user_id=user_id, methods=tuple(methods), audit_ids=audit_ids, issued_at=times[0], expires_at=times[1], **scoped(scope, user_id, target)
    )
    token = jws.encode(made, (KEY, OTHER))
    assert jws.decode(token, (OTHER, KEY)) == made
    assert jws.is_signed(token) and token.isascii() and len(token) < 1200
    refused(token, (OTHER,))
    refused(token, ())


def test_the_names_of_the_claims_are_upstreams():
    made = claims(project_id=ids.new_id(), access_token_id=ids.new_id())
    token = jws.encode(made, (KEY,))
    assert token.split(".")[0] == plain(b'{"alg":"ES256","typ":"JWT"}')
    assert payload_of(token) == {
        "sub": made.user_id,
        "iat": 1795170134.123456,
        "exp": 1795173734.123456,
        "openstack_methods": ["password"],
        "openstack_audit_ids": list(made.audit_ids),
        "openstack_project_id": made.project_id,
        "openstack_access_token_id": made.access_token_id,
    }


def test_fernet_tokens_have_another_form(tmp_path):
    keys = KeyRepository(tmp_path / "fernet")
    keys.setup()
    token = tokens.encode(claims(), keys)
    assert not jws.is_signed(token)
    refused(token)
    with pytest.raises(TokenInvalid):
        tokens.decode(jws.encode(claims(), (KEY,)), keys)


GOOD = {"alg": "ES256", "typ": "JWT"}
BODY = {"sub": "u", "iat": 1, "exp": 2, "openstack_methods": ["token"], "openstack_audit_ids": ["a"]}


def test_what_upstream_signs_is_read():
    assert jws.decode(signed({"typ": "JWT", "alg": "ES256"}, BODY), (KEY,)).user_id == "u"


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none", "typ": "JWT"},
        {"alg": "HS256", "typ": "JWT"},
        {"alg": "ES384", "typ": "JWT"},
        {"alg": "es256", "typ": "JWT"},
        {"alg": "ES256", "typ": "JWS"},
        {"alg": "ES256"},
        {**GOOD, "kid": "0"},
        {**GOOD, "jwk": {}},
        {**GOOD, "crit": ["exp"]},
        [],
        "ES256",
        b"{",
    ],
)
def test_no_header_chooses_how_to_check(header):
    refused(signed(header, BODY))


def test_no_algorithm_but_the_one():
    public = KEY.public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    text = f"{plain({'alg': 'HS256', 'typ': 'JWT'})}.{plain(BODY)}"
    for header in (GOOD, {"alg": "HS256", "typ": "JWT"}):
        text = f"{plain(header)}.{plain(BODY)}"
        for secret in (public, public.strip(), b""):
            refused(f"{text}.{plain(hmac.digest(secret, text.encode(), hashlib.sha256))}")
            refused(f"{text}.{plain(hmac.digest(secret, text.encode(), hashlib.sha512))}")
    for signature in ("", plain(bytes(64)), plain(b"\xff" * 64), plain(b"\0" * 63 + b"\1"), "A"):
        refused(f"{plain(GOOD)}.{plain(BODY)}.{signature}")
        refused(f"{plain({'alg': 'none', 'typ': 'JWT'})}.{plain(BODY)}.{signature}")


def test_a_signature_in_der_is_none():
    text = f"{plain(GOOD)}.{plain(BODY)}"
    refused(f"{text}.{plain(KEY.private.sign(text.encode(), ec.ECDSA(hashes.SHA256())))}")


@pytest.mark.parametrize(
    "change",
    [
        {"openstack_methods": []},
        {"openstack_methods": ["unknown"]},
        {"openstack_methods": "token"},
        {"openstack_audit_ids": []},
        {"openstack_audit_ids": ["a", "b", "c"]},
        {"openstack_project_id": "p", "openstack_domain_id": "d"},
        {"openstack_project_id": "p", "openstack_system": "all"},
        {"openstack_project_id": 1},
        {"sub": None},
        {"iat": "1"},
        {"exp": 1e300},
        {"exp": -1e300},
        {"cnf": {}},
    ],
)
def test_what_was_signed_must_be_claims_of_ours(change):
    assert jws.decode(signed(GOOD, BODY), (KEY,))
    refused(signed(GOOD, {**BODY, **change}))


def test_claims_that_lack_something_are_refused():
    for name in BODY:
        refused(signed(GOOD, {key: value for key, value in BODY.items() if key != name}))
    for payload in (b"", b"{", [], "x", b"\xff", b"null"):
        refused(signed(GOOD, payload))


def test_a_changed_token_is_none():
    token = jws.encode(claims(project_id=ids.new_id()), (KEY,))
    for position in range(len(token)):
        for letter in "AB.":
            changed = token[:position] + letter + token[position + 1 :]
            if changed != token:
                refused(changed)
    for changed in (token + "=", token + "A", token + ".", "." + token, token.replace(".", "..", 1), " " + token, token + "\n"):
        refused(changed)


@given(st.text(max_size=300))
def test_any_text_is_refused(text):
    refused(text)
    refused(f"{plain(GOOD)}.{text}.{text}")


def test_a_token_is_not_endless():
    refused(signed(GOOD, {**BODY, "sub": "x" * 5000}))


def test_other_keys_are_no_keys():
    curve = ec.generate_private_key(ec.SECP384R1())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for key in (curve, rsa.generate_private_key(65537, 2048)):
        for text in (key.private_bytes(*form).decode(), key.public_key().public_bytes(*public).decode()):
            with pytest.raises(ValueError, match="P-256"):
                jws.P256.load(text)


def test_a_retired_key_checks_and_signs_nothing():
    text = jws.P256.new()
    pair, retired = jws.P256.load(text), jws.P256.load(jws.P256.retired(text))
    assert jws.P256.retired(jws.P256.retired(text)) == jws.public_pem(text)
    assert jws.decode(jws.encode(claims(), (pair,)), (retired,))
    for pairs in ((retired,), ()):
        with pytest.raises(LookupError):
            jws.encode(claims(), pairs)


def test_keys_in_files_rotate_and_old_ones_lose_their_private_half(tmp_path):
    keys = KeyRepository(tmp_path / "jws", jws.P256)
    keys.setup()
    token = jws.encode(claims(), keys.loaded())
    assert keys.rotate() == 2
    assert "PRIVATE" not in keys.content()[1] and all("PRIVATE" in keys.content()[number] for number in (0, 2))
    assert (tmp_path / "jws" / "1").stat().st_mode & 0o777 == 0o600
    newer = jws.encode(claims(), keys.loaded())
    assert jws.decode(token, keys.loaded()) and jws.decode(newer, KeyRepository(keys.path, jws.P256).loaded())
    assert keys.rotate() == 3
    refused(token, keys.loaded())
    assert jws.decode(newer, keys.loaded())


def test_a_staged_key_is_accepted_before_it_signs():
    before = {0: jws.P256.new(), 1: jws.P256.new()}
    after = shared_keys.rotated(before, 3, jws.P256)
    assert sorted(after) == [0, 1, 2]
    old, new = ([jws.P256.load(keys[number]) for number in sorted(keys, reverse=True)] for keys in (before, after))
    assert jws.decode(jws.encode(claims(), new), old) and jws.decode(jws.encode(claims(), old), new)
    assert "PRIVATE" not in after[1]
