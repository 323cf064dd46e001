"""The description of every service is valid OpenAPI, complete, and served without a token."""

import json
import sys
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from pileus.kernel import openapi
from pileus.kernel.testing import NOBODY, make_client
from pileus.server import rooms

sys.path.insert(0, str(Path(__file__).parents[2] / "unit/kernel"))
from room_for_tests import ROOM  # noqa: E402


def described(room):
    return json.loads(json.dumps(openapi.document(room, room.operations())))


@pytest.mark.parametrize("name", rooms.NAMES)
def test_the_description_of_a_service_is_valid(name):
    errors = list(OpenAPIV31SpecValidator(described(rooms.room(name))).iter_errors())
    assert not errors, "\n".join(f"{'/'.join(map(str, error.absolute_path))}: {error.message}"[:300] for error in errors[:20])


@pytest.mark.parametrize("name", rooms.NAMES)
def test_every_declared_operation_is_described(name):
    room = rooms.room(name)
    paths = described(room)["paths"]
    told = sum(len(operation["x-openstack"]) for by_method in paths.values() for operation in by_method.values())
    assert told == sum(1 + len(operation.aliases) for operation in room.operations())
    numbers = [operation["operationId"] for by_method in paths.values() for operation in by_method.values()]
    assert len(set(numbers)) == len(numbers)


def test_it_is_served_without_a_token_and_says_the_same():
    client = make_client(ROOM)
    answer = client.get("/openapi.json", as_=NOBODY)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == described(ROOM)
    assert not list(OpenAPIV31SpecValidator(answer.json).iter_errors())
    client.close()


def test_bodies_parameters_versions_actions_and_rules_are_told():
    paths = described(ROOM)["paths"]
    create = paths["/v2.1/things"]["post"]
    assert create["requestBody"]["content"]["application/json"]["schema"]["required"] == ["thing"]
    assert create["x-openstack"] == [{"summary": "", "status": 202, "policy": "things:create"}]
    part = paths["/v2.1/things/{id}/parts/{part}"]["get"]
    assert [(p["name"], p["in"]) for p in part["parameters"]] == [("id", "path"), ("part", "path"), ("OpenStack-API-Version", "header")]
    assert part["x-openstack"][0]["min-version"] == "2.5"
    action = paths["/v2.1/things/{thing_id}/action"]["post"]
    assert action["summary"] == "Do one of: start, stop"
    assert [schema["required"] for schema in action["requestBody"]["content"]["application/json"]["schema"]["oneOf"]] == [["start"], ["stop"]]
    assert set(action["responses"]) == {"202", "default"}
    upload = paths["/v2.1/things/{thing_id}/file"]["put"]
    assert list(upload["requestBody"]["content"]) == ["application/octet-stream"]
    assert paths["/"]["get"]["security"] == []
