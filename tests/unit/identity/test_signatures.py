"""Signatures, against the examples that AWS publishes."""

from __future__ import annotations

import base64

import pytest

from pileus.identity.logic.signatures import Malformed, Signed, accepted, of_request, of_text

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


def suite(names="host;x-amz-date", **values):
    """A request of AWS's suite of test vectors; the query stands in `params`."""
    stated = VANILLA["authorization"].replace("host;x-amz-date", names)
    headers = {**VANILLA, "authorization": stated, **values.pop("headers", {})}
    return signed(**{"headers": headers, "body_hash": EMPTY, **values})


FORM_BODY = "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e"  # of Param1=value1
UNRESERVED = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
VECTORS = {
    "get-vanilla": ({}, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    "get-vanilla-query-order-key-case": (
        {"params": {"Param2": "value2", "Param1": "value1"}},
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    "get-vanilla-query-unreserved": ({"params": {UNRESERVED: UNRESERVED}}, "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"),
    "get-vanilla-utf8-query": ({"params": {"ሴ": "bar"}}, "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"),
    "get-utf8": ({"path": "/ሴ"}, "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
    "get-space": ({"path": "/example space/"}, "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"),
    "get-relative": ({"path": "/example/.."}, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    "get-relative-relative": ({"path": "/example1/example2/../.."}, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    "get-slash": ({"path": "//"}, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    "get-slash-dot-slash": ({"path": "/./"}, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    "get-slashes": ({"path": "//example//"}, "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"),
    "get-slash-pointless-dot": ({"path": "/./example"}, "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5"),
    "get-unreserved": ({"path": "/" + UNRESERVED}, "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"),
    "get-header-value-trim": (
        {"names": "host;my-header1;my-header2;x-amz-date", "headers": {"my-header1": " value1", "my-header2": ' "a   b   c"'}},
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    ),
    "get-header-value-multiline": (
        {"names": "host;my-header1;x-amz-date", "headers": {"my-header1": "value1\n  value2\n     value3"}},
        "cfd34249e4b1c8d6b91ef74165d41a32e5fab3306300901bb65a51a73575eefd",
    ),
    "post-vanilla": ({"verb": "POST"}, "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    "post-vanilla-query": ({"verb": "POST", "params": {"Param1": "value1"}}, "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"),
    "post-x-www-form-urlencoded": (
        {
            "verb": "POST",
            "params": {"Param1": "value1"},
            "names": "content-type;host;x-amz-date",
            "headers": {"content-type": "application/x-www-form-urlencoded"},
            "body_hash": FORM_BODY,
        },
        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_the_vectors_of_aws(name):
    values, expected = VECTORS[name]
    assert expected in accepted(V4_SECRET, suite(**values))
    wrong = suite(**{**values, "params": {**values.get("params", {}), "X": "y"}, "verb": "PUT"})
    assert expected not in accepted(V4_SECRET, wrong)


def test_the_example_of_the_reference():
    headers = {
        "authorization": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=x",
        "content-type": "application/x-www-form-urlencoded; charset=utf-8",
        "host": "iam.amazonaws.com",
        "x-amz-date": "20150830T123600Z",
    }
    request = signed(params={"Action": "ListUsers", "Version": "2010-05-08"}, headers=headers, body_hash=EMPTY)
    assert of_request(V4_SECRET, request) == "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"


# Made by botocore 1.44.8 with these credentials at this time.
BOTO = {"Action": "DescribeInstances", "Version": "2016-11-15", "Filter.1.Name": "tag:a b/c", "Filter.1.Value.1": "ü=&+*~"}
BOTO_HOST = {"host": "cloud.example:8788"}
BOTO_DATE = {**BOTO_HOST, "x-amz-date": "20261128T120000Z"}
BOTO_SCOPE = "AKIDEXAMPLE/20261128/RegionOne/ec2/aws4_request"


def boto_header(names):
    return {"authorization": f"AWS4-HMAC-SHA256 Credential={BOTO_SCOPE}, SignedHeaders={names}, Signature=x"}


def test_what_botocore_signs():
    form = {"content-type": "application/x-www-form-urlencoded; charset=utf-8", "user-agent": "Boto3/1  x"}
    post = signed(
        verb="POST",
        params=BOTO,
        headers={**BOTO_DATE, **form, **boto_header("content-type;host;x-amz-date")},
        body_hash="907aebac7c165f650e6e6c8c8f59fa19bdb18416f75e1325c12f0b86901abad2",
    )
    assert of_request(V4_SECRET, post) == "2d89a17ef42676a07845e8d6824c5f248dbac36e9ba84e20b02d82e5d4d1cfaf"
    get = signed(path="/services/Cloud/", params=BOTO, headers={**BOTO_DATE, **boto_header("host;x-amz-date")}, body_hash=EMPTY)
    assert of_request(V4_SECRET, get) == "80d8ff3da406cd84509136ab7610551212543545772e99efe5a44d948eddbe54"
    query = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": BOTO_SCOPE,
        "X-Amz-Date": "20261128T120000Z",
        "X-Amz-Expires": "600",
        "X-Amz-SignedHeaders": "host",
        "X-Amz-Signature": "x",
    }
    assert of_request(V4_SECRET, signed(params={**BOTO, **query}, headers=BOTO_HOST, body_hash=EMPTY)) == (
        "d29b80d6d93ebc10a82df7f7348cca17a078a75cf068ec975441bfd4ccd5869e"
    )
    version_2 = {"AWSAccessKeyId": "AKIDEXAMPLE", "SignatureVersion": "2", "SignatureMethod": "HmacSHA256", "Timestamp": "2026-11-28T12:00:00Z"}
    assert of_request(V4_SECRET, signed(verb="POST", host="cloud.example:8788", params={**BOTO, **version_2})) == (
        "QFxf7XGSrU9bkdsvuxPrt/dALvYrr6zd/XSE+1jHXX4="
    )


def test_parameters_are_sorted_by_name_and_encoded_first():
    from pileus.identity.logic.signatures import _query

    assert _query({"a-b": 1, "a": "2", "ü": "3", "Z": "~ /"}, "x") == "%C3%BC=3&Z=~%20%2F&a=2&a-b=1"


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PUT\n\nimage/jpeg\nTue, 27 Mar 2007 21:15:45 +0000\n/johnsmith/photos/puppy.jpg", "MyyxeRY7whkBe+bq8fHCL/2kKUg="),
        ("GET\n\n\nTue, 27 Mar 2007 19:42:41 +0000\n/johnsmith/", "htDYFYduRNen8P9ZfE/s9SuKy0U="),
        ("GET\n\n\nWed, 28 Mar 2007 01:49:49 +0000\n/dictionary/fran%C3%A7ais/pr%c3%a9f%c3%a8re", "DNEZGsoieTZ92F3bUfSPQcbGmlM="),
    ],
)
def test_other_examples_of_the_old_signature(text, expected):
    assert of_text(SECRET, encoded(text)) == expected


@pytest.mark.parametrize(
    ("digest", "expected"),
    [
        ("7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972", "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
        ("9e0e90d9c76de8fa5b200d8c849cd5b8dc7a3be3951ddb7f6a76b4158342019d", "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"),
        ("9766c798316ff2757b517bc739a67f6213b4ab36dd5da2f94eaebf79c77395ca", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        ("df57d21db20da04d7fa30298dd4488ba3a2b47ca3a489c74750e0f1e7df1b9b7", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
        ("3bfa292879f6447bbcda7001decf97f4a54dc650c8942174ae0a9121cf58ad04", "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"),
    ],
)
def test_version_4_of_s3(digest, expected):
    text = f"AWS4-HMAC-SHA256\n20130524T000000Z\n20130524/us-east-1/s3/aws4_request\n{digest}"
    assert of_text(SECRET, encoded(text)) == expected


@pytest.mark.parametrize("text", ["AWS4-HMAC-SHA256\nx", "AWS4-HMAC-SHA256\na\nb/c/ec2/aws4_request\nd"])
def test_a_text_of_another_form_has_no_signature(text):
    with pytest.raises(Malformed):
        of_text(SECRET, encoded(text))
    with pytest.raises(Malformed):
        of_text(SECRET, "a")
