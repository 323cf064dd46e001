"""Bodies become values, or a sentence that says what is wrong."""

from __future__ import annotations

import pytest

from pileus.network.api import attributes as a
from pileus.network.errors import HTTPBadRequest

ATTRIBUTES = {**a.STANDARD, "name": a.NAME, "size": a.Attribute(a.integer(1, 9), default=a.REQUIRED), "kind": a.Attribute(a.one_of("x"), update=False)}


def test_defaults_stand_in_and_what_has_none_stays_absent():
    assert a.on_create("thing", ATTRIBUTES, {"size": "3"}) == {"name": "", "size": 3}


def test_defaults_are_not_shared():
    attributes = {"list": a.Attribute(a.list_of(a.text()), default=[])}
    one, two = a.on_create("thing", attributes, {}), a.on_create("thing", attributes, {})
    one["list"].append("x")
    assert two == {"list": []}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({}, "Failed to parse request. Required attribute 'size' not specified"),
        ({"size": 10}, "Invalid input for size. Reason: '10' is too large - must be no larger than '9'."),
        ({"size": True}, "Invalid input for size. Reason: 'True' is not an integer."),
        ({"size": 1, "id": "x"}, "Attribute 'id' not allowed in POST"),
        ({"size": 1, "b": 1, "a": 1}, "Unrecognized attribute(s) 'a, b'"),
        ({"size": 1, "tenant_id": "a", "project_id": "b"}, "'project_id' and 'tenant_id' do not match"),
        ({"size": 1, "name": None}, "Invalid input for name. Reason: 'None' is not a valid string."),
        ("text", "Invalid input for thing. Reason: 'text' is not a dictionary."),
    ],
)
def test_a_wrong_body_is_explained(body, sentence):
    with pytest.raises(HTTPBadRequest) as refused:
        a.on_create("thing", ATTRIBUTES, body)
    assert refused.value.message == sentence


def test_an_update_names_only_what_may_change():
    assert a.on_update("thing", ATTRIBUTES, {"name": "n"}) == {"name": "n"}
    with pytest.raises(HTTPBadRequest, match="Cannot update read-only attribute kind"):
        a.on_update("thing", ATTRIBUTES, {"kind": "x"})


@pytest.mark.parametrize(
    ("convert", "value", "wanted"),
    [
        (a.boolean, "True", True),
        (a.boolean, 0, False),
        (a.address, "fd00::0001", "fd00::1"),
        (a.cidr, "10.0.0.9/24", "10.0.0.0/24"),
        (a.mac, "FA-16-3E-00-00-01", "fa:16:3e:00:00:01"),
        (a.list_of(a.uuid), None, []),
        (a.none_as("", a.text()), None, ""),
        (a.dictionary, None, {}),
    ],
)
def test_values_become_canonical(convert, value, wanted):
    assert convert(value) == wanted


@pytest.mark.parametrize(
    ("convert", "value"),
    [
        (a.boolean, "yes"),
        (a.address, "010.0.0.1"),
        (a.address, 7),
        (a.cidr, "10.0.0.1"),
        (a.mac, "01:00:5e:00:00:01"),
        (a.mac, "00:00:00:00:00:00"),
        (a.uuid, "x"),
        (a.text(3), "four"),
        (a.text(), "a\x00b"),
        (a.list_of(a.text(), unique=True), ["a", "a"]),
        (a.mapping({"a": a.text()}), {"b": "x"}),
        (a.mapping({"a": a.text()}, ("a",)), {}),
    ],
)
def test_values_that_cannot_be_are_refused(convert, value):
    with pytest.raises(a.Wrong):
        convert(value)
