"""Unified limits on the wire."""

from __future__ import annotations

import pytest


@pytest.fixture
def nova(identity):
    return identity.make("service", type="compute", name="nova")["id"]


def register(identity, service, ok=201, **body):
    given = {"service_id": service, "resource_name": "cores", "default_limit": 10, **body}
    answer = identity("POST", "/registered_limits", {"registered_limits": [given]}, ok=ok)
    return answer.json["registered_limits"][0] if ok == 201 else answer


def limit(identity, service, ok=201, **body):
    given = {"service_id": service, "resource_name": "cores", "resource_limit": 20, **body}
    answer = identity("POST", "/limits", {"limits": [given]}, ok=ok)
    return answer.json["limits"][0] if ok == 201 else answer


def test_a_registered_limit_from_creation_to_deletion(identity, nova):
    made = register(identity, nova, region_id="RegionOne", description="d")
    path = f"/registered_limits/{made['id']}"
    assert made == {
        "id": made["id"],
        "service_id": nova,
        "region_id": "RegionOne",
        "resource_name": "cores",
        "default_limit": 10,
        "description": "d",
        "links": {"self": f"http://localhost:5000/identity/v3{path}"},
    }
    assert identity("GET", path).json["registered_limit"] == made
    assert identity("GET", f"/registered_limits?service_id={nova}&region_id=RegionOne&resource_name=cores").json[
        "registered_limits"
    ] == [made]
    assert identity("GET", "/registered_limits?resource_name=ram").json["registered_limits"] == []
    register(identity, nova, ok=409, region_id="RegionOne")
    assert register(identity, nova)["region_id"] is None
    changed = identity("PATCH", path, {"registered_limit": {"default_limit": 5, "resource_name": "ram"}}, ok=200)
    assert changed.json["registered_limit"] == {**made, "default_limit": 5, "resource_name": "ram"}
    assert identity("DELETE", path).status == 204
    assert identity("GET", path).status == 404


def test_a_limit_from_creation_to_deletion(identity, nova):
    registered = register(identity, nova)
    project = identity.make("project", name="p")["id"]
    made = limit(identity, nova, project_id=project)
    path = f"/limits/{made['id']}"
    assert made == {
        "id": made["id"],
        "project_id": project,
        "domain_id": None,
        "service_id": nova,
        "region_id": None,
        "resource_name": "cores",
        "resource_limit": 20,
        "description": None,
        "links": {"self": f"http://localhost:5000/identity/v3{path}"},
    }
    assert identity("GET", path).json["limit"] == made
    limit(identity, nova, ok=409, project_id=project)
    changed = identity("PATCH", path, {"limit": {"resource_limit": 7, "description": "less"}}, ok=200).json["limit"]
    assert changed == {**made, "resource_limit": 7, "description": "less"}
    assert identity("DELETE", f"/registered_limits/{registered['id']}").status == 403
    body = {"registered_limit": {"resource_name": "ram"}}
    assert identity("PATCH", f"/registered_limits/{registered['id']}", body).status == 403
    body = {"registered_limit": {"default_limit": 1}}
    assert identity("PATCH", f"/registered_limits/{registered['id']}", body).status == 200
    assert identity("DELETE", path).status == 204
    assert identity("DELETE", f"/registered_limits/{registered['id']}").status == 204


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"project_id": None}, 400),
        ({"project_id": "0" * 32}, 400),
        ({"project_id": "default"}, 400),
        ({"domain_id": "default"}, 400),
        ({"resource_name": "unknown"}, 403),
        ({"region_id": "RegionOne"}, 403),
        ({"resource_limit": -2}, 400),
        ({"resource_limit": "x"}, 400),
        ({"unknown": 1}, 400),
    ],
)
def test_bad_limits(identity, nova, change, status):
    register(identity, nova)
    given = {"project_id": identity.ids["admin_project"], **change}
    limit(identity, nova, ok=status, **{name: value for name, value in given.items() if value is not None})


def test_bad_registered_limits(identity, nova):
    for change in ({"service_id": "0" * 32}, {"region_id": "none"}, {"default_limit": "x"}, {"resource_name": ""}, {"x": 1}):
        register(identity, nova, ok=400, **change)
    assert identity("POST", "/registered_limits", {"registered_limits": []}).status == 400


def test_several_are_made_together_or_not_at_all(identity, nova):
    good = {"service_id": nova, "resource_name": "a", "default_limit": 1}
    body = {"registered_limits": [good, {**good, "region_id": "none"}]}
    assert identity("POST", "/registered_limits", body).status == 400
    assert identity("GET", "/registered_limits").json["registered_limits"] == []
    body = {"registered_limits": [good, {**good, "resource_name": "b"}]}
    assert len(identity("POST", "/registered_limits", body, ok=201).json["registered_limits"]) == 2


def test_a_project_sees_the_own_limits(identity, nova):
    register(identity, nova)
    _who, project, token = identity.member("ann")
    mine = limit(identity, nova, project_id=project["id"])
    others = limit(identity, nova, project_id=identity.ids["admin_project"])
    domains = limit(identity, nova, domain_id="default")
    assert [one["id"] for one in identity("GET", "/limits", token=token).json["limits"]] == [mine["id"]]
    assert {one["id"] for one in identity("GET", "/limits").json["limits"]} == {mine["id"], others["id"], domains["id"]}
    assert [one["id"] for one in identity("GET", "/limits?domain_id=default").json["limits"]] == [domains["id"]]
    assert identity("GET", f"/limits/{mine['id']}", token=token).status == 200
    assert identity("GET", f"/limits/{others['id']}", token=token).status == 403
    unscoped = identity.token("ann", "ann-secret", "unscoped")
    assert identity("GET", "/limits", token=unscoped).json["limits"] == []
    identity("DELETE", f"/projects/{project['id']}", ok=204)
    assert identity("GET", f"/limits/{mine['id']}").status == 404


def test_the_model(identity):
    assert identity("GET", "/limits/model").json["model"]["name"] == "flat"
