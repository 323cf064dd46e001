"""Endpoint groups, and catalogs that show what a project is given."""

from __future__ import annotations

import pytest

from tests.api.identity.world import Identity, message

GROUPS = "/OS-EP-FILTER/endpoint_groups"


@pytest.fixture
def places(identity):
    """Ids of the endpoints by service type and interface."""
    kinds = {one["id"]: one["type"] for one in identity("GET", "/services").json["services"]}
    found = identity("GET", "/endpoints").json["endpoints"]
    return {(kinds[one["service_id"]], one["interface"]): one["id"] for one in found}


def group(identity, ok=201, **body):
    answer = identity("POST", GROUPS, {"endpoint_group": body}, ok=ok)
    return answer.json["endpoint_group"] if ok == 201 else answer


def shown_to(identity, token):
    catalog = identity("GET", "/auth/catalog", token=token, ok=200).json["catalog"]
    in_token = identity.validate(token).json["token"]["catalog"]
    assert in_token == catalog
    return {(entry["type"], one["interface"]) for entry in catalog for one in entry["endpoints"]}


def test_an_endpoint_group_from_creation_to_deletion(identity, places):
    made = group(identity, name="public", description="d", filters={"interface": "public"})
    path = f"{GROUPS}/{made['id']}"
    assert made == {
        "id": made["id"],
        "name": "public",
        "description": "d",
        "filters": {"interface": "public"},
        "links": {"self": f"http://localhost:5000/identity/v3{path}"},
    }
    assert identity("GET", path).json == {"endpoint_group": made}
    assert identity("HEAD", path).status == 200
    assert identity("GET", GROUPS + "?name=public").json["endpoint_groups"] == [made]
    assert identity("GET", GROUPS + "?name=other").json["endpoint_groups"] == []
    fitting = identity("GET", path + "/endpoints").json["endpoints"]
    assert {one["id"] for one in fitting} == {places[key] for key in places if key[1] == "public"}
    changed = identity("PATCH", path, {"endpoint_group": {"filters": {"interface": "admin", "region_id": "RegionOne"}}})
    assert changed.json["endpoint_group"] == {**made, "filters": {"interface": "admin", "region_id": "RegionOne"}}
    assert {one["interface"] for one in identity("GET", path + "/endpoints").json["endpoints"]} == {"admin"}
    assert identity("DELETE", path).status == 204
    assert message(identity("GET", path)) == f"Could not find Endpoint Group: {made['id']}."


def test_a_group_needs_a_name_and_filters_that_are_known(identity):
    for body in (
        {"name": "x"},
        {"name": "x", "filters": {}},
        {"name": "x", "filters": {"url": "http://x"}},
        {"name": "x", "filters": {"interface": "secret"}},
        {"filters": {"interface": "public"}},
    ):
        group(identity, ok=400, **body)


def test_a_group_that_loses_its_filters_fits_every_endpoint(identity, places):
    made = group(identity, name="x", filters={"interface": "admin"})
    path = f"/OS-EP-FILTER/endpoint_groups/{made['id']}"
    changed = identity("PATCH", path, {"endpoint_group": {"filters": {}}}, ok=200).json["endpoint_group"]
    assert changed["filters"] == {}
    assert {one["id"] for one in identity("GET", path + "/endpoints").json["endpoints"]} == set(places.values())


def test_a_project_without_a_filter_sees_everything(identity, places):
    _who, _project, token = identity.member("ann")
    assert shown_to(identity, token) == set(places)


def test_a_project_sees_the_endpoints_it_is_given(identity, places):
    _who, project, token = identity.member("ann")
    _other, _project, others = identity.member("bob")
    key = ("volumev3", "public")
    path = f"/OS-EP-FILTER/projects/{project['id']}/endpoints/{places[key]}"
    assert identity("HEAD", path).status == 404
    assert identity("PUT", path).status == 204
    assert identity("PUT", path).status == 409
    assert identity("HEAD", path).status == identity("GET", path).status == 204
    assert shown_to(identity, token) == {key}
    assert shown_to(identity, others) == set(places)
    listed = identity("GET", f"/OS-EP-FILTER/projects/{project['id']}/endpoints").json["endpoints"]
    assert [one["id"] for one in listed] == [places[key]]
    given = identity("GET", f"/OS-EP-FILTER/endpoints/{places[key]}/projects").json["projects"]
    assert [one["id"] for one in given] == [project["id"]]
    assert identity("DELETE", path).status == 204
    assert identity("DELETE", path).status == 404
    assert shown_to(identity, token) == set(places)


def test_a_project_sees_the_endpoints_of_its_groups(identity, places):
    _who, project, token = identity.member("ann")
    made = group(identity, name="public", filters={"interface": "public"})
    path = f"{GROUPS}/{made['id']}/projects/{project['id']}"
    assert identity("PUT", path).status == 204
    assert identity("PUT", path).status == 409
    link = identity("GET", path).json["project_endpoint_group"]
    assert (link["endpoint_group_id"], link["project_id"]) == (made["id"], project["id"])
    assert shown_to(identity, token) == {key for key in places if key[1] == "public"}
    assert [one["id"] for one in identity("GET", f"{GROUPS}/{made['id']}/projects").json["projects"]] == [project["id"]]
    of_project = f"/OS-EP-FILTER/projects/{project['id']}"
    assert identity("GET", of_project + "/endpoint_groups").json["endpoint_groups"] == [made]
    extra = ("identity", "admin")
    identity("PUT", f"{of_project}/endpoints/{places[extra]}", ok=204)
    assert shown_to(identity, token) == {key for key in places if key[1] == "public"} | {extra}
    listed = identity("GET", of_project + "/endpoints").json["endpoints"]
    assert {one["id"] for one in listed} == {places[key] for key in places if key[1] == "public" or key == extra}
    identity("PATCH", f"{GROUPS}/{made['id']}", {"endpoint_group": {"filters": {"interface": "internal"}}}, ok=200)
    assert shown_to(identity, token) == {key for key in places if key[1] == "internal"} | {extra}
    identity("DELETE", f"{GROUPS}/{made['id']}", ok=204)
    assert shown_to(identity, token) == {extra}


def test_a_disabled_endpoint_given_to_a_project_still_filters(identity, places):
    _who, project, token = identity.member("ann")
    endpoint = places["volumev3", "public"]
    identity("PUT", f"/OS-EP-FILTER/projects/{project['id']}/endpoints/{endpoint}", ok=204)
    identity("PATCH", f"/endpoints/{endpoint}", {"endpoint": {"enabled": False}}, ok=200)
    assert shown_to(identity, token) == set()


def test_what_is_given_goes_with_endpoint_and_project(identity, places):
    _who, project, token = identity.member("ann")
    endpoint = places["volumev3", "public"]
    identity("PUT", f"/OS-EP-FILTER/projects/{project['id']}/endpoints/{endpoint}", ok=204)
    identity("DELETE", f"/endpoints/{endpoint}", ok=204)
    assert shown_to(identity, token) == set(places) - {("volumev3", "public")}
    other = places["volumev3", "admin"]
    identity("PUT", f"/OS-EP-FILTER/projects/{project['id']}/endpoints/{other}", ok=204)
    identity("DELETE", f"/projects/{project['id']}", ok=204)
    assert identity("GET", f"/OS-EP-FILTER/endpoints/{other}/projects").json["projects"] == []


def test_unknown_parts_of_a_link_are_not_found(identity, places):
    _who, project, _token = identity.member("ann")
    nothing = "0" * 32
    for path in (
        f"/OS-EP-FILTER/projects/{nothing}/endpoints/{places['volumev3', 'public']}",
        f"/OS-EP-FILTER/projects/{project['id']}/endpoints/{nothing}",
        f"{GROUPS}/{nothing}/projects/{project['id']}",
    ):
        for method in ("GET", "PUT", "DELETE"):
            assert identity(method, path).status == 404, (method, path)
    for path in (f"/OS-EP-FILTER/projects/{nothing}/endpoints", f"/OS-EP-FILTER/endpoints/{nothing}/projects"):
        assert identity("GET", path).status == 404


def test_without_a_filter_the_catalog_can_be_empty(tmp_path):
    identity = Identity(home=tmp_path, options={"return_all_endpoints_if_no_filter": False})
    _who, project, token = identity.member("ann")
    assert shown_to(identity, token) == set()
    endpoint = identity("GET", "/endpoints?interface=public").json["endpoints"][0]["id"]
    identity("PUT", f"/OS-EP-FILTER/projects/{project['id']}/endpoints/{endpoint}", ok=204)
    assert len(shown_to(identity, token)) == 1
    identity.client.close()
