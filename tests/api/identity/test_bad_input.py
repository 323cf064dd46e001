"""Whatever comes in, no answer is a 500: every operation with odd ids, odd queries and odd bodies, on every database."""

from __future__ import annotations

import copy
import re
from urllib.parse import quote

import pytest

from pileus.identity.room import ROOM
from tests.api.identity.test_access import smallest
from tests.api.identity.world import Identity
from tests.databases import KINDS, database_url

ODD_TEXT = ["", " ", "\x00", "a\x00b", "ü💥", "'; DROP TABLE users; --", "%", "_", "x" * 5000, "-1", "null", "../../etc"]
ODD_VALUES = [None, True, -1, 2**31, 2**63, 1e300, [], {}, [[]], {"a": {"b": []}}, *ODD_TEXT]
QUERIES = [
    "name=%00",
    "name__contains=%00",
    "name__startswith=%25%27&enabled=maybe",
    "limit=99999999999999999999&marker=%00",
    "limit=&marker=",
    "domain_id=&parent_id=%F0%9F%92%A5&tags=,,&tags-any=%00",
    "%00=1&=&&x",
    "user.id=%00&effective&include_names",
    "scope.project.id=%00&include_subtree=1",
    "type=%00&service_id=%00&region_id=%00&interface=%00",
    "trustor_user_id=%00",
    "nocatalog=%00&allow_expired=%00",
]


@pytest.fixture(params=KINDS, scope="module")
def identity(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    with database_url(request.param, folder) as url:
        made = Identity(db_url=url, home=folder / "home")
        yield made
        made.client.close()


def filled(operation, value="f" * 32):
    return re.sub(r"\{[^}]+\}", quote(value, safe=""), operation.path) or "/"


def check(identity, method, path, body=None, headers=None):
    if path.startswith("/auth/tokens") and method != "POST":
        headers = {"X-Subject-Token": "\x00junk"}
    answer = identity(method, path, body, headers=headers)
    assert answer.status < 500, f"{method} {path[:200]} {str(body)[:300]}: {answer.text}"


OPERATIONS = [op for op in ROOM.operations() if not op.root]


def test_odd_ids_in_paths(identity):
    for operation in OPERATIONS:
        if "{" in operation.path:
            body = smallest(operation.bodies[0][1].schema) if operation.bodies else None
            for value in ODD_TEXT[2:]:
                check(identity, operation.method, filled(operation, value[:300]), body)


def test_odd_queries(identity):
    for operation in OPERATIONS:
        if operation.method == "GET":
            for query in QUERIES:
                check(identity, "GET", f"{filled(operation)}?{query}")


def places(schema, path=()):
    """The paths of all properties in a schema."""
    for name, inner in schema.get("properties", {}).items():
        yield (*path, name)
        yield from places(inner, (*path, name))
    for inner in schema.get("anyOf", ()):
        yield from places(inner, path)
    if isinstance(schema.get("items"), dict):
        yield from places(schema["items"], (*path, 0))


def with_value(body, path, value):
    """A copy of the body with one place set; containers on the way are made. None when the way is blocked."""
    made = copy.deepcopy(body)
    here = made
    for step, following in zip(path, path[1:], strict=False):
        if isinstance(step, int):
            if not here:
                here.append({})
            here = here[0]
            continue
        if not isinstance(here.get(step), (dict, list)):
            here[step] = [] if isinstance(following, int) else {}
        here = here[step]
    here[path[-1]] = value
    return made


def test_odd_bodies(identity):
    for operation in OPERATIONS:
        if not operation.bodies:
            continue
        schema = operation.bodies[0][1].schema
        path = filled(operation)
        for body in ODD_VALUES:
            check(identity, operation.method, path, body)
        good = smallest(schema)
        for place in places(schema):
            if place[-1] == 0:
                continue
            for value in ODD_VALUES:
                check(identity, operation.method, path, with_value(good, place, value))


def test_certificates_of_pki_tokens_are_gone(identity):
    for path in ("/OS-SIMPLE-CERT/ca", "/OS-SIMPLE-CERT/certificates"):
        for token in ("", None):
            answer = identity("GET", path, token=token)
            assert answer.status == 410
            assert answer.json["error"] == {
                "code": 410,
                "message": "PKI tokens are no longer supported, and with them went their certificates.",
                "title": "Gone",
            }


def test_what_is_nested_as_deeply_as_may_be_is_stored_and_shown(identity):
    from pileus.kernel.web.call import MOST_LEVELS

    nested = "x"
    for _ in range(MOST_LEVELS - 2):  # in the user, which is in the body
        nested = [nested]
    made = identity("POST", "/users", {"user": {"name": "deep", "more": nested}}, ok=201).json["user"]
    assert made["more"] == nested
    assert identity("GET", "/users?name=deep", ok=200).json["users"][0]["more"] == nested
    for kind, body in (("user", {"name": "deeper"}), ("project", {"name": "deeper"}), ("group", {"name": "deeper"}), ("region", {"id": "deeper"}), ("service", {"type": "x"})):
        identity("POST", f"/{kind}s", {kind: {**body, "more": nested}}, ok=201)
        assert identity("POST", f"/{kind}s", {kind: {**body, "more": [nested]}}).status == 400
