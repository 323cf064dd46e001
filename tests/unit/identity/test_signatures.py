"""Signatures, against the examples that AWS publishes."""

from __future__ import annotations

import base64

import pytest

from pileus.identity.logic.signatures import Malformed, Signed, of_request, of_text

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


def signed(**values):
    return Signed(**{"verb": "GET", "host": "h", "path": "/", "params": {}, "headers": {}, "body_hash": None, **values})


def test_version_2():
    params = {
        "AWSAccessKeyId": "AKIAIOSFODNN7EXAMPLE",
        "Action": "DescribeJobFlows",
        "SignatureMethod": "HmacSHA256",
        "SignatureVersion": "2",
        "Timestamp": "2011-10-03T15:19:30",
        "Version": "2009-03-31",
    }
    request = signed(host="elasticmapreduce.amazonaws.com", params=params)
    assert of_request(SECRET, request) == "i91nKc4PWAt0JJIdXwz9HxZCJDdiy6cf/Mj6vPxyYIs="
    with_signature = signed(host="elasticmapreduce.amazonaws.com", params={**params, "Signature": "x"})
    assert of_request(SECRET, with_signature) == of_request(SECRET, request)


VANILLA = {
    "authorization": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
    "SignedHeaders=host;x-amz-date, Signature=x",
    "host": "example.amazonaws.com",
    "x-amz-date": "20150830T123600Z",
}
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
V4_SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


def test_version_4():
    found = of_request(V4_SECRET, signed(headers=VANILLA, body_hash=EMPTY))
    assert found == "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"


@pytest.mark.parametrize(
    "broken",
    [
        {"headers": VANILLA},
        {"headers": {**VANILLA, "x-amz-date": "20150831T000000Z"}, "body_hash": EMPTY},
        {"headers": {**VANILLA, "authorization": "AWS4-HMAC-SHA256 Credential=AK, SignedHeaders=host"}, "body_hash": EMPTY},
        {"headers": {**VANILLA, "authorization": "AWS4-HMAC-SHA256 Credential=AK"}, "body_hash": EMPTY},
        {"params": {"SignatureVersion": "1"}},
        {},
    ],
)
def test_what_is_malformed_has_no_signature(broken):
    with pytest.raises(Malformed):
        of_request(SECRET, signed(**broken))


def encoded(text):
    return base64.urlsafe_b64encode(text.encode()).decode()


def test_the_old_signature_of_s3():
    text = "GET\n\n\nTue, 27 Mar 2007 19:36:42 +0000\n/johnsmith/photos/puppy.jpg"
    assert of_text("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", encoded(text)) == "bWq2s1WEIj+Ydj0vQ697zp+IXMU="


def test_version_4_of_s3():
    digest = "7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972"
    text = f"AWS4-HMAC-SHA256\n20130524T000000Z\n20130524/us-east-1/s3/aws4_request\n{digest}"
    found = of_text(SECRET, encoded(text))
    assert found == "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"


@pytest.mark.parametrize("text", ["AWS4-HMAC-SHA256\nx", "AWS4-HMAC-SHA256\na\nb/c/ec2/aws4_request\nd"])
def test_a_text_of_another_form_has_no_signature(text):
    with pytest.raises(Malformed):
        of_text(SECRET, encoded(text))
    with pytest.raises(Malformed):
        of_text(SECRET, "a")
