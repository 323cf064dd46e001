"""Signatures of OAuth 1.0, against the examples of RFC 5849 and oauthlib, with which clients sign."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oauthlib.oauth1 import Client

from pileus.identity.logic.oauth1_signatures import Malformed, base_string, is_right, parameters
from pileus.identity.logic.proofs import SignedRequest


def test_the_base_string_of_the_rfc():
    header = (
        'OAuth realm="Example", oauth_consumer_key="9djdj82h48djs9d2", oauth_token="kkk9d7dh3k39sjv7", oauth_signature_method="HMAC-SHA1", '
        'oauth_timestamp="137131201", oauth_nonce="7d8f3e4a", oauth_signature="bYT5CMsGcbgUdFHObYMEfcx6bsw%3D"'
    )
    request = SignedRequest(
        method="post",
        url="HTTP://EXAMPLE.COM:80/request",
        authorization=header,
        query=(("b5", "=%3D"), ("a3", "a"), ("c@", ""), ("a2", "r b")),
        form=(("c2", ""), ("a3", "2 q")),
    )
    assert base_string(request, parameters(header)) == (
        "POST&http%3A%2F%2Fexample.com%2Frequest&a2%3Dr%2520b%26a3%3D2%2520q%26a3%3Da%26b5%3D%253D%25253D%26c%2540%3D%26c2%3D%26"
        "oauth_consumer_key%3D9djdj82h48djs9d2%26oauth_nonce%3D7d8f3e4a%26oauth_signature_method%3DHMAC-SHA1%26"
        "oauth_timestamp%3D137131201%26oauth_token%3Dkkk9d7dh3k39sjv7"
    )


def test_the_signed_request_of_the_rfc():
    header = (
        'OAuth realm="Photos", oauth_consumer_key="dpf43f3p2l4k3l03", oauth_token="nnch734d00sl2jdk", oauth_signature_method="HMAC-SHA1", '
        'oauth_timestamp="137131202", oauth_nonce="chapoH", oauth_signature="MdpQcU8iPSUjWoN%2FUDMsK2sui9I%3D"'
    )
    query = (("file", "vacation.jpg"), ("size", "original"))
    request = SignedRequest("GET", "http://photos.example.net/photos", header, query)
    assert is_right(request, parameters(header), "kd94hf93k423kf44", "pfkkdhi9sl3r4s00")
    assert not is_right(request, parameters(header), "kd94hf93k423kf44", "")
    assert not is_right(SignedRequest("GET", request.url, header), parameters(header), "kd94hf93k423kf44", "pfkkdhi9sl3r4s00")


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
PAIRS = st.lists(st.tuples(TEXT.filter(lambda name: name and not name.startswith("oauth_")), TEXT), max_size=4)


@given(
    method=st.sampled_from(["HMAC-SHA1", "HMAC-SHA256", "HMAC-SHA512", "PLAINTEXT"]),
    secrets=st.tuples(TEXT, TEXT),
    query=PAIRS,
    form=PAIRS,
    host=st.sampled_from(["Cloud.example", "cloud:443", "cloud:5000", "[::1]:5000"]),
)
def test_what_oauthlib_signs_is_right_and_nothing_near_it(method, secrets, query, form, host):
    from urllib.parse import urlencode

    url = f"https://{host}/identity/v3/auth/tokens"
    client = Client("key", client_secret=secrets[0], resource_owner_key="token", resource_owner_secret=secrets[1], signature_method=method)
    options = {"body": urlencode(form), "headers": {"Content-Type": "application/x-www-form-urlencoded"}} if form else {}
    _, headers, _ = client.sign(f"{url}?{urlencode(query)}" if query else url, http_method="POST", **options)
    request = SignedRequest("POST", url, headers["Authorization"], tuple(query), tuple(form))
    stated = parameters(headers["Authorization"])
    assert is_right(request, stated, *secrets)
    assert not is_right(request, stated, secrets[0] + "x", secrets[1])
    if method != "PLAINTEXT":
        assert not is_right(SignedRequest("POST", url + "x", request.authorization, request.query, request.form), stated, *secrets)
        assert not is_right(SignedRequest("PUT", url, request.authorization, request.query, request.form), stated, *secrets)
        assert not is_right(request, {**stated, "oauth_nonce": "other"}, *secrets)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer x",
        "OAuth x",
        'OAuth a="1" b="2"',
        'OAuth a="1", a="2"',
        'OAuth a="%ff"',
        'OAuth a="x%00"',
        'OAuth a%0a="x"',
        'OAuth a="1',
        'OAuth a="' + "x" * 5000 + '"',
    ],
)
def test_headers_that_cannot_be_read(header):
    with pytest.raises(Malformed):
        parameters(header)


@given(st.text(max_size=200))
def test_any_header_is_read_or_refused(text):
    for header in (text, "OAuth " + text):
        try:
            parameters(header)
        except Malformed:
            pass


def test_plain_text_is_for_tls_alone_and_other_methods_are_unknown():
    stated = {"oauth_signature_method": "PLAINTEXT", "oauth_signature": "a&b"}
    assert is_right(SignedRequest("POST", "https://h/", ""), stated, "a", "b")
    assert not is_right(SignedRequest("POST", "https://h/", ""), {**stated, "oauth_signature": ""}, "a", "b")
    with pytest.raises(Malformed):
        is_right(SignedRequest("POST", "http://h/", ""), stated, "a", "b")
    for method in ("RSA-SHA1", "none", ""):
        with pytest.raises(Malformed):
            is_right(SignedRequest("POST", "https://h/", ""), {"oauth_signature_method": method}, "a", "b")
