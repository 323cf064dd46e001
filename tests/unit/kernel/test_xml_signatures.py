"""Key pairs of signed XML: what is a pair, and who makes the one that several processes use."""

from __future__ import annotations

import threading

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pileus.kernel.files import agree_private
from pileus.kernel.xml_signatures import DSIG, Signer, new_pair


def pem(key, password=None):
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def test_what_is_signed_can_be_checked_with_the_certificate_alone():
    from lxml import etree
    from signxml import XMLVerifier

    pair = new_pair("somebody")
    signer = Signer.load(pair, pair)
    root = etree.fromstring(f'<a ID="_1"><d:Signature xmlns:d="{DSIG}" Id="placeholder"/><b>text</b></a>')
    signed = etree.tostring(signer.sign(root, "_1"))
    assert b"rsa-sha256" in signed
    found = XMLVerifier().verify(signed, x509_cert=signer.certificate, id_attribute="ID").signed_xml
    assert found.findtext("b") == "text"


def test_the_key_is_not_shown():
    pair = new_pair("somebody")
    assert "key" not in repr(Signer.load(pair, pair)).partition("certificate")[0]


def test_what_is_no_pair_is_refused():
    one, other = new_pair("one"), new_pair("other")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    for private, certificate, why in (
        (one, other, "another key"),
        (b"nonsense", one, None),
        (one, b"nonsense", None),
        (pem(key, b"password"), one, "encrypted"),
        (pem(ec.generate_private_key(ec.SECP256R1())), one, "no RSA key"),
        (pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)), one, "2048 bits"),
    ):
        with pytest.raises(ValueError, match=why):
            Signer.load(private, certificate)


def test_of_many_who_make_a_file_all_get_the_first_ones(tmp_path):
    path = tmp_path / "keys" / "secret"
    start, found = threading.Barrier(8), []

    def make(number):
        start.wait()
        found.append(agree_private(path, b"%d" % number))

    threads = [threading.Thread(target=make, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) == {path.read_bytes()}
    assert (path.stat().st_mode & 0o777, [one.name for one in path.parent.iterdir()]) == (0o600, ["secret"])
