"""Key pairs."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from pileus.kernel.testing import ADMIN, MEMBER, OTHER
from tests.api.compute.world import World


def public_key():
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


@pytest.fixture
def bare():
    made = World(hosts=0, quota_key_pairs=3)
    yield made
    made.close()


def test_a_generated_key_fits_its_public_half(bare):
    made = bare("POST", "/os-keypairs", {"keypair": {"name": "k"}}, ok=200).json["keypair"]
    assert set(made) == {"name", "public_key", "fingerprint", "user_id", "private_key"}
    private = serialization.load_pem_private_key(made["private_key"].encode(), None)
    line = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    assert made["public_key"].startswith(line)
    listed = bare("GET", "/os-keypairs", ok=200).json["keypairs"]
    assert listed == [{"keypair": {name: made[name] for name in ("name", "public_key", "fingerprint")}}]
    shown = bare("GET", "/os-keypairs/k", ok=200).json["keypair"]
    assert shown["user_id"] == MEMBER.user_id and shown["deleted"] is False and "private_key" not in shown


def test_an_imported_key_is_kept_as_it_is(bare):
    key = public_key() + " me@here"
    made = bare("POST", "/os-keypairs", {"keypair": {"name": "k", "public_key": key, "type": "ssh"}}, v="2.92", ok=201).json["keypair"]
    assert made["public_key"] == key and made["type"] == "ssh" and made["fingerprint"].count(":") == 15
    bare("POST", "/os-keypairs", {"keypair": {"name": "k", "public_key": key}}, ok=409)
    bare("DELETE", "/os-keypairs/k", v="2.2", ok=204)
    missing = bare("GET", "/os-keypairs/k", ok=404)
    assert missing.json["itemNotFound"]["message"] == f"Keypair k not found for user {MEMBER.user_id}"
    bare("DELETE", "/os-keypairs/k", ok=404)


@pytest.mark.parametrize("body", [{"name": ""}, {"name": "x" * 256}, {"name": "a/b"}, {"name": "k", "public_key": "ssh-rsa JUNK"}, {"name": "k", "public_key": ""}, {}, {"name": "k", "more": 1},
                                  {"name": "a.b"}])
def test_bad_keys_are_refused(bare, body):
    bare("POST", "/os-keypairs", {"keypair": body}, ok=400)


def test_newer_versions_differ(bare):
    bare("POST", "/os-keypairs", {"keypair": {"name": "a@b.c", "public_key": public_key()}}, v="2.92", ok=201)
    bare("POST", "/os-keypairs", {"keypair": {"name": "none"}}, v="2.92", ok=400)
    bare("POST", "/os-keypairs", {"keypair": {"name": "x", "type": "x509", "public_key": "x"}}, v="2.2", ok=400)
    bare("POST", "/os-keypairs", {"keypair": {"name": "x", "user_id": "u"}}, v="2.9", ok=400)


def test_users_keys_are_their_own_and_counted(bare):
    for name in "abc":
        bare("POST", "/os-keypairs", {"keypair": {"name": name, "public_key": public_key()}}, ok=200)
    full = bare("POST", "/os-keypairs", {"keypair": {"name": "d", "public_key": public_key()}}, ok=403)
    assert full.json["forbidden"]["message"] == "Quota exceeded, too many key pairs."
    assert bare("GET", "/os-keypairs", as_=OTHER, ok=200).json == {"keypairs": []}
    listed = bare("GET", f"/os-keypairs?user_id={MEMBER.user_id}&limit=2", as_=ADMIN, v="2.35", ok=200).json
    assert [k["keypair"]["name"] for k in listed["keypairs"]] == ["a", "b"] and listed["keypairs_links"]
    bare("GET", f"/os-keypairs?user_id={MEMBER.user_id}", as_=OTHER, v="2.10", ok=403)
    bare("GET", "/os-keypairs?marker=zz", v="2.35", ok=400)
    bare("DELETE", "/os-keypairs/a", ok=202)
    bare("POST", "/os-keypairs", {"keypair": {"name": "d", "public_key": public_key()}}, ok=200)


def test_certificates_are_generated_and_imported(bare):
    made = bare("POST", "/os-keypairs", {"keypair": {"name": "c", "type": "x509"}}, v="2.2", ok=201).json["keypair"]
    assert made["type"] == "x509" and made["public_key"].startswith("-----BEGIN CERTIFICATE") and made["fingerprint"].count(":") == 19
    assert "PRIVATE KEY" in made["private_key"]
    bare("POST", "/os-keypairs", {"keypair": {"name": "d", "type": "x509", "public_key": made["public_key"]}}, v="2.2", ok=201)
    listed = bare("GET", "/os-keypairs", v="2.2", ok=200).json["keypairs"]
    assert {k["keypair"]["type"] for k in listed} == {"x509"}
